//! While no worker can be reached requests wait, in order, and cost next to nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::io::AsyncReadExt as _;

use crate::fixtures::{
    Backend, Gunicorn, Proxy, SOON, Scratch, Wire, eventually, ms, noise, pass, sha256, vacant, within,
};

/// Sends requests 0, 1, 2, … one after the other and sees each of them wait.
macro_rules! queue_up {
    ($proxy:expr, $count:expr) => {{
        let mut requests = Vec::new();
        for number in 0_u64..$count {
            requests.push($proxy.get("/slow?s=0.05").header("x-id", &number.to_string()).spawn());
            eventually("it waits", async || $proxy.waiting().await == number + 1).await;
        }
        requests
    }};
}

fn ids(log: &std::path::Path) -> Vec<String> {
    let lines = std::fs::read_to_string(log).unwrap();
    lines.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn requests_before_the_first_worker_are_answered_in_order_of_arrival() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0);
    let absent = format!("unix:{}", scratch.path("never.sock").display());
    let proxy = Proxy::to([worker.address(), absent]).with("max_requests = 1").start().await;
    let requests = queue_up!(proxy, 6);
    let _worker = worker.spawn();
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
    assert_eq!(ids(&scratch.path("app.log")), ["0", "1", "2", "3", "4", "5"]);
    soon_eq!(proxy.waiting().await, 0);
}

#[tokio::test]
async fn a_refused_port_holds_as_well() {
    let scratch = Scratch::new();
    let worker = Gunicorn::app().tcp().log(scratch.path("app.log"));
    let proxy = Proxy::to([worker.address()]).with("max_requests = 1").start().await;
    let requests = queue_up!(proxy, 4);
    let _worker = worker.spawn();
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
    assert_eq!(ids(&scratch.path("app.log")), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_returned_worker_is_used_within_a_moment() {
    let scratch = Scratch::new();
    let mut worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    proxy.get("/pid").await.expect(200);
    worker.kill().await;
    let request = proxy.get("/pid").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    worker.restart().await;
    within(SOON, "its answer", request).await.unwrap().unwrap().expect(200);
}

#[tokio::test]
async fn past_hold_there_is_a_503_that_says_when_to_return() {
    let scratch = Scratch::new();
    let proxy = Proxy::to([Gunicorn::member(&scratch, 0).address()]).with("hold = \"500ms\"").start().await;
    let start = Instant::now();
    let json = proxy.get("/api/x").header("accept", "application/json").spawn();
    let html = proxy.get("/").header("accept", "text/html,*/*;q=0.8").await.expect(503);
    assert!(start.elapsed() >= ms(450), "it waited {:?}", start.elapsed());
    assert!(html.header("retry-after").parse::<u64>().is_ok(), "{html:?}");
    assert!(html.header("content-type").starts_with("text/html"), "{html:?}");
    assert!(html.text().contains('<'));
    assert!(!html.header("x-request-id").is_empty());
    let json = json.await.unwrap().unwrap().expect(503);
    assert!(json.header("content-type").starts_with("application/json"), "{json:?}");
    assert!(!json.json()["err_msg"].as_str().unwrap().is_empty());
    assert!(!json.json()["err_code"].is_null());
    let metrics = proxy.metrics().await;
    let expired = metrics.sum("bowshock_hold_outcomes_total", &["upstream=\"app\"", "outcome=\"expired\""]);
    assert_eq!(expired.round() as u32, 2);
}

#[tokio::test]
async fn hold_zero_does_not_wait() {
    let scratch = Scratch::new();
    let proxy = Proxy::to([Gunicorn::member(&scratch, 0).address()]).with("hold = \"0s\"").start().await;
    // Where nothing is said it is five minutes.
    let answer = within(SOON, "a refusal", proxy.get("/").send()).await.unwrap().expect(503);
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn past_queue_there_is_a_503_at_once() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0);
    let proxy = Proxy::to([worker.address()]).with("queue = 2").start().await;
    let requests = queue_up!(proxy, 2);
    let refused = within(SOON, "a refusal", proxy.get("/").send()).await.unwrap().expect(503);
    assert!(requests.iter().all(|request| !request.is_finished()), "the others wait on");
    assert!(!refused.header("retry-after").is_empty());
    let _worker = worker.spawn();
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0);
    let proxy = Proxy::to([worker.address()]).with("queue = 2").start().await;
    let mut requests = queue_up!(proxy, 2);
    requests.remove(0).abort();
    eventually("one waits", async || proxy.waiting().await == 1).await;
    let another = proxy.get("/pid").spawn();
    eventually("two wait", async || proxy.waiting().await == 2).await;
    let _worker = worker.start().await;
    another.await.unwrap().unwrap().expect(200);
    requests.remove(0).await.unwrap().unwrap().expect(200);
    assert_eq!(ids(&scratch.path("app.log")), ["1"], "the one that left was not sent");
}

