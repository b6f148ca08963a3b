//! What goes wrong, and which requests are sent again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use h2::Reason;

use super::before;
use crate::fixtures::{
    Backend, H2Request, H2Server, RawH2,
    frames::{self, END_STREAM},
    noise,
};

/// GOAWAY that says up to which stream requests have been processed.
fn goaway(last: u32) -> Vec<u8> {
    const GOAWAY: u8 = 7;
    frames::frame(GOAWAY, 0, 0, [last.to_be_bytes(), 0_u32.to_be_bytes()].concat())
}

#[tokio::test]
async fn what_a_server_has_not_processed_before_it_goes_is_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let server = Backend::serving(move |wire, _| {
        let requests = Arc::clone(&seen);
        async move {
            let mut server = RawH2::on(wire).await;
            let stream = server.request().await;
            match requests.fetch_add(1, Ordering::Relaxed) {
                0 => server.send(goaway(0)).await,
                _ => server.send(frames::headers(stream, END_STREAM, &[(":status", "201")])).await,
            }
            server.closes().await;
        }
    })
    .await;
    let proxy = before(server.address()).with("hold = \"0s\"").start().await;
    proxy.post("/", "once").await.expect(201);
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    assert_eq!(proxy.states().await, ["up"], "it is no evidence against the server");
}

#[tokio::test]
async fn a_stream_that_is_refused_is_sent_again_whatever_its_method() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&refusals);
    let server = H2Server::serving(move |mut request: H2Request| {
        let is_first = left.fetch_add(1, Ordering::Relaxed) % 3 < 2;
        async move {
            let (body, _) = request.whole().await;
            match is_first {
                true => request.respond.send_reset(Reason::REFUSED_STREAM),
                false => request.say(body).await,
            }
        }
    })
    .await;
    let proxy = before(server.address()).start().await;
    assert_eq!(proxy.post("/", "again").await.expect(200).text(), "again");
    // What is too large to be recorded unasked is not sent twice.
    proxy.post("/", noise(500_000)).await.expect(502);
    assert_eq!(proxy.states().await, ["up"], "it is no evidence against the server");
}

#[tokio::test]
async fn a_stream_that_breaks_is_sent_again_only_if_that_is_safe() {
    let server = H2Server::serving(|mut request: H2Request| async move {
        match request.connection % 2 {
            _ if request.head.uri.path() == "/ok" => request.say("ok").await,
            _ => request.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    })
    .await;
    let proxy = before(server.address()).start().await;
    proxy.post("/", "once").await.expect(502);
    assert_eq!(server.heads().len(), 1);
    proxy.get("/").await.expect(502);
    assert!(server.heads().len() > 2, "it may be tried again");
    proxy.post("/ok", "").await.expect(200);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_no_whole_one() {
    let server = H2Server::serving(|mut request: H2Request| async move {
        let mut stream = request.respond.send_response(crate::fixtures::h2::head(200), false).unwrap();
        stream.send_data("a part".into(), false).unwrap();
        // It has left before the stream is reset.
        crate::fixtures::pass(crate::fixtures::ms(100)).await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let proxy = before(server.address()).start().await;
    for target in [proxy.target(), proxy.h2()] {
        assert!(target.get("/").send().await.is_err(), "{target:?}");
    }
}

#[tokio::test]
async fn malformed_responses_are_refused() {
    let heads: [&[(&str, &str)]; 4] = [
        &[("x", "y")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[(":status", "200"), ("content-length", "5"), ("content-length", "6")],
    ];
    for head in heads {
        let server = Backend::serving(move |wire, _| async move {
            let mut server = RawH2::on(wire).await;
            loop {
                let stream = server.request().await;
                server.send(frames::headers(stream, END_STREAM, head)).await;
            }
        })
        .await;
        let proxy = before(server.address()).start().await;
        proxy.post("/", "once").await.expect(502);
    }
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_without_end() {
    let server = H2Server::serving(|request: H2Request| async move {
        std::future::pending::<()>().await;
        drop(request);
    })
    .await;
    let proxy = before(server.address()).with("read_timeout = \"500ms\"").start().await;
    proxy.get("/").await.expect(504);
    soon_eq!(proxy.inflight().await, [0]);
}
