//! Every way in which workers go and come back, under load: no request fails, none is lost, no POST is received twice.
//!
//! A POST that a worker has received when it is killed cannot be saved by anybody; so POSTs pause for the very moment of a
//! kill, and over TCP for that of a stop too: gunicorn resets connections that it has accepted and not read (gunicorn#2409),
//! which only a unix socket tells apart.

use std::{fs, path::Path, time::Duration};

use crate::fixtures::{
    Clogged, Gunicorn, Load, Pending, Proxy, SOON, Scratch, eventually, ms, outcome, pass, received,
};

/// 50 requests a second, GET and POST in turn, once some of them are answered.
async fn load(proxy: &Proxy) -> Load {
    let load = Load::on(proxy.target(), 50);
    more(&load).await;
    load
}

/// Waits until some more requests are answered.
async fn more(load: &Load) {
    let settled = load.settled();
    eventually("more requests are answered", async || load.settled() >= settled + 30).await;
}

/// Waits until some requests wait for a worker.
async fn some_wait(proxy: &Proxy) {
    eventually("requests wait", async || proxy.waiting().await > 20).await;
}

async fn hup(gunicorn: Gunicorn, scratch: &Scratch) {
    let proxy = Proxy::to([gunicorn.address()]).start().await;
    let load = load(&proxy).await;
    for _ in 0..2 {
        gunicorn.reload().await;
        more(&load).await;
    }
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn sighup_of_a_gunicorn_whose_workers_load_for_a_second_is_not_seen() {
    let scratch = Scratch::new();
    let gunicorn = Gunicorn::member(&scratch, 0).workers(2).loading(1).start().await;
    hup(gunicorn, &scratch).await;
}

#[tokio::test]
async fn sighup_with_preload_is_not_seen() {
    let scratch = Scratch::new();
    let gunicorn = Gunicorn::member(&scratch, 0).workers(2).preload().start().await;
    hup(gunicorn, &scratch).await;
}

#[tokio::test]
async fn a_stop_and_a_slow_start_with_preload_are_not_seen() {
    let scratch = Scratch::new();
    let mut gunicorn = Gunicorn::member(&scratch, 0).preload().loading(2).start().await;
    let proxy = Proxy::to([gunicorn.address()]).start().await;
    let load = load(&proxy).await;
    gunicorn.stop().await;
    gunicorn.restart().await;
    more(&load).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_rolling_restart_in_which_each_goes_before_the_last_is_back_is_not_seen() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 3).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let load = load(&proxy).await;
    for _ in 0..2 {
        for gunicorn in &mut fleet {
            gunicorn.stop().await;
            gunicorn.restart_without_waiting();
        }
        for gunicorn in &mut fleet {
            gunicorn.ready().await;
        }
    }
    eventually("all are up", async || proxy.states().await == ["up"; 3]).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_rolling_restart_with_drain_is_not_seen_and_posts_need_no_pause() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let load = load(&proxy).await;
    for gunicorn in &mut fleet {
        let mut drain = proxy.begin(&format!("drain {} --wait", gunicorn.address()));
        assert!(drain.exited(SOON).await.success(), "{}", drain.stderr());
        gunicorn.stop().await;
        gunicorn.restart().await;
        proxy.succeed(&format!("resume {}", gunicorn.address()));
        eventually("all are up", async || proxy.states().await == ["up"; 2]).await;
    }
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_worker_process_that_is_killed_again_and_again_is_not_seen() {
    let scratch = Scratch::new();
    let gunicorn = Gunicorn::member(&scratch, 0).workers(2).start().await;
    let proxy = Proxy::to([gunicorn.address()]).start().await;
    let load = load(&proxy).await;
    for _ in 0..4 {
        load.quiet_posts(async || gunicorn.kill_worker().await).await;
        more(&load).await;
    }
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_kill_is_not_seen_however_servers_are_chosen() {
    for balance in ["round_robin", "random", "hash:address"] {
        let scratch = Scratch::new();
        let mut fleet = Gunicorn::fleet(&scratch, 2).await;
        let proxy = Proxy::to(fleet.iter().map(Gunicorn::address))
            .with(&format!("balance = \"{balance}\"\nslow_start = \"1s\""))
            .start()
            .await;
        let load = load(&proxy).await;
        for gunicorn in &mut fleet {
            load.quiet_posts(async || gunicorn.kill().await).await;
            more(&load).await;
            gunicorn.restart().await;
            eventually("both are up", async || proxy.states().await == ["up"; 2]).await;
        }
        load.stop().await.assert_none_failed(&scratch.path("app.log"));
    }
}

#[tokio::test]
async fn all_workers_away_for_a_minute_are_not_seen() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address)).start().await;
    let load = load(&proxy).await;
    load.quiet_posts(async || {
        for gunicorn in &mut fleet {
            gunicorn.kill().await;
        }
    })
    .await;
    pass(Duration::from_secs(60)).await;
    assert!(proxy.waiting().await > 2500, "{} wait", proxy.waiting().await);
    for gunicorn in &mut fleet {
        gunicorn.restart_without_waiting();
    }
    eventually("nobody waits", async || proxy.waiting().await == 0).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
    soon_eq!(proxy.inflight().await, [0; 2]);
}

