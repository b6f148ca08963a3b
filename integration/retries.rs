//! What is sent again when a worker dies over it, how often, and what never is.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::fixtures::{
    Answer, Backend, Builder, Proxy, SOON, Wire, eventually, ms, noise, outcome, pass, vacant,
};

/// Two workers of which the first `deaths` requests kill whoever gets them, after the whole body, without a byte of
/// answer; what both have read, in order.
struct Mortals {
    workers: [Backend; 2],
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Mortals {
    async fn killed_by(deaths: usize) -> Self {
        let (left, bodies) = (Arc::new(AtomicUsize::new(deaths)), Arc::new(Mutex::new(Vec::new())));
        let worker = || async {
            let (left, bodies) = (Arc::clone(&left), Arc::clone(&bodies));
            Backend::serving(move |mut wire, heads| {
                let (left, bodies) = (Arc::clone(&left), Arc::clone(&bodies));
                async move {
                    while let Some((head, body)) = wire.request().await {
                        bodies.lock().unwrap().push(body);
                        heads.lock().unwrap().push(head);
                        let dies =
                            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        if dies.is_ok() || wire.try_send(answer).await.is_err() {
                            break;
                        }
                    }
                }
            })
            .await
        };
        Self { workers: [worker().await, worker().await], bodies }
    }

    fn proxy(&self) -> Builder {
        Proxy::to(self.workers.iter().map(Backend::address))
    }

    /// How often both were asked.
    fn asked(&self) -> usize {
        self.workers.iter().map(|worker| worker.heads().len()).sum()
    }

    /// The bodies that arrived, in order.
    fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap().clone()
    }
}

#[track_caller]
fn assert_clear_502(answer: &Answer) {
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.json()["err_msg"].as_str().unwrap().len() > 20, "a sentence: {answer:?}");
}

#[tokio::test]
async fn a_get_is_sent_to_another_worker_first() {
    let mortals = Mortals::killed_by(1).await;
    let proxy = mortals.proxy().start().await;
    proxy.get("/").await.expect(200);
    assert_eq!(mortals.workers.each_ref().map(|worker| worker.heads().len()), [1, 1]);
    let retries = proxy.metrics().await.sum("bowshock_upstream_retries_total", &["upstream=\"app\""]);
    assert_eq!(retries.round() as u32, 1);
}

#[tokio::test]
async fn tries_is_how_often_a_request_is_sent_in_all() {
    for tries in [1, 2, 6] {
        let mortals = Mortals::killed_by(100).await;
        let proxy = mortals.proxy().with(&format!("retry = {{ tries = {tries} }}")).start().await;
        let answer = proxy.get("/").header("accept", "application/json").await;
        assert_clear_502(&answer);
        assert_eq!(mortals.asked(), tries);
    }
}

#[tokio::test]
async fn without_a_word_a_request_is_sent_four_times() {
    let mortals = Mortals::killed_by(100).await;
    let proxy = mortals.proxy().start().await;
    proxy.get("/").await.expect(502);
    assert_eq!(mortals.asked(), 4);
}

#[tokio::test]
async fn tries_of_a_route_go_before_those_of_its_upstream() {
    let mortals = Mortals::killed_by(100).await;
    let proxy = mortals.proxy().with("retry = { tries = 5 }").route("retry = { tries = 2 }").start().await;
    proxy.get("/").await.expect(502);
    assert_eq!(mortals.asked(), 2);
}

#[tokio::test]
async fn post_and_patch_are_not_sent_again() {
    for method in ["POST", "PATCH"] {
        let mortals = Mortals::killed_by(1).await;
        let proxy = mortals.proxy().start().await;
        let request = proxy.request(method, "/").body("x").header("accept", "application/json");
        assert_clear_502(&request.await);
        pass(ms(200)).await;
        assert_eq!(mortals.asked(), 1, "{method}");
    }
}

#[tokio::test]
async fn post_and_patch_are_sent_again_where_the_route_says_so() {
    for method in ["POST", "PATCH"] {
        let mortals = Mortals::killed_by(1).await;
        let proxy = mortals.proxy().route("retry = { unsafe = true }").start().await;
        proxy.request(method, "/").body("one body").await.expect(200);
        assert_eq!(mortals.bodies(), [b"one body", b"one body"], "{method}");
    }
}

