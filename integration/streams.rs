//! Event streams and tunnels are open for hours and cost a worker next to nothing: they are no load.

use std::future::IntoFuture as _;

use rustix::process::Signal;
use tokio::time::timeout;

use crate::fixtures::{
    Backend, Builder, Gate, Proxy, SOON, Streaming, Target, Wire, answers, eventually, ms, pass, vacant,
    within,
};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                      Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 0\n\n\r\n";

/// Answers `/events` with an event stream that never ends, and switches to WebSocket where that is asked for; other paths
/// with `body` once the gate is open.
async fn worker_at(address: &str, gate: &Gate, body: &'static str) -> Backend {
    let gate = gate.clone();
    Backend::serving_at(address, move |mut wire, heads| {
        let gate = gate.clone();
        async move {
            while let Some((head, _)) = wire.request().await {
                let lower = head.to_ascii_lowercase();
                heads.lock().unwrap().push(head);
                let stays = if lower.contains("upgrade: websocket") {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                } else if lower.contains(" /events") {
                    EVENTS
                } else {
                    ""
                };
                if !stays.is_empty() {
                    wire.send(stays).await;
                    wire.closes(ms(120_000)).await;
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

async fn worker(gate: &Gate, body: &'static str) -> Backend {
    worker_at(&vacant(), gate, body).await
}

fn open_gate() -> Gate {
    let gate = Gate::shut();
    gate.open();
    gate
}

/// Whoever holds this keeps an event stream or a tunnel open.
type Open = Box<dyn std::any::Any + Send>;

/// Opens an event stream as a browser does.
async fn events(target: &Target) -> Open {
    let mut stream =
        target.get("/events").header("accept", "text/event-stream").open().await.expect("a response");
    assert_eq!(stream.status(), 200);
    stream.piece().await.expect("it goes on").expect("an event");
    Box::new(stream)
}

/// The same without saying that it wants one, as by `fetch`.
async fn unannounced(target: &Target) -> Open {
    let mut stream = target.request("POST", "/events").body("{}").open().await.expect("a response");
    stream.piece().await.expect("it goes on").expect("an event");
    Box::new(stream)
}

async fn websocket(target: &Target) -> Open {
    let mut wire = Wire::to(target).await;
    wire.send(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    let head = wire.head().await.expect("a response");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Box::new(wire)
}

/// Event streams and tunnels on each server, in the order of the file.
async fn streams(proxy: &Proxy) -> Vec<u64> {
    proxy.servers().await.iter().map(|server| server["streams"].as_u64().expect("a count")).collect()
}

fn before(servers: &[&Backend]) -> Builder {
    Proxy::to(servers.iter().map(|server| server.address()))
}

#[tokio::test]
async fn they_take_no_place_in_max_requests() {
    let backend = worker(&open_gate(), "x").await;
    let proxy =
        before(&[&backend]).with("max_requests = 1\nstreaming_share = \"100%\"").secure().start().await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(events(&proxy.target()).await);
        open.push(events(&proxy.h2()).await);
        open.push(unannounced(&proxy.target()).await);
        open.push(unannounced(&proxy.h2()).await);
        open.push(websocket(&proxy.target()).await);
        within(SOON, "there is room", proxy.get("/").into_future()).await.expect(200);
    }
    soon_eq!(streams(&proxy).await, [25]);
    soon_eq!(proxy.inflight().await, [0]);
    let counted = proxy.metrics().await.sum("bowshock_upstream_streams", &["upstream=\"app\""]);
    assert_eq!(counted.round() as u32, 25);
    open.clear();
    soon_eq!(streams(&proxy).await, [0]);
}

#[tokio::test]
async fn they_do_not_wait_in_a_queue_of_requests() {
    let gate = Gate::shut();
    let backend = worker(&gate, "x").await;
    let proxy = before(&[&backend]).with("max_requests = 1").start().await;
    let requests = [proxy.get("/").spawn(), proxy.get("/").spawn()];
    eventually("one waits", async || proxy.waiting().await == 1).await;
    let _open = [events(&proxy.target()).await, websocket(&proxy.target()).await];
    assert_eq!(proxy.waiting().await, 1);
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn they_are_held_while_no_worker_is_there() {
    let address = vacant();
    let proxy = Proxy::to([&address]).with("max_requests = 1").start().await;
    let (target, mut waiting) = (proxy.target(), Vec::new());
    for number in 1..=3 {
        let target = target.clone();
        waiting.push(tokio::spawn(async move { events(&target).await }));
        eventually("it waits", async || proxy.waiting().await == number).await;
    }
    let _worker = worker_at(&address, &open_gate(), "x").await;
    for stream in waiting {
        within(SOON, "it is served", stream).await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_returns_gets_its_fair_share_of_requests_whatever_streams_others_have() {
    let gate = open_gate();
    let address = vacant();
    let stays = worker(&gate, "stays").await;
    let returns = worker_at(&address, &gate, "returns").await;
    let proxy = before(&[&stays, &returns]).start().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(events(&proxy.target()).await);
    }
    soon_eq!(streams(&proxy).await, [50, 50], "they are spread");
    returns.end().await;
    eventually("that is noticed", async || {
        proxy.get("/").await.expect(200);
        proxy.states().await == ["up", "failing"]
    })
    .await;
    let returns = worker_at(&address, &gate, "returns").await;
    soon_eq!(proxy.states().await, ["up", "up"]);
    gate.close();
    let before = stays.heads().len();
    let requests: Vec<_> = (0..20).map(|_| proxy.get("/").spawn()).collect();
    soon_eq!([stays.heads().len() - before, returns.heads().len()], [10, 10], "of the first twenty");
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn a_storm_of_reconnections_is_spread_and_delays_no_request() {
    const STREAMS: u64 = 300;
    let (gate, slow) = (open_gate(), open_gate());
    let addresses = [vacant(), vacant(), vacant()];
    let mut workers = Vec::new();
    for address in &addresses {
        workers.push(worker_at(address, &gate, "ok").await);
    }
    let proxy = Proxy::to(&addresses).with("max_requests = 2").secure().start().await;
    for worker in workers.drain(..) {
        worker.end().await;
    }
    // Browsers reconnect while nobody is there, half of them by HTTP/2.
    let mut storm = Vec::new();
    for number in 0..STREAMS {
        let target = if number % 2 == 0 { proxy.target() } else { proxy.h2() };
        storm.push(tokio::spawn(async move { events(&target).await }));
    }
    eventually("they wait", async || proxy.waiting().await == STREAMS).await;
    let request = proxy.get("/").spawn();
    eventually("it waits as well", async || proxy.waiting().await == STREAMS + 1).await;
    for address in &addresses {
        workers.push(worker_at(address, &slow, "ok").await);
    }
    answers([request]).await;
    let mut open = Vec::new();
    for stream in storm {
        open.push(within(SOON, "it is back", stream).await.unwrap());
    }
    let spread = streams(&proxy).await;
    assert!(spread.iter().all(|streams| *streams >= STREAMS / 6), "{spread:?}");
    assert_eq!(spread.iter().sum::<u64>(), STREAMS);
}

#[tokio::test]
async fn they_are_not_among_the_connections_that_a_limit_counts() {
    let gate = Gate::shut();
    let backend = worker(&gate, "x").await;
    let proxy = before(&[&backend])
        .route("limit = \"few\"")
        .with("[limit.few]\nkey = [\"address\"]\nconnections = 2\n")
        .start()
        .await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(events(&proxy.target()).await);
        open.push(unannounced(&proxy.target()).await);
        open.push(websocket(&proxy.target()).await);
    }
    let requests = [proxy.get("/").spawn(), proxy.get("/").spawn()];
    soon_eq!(proxy.inflight().await, [2]);
    proxy.get("/").await.expect(429);
    gate.open();
    answers(requests).await;
}

/// Else a field of the request would be a way around the limit.
#[tokio::test]
async fn who_asks_for_a_stream_and_gets_none_is_counted() {
    let backend = Backend::serving(|mut wire, _| async move {
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nbegun").await;
            wire.closes(ms(60_000)).await;
        }
    })
    .await;
    let proxy = before(&[&backend])
        .route("limit = \"few\"")
        .with("[limit.few]\nkey = [\"address\"]\nconnections = 2\n")
        .start()
        .await;
    let asks = || proxy.get("/").header("accept", "text/event-stream");
    let open = [asks().open().await.unwrap(), asks().open().await.unwrap()];
    asks().await.expect(429);
    proxy.get("/").await.expect(429);
    drop(open);
    eventually("they are over", async || proxy.inflight().await == [0]).await;
    drop(asks().open().await.unwrap());
}

#[tokio::test]
async fn a_response_that_is_no_stream_after_all_counts_as_any_other() {
    let backend = Backend::serving(|mut wire, _| async move {
        while wire.request().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nbegun").await;
            wire.closes(ms(60_000)).await;
        }
    })
    .await;
    let proxy = before(&[&backend]).start().await;
    let stream = proxy.get("/").header("accept", "text/event-stream").open().await.unwrap();
    soon_eq!((streams(&proxy).await, proxy.inflight().await), (vec![0], vec![1]));
    drop(stream);
    soon_eq!(proxy.inflight().await, [0]);
    pass(ms(50)).await;
    assert_eq!(streams(&proxy).await, [0]);
}

/// Opens an event stream with this method, and reads its first event.
async fn opened(target: &Target, method: &str) -> Streaming {
    let asks = target.request(method, "/events").header("accept", "text/event-stream");
    let mut stream = asks.open().await.expect("a response");
    stream.piece().await.expect("it goes on").expect("an event");
    stream
}

#[tokio::test]
async fn those_of_a_drained_worker_end_in_order_and_come_back_elsewhere() {
    let gate = open_gate();
    let (one, two) = (worker(&gate, "one").await, worker(&gate, "two").await);
    let proxy = before(&[&one, &two]).secure().start().await;
    let both = [proxy.target(), proxy.h2()];
    let mut open = Vec::new();
    for target in both.iter().cycle().take(20) {
        open.push(opened(target, "GET").await);
    }
    assert_eq!(streams(&proxy).await, [10, 10]);
    proxy.succeed(&format!("drain {}", one.address()));
    soon_eq!(streams(&proxy).await, [0, 10]);
    let mut ended = 0;
    for stream in &mut open {
        // Those of the other worker say nothing.
        while let Ok(piece) = timeout(ms(100), stream.piece()).await {
            match piece.expect("an end in order") {
                Some(nothing) => assert_eq!(nothing, "", "HTTP/2 ends with an empty piece"),
                None => {
                    ended += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(ended, 10);
    for target in both.iter().cycle().take(10) {
        open.push(opened(target, "GET").await);
    }
    assert_eq!(streams(&proxy).await, [0, 20]);
}

#[tokio::test]
async fn one_that_answers_a_post_is_never_ended_for_its_worker() {
    let worker = worker(&open_gate(), "x").await;
    let proxy = before(&[&worker]).server("grace = \"1s\"").start().await;
    let mut answer = opened(&proxy.target(), "POST").await;
    let mut events = opened(&proxy.target(), "GET").await;
    proxy.signal(Signal::TERM);
    assert_eq!(events.piece().await.expect("an end in order"), None);
    assert!(answer.piece().await.is_err(), "it is cut off when the proxy ends");
}
