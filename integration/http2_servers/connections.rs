//! Connections, which requests share.

use std::sync::Arc;

use h2::server;

use super::before;
use crate::fixtures::{
    Backend, Gate, H2Request, H2Server, Proxy, SOON, answers, eventually, outcome, vacant, within,
};

#[tokio::test]
async fn requests_share_a_connection_for_each_thread() {
    let gate = Gate::shut();
    let held = gate.clone();
    let server = H2Server::serving(move |request| {
        let gate = held.clone();
        async move {
            gate.passed().await;
            request.say("hello").await;
        }
    })
    .await;
    let proxy = before(server.address()).start().await;
    let requests: Vec<_> = (0..50).map(|_| proxy.post("/", "body").spawn()).collect();
    soon_eq!(proxy.inflight().await, [50]);
    gate.open();
    answers(requests).await;
    assert!(server.connections() <= 2, "{}", server.connections());
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn where_a_server_takes_few_streams_there_are_more_connections() {
    let gate = Gate::shut();
    let held = gate.clone();
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(2);
    let server = H2Server::serving_at(&vacant(), builder, None, move |request: H2Request| {
        let gate = held.clone();
        async move {
            gate.passed().await;
            request.say("hello").await;
        }
    })
    .await;
    let proxy = before(server.address()).start().await;
    let requests: Vec<_> = (0..10).map(|_| proxy.post("/", "body").spawn()).collect();
    eventually("all are there", async || server.heads().len() == 10).await;
    assert!((5..=6).contains(&server.connections()), "{}", server.connections());
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (closed, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let closed = Arc::new(closed);
    let server = Backend::serving(move |wire, _| {
        let closed = Arc::clone(&closed);
        async move {
            let mut server = crate::fixtures::RawH2::on(wire).await;
            let stream = server.request().await;
            let fields = [(":status", "200")];
            server.send(crate::fixtures::frames::headers(stream, 1, &fields)).await;
            server.closes().await;
            closed.send(()).unwrap();
        }
    })
    .await;
    let proxy = before(server.address()).start().await;
    proxy.get("/").await.expect(200);
    within(SOON, "it is closed", ends.recv()).await;
}

#[tokio::test]
async fn requests_are_held_while_a_server_restarts() {
    let server = H2Server::serving(|request| request.say("before")).await;
    let proxy = before(server.address()).start().await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "before");
    let address = server.stop().await;
    let held = proxy.post("/", "held").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let again = |mut request: H2Request| async move {
        let (body, _) = request.whole().await;
        request.say(body).await;
    };
    let _server = H2Server::serving_at(&address, server::Builder::new(), None, again).await;
    assert_eq!(outcome(held).await.expect(200).text(), "held");
}

#[tokio::test]
async fn health_is_asked_for_over_http2() {
    let server = H2Server::serving(|request: H2Request| async move {
        let status = if request.head.uri.path() == "/health" { 204 } else { 200 };
        request.end(status);
    })
    .await;
    let well = before(server.address()).with("health = { path = \"/health\", expect = [204] }").start().await;
    well.get("/").await.expect(200);
    let ill = before(server.address()).with("health = { path = \"/\", expect = [204] }\nhold = \"0s\"");
    let ill = ill.start().await;
    soon_eq!(ill.states().await, ["failing"]);
    ill.get("/").await.expect(503);
}

#[tokio::test]
async fn a_server_of_another_protocol_is_down() {
    let server = Backend::saying("hello").await;
    let mut proxy = before(server.address()).with("hold = \"0s\"").start().await;
    let answer = proxy.get("/").await;
    assert!([502, 503].contains(&answer.status), "{answer:?}");
    proxy.process().logged("does not speak HTTP/2").await;
}

#[tokio::test]
async fn a_reload_may_change_the_protocol() {
    let server = H2Server::serving(|request| request.say("HTTP/2")).await;
    let (old, address) = (Backend::saying("HTTP/1.1").await, server.address());
    let builder = |protocol, address: &str| {
        Proxy::to([address]).with(&format!("protocol = \"{protocol}\"\nkeepalive = \"1m\""))
    };
    let mut proxy = builder("http", &old.address()).start().await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "HTTP/1.1");
    proxy.reload(builder("h2c", &address)).await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "HTTP/2");
}