#[tokio::test]
async fn an_idempotency_key_makes_a_post_one_that_may_be_sent_again() {
    let mortals = Mortals::killed_by(1).await;
    let proxy = mortals.proxy().start().await;
    proxy.post("/", "one body").header("idempotency-key", "\"8e03978e\"").await.expect(200);
    assert_eq!(mortals.bodies(), [b"one body", b"one body"]);
    let keys = mortals.workers.iter().flat_map(Backend::heads);
    assert!(keys.map(|head| head.to_lowercase()).all(|head| head.contains("idempotency-key: \"8e03978e\"")));
}

#[tokio::test]
async fn bodies_of_any_size_arrive_whole_at_the_worker_that_lives() {
    for size in [0, 65_537, 1 << 20, 20 << 20] {
        let mortals = Mortals::killed_by(1).await;
        let proxy = mortals.proxy().route("retry = { unsafe = true }").start().await;
        let body = noise(size);
        proxy.post("/", body.clone()).await.expect(200);
        let bodies = mortals.bodies();
        assert_eq!(bodies.len(), 2);
        assert!(bodies.iter().all(|arrived| *arrived == body), "{size} bytes");
    }
}

#[tokio::test]
async fn a_big_body_with_an_idempotency_key_arrives_whole_or_not_at_all() {
    let mortals = Mortals::killed_by(1).await;
    let proxy = mortals.proxy().start().await;
    let body = noise(1 << 20);
    let answer = proxy.post("/", body.clone()).header("idempotency-key", "k").await;
    assert!([200, 502].contains(&answer.status), "{answer:?}");
    assert!(mortals.bodies().iter().all(|arrived| *arrived == body));
}

#[tokio::test]
async fn a_big_body_that_may_be_needed_again_is_not_kept_in_memory() {
    let mortals = Mortals::killed_by(1).await;
    let proxy = mortals.proxy().route("retry = { unsafe = true }").start().await;
    let before = proxy.resident();
    proxy.post("/", noise(64 << 20)).await.expect(200);
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 40 << 20, "grown by {grown} bytes");
    assert_eq!(mortals.bodies().iter().map(Vec::len).collect::<Vec<_>>(), [64 << 20; 2]);
}

