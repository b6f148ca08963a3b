//! How connections of HTTP/2 end: idle, in a reload, at the stop; and that no stream is lost with them.

use rustix::process::Signal;

use super::before;
use crate::fixtures::{
    Backend, End, Frames, Gate, Proxy, SOON,
    frames::{self, GOAWAY, NO_ERROR, get, post},
    ms, pass,
};

#[tokio::test]
async fn an_idle_connection_is_told_and_closed() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).server("keepalive_timeout = \"500ms\"").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    assert_eq!(client.ask(1, get(1, "/")).await.status(), Some(200));
    let goaway = client.until(|frame| frame.kind == GOAWAY).await;
    assert_eq!(frames::code(&goaway), NO_ERROR);
    assert_eq!(client.end().await, End::GoAway(NO_ERROR));
    soon_eq!(proxy.status().await["listeners"][1]["connections"], 0);
}

#[tokio::test]
async fn a_request_that_meets_the_idle_end_is_answered() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).server("keepalive_timeout = \"300ms\"").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.ask(1, get(1, "/")).await;
    client.until(|frame| frame.kind == GOAWAY).await;
    // The first GOAWAY asks for no more, and takes what is on its way (RFC 9113 §6.8).
    assert_eq!(client.ask(3, get(3, "/late")).await.status(), Some(200));
}

#[tokio::test]
async fn a_connection_that_never_asks_is_closed_in_time() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).server("client_header_timeout = \"500ms\"").start().await;
    let mut silent = Frames::silent(&proxy.h2()).await;
    let mut idle = Frames::to(&proxy.h2()).await;
    assert!(silent.closes(SOON).await.is_some());
    assert!(idle.closes(SOON).await.is_some());
    soon_eq!(proxy.status().await["listeners"][1]["connections"], 0);
}

#[tokio::test]
async fn a_long_request_is_not_idle() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).server("keepalive_timeout = \"200ms\"").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(get(1, "/")).await;
    soon_eq!(proxy.inflight().await, [1]);
    pass(ms(800)).await;
    gate.open();
    assert_eq!(client.end_of(1).await, End::Answer(200, b"ok".into()));
}

#[tokio::test]
async fn a_stop_waits_for_every_stream() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let mut proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    for stream in [1, 3, 5] {
        client.send(get(stream, "/")).await;
    }
    client.send(post(7, "/")).await;
    client.send(frames::frame(frames::DATA, 0, 7, "half, ")).await;
    soon_eq!(proxy.inflight().await, [4]);
    proxy.signal(Signal::TERM);
    client.until(|frame| frame.kind == GOAWAY).await;
    // What crosses it on its way is taken.
    client.send(get(9, "/")).await;
    client.send(frames::frame(frames::DATA, frames::END_STREAM, 7, "and half")).await;
    gate.open();
    for stream in [1, 3, 5, 7, 9] {
        assert_eq!(client.end_of(stream).await, End::Answer(200, b"ok".into()), "{stream}");
    }
    assert!(client.closes(SOON).await.is_some());
    assert!(proxy.process().exited(SOON).await.success());
}

#[tokio::test]
async fn an_idle_connection_holds_no_stop_up() {
    let app = Backend::saying("ok").await;
    let mut proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.ask(1, get(1, "/")).await;
    // This one answers nothing, not even PING.
    let mut deaf = Frames::to(&proxy.h2()).await;
    deaf.ask(1, get(1, "/")).await;
    proxy.signal(Signal::TERM);
    assert!(matches!(client.end().await, End::GoAway(NO_ERROR)));
    // Before `grace` ends.
    proxy.process().exited(SOON).await;
}

#[tokio::test]
async fn a_reload_that_takes_the_listener_away_loses_no_stream() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let mut proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(get(1, "/")).await;
    soon_eq!(proxy.inflight().await, [1]);
    proxy.reload(Proxy::to([app.address()])).await;
    client.until(|frame| frame.kind == GOAWAY).await;
    gate.open();
    assert_eq!(client.end_of(1).await, End::Answer(200, b"ok".into()));
    assert!(client.closes(SOON).await.is_some());
}

#[tokio::test]
async fn a_reload_that_changes_something_else_keeps_connections() {
    let app = Backend::saying("ok").await;
    let mut proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.ask(1, get(1, "/")).await;
    proxy.reload(before(&app).route("headers = { X-New = \"1\" }")).await;
    assert_eq!(client.ask(3, get(3, "/")).await.status(), Some(200));
}

#[tokio::test]
async fn who_is_slow_to_take_its_answers_is_not_idle() {
    const STREAMS: u32 = 400;
    let app = Backend::saying("x".repeat(60_000).leak()).await;
    let proxy = before(&app)
        .server("keepalive_timeout = \"300ms\"\n[server.http2]\nmax_concurrent_streams = 400")
        .start()
        .await;
    let mut client = Frames::to(&proxy.h2()).await;
    for number in 0..STREAMS {
        client.send(get(2 * number + 1, "/")).await;
    }
    // For the proxy all of them are over: what the kernel has no room for waits in the connection.
    soon_eq!(app.heads().len(), STREAMS as usize);
    soon_eq!(proxy.inflight().await, [0]);
    pass(ms(4000)).await;
    for number in 0..STREAMS {
        assert_eq!(client.end_of(2 * number + 1).await, End::Answer(200, vec![b'x'; 60_000]), "{number}");
    }
}
