//! What holds of clients that are slow holds of streams and of TLS too, and what becomes of one stream is its own.

use std::time::Instant;

use super::before;
use crate::fixtures::{
    Backend, End, Frames, Proxy, Scratch,
    frames::{DATA, INITIAL_WINDOW_SIZE, frame, get, post},
    noise,
};

#[tokio::test]
async fn an_answer_keeps_to_its_rate() {
    let scratch = Scratch::new();
    scratch.write("file", noise(300_000));
    let proxy =
        Proxy::toml("[[site]]\n[site.routes]\n\"/\" = { files = \"@ROOT@\", limit_rate = \"100k\" }\n")
            .fill("ROOT", scratch.root().display())
            .secure()
            .start()
            .await;
    for target in [proxy.https(), proxy.h2()] {
        let start = Instant::now();
        let answer = target.get("/file").await.expect(200);
        assert!(answer.body == noise(300_000));
        let seconds = start.elapsed().as_secs_f64();
        assert!((1.5..6.0).contains(&seconds), "{target:?}: {seconds}");
    }
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_cut_alone() {
    let scratch = Scratch::new();
    scratch.write("file", noise(1_000_000));
    let proxy = Proxy::toml("[[site]]\n[site.routes]\n\"/\" = { files = \"@ROOT@\" }\n")
        .fill("ROOT", scratch.root().display())
        .server("send_timeout = \"1s\"")
        .secure()
        .start()
        .await;
    let mut client = Frames::with(&proxy.h2(), &[(INITIAL_WINDOW_SIZE, 100)], 1 << 30).await;
    let end = client.ask(1, get(1, "/file")).await;
    assert!(matches!(end, End::Reset(code) if code != 0), "{end:?}");
    client.send([get(3, "/file"), crate::fixtures::frames::window(3, 1 << 24)].concat()).await;
    assert!(matches!(client.end_of(3).await, End::Answer(200, body) if body.len() == 1_000_000));
}

#[tokio::test]
async fn a_body_that_stops_is_408_alone() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).server("client_body_timeout = \"500ms\"").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send([post(1, "/"), frame(DATA, 0, 1, "x")].concat()).await;
    assert_eq!(client.end_of(1).await.status(), Some(408));
    assert_eq!(client.ask(3, get(3, "/")).await, End::Answer(200, b"ok".into()));
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn limits_of_requests_count_streams() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::toml(
        "[[site]]\nlimits = [\"few\"]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n[limit.few]\nkey = \"address\"\nrate = \"1r/m\"\nburst = 2\n",
    )
    .fill("SERVER", app.address())
    .secure()
    .start()
    .await;
    let mut client = Frames::to(&proxy.h2()).await;
    let mut statuses = Vec::new();
    for stream in [1, 3, 5, 7] {
        statuses.push(client.ask(stream, get(stream, "/")).await.status().unwrap());
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
}
