//! Malformed requests over HTTP/2, and odd ones that are served: a stream pays for itself alone (RFC 9113 §8.1.1).

use super::before;
use crate::fixtures::{
    Backend, End, Frames, Gate, Proxy, Scratch, eventually,
    frames::{
        self, DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, block, frame, get, headers, literal,
        post,
    },
};

/// HEADERS of a GET with one more field, of any bytes.
fn with_field(stream: u32, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = block(&frames::fields("GET", "/"));
    literal(&mut block, name, value);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

#[tokio::test]
async fn a_malformed_request_ends_its_stream_alone() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(get(1, "/held")).await;
    soon_eq!(proxy.inflight().await, [1]);
    let missing = [(":method", "GET"), (":scheme", "https"), (":authority", "a")];
    let mut requests = vec![headers(3, END_STREAM, &missing)];
    for (name, value) in [
        (&b"X-Upper"[..], &b"y"[..]),
        (b"x y", b"z"),
        (b"x\0", b"z"),
        (b"\xc3\xa9", b"z"),
        (b"x", b"a\0b"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"\x7f"),
        (b":status", b"200"),
        (b":unknown", b"x"),
        (b":path", b"/again"),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"te", b"gzip"),
        (b"content-length", b"x"),
    ] {
        requests.push(with_field(3 + 2 * u32::try_from(requests.len()).unwrap(), name, value));
    }
    for (number, request) in requests.iter().enumerate() {
        let stream = 3 + 2 * u32::try_from(number).unwrap();
        assert_eq!(client.ask(stream, request).await, End::Reset(PROTOCOL_ERROR), "{number}");
    }
    gate.open();
    assert_eq!(client.end_of(1).await, End::Answer(200, b"ok".into()));
    assert_eq!(app.heads().len(), 1);
    let refused = proxy.metrics().await.sum("bowshock_refused_heads_total", &[]);
    assert!(refused >= requests.len() as f64, "{refused} of {}", requests.len());
}

#[tokio::test]
async fn a_malformed_trailer_ends_its_stream_alone() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(get(1, "/held")).await;
    let mut stream = 3;
    for (name, value) in
        [(&b":path"[..], &b"/"[..]), (b":status", b"200"), (b"X-Upper", b"y"), (b"x", b"a\0b")]
    {
        let mut trailer = Vec::new();
        literal(&mut trailer, name, value);
        let trailer = frame(HEADERS, END_HEADERS | END_STREAM, stream, trailer);
        let request = [post(stream, "/"), frame(DATA, 0, stream, "body"), trailer].concat();
        assert_eq!(client.ask(stream, request).await, End::Reset(PROTOCOL_ERROR), "{name:?}");
        stream += 2;
    }
    gate.open();
    let trailer = headers(stream, END_STREAM, &[("x-checksum", "1")]);
    let request = [post(stream, "/"), frame(DATA, 0, stream, "body"), trailer].concat();
    assert_eq!(client.ask(stream, request).await, End::Answer(200, b"ok".into()));
    assert_eq!(client.end_of(1).await, End::Answer(200, b"ok".into()));
}

/// What people and programs send raw, whatever RFC 3986 says.
const RAW: [&str; 8] = [
    "/x?q={\"a\":1}",
    "/x?<b>|^`\\[]",
    "/{a}|b^c`d\"e",
    "/<a>\\b",
    "/caf\u{e9}?\u{e9}",
    "/api/tools/a%2Fb?{%7B",
    "/x?q=a'b",
    "/a/b;c=d",
];

#[tokio::test]
async fn raw_characters_pass_byte_for_byte_over_both_protocols() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).start().await;
    for target in RAW {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        wire.answer().await.expect("an answer").expect(200);
    }
    let mut client = Frames::to(&proxy.h2()).await;
    for (number, target) in RAW.into_iter().enumerate() {
        let stream = 1 + 2 * u32::try_from(number).unwrap();
        assert_eq!(client.ask(stream, get(stream, target)).await.status(), Some(200), "{target}");
    }
    assert_eq!(app.paths(), [RAW, RAW].concat());

    let latin = b"/caf\xe9?\xff";
    let mut wire = proxy.wire().await;
    wire.send([b"GET ", &latin[..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat()).await;
    wire.answer().await.expect("an answer").expect(200);
    let mut request = block(&frames::fields("GET", "/")[..3]);
    literal(&mut request, b":path", latin);
    let stream = 1 + 2 * u32::try_from(RAW.len()).unwrap();
    let end = client.ask(stream, frame(HEADERS, END_HEADERS | END_STREAM, stream, request)).await;
    assert_eq!(end.status(), Some(200));
}

#[tokio::test]
async fn what_is_refused_is_answered_and_logged_over_both_protocols() {
    let app = Backend::saying("ok").await;
    let scratch = Scratch::new();
    let path = scratch.path("access.log");
    let access = format!("[log]\naccess = {:?}", path.display().to_string());
    let proxy = Proxy::to([app.address()]).secure().with(&access).start().await;
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    let mut wire = proxy.wire().await;
    wire.send("GET /one\x01 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.answer().await.expect("an answer").expect(400);
    let mut client = Frames::to(&proxy.h2()).await;
    assert_eq!(client.ask(1, get(1, "/two\x01")).await.status(), Some(400));
    assert_eq!(client.ask(3, get(3, "/a b")).await.status(), Some(400));
    client.send(with_field(5, b"X", b"y")).await;
    let expected =
        ["GET /one", "\"GET /two%01 HTTP/2.0\" 400", "\"GET /a b HTTP/2.0\" 400", "\"GET / HTTP/2.0\" 400"];
    eventually("all are logged", async || expected.iter().all(|line| log().contains(line))).await;
    assert!(app.heads().is_empty());
}

#[tokio::test]
async fn dot_segments_lead_around_no_route() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::toml(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         \"/admin\" = { proxy = \"app\", allow = [\"192.0.2.1\"] }\n[upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("SERVER", app.address())
    .secure()
    .start()
    .await;
    let mut client = Frames::to(&proxy.h2()).await;
    for (number, path) in
        ["/admin/x/../../y", "/admin/%2e%2e/y", "//admin/x", "/admin%2fx"].into_iter().enumerate()
    {
        let stream = 1 + 2 * u32::try_from(number).unwrap();
        assert_eq!(client.ask(stream, get(stream, path)).await.status(), Some(400), "{path}");
    }
    assert!(app.heads().is_empty());
}
