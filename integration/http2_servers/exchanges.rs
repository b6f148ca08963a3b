//! Requests and responses.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use tokio::sync::mpsc;

use super::before;
use crate::fixtures::{
    Authority, H2Client, H2Request, H2Server, Proxy, Scratch,
    h2::{fields, head, send},
    ms, noise, pass,
};

/// Repeats the body that it gets, piece by piece.
async fn echo(mut request: H2Request) {
    let mut stream = request.respond.send_response(head(200), false).expect("the stream is open");
    while let Some(Ok(data)) = request.body.data().await {
        request.body.flow_control().release_capacity(data.len()).expect("it is open");
        if !send(&mut stream, data, false).await {
            return;
        }
    }
    match request.body.trailers().await.expect("it is whole") {
        Some(trailers) => stream.send_trailers(trailers).expect("it is open"),
        None => stream.send_data(Bytes::new(), true).expect("it is open"),
    }
}

#[tokio::test]
async fn a_server_is_told_who_asks_and_how() {
    let server = H2Server::serving(|request| request.say("hello")).await;
    let proxy = before(server.address()).start().await;
    let answer = proxy.get("/a%20b?c={d}").header("host", "galaxy.example.org").await.expect(200);
    assert_eq!(answer.text(), "hello");
    let told = server.heads().remove(0);
    assert_eq!(told.uri.to_string(), "http://galaxy.example.org/a%20b?c={d}");
    let text = |name: &str| told.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(text("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(text("x-forwarded-host"), Some("galaxy.example.org"));
    for absent in ["host", "connection", "te", "transfer-encoding"] {
        assert_eq!(text(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn bodies_of_every_size_come_back_as_they_went() {
    let server = H2Server::serving(echo).await;
    let proxy = before(server.address()).start().await;
    for size in [0, 1, 16_384, 65_535, 65_536, 300_000, 3_000_000] {
        let body = noise(size);
        for target in [proxy.target(), proxy.h2()] {
            let answer = target.request("POST", "/").body(body.clone()).await.expect(200);
            assert!(answer.body == body, "{size} bytes, {target:?}");
        }
    }
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let server = H2Server::serving(echo).await;
    let proxy = before(server.address()).start().await;
    let client = H2Client::to(&proxy.h2()).await;
    let mut call = client.post("/", &[("te", "trailers")]).await;
    call.say("hello").await;
    let long = "x".repeat(20_000);
    let trailers =
        [("x-checksum", "5d41"), ("x-forwarded-for", "192.0.2.1"), ("host", "b"), ("x-long", &*long)];
    let (head, body, trailers) = call.finish(&trailers).await;
    assert_eq!((head.status.as_u16(), &body[..]), (200, &b"hello"[..]));
    let expected = fields(&[("x-checksum", "5d41"), ("x-long", &long)]);
    assert_eq!(trailers.unwrap(), expected, "no more than a trailer may say");
    assert_eq!(server.heads()[0].headers["te"], "trailers");
    // Whoever cannot be sent trailers gets the rest.
    assert_eq!(proxy.post("/", "hello").await.expect(200).text(), "hello");
}

#[tokio::test]
async fn a_response_of_trailers_only_is_one() {
    let server = H2Server::serving(|mut request| async move {
        let response =
            Response::builder().header("content-type", "application/grpc").header("grpc-status", "12");
        request.respond.send_response(response.body(()).unwrap(), true).unwrap();
    })
    .await;
    let proxy = before(server.address()).start().await;
    let call = H2Client::to(&proxy.h2()).await.post("/a.B/C", &[("te", "trailers")]).await;
    let (head, answer) = call.head().await;
    assert_eq!(head.headers["grpc-status"], "12");
    assert!(answer.body.is_end_stream());
}

#[tokio::test]
async fn both_sides_speak_while_both_bodies_are_open() {
    let server = H2Server::serving(echo).await;
    let proxy = before(server.address()).start().await;
    let mut call = H2Client::to(&proxy.h2()).await.post("/", &[]).await;
    call.say("one").await;
    let (_, mut answer) = call.head().await;
    assert_eq!(answer.piece().await, "one");
    for word in ["two", "three", "four"] {
        assert!(send(&mut answer.request, word.into(), false).await);
        assert_eq!(answer.piece().await, word);
    }
    assert_eq!(proxy.inflight().await, [1]);
    drop(answer);
    soon_eq!(proxy.inflight().await, [0], "who leaves is noticed");
}

#[tokio::test]
async fn a_call_may_be_silent_for_as_long_as_its_server() {
    let server = H2Server::serving(|mut request: H2Request| async move {
        // Its head comes when the client has said all.
        let (body, _) = request.whole().await;
        request.say(body).await;
    })
    .await;
    let proxy = before(server.address()).server("client_body_timeout = \"300ms\"").start().await;
    let client = H2Client::to(&proxy.h2()).await;
    let silent = async |content_type| {
        let call = client.post("/", &[("content-type", content_type)]).await;
        pass(ms(900)).await;
        call
    };
    let mut call = silent("application/grpc").await;
    call.say("late").await;
    assert_eq!(call.finish(&[]).await.1, b"late");
    let (head, _) = silent("text/plain").await.head().await;
    assert_eq!(head.status, 408, "others have the time of a client's body");
}

#[tokio::test]
async fn what_has_no_body_has_none() {
    let server = H2Server::serving(|mut request: H2Request| async move {
        let status = request.head.uri.path()[1..].parse().unwrap();
        let mut response = head(status);
        if request.head.method == "HEAD" {
            response.headers_mut().insert("content-length", 5.into());
        }
        request.respond.send_response(response, true).unwrap();
    })
    .await;
    let proxy = before(server.address()).start().await;
    for target in [proxy.target(), proxy.h2()] {
        let mut connection = target.connect().await.unwrap();
        for (method, status, length) in
            [("HEAD", 200, "5"), ("GET", 204, ""), ("GET", 304, ""), ("GET", 200, "0")]
        {
            let request = target.request(method, &format!("/{status}"));
            let answer = connection.send(request).await.unwrap().expect(status);
            assert_eq!(
                (answer.header("content-length").as_str(), answer.text().as_str()),
                (length, ""),
                "{method} {status}"
            );
        }
    }
}

#[tokio::test]
async fn interim_responses_pass() {
    let server = H2Server::serving(|mut request: H2Request| async move {
        let hints = Response::builder().status(103).header("link", "</style.css>; rel=preload");
        request.respond.send_informational(hints.body(()).unwrap()).unwrap();
        request.say("hello").await;
    })
    .await;
    let proxy = before(server.address()).start().await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let hints = wire.head().await.unwrap();
    assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </style.css>"), "{hints}");
    assert_eq!(wire.answer().await.unwrap().expect(200).text(), "hello");
}

#[tokio::test]
async fn a_client_that_waits_is_asked_for_its_body() {
    let server = H2Server::serving(echo).await;
    let proxy = before(server.address()).start().await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(wire.read(25).await, b"HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("abc").await;
    assert_eq!(wire.answer().await.unwrap().expect(200).text(), "abc");
}

#[tokio::test]
async fn an_application_may_name_a_file() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("set.dat"), "a dataset").unwrap();
    let path = format!("/_x{}", scratch.path("set.dat").display());
    let server = H2Server::serving(move |mut request: H2Request| {
        let response = Response::builder().header("x-accel-redirect", &path).body(()).unwrap();
        async move { drop(request.respond.send_response(response, true)) }
    })
    .await;
    let text = "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
                \"/_x\" = { files = \"/\", internal = true, within = [\"@DATA@\"] }\n\
                [upstream.app]\nservers = [\"@SERVER@\"]\nprotocol = \"h2c\"";
    let proxy = Proxy::toml(text).fill("DATA", scratch.root().display()).fill("SERVER", server.address());
    assert_eq!(proxy.start().await.get("/").await.expect(200).text(), "a dataset");
}

#[tokio::test]
async fn websockets_are_refused() {
    let server = H2Server::serving(|request| request.say("hello")).await;
    let mut proxy = before(server.address()).start().await;
    let mut wire = proxy.wire().await;
    wire.send(
        "GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    wire.answer().await.unwrap().expect(501);
    proxy.process().logged("WebSockets to servers that speak HTTP/2 are not supported").await;
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn servers_are_spoken_to_under_tls() {
    let (authority, scratch) = (Authority::new("ours"), Scratch::new());
    let ca = authority.write(&scratch, "ours");
    let server = H2Server::serving_tls(&authority.server(&["worker.example"]), echo).await;
    let tls = format!("protocol = \"h2\"\ntls = {{ ca = {ca:?}, server_name = \"worker.example\" }}");
    let proxy = Proxy::to([server.address()]).with(&tls).secure().start().await;
    let body = noise(1_000_000);
    let answer = proxy.h2().request("POST", "/").body(body.clone()).await.expect(200);
    assert!(answer.body == body);
    assert_eq!(server.heads()[0].uri.scheme_str(), Some("https"));
}

#[tokio::test]
async fn a_slow_client_holds_back_its_server_and_nobody_else() {
    let (sent, mut progress) = mpsc::unbounded_channel();
    let sent = Arc::new(sent);
    let server = H2Server::serving(move |mut request: H2Request| {
        let sent = Arc::clone(&sent);
        async move {
            if request.head.uri.path() == "/small" {
                return request.say("small").await;
            }
            let mut stream = request.respond.send_response(head(200), false).unwrap();
            // More than all buffers on the way take.
            while send(&mut stream, vec![0; 64 << 10].into(), false).await {
                sent.send(()).unwrap();
            }
        }
    })
    .await;
    let proxy = before(server.address()).start().await;
    let client = H2Client::to(&proxy.h2()).await;
    let calls = [client.post("/large", &[]).await, client.post("/large", &[]).await];
    let mut pieces = 0;
    while tokio::time::timeout(ms(500), progress.recv()).await.is_ok() {
        pieces += 1;
        assert!(pieces < 200, "nobody holds it back");
    }
    // Over the same connection to the proxy, hence on the same thread.
    let (_, small, _) = client.post("/small", &[]).await.finish(&[]).await;
    assert_eq!(small, b"small");
    drop(calls);
    soon_eq!(proxy.inflight().await, [0]);
}
