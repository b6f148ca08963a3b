//! A good configuration takes effect without losing a connection; a bad one never does.

use rustix::process::Signal;

use crate::fixtures::{Backend, Gunicorn, Load, Proxy, SOON, Scratch, eventually, ms, outcome, pass, vacant};

#[tokio::test]
async fn all_servers_replaced_under_load_fail_no_request() {
    let scratch = Scratch::new();
    let mut fleet = Gunicorn::fleet(&scratch, 4).await;
    let (old, new) = fleet.split_at_mut(2);
    let mut proxy = Proxy::to(old.iter().map(Gunicorn::address)).start().await;
    let load = Load::on(proxy.target(), 50);
    eventually("some requests are answered", async || load.settled() >= 50).await;
    proxy.reload(Proxy::to(new.iter().map(Gunicorn::address))).await;
    let pids = [new[0].worker_pid().await, new[1].worker_pid().await];
    for _ in 0..10 {
        assert!(pids.contains(&proxy.get("/pid").await.expect(200).text()), "only the new ones are asked");
    }
    let settled = load.settled();
    eventually("more are answered", async || load.settled() >= settled + 50).await;
    load.stop().await.assert_none_failed(&scratch.path("app.log"));
}

#[tokio::test]
async fn requests_that_wait_go_to_the_servers_a_reload_brings() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let absent = format!("unix:{}", scratch.path("never.sock").display());
    let mut proxy = Proxy::to([absent]).start().await;
    let requests: Vec<_> = (0..5).map(|_| proxy.get("/pid").spawn()).collect();
    eventually("they wait", async || proxy.waiting().await == 5).await;
    proxy.reload(Proxy::to([worker.address()])).await;
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_shown() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let good = Proxy::to([worker.address()]);
    let mut proxy = good.clone().start().await;
    soon_eq!(proxy.metrics().await.sum("bowshock_config_last_reload_successful", &[]).round() as u32, 1);

    let reload = proxy.reload(good.clone().with("hodl = \"5m\"")).await;
    assert!(!reload.status.is_empty(), "the service manager is told");
    proxy.get("/pid").await.expect(200);
    soon_eq!(proxy.metrics().await.sum("bowshock_config_last_reload_successful", &[]).round() as u32, 0);
    let config = &proxy.status().await["config"];
    assert_eq!(config["last_reload_successful"], false);
    assert!(config["error"].as_str().unwrap().contains("hodl"), "{config}");

    proxy.reload(good).await;
    soon_eq!(proxy.metrics().await.sum("bowshock_config_last_reload_successful", &[]).round() as u32, 1);
    let config = &proxy.status().await["config"];
    assert_eq!(config["last_reload_successful"], true);
    assert!(config["error"].is_null(), "{config}");
    assert!(proxy.metrics().await.sum("bowshock_reloads_total", &[]) >= 2.0);
}

#[tokio::test]
async fn the_reload_command_shows_where_a_bad_file_is_wrong() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let good = Proxy::to([worker.address()]);
    let mut proxy = good.clone().start().await;
    proxy.rewrite(&good.clone().with("hodl = \"5m\""));
    let (code, out, err) = proxy.ctl("reload");
    let words = format!("{out}{err}");
    assert_eq!(code, Some(1), "{words}");
    for part in ["bowshock.toml", "hodl = \"5m\"", "^", "hold"] {
        assert!(words.contains(part), "{part:?} is missing in\n{words}");
    }
    proxy.get("/pid").await.expect(200);
    assert!(proxy.process().running());
}

#[tokio::test]
async fn the_reload_command_waits_until_a_good_file_is_in_effect() {
    let mut proxy = Proxy::toml(ANSWER).fill("BODY", "before").start().await;
    assert_eq!(proxy.get("/").await.text(), "before");
    proxy.rewrite(&Proxy::toml(ANSWER).fill("BODY", "after"));
    let (code, out, err) = proxy.ctl("reload");
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(proxy.get("/").await.text(), "after");
    assert!(proxy.process().running());
}

const ANSWER: &str = r#"
[[site]]
[site.routes]
"/" = { answer = 200, body = "@BODY@" }
"#;

const LISTENERS: &str = r#"
[[listen]]
address = "127.0.0.1:0"
[[listen]]
address = "@LISTEN@"
[[site]]
[site.routes]
"/" = { proxy = "app" }
[upstream.app]
servers = ["@SERVER@"]
"#;

#[tokio::test]
async fn a_new_listener_opens_and_a_removed_one_lets_its_requests_finish() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let [old, new] = ["old", "new"].map(|name| format!("unix:{}", scratch.path(name).display()));
    let listeners = Proxy::toml(LISTENERS).fill("SERVER", worker.address());
    let mut proxy = listeners.clone().fill("LISTEN", &old).start().await;
    let (staying, leaving) = (proxy.target(), proxy.listener(&old));
    let slow = leaving.get("/slow?s=1.5").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;

    proxy.reload(listeners.fill("LISTEN", &new)).await;
    assert!(!leaving.accepts().await, "the removed one refuses");
    proxy.listener(&new).get("/pid").await.expect(200);
    staying.get("/pid").await.expect(200);
    assert_eq!(format!("{staying:?}"), format!("{:?}", proxy.target()), "the port stays the same");
    slow.await.unwrap().unwrap().expect(200);
}

