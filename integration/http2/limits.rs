//! What holds of clients that are slow holds of streams and of TLS too, and what becomes of one stream is its own.

use std::{collections::BTreeMap, time::Instant};

use super::before;
use crate::fixtures::{
    Backend, End, Frames, Proxy, SOON, Scratch,
    frames::{
        ACK, DATA, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, RST_STREAM, code, decode_status, frame,
        get, post, window,
    },
    ms, noise, pass, within,
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
        assert!(seconds >= 1.5, "{target:?}: {seconds}");
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
    client.send([get(3, "/file"), window(3, 1 << 24)].concat()).await;
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

/// What has come of a stream.
#[derive(Debug, Default, PartialEq)]
struct Came {
    status: u16,
    bytes: usize,
    reset: Option<u32>,
    is_whole: bool,
}

/// Takes all that the server has sent so far.
async fn take(client: &mut Frames, streams: &mut BTreeMap<u32, Came>) {
    client.send(frame(PING, 0, 0, [7; 8])).await;
    loop {
        let frame = within(SOON, "a frame", client.next()).await.expect("the connection goes on");
        if (frame.kind, frame.flags) == (PING, ACK) {
            return;
        }
        let came = streams.entry(frame.stream).or_default();
        match frame.kind {
            HEADERS => came.status = decode_status(&frame.payload),
            DATA => came.bytes += frame.payload.len(),
            RST_STREAM => came.reset = Some(code(&frame)),
            _ => {}
        }
        came.is_whole |= matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
    }
}

/// Takes half a minute: so long a client may be slow.
#[tokio::test]
async fn streams_that_move_too_little_end_alone() {
    const SENDS_LITTLE: u32 = 1;
    const TAKES_LITTLE: u32 = 3;
    const SENDS_ENOUGH: u32 = 5;
    const TAKES_ENOUGH: u32 = 7;
    const FILE: usize = 1_000_000;
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    scratch.write("file", noise(FILE));
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\"/files\" = { files = \"@ROOT@\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("SERVER", app.address())
    .fill("ROOT", scratch.root().display())
    .server("min_rate = \"500b\"")
    .secure()
    .start()
    .await;
    let mut client = Frames::with(&proxy.h2(), &[(INITIAL_WINDOW_SIZE, 100)], 1 << 30).await;
    let begin = [
        post(SENDS_LITTLE, "/"),
        get(TAKES_LITTLE, "/files/file"),
        post(SENDS_ENOUGH, "/"),
        get(TAKES_ENOUGH, "/files/file"),
        // It has room for what it will be told.
        window(SENDS_LITTLE, 1 << 16),
    ];
    client.send(begin.concat()).await;
    let (start, mut came) = (Instant::now(), BTreeMap::<u32, Came>::new());
    let has_ended = |came: &BTreeMap<u32, Came>, stream| {
        came.get(&stream).is_some_and(|came| came.is_whole || came.reset.is_some())
    };
    while !(has_ended(&came, SENDS_LITTLE) && has_ended(&came, TAKES_LITTLE)) {
        assert!(start.elapsed() < 4 * SOON, "they go on: {came:?}");
        if !has_ended(&came, SENDS_LITTLE) {
            client.send(frame(DATA, 0, SENDS_LITTLE, "x")).await;
        }
        if !has_ended(&came, TAKES_LITTLE) {
            client.send(window(TAKES_LITTLE, 1)).await;
        }
        client.send(frame(DATA, 0, SENDS_ENOUGH, [b'x'; 1000])).await;
        client.send(window(TAKES_ENOUGH, 1000)).await;
        take(&mut client, &mut came).await;
        // It is the rate that counts, of bytes that keep coming.
        pass(ms(500)).await;
    }
    assert!(start.elapsed() > ms(25_000), "not at once: {came:?}");
    assert_eq!((came[&SENDS_LITTLE].status, came[&SENDS_LITTLE].is_whole), (408, true));
    let cut = &came[&TAKES_LITTLE];
    assert!(cut.status == 200 && !cut.is_whole && cut.reset.is_some_and(|code| code != 0), "{cut:?}");

    assert!(!has_ended(&came, SENDS_ENOUGH) && !has_ended(&came, TAKES_ENOUGH), "{came:?}");
    let end = client.ask(SENDS_ENOUGH, frame(DATA, END_STREAM, SENDS_ENOUGH, "x")).await;
    assert_eq!(end, End::Answer(200, b"ok".into()));
    let before = came[&TAKES_ENOUGH].bytes;
    client.send(window(TAKES_ENOUGH, 1 << 24)).await;
    let rest = client.end_of(TAKES_ENOUGH).await;
    assert!(matches!(rest, End::Answer(0, body) if before + body.len() == FILE), "{before} before it");
    assert_eq!(client.ask(9, get(9, "/")).await, End::Answer(200, b"ok".into()));
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
