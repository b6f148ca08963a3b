//! Stopping: at once when idle, politely when not, now when told twice.

use std::time::Instant;

use rustix::process::Signal;

use crate::fixtures::{Backend, Gunicorn, Proxy, SOON, Scratch, Target, Wire, eventually, ms, pass};

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

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn an_idle_proxy_exits_at_once() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let mut proxy = Proxy::to([worker.address()]).server("grace = \"30s\"").start().await;
    let mut idle = proxy.connect().await;
    idle.send(idle.get("/pid")).await.unwrap().expect(200);
    proxy.signal(Signal::TERM);
    // Long before `grace` ends: an idle connection is not worth waiting for.
    let status = proxy.process().exited(SOON).await;
    assert_eq!(status.code(), Some(0), "{status}");
    let Target::Unix(admin) = proxy.admin() else { panic!("not a unix socket") };
    assert!(!admin.exists(), "nothing is left behind");
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
    // Before `grace` ends.
    assert_eq!(proxy.process().exited(SOON).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_stops_now() {
    let (_scratch, _worker, mut proxy, request) = with_a_request_in_flight("60s", "30").await;
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    proxy.signal(Signal::TERM);
    // Before the request or `grace` ends.
    proxy.process().exited(SOON).await;
    let cut = request.await.unwrap();
    assert!(cut.is_err() || cut.is_ok_and(|answer| answer.status >= 500));
}

#[tokio::test]
async fn after_grace_it_stops_whoever_is_left() {
    let (_scratch, _worker, mut proxy, request) = with_a_request_in_flight("1s", "30").await;
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    // Before the request ends.
    proxy.process().exited(SOON).await;
    let waited = start.elapsed();
    assert!(waited > ms(800), "{waited:?}");
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
    proxy.signal(Signal::TERM);
    // `hold` would be five minutes.
    proxy.process().exited(SOON).await;
    let answer = request.await.unwrap().expect("it is told").expect(503);
    assert_eq!(answer.header("retry-after"), "5");
}

/// Stops a proxy that has been suspended, and counts the requests in `wires` that it leaves unanswered.
async fn lost_by_a_stop(proxy: &mut Proxy, wires: &mut [Wire]) -> usize {
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    let mut lost = 0;
    for wire in wires {
        lost += usize::from(wire.answer().await.is_none());
    }
    proxy.process().exited(SOON).await;
    lost
}

#[tokio::test]
async fn requests_sent_before_a_stop_are_answered() {
    let backend = Backend::saying("ok").await;
    let mut proxy = Proxy::to([backend.address()]).start().await;
    let mut wires = Vec::new();
    for _ in 0..30 {
        let mut wire = proxy.wire().await;
        wire.send(GET).await;
        wire.answer().await.unwrap().expect(200);
        wires.push(wire);
    }
    proxy.signal(Signal::STOP);
    for wire in &mut wires {
        wire.send(GET).await;
    }
    assert_eq!(lost_by_a_stop(&mut proxy, &mut wires).await, 0, "of 30 requests that had arrived");
}

#[tokio::test]
async fn whoever_has_connected_before_a_stop_is_served() {
    let backend = Backend::saying("ok").await;
    let mut proxy = Proxy::to([backend.address()]).start().await;
    proxy.signal(Signal::STOP);
    let mut wires = Vec::new();
    for _ in 0..300 {
        let mut wire = proxy.wire().await;
        wire.send(GET).await;
        wires.push(wire);
    }
    assert_eq!(lost_by_a_stop(&mut proxy, &mut wires).await, 0, "of 300 in the listen queue");
}

#[tokio::test]
async fn a_reload_while_stopping_opens_nothing() {
    let slow = Backend::silent().await;
    let mut proxy = Proxy::to([slow.address()]).start().await;
    let request = proxy.get("/").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    let (code, out, err) = proxy.ctl("reload");
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("stopping"), "{out}{err}");
    assert!(!proxy.target().accepts().await);
    request.abort();
    proxy.process().exited(SOON).await;
}

#[tokio::test]
async fn a_connection_accepted_before_a_stop_may_send_its_first_request() {
    let backend = Backend::saying("ok").await;
    let mut proxy = Proxy::to([backend.address()]).start().await;
    let mut wire = proxy.wire().await;
    eventually("it is accepted", async || proxy.status().await["listeners"][0]["connections"] == 1).await;
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    wire.send(GET).await;
    wire.answer().await.expect("a client cannot know, and must not send a POST again").expect(200);
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_the_proxy_from_stopping() {
    let backend = Backend::saying("ok").await;
    let scratch = Scratch::new();
    let (admin, socket) = (scratch.path("admin.sock"), scratch.path("http.sock"));
    let file = scratch.path("bowshock.toml");
    std::fs::write(
        &file,
        format!(
            "[admin]\nlisten = \"unix:{}\"\n[log]\naccess = \"stdout\"\n[[listen]]\naddress = \"unix:{}\"\n\
             [[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n[upstream.app]\nservers = [\"{}\"]\n",
            admin.display(),
            socket.display(),
            backend.address()
        ),
    )
    .unwrap();
    let mut child = Proxy::command(["run", "-c"])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let target = Target::Unix(socket);
    eventually("it accepts", async || target.accepts().await).await;
    let mut wire = Wire::to(&target).await;
    for _ in 0..800 {
        wire.send(format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200))).await;
        wire.answer().await.unwrap().expect(200);
    }
    drop(wire);
    pass(ms(500)).await;
    let pid = rustix::process::Pid::from_child(&child);
    for _ in 0..2 {
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        pass(ms(1500)).await;
    }
    let deadline = Instant::now() + SOON;
    let mut ended = None;
    while ended.is_none() && Instant::now() < deadline {
        pass(ms(20)).await;
        ended = child.try_wait().unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_some(), "still there after two SIGTERMs");
}