#[tokio::test]
async fn a_socket_that_was_removed_is_there_again() {
    let scratch = Scratch::new();
    let socket = scratch.path("http.sock");
    let address = format!("unix:{}", socket.display());
    let proxy = Proxy::toml(&format!(
        "[[listen]]\naddress = \"{address}\"\n[[site]]\nroutes = {{ \"/\" = {{ answer = 200 }} }}\n"
    ))
    .start()
    .await;
    std::fs::remove_file(&socket).unwrap();
    proxy.succeed("reload");
    proxy.listener(&address).get("/").await.expect(200);
}

#[tokio::test]
async fn counts_of_what_is_in_flight_survive() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 2).await;
    let mut proxy = Proxy::to([fleet[0].address()]).start().await;
    let slow: Vec<_> = (0..3).map(|_| proxy.get("/slow?s=2").spawn()).collect();
    eventually("three are in flight", async || proxy.inflight().await == [3]).await;
    proxy.reload(Proxy::to(fleet.iter().map(Gunicorn::address))).await;
    soon_eq!(proxy.inflight().await, [3, 0]);
    let more: Vec<_> = (0..3).map(|_| proxy.get("/slow?s=2").spawn()).collect();
    eventually("the idle one gets all three", async || proxy.inflight().await == [3, 3]).await;
    for request in slow.into_iter().chain(more) {
        request.await.unwrap().unwrap().expect(200);
    }
    eventually("nothing is in flight", async || proxy.inflight().await == [0, 0]).await;
}

#[tokio::test]
async fn open_connections_and_streams_outlive_a_reload() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let config = Proxy::to([worker.address()]);
    let mut proxy = config.clone().start().await;
    let mut idle = proxy.connect().await;
    idle.send(idle.get("/pid")).await.unwrap().expect(200);
    let stream = proxy.get("/stream?n=10&s=0.1").open().await.unwrap();
    for _ in 0..3 {
        proxy.reload(config.clone()).await;
    }
    idle.send(idle.get("/pid")).await.expect("the connection is still open").expect(200);
    assert_eq!(stream.whole().await.unwrap().text().lines().count(), 10);
}

#[tokio::test]
async fn many_signals_at_once_end_in_the_newest_file() {
    let mut proxy = Proxy::toml(ANSWER).fill("BODY", "0").start().await;
    for number in 1..=10 {
        proxy.rewrite(&Proxy::toml(ANSWER).fill("BODY", number));
        proxy.signal(Signal::HUP);
    }
    eventually("the newest is in effect", async || proxy.get("/").await.text() == "10").await;
    pass(ms(200)).await;
    assert_eq!(proxy.get("/").await.text(), "10");
    assert!(proxy.process().running());
}

#[tokio::test]
async fn a_reload_that_takes_an_upstream_away_frees_those_who_wait_for_it() {
    let site = |name: &str, server: &str| {
        Proxy::toml(&format!(
            "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"{name}\" }}\n[upstream.{name}]\nhold = \"60s\"\n\
             servers = [\"{server}\"]"
        ))
    };
    let mut proxy = site("old", &vacant()).start().await;
    let waiting = proxy.get("/").spawn();
    eventually("it waits", async || proxy.status().await["upstreams"][0]["waiting"] == 1).await;
    let backend = Backend::saying("new").await;
    proxy.reload(site("new", &backend.address())).await;
    proxy.get("/").send().await.unwrap().expect(200);
    let answer = tokio::time::timeout(SOON, waiting).await.expect("nobody will ever come to free it");
    answer.unwrap().unwrap().expect(200);
}

/// What takes effect once must not do so twice, whatever a reload does to where its response comes from.
#[tokio::test]
async fn a_request_that_was_redirected_inside_is_not_sent_again_by_a_reload() {
    let app = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inner/x?y=z\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let third = Backend::saying("third").await;
    let inner = |upstream: &str| format!("\"/inner\" = {{ proxy = {upstream:?}, internal = true }}\n");
    let site = |inner: &str, upstreams: &str| {
        Proxy::toml(&format!(
            "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n{inner}\
             [upstream.app]\nservers = [\"{}\"]\n{upstreams}",
            app.address()
        ))
    };
    // Nobody is there, or everybody is busy.
    let busy = Backend::silent().await;
    for (at, both) in [(vacant(), 2), (busy.address(), 1)] {
        let other = format!("[upstream.other]\nservers = [\"{at}\"]\nmax_requests = 1\n");
        let third_upstream = format!("[upstream.third]\nservers = [\"{}\"]\n", third.address());
        for (then, expected) in [
            (site(&inner("third"), &third_upstream), 200),
            (site("\"/inner\" = { answer = 404 }\n", ""), 502),
        ] {
            let mut proxy = site(&inner("other"), &other).start().await;
            let before = app.heads().len();
            let _busy = proxy.post("/do", "").spawn();
            eventually("it is there", async || app.heads().len() == before + 1).await;
            let waiting = proxy.post("/do", "").spawn();
            eventually("it waits", async || proxy.upstream("other").await["waiting"] == both).await;
            soon_eq!(app.heads().len(), before + 2);
            proxy.reload(then).await;
            let answer = outcome(waiting).await.expect(expected);
            assert_eq!(app.heads().len(), before + 2, "nothing is sent twice");
            if expected == 200 {
                assert_eq!(answer.text(), "third");
                assert!(third.paths().iter().all(|path| path == "/inner/x?y=z"));
            }
        }
    }
}
