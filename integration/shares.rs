//! What counts as load: a download less than other requests, and what a worker says of itself.

use std::{
    future::IntoFuture as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::fixtures::{Backend, Gate, Proxy, SOON, answers, eventually, ms, pass, within};

/// Answers `/stream` with a body that never ends, other paths with `body` once the gate is open.
async fn worker(gate: &Gate, body: &'static str) -> Backend {
    let gate = gate.clone();
    Backend::serving(move |mut wire, heads| {
        let gate = gate.clone();
        async move {
            while let Some((head, _)) = wire.request().await {
                let streams = head.contains(" /stream ");
                heads.lock().unwrap().push(head);
                if streams {
                    wire.send(STREAM).await;
                    wire.closes(ms(60_000)).await;
                    return;
                }
                gate.passed().await;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if wire.try_send(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                      9\r\ndata: 0\n\n\r\n";

fn open_gate() -> Gate {
    let gate = Gate::shut();
    gate.open();
    gate
}

#[tokio::test]
async fn an_open_stream_leaves_room_for_others() {
    let backend = worker(&open_gate(), "x").await;
    let proxy = Proxy::to([backend.address()]).with("max_requests = 1").start().await;
    let mut stream = proxy.get("/stream").open().await.unwrap();
    stream.piece().await.unwrap().expect("an event");
    for _ in 0..5 {
        within(SOON, "there is room", proxy.get("/").into_future()).await.expect(200);
    }
    soon_eq!(proxy.servers().await[0]["streaming"], 1);
    let streaming = proxy.metrics().await.sum("bowshock_upstream_streaming", &["upstream=\"app\""]);
    assert_eq!(streaming.round() as u32, 1);
    drop(stream);
    eventually("it is no more", async || proxy.servers().await[0]["streaming"] == 0).await;
    eventually("nothing is in flight", async || proxy.inflight().await == [0]).await;
}

#[tokio::test]
async fn a_stream_that_counts_in_full_leaves_none() {
    let backend = worker(&open_gate(), "x").await;
    let proxy =
        Proxy::to([backend.address()]).with("max_requests = 1\nstreaming_share = \"100%\"").start().await;
    let mut stream = proxy.get("/stream").open().await.unwrap();
    stream.piece().await.unwrap().expect("an event");
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    pass(ms(300)).await;
    assert_eq!(backend.paths(), ["/stream"]);
    soon_eq!(proxy.upstream("app").await["waiting_for"], "places");
    drop(stream);
    answers([request]).await;
}

#[tokio::test]
async fn who_waits_for_a_place_goes_on_when_an_answer_begins() {
    let gate = Gate::shut();
    let late = gate.clone();
    let backend = Backend::serving(move |mut wire, heads| {
        let gate = late.clone();
        async move {
            let Some((head, _)) = wire.request().await else { return };
            let streams = head.contains(" /stream ");
            heads.lock().unwrap().push(head);
            if streams {
                gate.passed().await;
                wire.send(STREAM).await;
                wire.closes(ms(60_000)).await;
            } else {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).with("max_requests = 1").start().await;
    let stream = tokio::spawn(proxy.get("/stream").open());
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    gate.open();
    let _stream = stream.await.unwrap().unwrap();
    within(SOON, "there is room", answers([request])).await;
}

#[tokio::test]
async fn four_streams_are_less_than_one_request() {
    let gate = Gate::shut();
    let (one, two) = (worker(&gate, "one").await, worker(&gate, "two").await);
    let proxy = Proxy::to([one.address(), two.address()]).start().await;
    proxy.succeed(&format!("drain {}", two.address()));
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(proxy.get("/stream").open().await.unwrap());
    }
    eventually("they stream", async || proxy.servers().await[0]["streaming"] == 4).await;
    proxy.succeed(&format!("resume {}", two.address()));
    let mut requests = Vec::new();
    for expected in [[4, 1], [5, 1]] {
        requests.push(proxy.get("/").spawn());
        let asked = || [one.heads().len(), two.heads().len()];
        eventually("the one with less gets it", async || asked() == expected).await;
    }
    gate.open();
    answers(requests).await;
}

/// Says of itself with each answer what `load` is, in the header `name`; nothing while that is `u32::MAX`.
async fn reporting(name: &'static str, load: &Arc<AtomicU32>) -> Backend {
    let load = Arc::clone(load);
    Backend::answering(move |_| {
        let load = load.load(Ordering::SeqCst);
        let report = if load == u32::MAX { String::new() } else { format!("{name}: {load}\r\n") };
        format!("HTTP/1.1 200 OK\r\n{report}Content-Length: 8\r\n\r\nreported").into_bytes()
    })
    .await
}

#[tokio::test]
async fn a_worker_that_says_it_has_much_to_do_gets_less() {
    let load = Arc::new(AtomicU32::new(50));
    let (busy, idle) = (reporting("X-Load", &load).await, Backend::saying("idle").await);
    let proxy = Proxy::to([busy.address(), idle.address()]).with("load_header = \"X-Load\"").start().await;
    let mut from_busy = 0;
    for _ in 0..60 {
        let answer = proxy.get("/").await.expect(200);
        assert_eq!(answer.header("x-load"), "");
        from_busy += usize::from(answer.text() == "reported");
    }
    assert!((1..=3).contains(&from_busy), "{from_busy} of 60");
    let servers = proxy.servers().await;
    assert_eq!(servers[0]["reported_load"].as_f64(), Some(50.0));
    assert!(servers[1]["reported_load"].is_null());
}

#[tokio::test]
async fn what_it_says_is_added_to_what_is_in_flight() {
    let gate = Gate::shut();
    let (load, idle) = (Arc::new(AtomicU32::new(3)), worker(&gate, "idle").await);
    let busy = reporting("X-Load", &load).await;
    let reserve = format!("{{ address = {:?}, backup = true }}", idle.address());
    let config = |servers: [String; 2]| Proxy::to(servers).with("load_header = \"X-Load\"");
    let mut proxy = config([busy.address(), reserve]).start().await;
    proxy.get("/").await.expect(200);
    proxy.reload(config([busy.address(), idle.address()])).await;
    let mut requests = Vec::new();
    for number in 1..=3 {
        requests.push(proxy.get("/").spawn());
        eventually("the idle one gets it", async || idle.heads().len() == number).await;
    }
    gate.open();
    answers(requests).await;
    assert_eq!(busy.heads().len(), 1);
}

#[tokio::test]
async fn the_report_of_orca_is_understood_and_hidden() {
    let loaded = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.9, mem_utilization=0.2\r\nContent-Length: 2\r\n\r\nok".into()
    })
    .await;
    let proxy = Proxy::to([loaded.address()]).with("load_header = \"endpoint-load-metrics\"").start().await;
    let answer = proxy.get("/").await.expect(200);
    assert_eq!(answer.header("endpoint-load-metrics"), "");
    assert!(proxy.servers().await[0]["reported_load"].is_number(), "{:?}", proxy.servers().await);
}

#[tokio::test]
async fn a_report_that_makes_no_sense_changes_nothing_and_is_hidden() {
    for nonsense in ["many", "-5", "1e999", "NaN", ""] {
        let backend = Backend::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\nX-Load: {nonsense}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
        })
        .await;
        let proxy = Proxy::to([backend.address()]).with("load_header = \"X-Load\"").start().await;
        for _ in 0..2 {
            let answer = proxy.get("/").await.expect(200);
            assert!(!answer.headers.contains_key("x-load"), "{nonsense:?}");
        }
        let reported = &proxy.servers().await[0]["reported_load"];
        assert!(reported.is_null(), "{nonsense:?} was read as {reported}");
    }
}