#[tokio::test]
async fn a_worker_that_dies_in_the_middle_of_a_body_leaves_the_whole_to_the_next() {
    let (first, arrived) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let worker = || async {
        let (first, arrived) = (Arc::clone(&first), Arc::clone(&arrived));
        Backend::serving(move |mut wire: Wire, heads| {
            let (first, arrived) = (Arc::clone(&first), Arc::clone(&arrived));
            async move {
                if first.fetch_add(1, Ordering::SeqCst) == 0 {
                    let head = wire.head().await;
                    heads.lock().unwrap().extend(head);
                    wire.read(100_000).await;
                } else if let Some((head, body)) = wire.request().await {
                    heads.lock().unwrap().push(head);
                    *arrived.lock().unwrap() = body;
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        })
        .await
    };
    let workers = [worker().await, worker().await];
    let proxy =
        Proxy::to(workers.iter().map(Backend::address)).route("retry = { unsafe = true }").start().await;
    let body: Bytes = noise(300_000);
    let mut client = proxy.wire().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n").await;
    client.send(&body[..150_000]).await;
    eventually("another worker has it", async || first.load(Ordering::SeqCst) == 2).await;
    client.send(&body[150_000..]).await;
    client.answer().await.expect("an answer").expect(200);
    assert!(*arrived.lock().unwrap() == body);
}

#[tokio::test]
async fn a_body_that_its_only_worker_died_over_waits_until_the_worker_is_back() {
    let address = vacant();
    let mortal = Backend::serving_at(&address, |mut wire: Wire, heads| async move {
        let head = wire.head().await;
        wire.read(100_000).await;
        heads.lock().unwrap().extend(head);
        // It keeps the connection until all of it ends.
        wire.closes(SOON).await;
    })
    .await;
    let proxy = Proxy::to([&address]).route("retry = { unsafe = true }").start().await;
    let body = noise(3 << 20);
    let request = proxy.post("/", body.clone()).spawn();
    eventually("it is being sent", async || mortal.heads().len() == 1).await;
    mortal.end().await;
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let whole = Arc::clone(&arrived);
    let _back = Backend::serving_at(&address, move |mut wire: Wire, _| {
        let arrived = Arc::clone(&whole);
        async move {
            if let Some((_, body)) = wire.request().await {
                arrived.lock().unwrap().push(body);
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    assert_eq!(outcome(request).await.expect(200).text(), "ok");
    assert!(*arrived.lock().unwrap() == [body]);
}

#[tokio::test]
async fn bodies_that_were_kept_leave_nothing_open() {
    let mortals = Mortals::killed_by(3).await;
    let proxy = mortals.proxy().route("retry = { unsafe = true }").with("keepalive = \"0s\"").start().await;
    proxy.post("/", noise(1 << 20)).await.expect(200);
    let open = async || proxy.metrics().await.sum("process_open_fds", &[]).round() as u32;
    eventually("nothing is in flight", async || proxy.inflight().await == [0, 0]).await;
    let before = open().await;
    for number in 0..20 {
        let request = proxy.post("/", noise(3 << 20)).spawn();
        if number % 2 == 0 {
            outcome(request).await;
        } else {
            eventually("it has begun", async || proxy.inflight().await != [0, 0] || request.is_finished())
                .await;
            request.abort();
        }
    }
    eventually("as many files are open as before", async || open().await <= before + 2).await;
}

#[tokio::test]
async fn once_the_answer_has_begun_nothing_is_sent_again() {
    let worker = Backend::serving(|mut wire, heads| async move {
        if let Some((head, _)) = wire.request().await {
            heads.lock().unwrap().push(head);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this").await;
        }
    })
    .await;
    let other = Backend::saying("whole").await;
    let reserve = format!("{{ address = {:?}, backup = true }}", other.address());
    let proxy = Proxy::to([worker.address(), reserve]).route("retry = { unsafe = true }").start().await;
    for method in ["GET", "POST"] {
        let before = worker.heads().len();
        let answer = proxy.request(method, "/").send().await;
        assert!(answer.is_err(), "{method}: a cut answer is not passed off as whole: {answer:?}");
        assert_eq!((worker.heads().len(), other.heads().len()), (before + 1, 0), "{method}");
    }
}

/// Twenty clients who ask 25 times each, one after the other, and get nothing but 502.
async fn five_hundred_in_vain(proxy: &Proxy) {
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let target = proxy.target();
        clients.spawn(async move {
            for _ in 0..25 {
                target.get("/").await.expect(502);
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test]
async fn workers_that_die_over_everything_are_not_asked_many_times_more_than_clients_ask() {
    let workers = [Backend::dying().await, Backend::dying().await];
    let proxy = Proxy::to(workers.iter().map(Backend::address)).start().await;
    for _ in 0..4 {
        five_hundred_in_vain(&proxy).await;
    }
    let asked: usize = workers.iter().map(|worker| worker.heads().len()).sum();
    assert!((2000..=2000 * 12 / 10 + 150).contains(&asked), "2000 requests were {asked} at the workers");
}

#[tokio::test]
async fn the_budget_is_a_share_of_the_requests() {
    let worker = Backend::dying().await;
    let proxy = Proxy::to([worker.address()]).with("retry = { budget = \"50%\" }").start().await;
    five_hundred_in_vain(&proxy).await;
    let asked = worker.heads().len();
    assert!((700..=860).contains(&asked), "500 requests were {asked} at the worker");
}

#[tokio::test]
async fn a_connection_that_is_refused_costs_no_try() {
    let mortals = Mortals::killed_by(1).await;
    let gone: Vec<String> = (0..6).map(|_| vacant()).collect();
    let servers = gone.into_iter().chain(mortals.workers.iter().map(Backend::address));
    let proxy = Proxy::to(servers).with("retry = { tries = 2 }").start().await;
    let requests: Vec<_> = (0..4).map(|_| proxy.get("/").spawn()).collect();
    for request in requests {
        outcome(request).await.expect(200);
    }
}

#[tokio::test]
async fn what_follows_a_request_that_was_sent_again_is_in_order() {
    let chunks = |body: &[u8]| {
        let mut sent = Vec::new();
        for chunk in body.chunks(30_011) {
            sent.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
            sent.extend(chunk);
            sent.extend(b"\r\n");
        }
        sent.extend(b"0\r\nX-Trailer: 1\r\n\r\n");
        sent
    };
    for size in [1, 65_400, 65_535, 65_536, 65_537, 262_144, 300_000] {
        for chunked in [false, true] {
            let mortals = Mortals::killed_by(2).await;
            let proxy = mortals.proxy().route("retry = { unsafe = true }").start().await;
            let body = noise(size);
            let mut sent = if chunked {
                b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
            } else {
                format!("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n").into_bytes()
            };
            sent.extend(if chunked { chunks(&body) } else { body.to_vec() });
            sent.extend(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\nPOST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nend");
            let mut client = proxy.wire().await;
            client.send(sent).await;
            for _ in 0..3 {
                client.answer().await.expect("an answer").expect(200);
            }
            let bodies = mortals.bodies();
            assert_eq!(bodies.len(), 5, "{size} bytes, chunked: {chunked}");
            assert!(bodies[..3].iter().all(|arrived| *arrived == body), "{size} bytes, chunked: {chunked}");
            assert_eq!(bodies[3..], [b"".to_vec(), b"end".to_vec()]);
        }
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_and_one_that_expects_100_are_served_again_too() {
    for head in ["POST / HTTP/1.0\r\n", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"] {
        let mortals = Mortals::killed_by(1).await;
        let proxy = mortals.proxy().route("retry = { unsafe = true }, max_body = \"300001b\"").start().await;
        let body = noise(300_000);
        let mut client = proxy.wire().await;
        client.send(format!("{head}Content-Length: 300000\r\n\r\n")).await;
        client.send(&body).await;
        client.answer().await.expect("an answer").expect(200);
        let bodies = mortals.bodies();
        assert!(bodies.len() == 2 && bodies.iter().all(|arrived| *arrived == body), "{head}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_kept_is_one_clear_502() {
    let mortals = Mortals::killed_by(1).await;
    let proxy = mortals.proxy().route("retry = { unsafe = true }").env("TMPDIR", "/nowhere").start().await;
    let body = noise(1 << 20);
    let answer = proxy.post("/", body.clone()).header("accept", "application/json").await;
    assert_clear_502(&answer);
    assert_eq!(mortals.asked(), 1);
    proxy.post("/", body).await.expect(200);
}

#[tokio::test]
async fn what_was_kept_is_gone_when_the_answer_has_begun() {
    let worker = Backend::serving(|mut wire, _| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun").await;
        wire.head().await;
    })
    .await;
    let proxy = Proxy::to([worker.address()]).route("retry = { unsafe = true }").start().await;
    let descriptors = format!("/proc/{}/fd", proxy.status().await["pid"]);
    let kept = || {
        let links = std::fs::read_dir(&descriptors).unwrap().flatten();
        let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.filter(|target| target.to_string_lossy().ends_with("(deleted)")).count()
    };
    let mut client = proxy.wire().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").await;
    client.send(&noise(600_000)).await;
    eventually("the file is there", async || kept() == 1).await;
    client.send(&noise(400_000)).await;
    client.read_until("begun").await;
    eventually("the file is gone", async || kept() == 0).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_sent_again_does_not_cut_it() {
    let (asked, arrived) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let worker = || async {
        let (asked, arrived) = (Arc::clone(&asked), Arc::clone(&arrived));
        Backend::serving(move |mut wire: Wire, _| {
            let (asked, arrived) = (Arc::clone(&asked), Arc::clone(&arrived));
            async move {
                if wire.head().await.is_none() {
                    return;
                }
                if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                    wire.read(1_500_000).await;
                    return;
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
                pass(ms(300)).await;
                *arrived.lock().unwrap() = wire.read(2_000_000).await;
                wire.send("ok").await;
            }
        })
        .await
    };
    let workers = [worker().await, worker().await];
    let proxy =
        Proxy::to(workers.iter().map(Backend::address)).route("retry = { unsafe = true }").start().await;
    let body = noise(2_000_000);
    proxy.post("/", body.clone()).await.expect(200);
    assert!(*arrived.lock().unwrap() == body);
}

/// A worker that closes each connection behind its first response without a word of warning.
async fn closing_behind_one_response() -> Backend {
    Backend::serving(|mut wire, heads| async move {
        if let Some((head, _)) = wire.request().await {
            heads.lock().unwrap().push(head);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
        // It reads the next request, and closes over it.
        wire.head().await;
    })
    .await
}

#[tokio::test]
async fn a_stale_connection_costs_no_try() {
    let worker = closing_behind_one_response().await;
    let proxy = Proxy::to([worker.address()]).with("keepalive = \"1m\"\nretry = { tries = 1 }").start().await;
    for _ in 0..10 {
        proxy.get("/").await.expect(200);
    }
    assert_eq!(worker.heads().len(), 10, "each was answered on a connection of its own");
    assert_eq!(proxy.states().await, ["up"], "a stale connection says nothing of its server");
}

/// A worker that answers 503 while it loads, and one that is ready.
async fn one_that_loads() -> (Backend, Backend) {
    let loads = Backend::answering(|_| {
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nloads".to_vec()
    });
    (loads.await, Backend::saying("ready").await)
}

#[tokio::test]
async fn a_status_is_tried_elsewhere_where_the_configuration_says_so() {
    let (loads, ready) = one_that_loads().await;
    let servers = || [loads.address(), ready.address()];
    for (upstream, route) in [
        ("retry = { on = [502, 503] }", "hold = \"1m\""),
        ("retry = { on = [502] }", "retry = { on = [503] }"),
    ] {
        let proxy = Proxy::to(servers()).with(upstream).route(route).start().await;
        for method in ["GET", "HEAD", "OPTIONS"] {
            for _ in 0..8 {
                proxy.request(method, "/").await.expect(200);
            }
        }
        let retries = proxy.metrics().await.sum("bowshock_upstream_retries_total", &["reason=\"status\""]);
        assert!(retries >= 1.0, "{retries}");
    }
    assert!(!loads.heads().is_empty());
}

#[tokio::test]
async fn without_a_word_a_status_is_passed_on() {
    let (loads, _) = one_that_loads().await;
    let proxy = Proxy::to([loads.address()]).with("retry = { on = [503] }").start().await;
    assert_eq!(proxy.get("/").await.expect(503).text(), "loads", "there is no other server");
    assert_eq!(loads.heads().len(), 1);
    let (loads, ready) = one_that_loads().await;
    let proxy = Proxy::to([loads.address(), ready.address()]).start().await;
    eventually("it is asked", async || proxy.get("/").await.status == 503).await;
    // What may have taken effect is not asked for again.
    let proxy = Proxy::to([loads.address(), ready.address()]).with("retry = { on = [503] }").start().await;
    for method in ["POST", "PUT", "DELETE"] {
        eventually("it is asked", async || proxy.request(method, "/").await.status == 503).await;
    }
    let unsafe_too = Proxy::to([loads.address(), ready.address()])
        .with("retry = { on = [503] }")
        .route("retry = { unsafe = true }")
        .start()
        .await;
    for _ in 0..8 {
        unsafe_too.post("/", "hello").await.expect(200);
    }
}

#[tokio::test]
async fn a_backup_is_another_server() {
    let ((loads, _), ready) = (one_that_loads().await, Backend::saying("ready").await);
    let proxy = Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n[upstream.app]\nservers = [\"{}\", {{ address = \"{}\", \
         backup = true }}]\nretry = {{ on = [503] }}\n",
        loads.address(),
        ready.address()
    ))
    .start()
    .await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "ready");
    proxy.post("/", "hello").await.expect(503);
    assert_eq!([loads.heads().len(), ready.heads().len()], [2, 1], "nobody is asked twice");
}

#[tokio::test]
async fn when_all_say_the_same_the_client_hears_it() {
    let ((one, _), (two, _)) = (one_that_loads().await, one_that_loads().await);
    let proxy = Proxy::to([one.address(), two.address()]).with("retry = { on = [503] }").start().await;
    assert_eq!(proxy.get("/").await.expect(503).text(), "loads");
    assert_eq!([one.heads().len(), two.heads().len()], [1, 1]);
}
