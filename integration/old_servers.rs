//! Servers of old: Paste and wsgiref, which speak HTTP/1.0, and waitress. A response without a length ends with the
//! connection, chunks are not understood, and one port serves few requests at once.

use crate::fixtures::{
    Backend, Kind, Load, OldServer, Proxy, Scratch, Target, answers, eventually, ms, pass,
};

/// A proxy before servers of one kind, and its clients: HTTP/1.1 and HTTP/2.
struct Site {
    servers: Vec<OldServer>,
    proxy: Proxy,
    scratch: Scratch,
}

impl Site {
    async fn new(kind: Kind, ports: usize, more: &str) -> Self {
        let (scratch, mut servers) = (Scratch::new(), Vec::new());
        for _ in 0..ports {
            servers.push(OldServer::start(kind, &scratch.path("app.log")).await);
        }
        let proxy = Proxy::to(servers.iter().map(OldServer::address)).secure().with(more).start().await;
        Self { servers, proxy, scratch }
    }

    fn clients(&self) -> [Target; 2] {
        [self.proxy.target(), self.proxy.h2()]
    }
}

#[tokio::test]
async fn responses_with_and_without_a_length_come_whole() {
    for kind in Kind::ALL {
        let site = Site::new(kind, 1, "").await;
        for client in site.clients() {
            for _ in 0..3 {
                assert_eq!(client.get("/sized?100000").await.expect(200).body.len(), 100_000, "{kind:?}");
                let lines = client.get("/open?10000").await.expect(200).text();
                assert!(lines.ends_with("part 9999\n") && lines.lines().count() == 10_000, "{kind:?}");
                assert_eq!(client.get("/open?0").await.expect(200).text(), "", "{kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn heads_and_responses_that_have_no_body_are_whole_and_the_connection_goes_on() {
    for kind in Kind::ALL {
        let site = Site::new(kind, 1, "").await;
        for client in site.clients() {
            let mut connection = client.connect().await.expect("the proxy accepts");
            for (method, path, status) in [
                ("HEAD", "/sized?7", 200),
                ("HEAD", "/open?3", 200),
                ("GET", "/unchanged", 304),
                ("GET", "/pid", 200),
            ] {
                let answer = connection.send(client.request(method, path)).await.expect("a whole answer");
                let answer = answer.expect(status);
                assert_eq!(answer.body.is_empty(), path != "/pid", "{kind:?} {method} {path}");
                if path == "/sized?7" {
                    assert_eq!(answer.header("content-length"), "7", "{kind:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn bodies_of_posts_arrive_with_a_length_or_without() {
    for kind in Kind::ALL {
        let site = Site::new(kind, 1, "").await;
        for client in site.clients() {
            for length in [0, 3, 100_000] {
                let told = client.request("POST", "/").body("x".repeat(length)).await.expect(200).json();
                assert_eq!(told["body"].as_str().expect("text").len(), length, "{kind:?}");
            }
        }
        // It is known by now that Paste and wsgiref do not understand chunks.
        let mut wire = site.proxy.wire().await;
        wire.send(
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        )
        .await;
        let told = wire.answer().await.expect("an answer").expect(200).json();
        assert_eq!(told["body"], "abcdef", "{kind:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    for kind in Kind::ALL {
        let site = Site::new(kind, 1, "").await;
        site.proxy.get("/pid").await.expect(200);
        let mut wire = site.proxy.wire().await;
        wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
        assert_eq!(wire.read(25).await, b"HTTP/1.1 100 Continue\r\n\r\n", "{kind:?}");
        wire.send("abc").await;
        assert_eq!(wire.answer().await.expect("an answer").expect(200).json()["body"], "abc", "{kind:?}");
    }
}

#[tokio::test]
async fn a_response_that_ends_with_a_reset_is_no_whole_one() {
    let app = Backend::serving(|mut wire, _| async move {
        // What is left unread makes the kernel reset the connection.
        wire.read(20).await;
        pass(ms(100)).await;
        wire.send("HTTP/1.0 200 OK\r\n\r\na part").await;
        pass(ms(100)).await;
    })
    .await;
    let proxy = Proxy::to([app.address()]).secure().with("retry = { tries = 1 }").start().await;
    for client in [proxy.target(), proxy.h2()] {
        let body = "x".repeat(1_000_000);
        let sent = client.request("POST", "/").body(body).send().await;
        assert!(sent.is_err(), "a part passed for the whole: {sent:?}");
    }
}

#[tokio::test]
async fn keep_alive_is_never_assumed() {
    let app = Backend::answering(|_| {
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=60\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    })
    .await;
    let proxy = Proxy::to([app.address()]).with("keepalive = \"30s\"").start().await;
    let mut connection = proxy.connect().await;
    for _ in 0..3 {
        let answer = connection.send(proxy.get("/")).await.expect("a whole answer").expect(200);
        assert_eq!((answer.text(), answer.header("keep-alive")), ("ok".into(), String::new()));
    }
    assert_eq!(app.heads().len(), 3);
    // A client of HTTP/1.0 that asks for it is served again on its own connection.
    let mut wire = proxy.wire().await;
    for _ in 0..2 {
        wire.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = wire.answer().await.expect("an answer").expect(200);
        assert_eq!(answer.header("connection").to_ascii_lowercase(), "keep-alive");
    }
}

#[tokio::test]
async fn restarts_of_one_port_are_not_seen() {
    for kind in Kind::ALL {
        let mut site = Site::new(kind, 2, "").await;
        for client in site.clients() {
            let load = Load::on(client, 50);
            for port in 0..2 {
                more(&load).await;
                // A POST in the hands of a process that is killed cannot be saved by anybody.
                load.quiet_posts(async || site.servers[port].kill()).await;
                more(&load).await;
                site.servers[port].restart().await;
            }
            more(&load).await;
            load.stop().await.assert_none_failed(&site.scratch.path("app.log"));
            std::fs::remove_file(site.scratch.path("app.log")).expect("a log");
        }
    }
}

/// Waits until some more requests are answered.
async fn more(load: &Load) {
    let settled = load.settled();
    eventually("more requests are answered", async || load.settled() >= settled + 25).await;
}

#[tokio::test]
async fn a_slow_request_on_one_port_delays_nobody() {
    for (kind, more) in [
        (Kind::Paste, ""),
        (Kind::Waitress, ""),
        (Kind::Paste, "max_requests = 1"),
        (Kind::Wsgiref, "max_requests = 1"),
    ] {
        for over in 0..2 {
            // Nobody waits for the end of the slow one.
            let site = Site::new(kind, 2, more).await;
            let client = site.clients().into_iter().nth(over).expect("a client of each protocol");
            let slow = client.get("/sleep?60").spawn();
            eventually("it is at work", async || site.proxy.inflight().await.iter().sum::<u64>() == 1).await;
            for _ in 0..50 {
                client.get("/pid").await.expect(200);
            }
            let pids = answers((0..20).map(|_| client.get("/pid").spawn())).await;
            assert_eq!(pids.len(), 20);
            assert!(!slow.is_finished(), "{kind:?}: the others were served beside it");
            slow.abort();
        }
    }
}