#[tokio::test]
async fn a_body_is_not_read_while_it_waits_and_arrives_whole() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0);
    let proxy = Proxy::to([worker.address()]).start().await;
    let body = noise(64 << 20);
    let before = proxy.resident();
    let upload = proxy.post("/upload", body.clone()).spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    pass(ms(1000)).await;
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 10 << 20, "grown by {grown} bytes");
    let _worker = worker.spawn();
    let answer = upload.await.unwrap().unwrap().expect(200).json();
    assert_eq!(answer["length"], body.len());
    assert_eq!(answer["sha256"], sha256(&body));
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 20 << 20, "grown by {grown} bytes after the upload");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_frees_its_place() {
    let scratch = Scratch::new();
    let proxy = Proxy::to([Gunicorn::member(&scratch, 0).address()]).start().await;
    let mut wire: Wire = proxy.wire().await;
    wire.send("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this").await;
    eventually("it waits", async || proxy.waiting().await == 1).await;
    drop(wire);
    eventually("it has left", async || proxy.waiting().await == 0).await;
}

#[tokio::test]
async fn many_may_wait_at_once() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0);
    let proxy = Proxy::to([worker.address()]).with("queue = 1000").start().await;
    let requests: Vec<_> = (0..300).map(|_| proxy.get("/pid").spawn()).collect();
    eventually("all wait", async || proxy.waiting().await == 300).await;
    soon_eq!(proxy.metrics().await.sum("bowshock_held_requests", &[]).round() as u32, 300);
    let _worker = worker.spawn();
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_worker_that_is_down() {
    let well = Backend::saying("well").await;
    let port = well.address().rsplit(':').next().unwrap().to_owned();
    let proxy = Proxy::to(["nobody.invalid:80".to_owned(), format!("localhost:{port}")]).start().await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/").await.expect(200).text(), "well");
    }
}

#[tokio::test]
async fn hold_is_the_time_a_request_waits_and_not_the_time_it_was_worked_on() {
    let address = vacant();
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let proxy = Proxy::to([&address]).with("hold = \"2s\"").start().await;
    let request = proxy.get("/").spawn();
    let (mut worked_on, _) = listener.accept().await.unwrap();
    let _ = worked_on.read(&mut [0; 1000]).await.unwrap();
    pass(ms(2500)).await;
    // The worker restarts: it is away for half a second.
    drop((worked_on, listener));
    pass(ms(500)).await;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = socket.accept() {
            let mut stream = std::net::TcpStream::from(stream);
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                if stream.read(&mut [0; 1000]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    request.await.unwrap().unwrap().expect(200);
}

#[tokio::test]
async fn workers_that_return_together_share_those_who_wait() {
    let addresses = [vacant(), vacant(), vacant(), vacant()];
    let proxy = Proxy::to(&addresses).start().await;
    let requests: Vec<_> = (0..80).map(|_| proxy.get("/").spawn()).collect();
    eventually("all wait", async || proxy.waiting().await == 80).await;
    let mut workers = Vec::new();
    for address in &addresses {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        workers.push(Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    let mut wire = Wire::on(stream);
                    if wire.head().await.is_some() {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    pass(ms(1000)).await;
                    let _ = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                });
            }
        });
        pass(ms(100)).await;
    }
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
    let counts: Vec<_> = workers.iter().map(|asked| asked.load(Ordering::Relaxed)).collect();
    assert!(counts.iter().all(|count| *count < 60), "the first one back got everything: {counts:?}");
}

#[tokio::test]
async fn a_worker_that_is_back_gets_the_request_that_would_be_refused() {
    for health in ["", "health = { path = \"/\" }"] {
        let address = vacant();
        let proxy = Proxy::to([&address]).with(&format!("hold = \"0s\"\n{health}")).start().await;
        for round in 0..20 {
            // What is known of the worker is as old as the last probe.
            eventually("it is known to be gone", async || {
                // A request finds out sooner than the next probe.
                let is_refused = proxy.get("/").await.status == 503;
                is_refused && proxy.servers().await[0]["reason"] == "refused"
            })
            .await;
            let worker = Backend::saying_at(&address, "back").await;
            assert_eq!(proxy.get("/").await.status, 200, "round {round} {health}");
            worker.end().await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_says_it_is_not_ready_gets_nothing() {
    let worker =
        Backend::answering(|_| "HTTP/1.1 503 Loading\r\nContent-Length: 7\r\n\r\nloading".into()).await;
    let proxy =
        Proxy::to([worker.address()]).with("hold = \"0s\"\nhealth = { path = \"/ready\" }").start().await;
    eventually("it is known not to be ready", async || proxy.states().await == ["failing"]).await;
    proxy.get("/work").await.expect(503);
    assert!(worker.heads().iter().all(|head| head.starts_with("GET /ready ")), "{:?}", worker.heads());
}
