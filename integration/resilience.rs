//! No client sees a restart.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::fixtures::{Backend, Gunicorn, Load, Proxy, Scratch, eventually, ms, pass, received};

/// Long and wide enough for everything that waits here.
const HOLD: &str = "hold = \"60s\"\nqueue = 10000";

/// One of four workers killed for 3 s, then all four for 10 s, under 50 requests a second: none fails, and
/// every POST is received exactly once.
async fn survives(scratch: &Scratch, fleet: &mut [Gunicorn], proxy: &Proxy, load: Load) {
    eventually("some requests are answered", async || load.settled() >= 50).await;
    load.quiet_posts(async || fleet[0].kill().await).await;
    pass(Duration::from_secs(3)).await;
    fleet[0].restart().await;
    eventually("all are up", async || proxy.states().await == ["up"; 4]).await;
    load.quiet_posts(async || {
        for gunicorn in fleet.iter_mut() {
            gunicorn.kill().await;
        }
    })
    .await;
    pass(Duration::from_secs(10)).await;
    assert!(proxy.waiting().await > 300, "{} wait", proxy.waiting().await);
    for gunicorn in fleet.iter_mut() {
        gunicorn.restart_without_waiting();
    }
    eventually("nobody waits", async || proxy.waiting().await == 0).await;
    pass(Duration::from_secs(1)).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
    eventually("nothing is in flight", async || proxy.inflight().await == [0; 4]).await;
}

#[tokio::test]
async fn backend_failure_and_recovery_are_not_seen_by_any_client() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 4).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).with(HOLD).start().await;
    let load = Load::on(proxy.target(), 50);
    survives(&scratch, &mut fleet, &proxy, load).await;
}

#[tokio::test]
async fn the_same_with_no_socket_there_when_the_proxy_starts() {
    let scratch = Scratch::new();
    let members: Vec<_> = (0..4).map(|number| Gunicorn::member(&scratch, number)).collect();
    let addresses: Vec<_> = members.iter().map(|member| member.address()).collect();
    let proxy = Proxy::to(addresses).with(HOLD).start().await;
    let load = Load::on(proxy.target(), 50);
    eventually("requests wait", async || proxy.waiting().await >= 50).await;
    let mut fleet = Vec::new();
    for member in members {
        fleet.push(member.start().await);
    }
    survives(&scratch, &mut fleet, &proxy, load).await;
}

#[tokio::test]
async fn a_polite_restart_of_all_workers_is_not_seen_by_any_client() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let load = Load::on(proxy.target(), 50);
    eventually("some requests are answered", async || load.settled() >= 30).await;
    for _ in 0..2 {
        for gunicorn in &mut fleet {
            // Stopped between two POSTs: gunicorn resets what it has accepted and not read (gunicorn#2409).
            load.quiet_posts(async || gunicorn.stop().await).await;
            gunicorn.restart().await;
        }
    }
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_post_on_a_worker_that_is_killed_gets_one_502_and_is_not_sent_again() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let post =
        proxy.post("/slow?s=30", "x").header("x-id", "p1").header("accept", "application/json").spawn();
    let log = scratch.path("app.log");
    eventually("the application has it", async || received(&log).get("p1") == Some(&1)).await;
    let busy = proxy.inflight().await.iter().position(|&count| count == 1).expect("one is busy");
    fleet[busy].kill().await;
    let answer = post.await.unwrap().unwrap().expect(502);
    assert!(!answer.json()["err_msg"].as_str().unwrap().is_empty());
    pass(ms(300)).await;
    assert_eq!(received(&log)["p1"], 1);
}

#[tokio::test]
async fn a_get_on_a_worker_that_is_killed_succeeds_elsewhere() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let get = proxy.get("/slow?s=2").header("x-id", "g1").spawn();
    let log = scratch.path("app.log");
    eventually("the application has it", async || received(&log).get("g1") == Some(&1)).await;
    let busy = proxy.inflight().await.iter().position(|&count| count == 1).expect("one is busy");
    fleet[busy].kill().await;
    let other = fleet[1 - busy].worker_pid().await;
    assert_eq!(get.await.unwrap().unwrap().expect(200).text(), other);
    assert_eq!(received(&log)["g1"], 2);
}

