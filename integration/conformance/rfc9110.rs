//! RFC 9110, HTTP semantics, by section.

use super::{
    recorder::Recorder,
    strict::{self, Message},
};
use crate::fixtures::{Answer, Backend, Proxy, SOON, Wire};

async fn recording() -> (Recorder, Proxy) {
    let recorder = Recorder::start().await;
    let proxy = Proxy::to([recorder.address()]).start().await;
    (recorder, proxy)
}

/// The answer to a request, and what the upstream got of it.
async fn ask(proxy: &Proxy, recorder: &Recorder, request: impl AsRef<[u8]>) -> (Answer, Option<Message>) {
    let mut wire = proxy.wire().await;
    wire.send(request).await;
    let mut answer = wire.answer().await.expect("an answer");
    while answer.status < 200 {
        answer = wire.answer().await.expect("an answer");
    }
    (answer, recorder.take().expect("requests").pop())
}

/// What the upstream gets of a GET with these fields.
async fn passed(fields: &str) -> Message {
    let (recorder, proxy) = recording().await;
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
    let (answer, passed) = ask(&proxy, &recorder, request).await;
    answer.expect(200);
    passed.expect("a request")
}

/// What the client gets of an answer with these fields to a request of this method.
async fn answered(method: &str, answer: &str) -> Message {
    let answer = answer.to_owned();
    let backend = Backend::answering(move |_| answer.clone().into_bytes()).await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut wire = proxy.wire().await;
    wire.send(format!("{method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    strict::answer(&wire.rest().await, method).expect("an answer")
}

fn names(message: &Message) -> Vec<&str> {
    message.fields.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn section_5_1_names_that_some_take_for_others_are_dropped() {
    let request = passed("X_Forwarded_For: 1.2.3.4\r\nContent_Length: 5\r\nA_B: c\r\n_: d\r\nA-B: e").await;
    assert!(names(&request).iter().all(|name| !name.contains('_')), "{request:?}");
    assert_eq!((request.get("a-b"), request.get("x-forwarded-for")), (Some("e"), Some("127.0.0.1")));
}

#[tokio::test]
async fn section_5_3_fields_keep_their_order_and_are_not_merged() {
    let request = passed("X-A: 1\r\nX-B: 2\r\nX-A: 3\r\nx-a: 4").await;
    assert_eq!(request.all("x-a").collect::<Vec<_>>(), ["1", "3", "4"]);
    let answer =
        answered("GET", "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\nSet-Cookie: c=d\r\n\r\n")
            .await;
    assert_eq!(answer.all("set-cookie").collect::<Vec<_>>(), ["a=b", "c=d"]);
}

#[tokio::test]
async fn section_5_4_a_head_has_a_limit_in_both_directions() {
    let (recorder, proxy) = recording().await;
    for fields in [format!("X: {}", "x".repeat(70_000)), ["X: y"; 200].join("\r\n")] {
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
        let (answer, passed) = ask(&proxy, &recorder, request).await;
        assert_eq!((answer.status, answer.header("connection").as_str(), passed), (431, "close", None));
    }
}

#[tokio::test]
async fn section_5_4_max_response_head_says_how_large_the_head_of_an_answer_may_be() {
    let backend = Backend::answering(|head| {
        let size = head.split(' ').nth(1).and_then(|path| path[1..].parse().ok()).unwrap_or(0);
        format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(size)).into_bytes()
    })
    .await;
    for (setting, fits, too_large) in [
        ("", 65_000, 66_000),
        ("max_response_head = \"2k\"", 1_900, 2_100),
        ("max_response_head = \"256k\"", 260_000, 270_000),
    ] {
        let proxy = Proxy::to([backend.address()]).with(setting).start().await;
        proxy.get(&format!("/{fits}")).await.expect(200);
        proxy.get(&format!("/{too_large}")).await.expect(502);
        proxy.get(&format!("/{fits}")).await.expect(200);
    }
}

#[tokio::test]
async fn section_5_5_values_arrive_byte_for_byte_and_without_control_bytes() {
    let (recorder, proxy) = recording().await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nX: \t a\xe9\xff \xc3\xa9\tb  c \t\r\n\r\n";
    let (_, passed) = ask(&proxy, &recorder, request).await;
    assert_eq!(passed.expect("a request").get("x"), Some("a\u{e9}\u{ff} \u{c3}\u{a9}\tb  c"));
    for byte in [b'\0', b'\r', b'\n', 0x7f] {
        let request = [b"GET / HTTP/1.1\r\nHost: x\r\nX: a", &[byte][..], b"b\r\n\r\n"].concat();
        let (answer, passed) = ask(&proxy, &recorder, request).await;
        assert_eq!((answer.status, passed), (400, None), "{byte:#04x}");
    }
}

#[tokio::test]
async fn section_6_5_1_trailers_are_not_merged_into_the_head() {
    let (recorder, proxy) = recording().await;
    let request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: x\r\nX: y\r\n\r\n";
    let (_, passed) = ask(&proxy, &recorder, request).await;
    let passed = passed.expect("a request");
    assert_eq!((passed.get("authorization"), passed.get("x"), &passed.body[..]), (None, None, &b"hi"[..]));
}

#[tokio::test]
async fn section_6_6_1_an_answer_without_a_date_gets_one() {
    let undated = answered("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(httpdate::parse_http_date(undated.get("date").expect("a date")).is_ok());
}

#[tokio::test]
async fn section_7_6_1_what_is_about_one_connection_ends_with_it() {
    let request = passed(
        "Connection: keep-alive, X-Hop\r\nConnection: x-other\r\nX-Hop: 1\r\nX-HOP: 2\r\nX-Other: 3\r\nX-Stays: 4\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABk",
    )
    .await;
    for name in
        ["x-hop", "x-other", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings"]
    {
        assert!(!names(&request).contains(&name), "{name} in {request:?}");
    }
    assert_eq!(request.get("x-stays"), Some("4"));

    let answer = answered(
        "GET",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop, Content-Length\r\nConnection: x-other\r\nX-Hop: 1\r\nX-HOP: 2\r\n\
         X-Other: 3\r\nX-Stays: 4\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTrailer: X\r\nUpgrade: h2c\r\n\
         Content-Length: 2\r\n\r\nok",
    )
    .await;
    for name in ["x-hop", "x-other", "keep-alive", "proxy-connection", "trailer", "upgrade"] {
        assert!(!names(&answer).contains(&name), "{name} in {answer:?}");
    }
    assert_eq!(
        (answer.get("x-stays"), answer.get("content-length"), answer.get("connection")),
        (Some("4"), Some("2"), Some("close"))
    );
}

#[tokio::test]
async fn section_7_6_1_connection_cannot_take_away_what_we_say_or_what_frames() {
    let (recorder, proxy) = recording().await;
    let named = "Connection: X-Forwarded-For, X-Real-IP, X-Forwarded-Host, X-Forwarded-Proto, X-Request-Id, Host, Content-Length";
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\n{named}\r\nContent-Length: 5\r\n\r\nhello");
    let (_, passed) = ask(&proxy, &recorder, request).await;
    let passed = passed.expect("a request");
    assert_eq!(passed.body, b"hello");
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-host", "x"),
        ("x-forwarded-proto", "http"),
        ("host", "x"),
    ] {
        assert_eq!(passed.get(name), Some(value), "{name}");
    }
    assert!(passed.get("x-request-id").is_some());
}

#[tokio::test]
async fn section_7_6_2_max_forwards_counts_down_and_ends_here_at_zero() {
    let (recorder, proxy) = recording().await;
    let options = |value: &str| format!("OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: {value}\r\n\r\n");
    let (answer, passed) = ask(&proxy, &recorder, options("3")).await;
    assert_eq!((answer.status, passed.expect("a request").get("max-forwards")), (200, Some("2")));
    let (answer, passed) = ask(&proxy, &recorder, options("0")).await;
    assert_eq!((answer.status, passed), (204, None));
    // It is for OPTIONS and TRACE; elsewhere it may mean anything.
    let get = "GET / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n";
    let (_, passed) = ask(&proxy, &recorder, get).await;
    assert_eq!(passed.expect("a request").get("max-forwards"), Some("0"));
}

#[tokio::test]
async fn section_7_8_only_to_websocket_a_connection_is_switched() {
    const SWITCH: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let backend = Backend::serving(|mut wire: Wire, heads| async move {
        while let Some(head) = wire.head().await {
            let head = head.to_lowercase();
            let asks = head.contains("\r\nupgrade: websocket") && head.contains("\r\nconnection: upgrade");
            heads.lock().expect("no panic").push(head);
            if asks {
                wire.send(SWITCH).await;
                let back = wire.read(4).await;
                wire.send(back).await;
                return;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut wire = proxy.wire().await;
    wire.send("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
        .await;
    wire.answer().await.expect("an answer").expect(101);
    wire.send("ping").await;
    assert_eq!(wire.read(4).await, b"ping");
    for (method, fields) in [
        ("GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"),
        ("GET", "Connection: Upgrade\r\nUpgrade: TLS/1.0"),
        ("GET", "Connection: Upgrade\r\nUpgrade: h2c, websocket"),
        ("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c"),
        ("GET", "Upgrade: websocket"),
        ("GET", "Connection: Upgrade"),
        ("POST", "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0"),
    ] {
        let mut wire = proxy.wire().await;
        wire.send(format!("{method} / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
        let head = backend.heads().pop().expect("a head");
        assert!(!head.contains("\r\nupgrade:") && !head.contains("http2-settings"), "{fields:?}: {head}");
    }
}

#[tokio::test]
async fn section_7_8_a_server_cannot_switch_who_has_not_asked() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(answered("GET", switch).await.status(), 502);
    assert_eq!(answered("POST", switch).await.status(), 502);
}

#[tokio::test]
async fn section_8_6_a_length_is_told_where_there_is_no_body_to_count() {
    let answer = answered("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n").await;
    assert_eq!(answer.get("content-length"), Some("12345"));
    let answer = answered("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\n\r\n").await;
    assert_eq!(answer.get("content-length"), Some("12345"));
    let answer = answered("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answer.get("content-length"), None);
}

#[tokio::test]
async fn section_9_1_methods_that_we_do_not_know_pass_and_are_told_apart_by_case() {
    let (recorder, proxy) = recording().await;
    for method in ["PROPFIND", "MKCOL", "REPORT", "get", "Head", "M-SEARCH", "!#$%&'*+-.^_`|~"] {
        let (answer, passed) =
            ask(&proxy, &recorder, format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!((answer.status, passed.expect("a request").word(0)), (200, method));
    }
}

#[tokio::test]
async fn section_9_3_2_head_has_no_body_also_from_ourselves() {
    let (_recorder, proxy) = recording().await;
    let mut wire = proxy.wire().await;
    wire.send("HEAD /../ HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    let all = wire.rest().await;
    let first = strict::answer(&all, "HEAD").expect("an answer");
    let second = strict::answer(&all[first.length..], "HEAD").expect("another");
    assert_eq!((first.status(), second.status(), first.length + second.length), (400, 200, all.len()));
}

#[tokio::test]
async fn section_9_3_8_trace_goes_no_further() {
    let (recorder, proxy) = recording().await;
    for fields in ["", "Max-Forwards: 5\r\n"] {
        let (answer, passed) =
            ask(&proxy, &recorder, format!("TRACE / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).await;
        assert_eq!((answer.status, passed), (405, None));
    }
}

#[tokio::test]
async fn section_10_1_1_an_expectation_is_the_servers_to_meet() {
    let (recorder, proxy) = recording().await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    wire.answer().await.expect("to go on").expect(100);
    wire.send("hello").await;
    wire.answer().await.expect("an answer").expect(200);
    let passed = recorder.take().expect("requests").pop().expect("a request");
    assert_eq!((passed.get("expect"), &passed.body[..]), (Some("100-continue"), &b"hello"[..]));
}

#[tokio::test]
async fn section_10_1_1_what_cannot_be_expected_is_417_and_http_1_0_expects_nothing() {
    let (recorder, proxy) = recording().await;
    for expect in ["200-ok", "100-continue, x", "", "y 100-continue"] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n");
        let mut wire = proxy.wire().await;
        wire.send(request).await;
        let answer = wire.answer().await.expect("an answer").expect(417);
        assert_eq!(answer.header("connection"), "close");
        assert!(wire.closes(SOON).await.is_some());
    }
    for expect in ["100-continue", "x"] {
        let request =
            format!("POST / HTTP/1.0\r\nHost: x\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\nhello");
        let (answer, passed) = ask(&proxy, &recorder, request).await;
        assert_eq!((answer.status, passed.expect("a request").get("expect")), (200, None));
    }
}

#[tokio::test]
async fn section_15_2_interim_answers_pass_and_have_neither_body_nor_end() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: X-Hop\r\nX-Hop: y\r\nX-Accel-Redirect: /z\r\n\r\n";
    let backend = Backend::answering(move |_| {
        format!("{hints}{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").into_bytes()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    for _ in 0..2 {
        let answer = wire.answer().await.expect("hints").expect(103);
        let fields = ["link", "x-hop", "x-accel-redirect"].map(|name| answer.header(name));
        assert_eq!(fields, ["</x>", "", ""]);
    }
    wire.answer().await.expect("an answer").expect(200);
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    wire.answer().await.expect("no hints").expect(200);
}

#[tokio::test]
async fn section_15_5_14_too_large_a_body_is_413_before_it_comes_and_while_it_does() {
    let recorder = Recorder::start().await;
    let proxy = Proxy::to([recorder.address()]).route("max_body = \"10b\"").start().await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n";
    for rest in [
        "Content-Length: 11\r\n\r\n",
        "Content-Length: 11\r\n\r\nhello world",
        "Expect: 100-continue\r\nContent-Length: 11\r\n\r\n",
        chunked,
    ] {
        let mut wire = proxy.wire().await;
        wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}")).await;
        let answer = wire.answer().await.expect("an answer").expect(413);
        assert_eq!(answer.header("connection"), "close", "{rest:?}");
        assert!(wire.closes(SOON).await.is_some());
    }
    assert_eq!(recorder.take(), Ok(Vec::new()));
}

#[tokio::test]
async fn section_15_6_3_what_cannot_be_understood_of_a_server_is_502() {
    for answer in
        ["nonsense\r\n\r\n", "HTTP/1.1 999 OK\r\n\r\n", "HTTP/3 200 OK\r\n\r\n", "HTTP/1.1 200 OK\nX: y\n\n"]
    {
        assert_eq!(answered("GET", answer).await.status(), 502, "{answer:?}");
    }
}