#[tokio::test]
async fn a_socket_file_that_is_removed_and_made_again_is_not_seen() {
    let scratch = Scratch::new();
    let mut gunicorn = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([gunicorn.address()]).start().await;
    let load = load(&proxy).await;
    load.quiet_posts(async || fs::remove_file(scratch.path("g0.sock")).unwrap()).await;
    some_wait(&proxy).await;
    gunicorn.restart().await;
    more(&load).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_port_that_refuses_then_drops_and_then_is_back_is_not_seen() {
    let scratch = Scratch::new();
    let mut gunicorn = Gunicorn::app().tcp().log(scratch.path("app.log")).start().await;
    let proxy = Proxy::to([gunicorn.address()]).with("connect_timeout = \"1s\"").start().await;
    let load = load(&proxy).await;
    let clogged = load
        .quiet_posts(async || {
            gunicorn.kill().await;
            some_wait(&proxy).await;
            Clogged::at(&gunicorn.address()).await
        })
        .await;
    pass(ms(2500)).await;
    some_wait(&proxy).await;
    drop(clogged);
    gunicorn.restart().await;
    more(&load).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn a_worker_that_accepts_and_does_not_answer_for_a_while_is_not_seen() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(fleet.iter().map(Gunicorn::address))
        .with("health = { path = \"/pid\", every = \"100ms\", timeout = \"500ms\" }")
        .start()
        .await;
    let load = load(&proxy).await;
    load.quiet_posts(async || {
        fleet[0].freeze();
        eventually("it is silent", async || proxy.states().await == ["silent", "up"]).await;
    })
    .await;
    more(&load).await;
    fleet[0].thaw();
    eventually("both are up", async || proxy.states().await == ["up"; 2]).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn two_hundred_who_wait_go_to_the_servers_that_a_reload_brings() {
    let scratch = Scratch::new();
    let members = [1, 2].map(|number| Gunicorn::member(&scratch, number));
    let absent = [3, 4].map(|number| Gunicorn::member(&scratch, number).address());
    let mut proxy = Proxy::to(absent).start().await;
    let mut requests = Vec::new();
    for number in 0..200 {
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        let id = format!("{method}-{number}");
        requests.push((id.clone(), proxy.request(method, "/count").header("x-id", &id).body("x").spawn()));
    }
    eventually("all wait", async || proxy.waiting().await == 200).await;
    let mut fleet = Vec::new();
    for member in members {
        fleet.push(member.start().await);
    }
    proxy.reload(Proxy::to(fleet.iter().map(Gunicorn::address))).await;
    let times = {
        for (id, request) in &mut requests {
            assert_eq!(request.await.unwrap().unwrap().expect(200).text(), *id);
        }
        received(&scratch.path("app.log"))
    };
    assert!(requests.iter().all(|(id, _)| times[id] == 1), "{times:?}");
}

/// A worker that gets everything, another in reserve, and ten GETs and ten POSTs that the first is working on.
async fn twenty_in_flight(scratch: &Scratch, route: &str) -> (Vec<Gunicorn>, Proxy, Vec<(String, Pending)>) {
    let fleet = Gunicorn::fleet(scratch, 2).await;
    let reserve = format!("{{ address = {:?}, backup = true }}", fleet[1].address());
    let proxy = Proxy::to([fleet[0].address(), reserve]).route(route).start().await;
    let mut requests = Vec::new();
    for number in 0..10 {
        for (method, size) in [("GET", 0), ("POST", 100_000)] {
            let id = format!("{method}-{number}");
            let request = proxy.request(method, "/upload?s=2").header("x-id", &id).body(vec![b'x'; size]);
            requests.push((id, request.header("accept", "application/json").spawn()));
        }
    }
    eventually("the application has all", async || received(&scratch.path("app.log")).len() == 20).await;
    soon_eq!(proxy.inflight().await, [20, 0]);
    (fleet, proxy, requests)
}

fn times(log: &Path, id: &str) -> usize {
    received(log)[id]
}

#[tokio::test]
async fn killed_with_twenty_in_flight_no_get_is_lost_and_each_post_is_one_clear_502() {
    let scratch = Scratch::new();
    let (mut fleet, proxy, requests) = twenty_in_flight(&scratch, "read_timeout = \"1m\"").await;
    fleet[0].kill().await;
    for (id, request) in requests {
        let answer = outcome(request).await;
        if id.starts_with("GET") {
            answer.expect(200);
            assert_eq!(times(&scratch.path("app.log"), &id), 2, "{id}");
        } else {
            assert!(answer.expect(502).json()["err_msg"].as_str().unwrap().len() > 20);
            assert_eq!(times(&scratch.path("app.log"), &id), 1, "{id}");
        }
    }
    soon_eq!(proxy.inflight().await, [0; 2]);
}

#[tokio::test]
async fn killed_with_twenty_in_flight_nothing_is_lost_where_posts_may_be_sent_again() {
    let scratch = Scratch::new();
    let (mut fleet, proxy, requests) = twenty_in_flight(&scratch, "retry = { unsafe = true }").await;
    fleet[0].kill().await;
    for (id, request) in requests {
        let answer = outcome(request).await.expect(200);
        assert_eq!(answer.json()["length"], if id.starts_with("GET") { 0 } else { 100_000 }, "{id}");
        assert_eq!(times(&scratch.path("app.log"), &id), 2, "{id}");
    }
    soon_eq!(proxy.inflight().await, [0; 2]);
}
