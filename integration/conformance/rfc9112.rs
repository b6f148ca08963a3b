//! RFC 9112, HTTP/1.1, by section.

use tokio::io::AsyncWriteExt as _;

use super::{
    recorder::Recorder,
    strict::{self, Message},
};
use crate::fixtures::{Backend, Proxy, SOON, Target, Wire, ms, pass};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

async fn recording() -> (Recorder, Proxy) {
    let recorder = Recorder::start().await;
    let proxy = Proxy::to([recorder.address()]).start().await;
    (recorder, proxy)
}

impl Recorder {
    /// The one request since the last time.
    #[track_caller]
    fn one(&self) -> Message {
        let mut heard = self.take().expect("requests");
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    #[track_caller]
    fn heard_nothing(&self) {
        assert_eq!(self.take(), Ok(Vec::new()));
    }
}

/// Sends a request that must be answered with this status and then with the end of the connection.
async fn refused(proxy: &Proxy, request: impl AsRef<[u8]>, status: u16) {
    let mut wire = proxy.wire().await;
    wire.send(&request).await;
    let answer =
        wire.answer().await.unwrap_or_else(|| panic!("nothing for {}", request.as_ref().escape_ascii()));
    assert_eq!(answer.status, status, "{}", request.as_ref().escape_ascii());
    assert_eq!(answer.header("connection"), "close");
    assert!(wire.closes(SOON).await.is_some());
}

/// The bytes of the answer to a request, after which the connection ends.
async fn bytes(proxy: &Proxy, request: &str) -> Vec<u8> {
    let mut wire = proxy.wire().await;
    wire.send(request).await;
    wire.rest().await
}

/// A server that says this to every request, and then nothing more.
async fn saying(answer: impl Into<Vec<u8>>) -> (Backend, Proxy) {
    let answer = answer.into();
    let backend = Backend::serving(move |mut wire: Wire, _| {
        let answer = answer.clone();
        async move {
            if wire.request().await.is_some() {
                wire.send(answer).await;
            }
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    (backend, proxy)
}

#[tokio::test]
async fn section_2_2_an_empty_line_between_two_requests_is_ignored_however_long_the_next_takes() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::to([recorder.address()]).server("client_header_timeout = \"300ms\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send(GET).await;
    wire.answer().await.expect("an answer").expect(200);
    for line in ["\r\n", "\r\n\r\n\r\n", "\r", "\n"] {
        wire.send(line).await;
        // Longer than a head may take, had one begun.
        pass(ms(450)).await;
    }
    wire.send(GET).await;
    wire.answer().await.expect("an answer").expect(200);
    assert_eq!(recorder.take().expect("requests").len(), 2);
}

#[tokio::test]
async fn section_2_2_a_bare_line_feed_is_refused_before_its_head_is_whole() {
    let (recorder, proxy) = recording().await;
    for begin in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: x\nX", "\n", "\r\r"] {
        refused(&proxy, begin, 400).await;
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_2_3_versions_of_our_own_are_in_the_answers() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let (_backend, proxy) = saying(format!("{version} 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
        for asked in ["HTTP/1.0", "HTTP/1.1"] {
            let all = bytes(&proxy, &format!("GET / {asked}\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(strict::answer(&all, "GET").expect("an answer").line, "HTTP/1.1 200 OK");
        }
    }
}

#[tokio::test]
async fn section_2_3_other_versions_are_505_and_what_is_none_is_400() {
    let (recorder, proxy) = recording().await;
    refused(&proxy, "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505).await;
    refused(&proxy, "GET / HTTP/11\r\nHost: x\r\n\r\n", 400).await;
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_3_a_request_line_of_8000_bytes_passes_and_a_target_without_end_is_414() {
    let (recorder, proxy) = recording().await;
    let target = format!("/{}", "x".repeat(8000));
    proxy.get(&target).await.expect(200);
    assert_eq!(recorder.one().word(1), target);
    refused(&proxy, format!("GET /{}", "x".repeat(40_000)), 414).await;
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_3_2_a_request_has_one_host() {
    let (recorder, proxy) = recording().await;
    for fields in ["", "Host: x\r\nHost: x\r\n", "Host: x y\r\n", "Host:\r\n", "Host: u@x\r\n"] {
        refused(&proxy, format!("GET / HTTP/1.1\r\n{fields}\r\n"), 400).await;
    }
    recorder.heard_nothing();
    // HTTP/1.0 knew none; its request goes on as HTTP/1.1, which needs one.
    bytes(&proxy, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(recorder.one().get("host"), Some("app"));
}

#[tokio::test]
async fn section_3_2_1_a_path_reaches_the_server_byte_for_byte() {
    let (recorder, proxy) = recording().await;
    for path in ["/%41%2F%2f//a/./b;c=d", "/?a=/../b&c=%00+%20|{}", "/caf\u{e9}", "//x/", "/a\\b", "/\"^\""] {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
        let latin: String = path.bytes().map(char::from).collect();
        assert_eq!(recorder.one().word(1), latin);
    }
}

#[tokio::test]
async fn section_3_2_2_a_url_becomes_a_path_and_must_agree_with_host() {
    let (recorder, proxy) = recording().await;
    for (target, path) in [
        ("http://a.example/b?c", "/b?c"),
        ("http://A.example:80/b", "/b"),
        ("http://a.example", "/"),
        ("http://a.example?c", "/?c"),
    ] {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
        let request = recorder.one();
        let fields = ["host", "x-forwarded-host"].map(|name| request.get(name));
        assert_eq!((request.word(1), fields), (path, [Some("a.example"); 2]), "{target}");
    }
    for target in
        ["http://b.example/", "http://a.example:8080/", "http://a.example@b.example/", "gopher://a.example/"]
    {
        refused(&proxy, format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"), 400).await;
    }
    recorder.heard_nothing();
    bytes(&proxy, "GET http://a.example/b HTTP/1.0\r\n\r\n").await;
    let request = recorder.one();
    assert_eq!((request.word(1), request.get("host")), ("/b", Some("a.example")));
}

#[tokio::test]
async fn section_3_2_3_there_are_no_tunnels_by_connect() {
    let (recorder, proxy) = recording().await;
    for target in ["x:80", "127.0.0.1:22", "/", "http://x/"] {
        refused(&proxy, format!("CONNECT {target} HTTP/1.1\r\nHost: x:80\r\n\r\n{GET}"), 501).await;
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_3_2_4_only_options_asks_about_everything() {
    let (recorder, proxy) = recording().await;
    for target in ["*", "http://x"] {
        let mut wire = proxy.wire().await;
        wire.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
        assert_eq!(recorder.one().word(1), "*");
    }
    refused(&proxy, "GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400).await;
}

#[tokio::test]
async fn section_4_a_status_line_has_its_spaces_also_without_a_reason() {
    for (came, goes) in [("200", "200 "), ("200 ", "200 "), ("404 No such: thing", "404 No such: thing")] {
        let (_backend, proxy) = saying(format!("HTTP/1.1 {came}\r\nContent-Length: 0\r\n\r\n")).await;
        let all = bytes(&proxy, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        let line = strict::answer(&all, "GET").expect("an answer").line;
        assert_eq!(line, format!("HTTP/1.1 {goes}"));
    }
}

#[tokio::test]
async fn section_5_1_no_space_stands_before_a_colon() {
    let (recorder, proxy) = recording().await;
    for field in ["X : y", "X\t: y", " X: y", "Content-Length : 0"] {
        refused(&proxy, format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n"), 400).await;
    }
    recorder.heard_nothing();
    let (_backend, proxy) = saying("HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok").await;
    proxy.get("/").await.expect(502);
}

#[tokio::test]
async fn section_5_2_a_field_is_one_line() {
    let (recorder, proxy) = recording().await;
    for field in ["X: y\r\n z", "X:\r\n\ty", "X: y\r\n \r\nZ: a"] {
        refused(&proxy, format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n"), 400).await;
    }
    recorder.heard_nothing();
    let (_backend, proxy) = saying("HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok").await;
    proxy.get("/").await.expect(502);
}

#[tokio::test]
async fn section_6_1_chunked_is_the_only_coding_and_not_for_http_1_0() {
    let (recorder, proxy) = recording().await;
    for (version, coding) in
        [("1.1", "gzip"), ("1.1", "gzip, chunked"), ("1.1", "identity"), ("1.0", "chunked")]
    {
        let head = format!("POST / HTTP/{version}\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n\r\n");
        refused(&proxy, head + "0\r\n\r\n", 400).await;
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_6_2_a_length_is_a_number() {
    let (recorder, proxy) = recording().await;
    for length in ["+5", "-5", "0x5", "5,5", "5 5", "5.0", "", "99999999999999999999"] {
        refused(&proxy, format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nhello"), 400)
            .await;
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_6_3_transfer_encoding_with_content_length_is_refused() {
    let (recorder, proxy) = recording().await;
    let (length, coding) = ("Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n");
    for fields in [format!("{length}{coding}"), format!("{coding}{length}")] {
        refused(&proxy, format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n0\r\n\r\n{GET}"), 400).await;
        let (_backend, other) = saying(format!("HTTP/1.1 200 OK\r\n{fields}\r\n0\r\n\r\n")).await;
        other.get("/").await.expect(502);
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_6_3_two_lengths_are_refused_even_when_they_are_equal() {
    let (recorder, proxy) = recording().await;
    for other in ["3", "4"] {
        let fields = format!("Content-Length: 3\r\nContent-Length: {other}\r\n");
        refused(&proxy, format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\nabc"), 400).await;
        let (_backend, proxy) = saying(format!("HTTP/1.1 200 OK\r\n{fields}\r\nabcd")).await;
        proxy.get("/").await.expect(502);
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_6_3_an_answer_that_ends_with_its_connection_ends_by_itself_for_the_client() {
    let (_backend, proxy) = saying("HTTP/1.1 200 OK\r\n\r\nto the end").await;
    let mut wire = proxy.wire().await;
    for _ in 0..2 {
        wire.send(GET).await;
        let answer = wire.answer().await.expect("an answer").expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("transfer-encoding").as_str()),
            ("to the end", "chunked")
        );
    }
}

#[tokio::test]
async fn section_7_1_chunks_are_made_anew() {
    let (recorder, proxy) = recording().await;
    let body =
        "5;a=b\r\nhello\r\n00a;\"c\"\r\n0123456789\r\n0;d\r\nX-Trailer: 1\r\nContent-Length: 3\r\n\r\n";
    let mut wire = proxy.wire().await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: x\r\nTrailer: X-Trailer\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
    ))
    .await;
    wire.answer().await.expect("an answer").expect(200);
    // The reader of the upstream takes neither extensions nor trailers.
    let request = recorder.one();
    assert_eq!(
        (&request.body[..], request.get("trailer"), request.get("x-trailer")),
        (&b"hello0123456789"[..], None, None)
    );
}

#[tokio::test]
async fn section_7_1_1_extensions_have_an_end() {
    let (recorder, proxy) = recording().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(&proxy, format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000)), 400).await;
    refused(&proxy, format!("{head}{}0\r\n\r\n", "1;xxxxxxxxx\r\na\r\n".repeat(2_000)), 400).await;
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_7_1_2_trailers_of_an_answer_are_no_fields_of_it() {
    let (_backend, proxy) =
        saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Evil\r\n\r\n2\r\nok\r\n0\r\nX-Evil: yes\r\n\r\n").await;
    let all = bytes(&proxy, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let answer = strict::answer(&all, "GET").expect("an answer");
    assert_eq!((&answer.body[..], answer.get("x-evil")), (&b"ok"[..], None));
}

#[tokio::test]
async fn section_8_half_a_request_is_none() {
    let (recorder, proxy) = recording().await;
    for half in [
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut wire = proxy.wire().await;
        wire.send(half).await;
        wire.finish().await;
        assert!(wire.closes(SOON).await.is_some());
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_8_a_head_that_does_not_end_in_time_is_408() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::to([recorder.address()]).server("client_header_timeout = \"200ms\"").start().await;
    for half in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        refused(&proxy, half, 408).await;
    }
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_8_half_an_answer_is_seen_to_be_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let (_backend, proxy) = saying(answer).await;
        let all = bytes(&proxy, GET).await;
        assert_eq!(strict::answer(&all, "GET"), Err(strict::Bad::Incomplete), "{}", all.escape_ascii());
    }
}

#[tokio::test]
async fn section_9_3_connections_persist_as_their_clients_say() {
    let (recorder, proxy) = recording().await;
    for (version, connection, persists) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: close\r\n", false),
    ] {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET / HTTP/{version}\r\nHost: x\r\n{connection}\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
        wire.send(GET).await;
        assert_eq!(wire.answer().await.is_some(), persists, "{version} {connection:?}");
    }
    recorder.take().expect("requests");
}

#[tokio::test]
async fn section_9_3_2_pipelined_requests_are_answered_in_order() {
    let (recorder, proxy) = recording().await;
    let requests: String = (0..20)
        .map(|number| match number % 3 {
            0 => format!("GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n"),
            1 => format!("POST /{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!(
                "PUT /{number} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ),
        })
        .collect();
    let mut wire = proxy.wire().await;
    wire.send(requests).await;
    for number in 0..20 {
        assert_eq!(wire.answer().await.expect("all are answered").text(), format!("/{number}"));
    }
    let heard: Vec<_> =
        recorder.take().expect("requests").iter().map(|request| request.word(1).to_owned()).collect();
    assert_eq!(heard, (0..20).map(|number| format!("/{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn section_9_6_who_is_refused_reads_why_however_much_it_sends() {
    let (recorder, proxy) = recording().await;
    let Target::Tcp(address) = proxy.target() else { panic!("not tcp") };
    let (mut read, mut write) =
        tokio::net::TcpStream::connect(address).await.expect("it accepts").into_split();
    let writing = tokio::spawn(async move {
        write.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n").await?;
        write.write_all(&[b'x'; 1 << 20]).await
    });
    let mut all = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut read, &mut all).await.expect("no reset");
    assert_eq!(strict::answer(&all, "POST").expect("an answer").status(), 400);
    writing.await.expect("no panic").expect("all is taken");
    recorder.heard_nothing();
}

#[tokio::test]
async fn section_11_1_a_server_cannot_split_its_answer() {
    for bad in ["X: y\nX-Evil: yes", "X: y\rX-Evil: yes", "X: y\0", "Location: /\n\nHTTP/1.1 200 OK"] {
        let (_backend, proxy) =
            saying(format!("HTTP/1.1 302 Found\r\n{bad}\r\nContent-Length: 0\r\n\r\n")).await;
        let answer = proxy.get("/").await.expect(502);
        assert_eq!(answer.header("x-evil"), "", "{bad:?}");
    }
}
