//! Stopping: at once when idle, politely when not, now when told twice.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixtures::{Gunicorn, Proxy, SOON, Scratch, eventually, ms};

async fn with_a_request_in_flight(grace: &str, seconds: &str) -> (Scratch, Gunicorn, Proxy, InFlight) {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let server = format!("grace = \"{grace}\"");
    let proxy = Proxy::to([worker.address()]).server(&server).start().await;
    let request = proxy.get(&format!("/slow?s={seconds}")).spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    (scratch, worker, proxy, request)
}

type InFlight = tokio::task::JoinHandle<Result<crate::fixtures::Answer, crate::fixtures::Failure>>;

#[tokio::test]
async fn an_idle_proxy_exits_at_once() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let mut proxy = Proxy::to([worker.address()]).server("grace = \"30s\"").start().await;
    let mut idle = proxy.connect().await;
    idle.send(idle.get("/pid")).await.unwrap().expect(200);
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    let status = proxy.process().exited(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(start.elapsed() < ms(1500), "an idle connection is not worth waiting for: {:?}", start.elapsed());
}

#[tokio::test]
async fn requests_in_flight_finish_and_new_ones_are_refused() {
    let (_scratch, _worker, mut proxy, request) = with_a_request_in_flight("30s", "1.5").await;
    let target = proxy.target();
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    eventually("it does not accept", async || !target.accepts().await).await;
    assert!(proxy.process().running());
    let answer = request.await.unwrap().expect("it finished").expect(200);
    assert!(!answer.text().is_empty());
    let start = Instant::now();
    assert_eq!(proxy.process().exited(SOON).await.code(), Some(0));
    assert!(start.elapsed() < ms(1500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_second_sigterm_stops_now() {
    let (_scratch, _worker, mut proxy, request) = with_a_request_in_flight("60s", "30").await;
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.process().exited(SOON).await;
    assert!(start.elapsed() < ms(1500), "{:?}", start.elapsed());
    let cut = request.await.unwrap();
    assert!(cut.is_err() || cut.is_ok_and(|answer| answer.status >= 500));
}

#[tokio::test]
async fn after_grace_it_stops_whoever_is_left() {
    let (_scratch, _worker, mut proxy, request) = with_a_request_in_flight("1s", "30").await;
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.process().exited(SOON).await;
    let waited = start.elapsed();
    assert!(waited > ms(800) && waited < Duration::from_secs(4), "{waited:?}");
    let cut = request.await.unwrap();
    assert!(cut.is_err() || cut.is_ok_and(|answer| answer.status >= 500));
}

#[tokio::test]
async fn the_answer_of_a_stopping_proxy_says_close() {
    let (_scratch, _worker, mut proxy, request) = with_a_request_in_flight("30s", "1").await;
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    let answer = request.await.unwrap().expect("it finished").expect(200);
    assert_eq!(answer.header("connection").to_ascii_lowercase(), "close");
}

#[tokio::test]
async fn unix_sockets_and_the_pid_file_are_removed() {
    let scratch = Scratch::new();
    let [socket, pid] = ["p.sock", "p.pid"].map(|name| scratch.path(name));
    let mut proxy = Proxy::toml(
        "[[listen]]\naddress = \"unix:@SOCKET@\"\n[[site]]\nroutes = { \"/\" = { answer = 200, body = \"here\" } }",
    )
    .fill("SOCKET", socket.display())
    .server(&format!("pid_file = {:?}", pid.display().to_string()))
    .start()
    .await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "here");
    assert_eq!(std::fs::read_to_string(&pid).unwrap().trim(), proxy.process().pid().to_string());
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.process().exited(SOON).await.code(), Some(0));
    assert!(!socket.exists() && !pid.exists());
}

#[tokio::test]
async fn a_socket_left_by_a_killed_proxy_is_taken_over() {
    let scratch = Scratch::new();
    let socket = scratch.path("p.sock");
    let config = Proxy::toml(
        "[[listen]]\naddress = \"unix:@SOCKET@\"\n[[site]]\nroutes = { \"/\" = { answer = 200, body = \"here\" } }",
    )
    .fill("SOCKET", socket.display());
    let mut first = config.clone().start().await;
    first.process().kill();
    assert!(socket.exists());
    let second = config.start().await;
    assert_eq!(second.get("/").await.expect(200).text(), "here");
}

#[tokio::test]
async fn requests_that_wait_for_a_worker_do_not_keep_it_past_grace() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0);
    let mut proxy = Proxy::to([worker.address()]).server("grace = \"1s\"").start().await;
    let request = proxy.get("/pid").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.process().exited(SOON).await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let cut = request.await.unwrap();
    assert!(cut.is_err() || cut.is_ok_and(|answer| answer.status == 503));
}