#[tokio::test]
async fn a_request_that_kills_every_worker_does_not_circle_forever() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let answer = proxy.get("/die").header("x-id", "d1").await;
    assert_eq!(answer.status, 502);
    let times = received(&scratch.path("app.log"))["d1"];
    assert!((2..=5).contains(&times), "tried {times} times");
}

#[tokio::test]
async fn one_worker_process_of_a_gunicorn_dies_and_nobody_else_notices() {
    let scratch = Scratch::new();
    let gunicorn = Gunicorn::member(&scratch, 0).workers(2).start().await;
    let proxy = Proxy::to([gunicorn.address()]).start().await;
    proxy.post("/die", "x").header("x-id", "d1").await.expect(502);
    for _ in 0..20 {
        proxy.get("/pid").await.expect(200);
    }
    assert_eq!(received(&scratch.path("app.log"))["d1"], 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_never_passed_off_as_whole() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 1).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    for path in ["/truncate", "/cut-chunked"] {
        let answer = proxy.get(path).open().await.unwrap();
        assert_eq!(answer.status(), 200);
        let whole = answer.whole().await;
        assert!(whole.is_err(), "{path}: {whole:?}");
    }
}

#[tokio::test]
async fn a_stale_keep_alive_connection_costs_nobody_anything() {
    // Closes every connection after its first answer without having said so.
    let backend = Backend::serving(|mut wire, heads| async move {
        if let Some(head) = wire.head().await {
            heads.lock().unwrap().push(head);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).with("keepalive = \"60s\"").start().await;
    for _ in 0..10 {
        proxy.get("/").await.expect(200);
        proxy.post("/", "").await.expect(200);
    }
    let posts = backend.heads().iter().filter(|head| head.starts_with("POST")).count();
    assert_eq!(posts, 10, "each was sent once");
}

#[tokio::test]
async fn a_silent_worker_is_a_504_after_read_timeout() {
    let silent = Backend::silent().await;
    let proxy = Proxy::to([silent.address()]).with("read_timeout = \"500ms\"").start().await;
    let answer = proxy.post("/", "x").header("accept", "application/json").await.expect(504);
    assert!(!answer.json()["err_msg"].as_str().unwrap().is_empty());
    assert_eq!(silent.heads().len(), 1, "a POST was sent once");
}

#[tokio::test]
async fn a_body_sent_again_is_counted_once() {
    let backend = Backend::serving(|mut wire, heads| async move {
        let Some(head) = wire.head().await else { return };
        wire.read(40_000).await;
        let first = heads.lock().unwrap().is_empty();
        heads.lock().unwrap().push(head);
        if !first {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::toml(&format!(
        "[[site]]\nmax_body = \"60000b\"\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n[upstream.app]\n\
         servers = [\"{}\"]",
        backend.address()
    ))
    .start()
    .await;
    proxy.request("PUT", "/").body(vec![7; 40_000]).send().await.unwrap().expect(200);
}

/// Leaves a process no descriptor more than it has: the first few are always taken.
fn exhaust(pid: u64) -> Rlimit {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) }).unwrap()
}

#[tokio::test]
async fn a_proxy_without_descriptors_blames_neither_the_file_nor_the_worker() {
    let scratch = Scratch::new();
    scratch.write("root/a.txt", "here");
    scratch.write("root/b.txt", "here too");
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\"/static\" = { files = \"@ROOT@\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("ROOT", scratch.path("root").display())
    .fill("SERVER", backend.address())
    .start()
    .await;
    let mut connections = [proxy.connect().await, proxy.connect().await];
    for connection in &mut connections {
        connection.send(connection.get("/static/a.txt")).await.unwrap().expect(200);
    }
    let [mut files, mut worker] = connections;
    let pid = proxy.status().await["pid"].as_u64().unwrap();
    let before = exhaust(pid);
    files.send(files.get("/static/b.txt")).await.unwrap().expect(500);
    let waits = async {
        let request = worker.get("/");
        worker.send(request).await.unwrap().expect(200)
    };
    let relieved = async {
        pass(ms(300)).await;
        prlimit(Pid::from_raw(i32::try_from(pid).unwrap()), Resource::Nofile, before).unwrap();
    };
    tokio::join!(waits, relieved);
    soon_eq!(proxy.states().await, ["up"]);
    let metrics = proxy.metrics().await;
    assert!(metrics.sum("bowshock_hold_outcomes_total", &[]) == 0.0, "nobody had to wait for the worker");
}
