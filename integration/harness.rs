//! The fixtures themselves, without the proxy: a failing scenario should never be the fault of its harness.

use tokio::net::{TcpStream, UdpSocket};

use crate::fixtures::{
    Backend, Clogged, Dns, Gate, Gunicorn, Load, Nginx, Prometheus, Scratch, Target, answers, eventually, ms,
    noise, pass, received, sha256, vacant,
};

#[tokio::test]
async fn gunicorn_is_killed_and_returns_on_the_same_socket() {
    let scratch = Scratch::new();
    let path = scratch.path("g.sock");
    let mut gunicorn = Gunicorn::app().unix(&path).start().await;
    let first = gunicorn.worker_pid().await;
    gunicorn.kill().await;
    assert!(path.exists(), "a kill leaves the socket behind");
    assert!(gunicorn.target().get("/pid").send().await.is_err());
    gunicorn.restart().await;
    assert_ne!(gunicorn.worker_pid().await, first);
    gunicorn.stop().await;
    assert!(!path.exists(), "a stop removes the socket");
}

#[tokio::test]
async fn the_application_answers_as_scenarios_expect() {
    let scratch = Scratch::new();
    let gunicorn = Gunicorn::app().log(scratch.path("app.log")).start().await;
    let app = gunicorn.target();
    let echo = app.get("/a%2Fb//c?x=%20").header("x-one", "1").await.expect(200).json();
    assert_eq!(echo["path"], "/a%2Fb//c");
    assert_eq!(echo["query"], "x=%20");
    let body = noise(1 << 20);
    let upload = app.request("POST", "/upload").body(body.clone()).await.json();
    assert_eq!(upload["sha256"], sha256(&body));
    assert_eq!(app.get("/stream?n=2&s=0").await.text(), "piece 0\npiece 1\n");
    assert_eq!(app.get("/accel?path=/a%2541").await.header("x-accel-redirect"), "/a%41");
    assert!(app.get("/truncate").send().await.is_err());
    eventually("its worker returns", async || app.get("/pid").send().await.is_ok()).await;
    assert!(app.get("/cut-chunked").send().await.is_err());
}

#[tokio::test]
async fn the_load_counts_what_the_application_received() {
    let scratch = Scratch::new();
    let log = scratch.path("app.log");
    let gunicorn = Gunicorn::app().log(&log).start().await;
    let load = Load::on(gunicorn.target(), 50);
    eventually("some are answered", async || load.settled() > 10).await;
    let quiet = load
        .quiet_posts(async || {
            let before = received(&log).keys().filter(|id| id.starts_with("POST")).count();
            pass(ms(200)).await;
            received(&log).keys().filter(|id| id.starts_with("POST")).count() - before
        })
        .await;
    assert_eq!(quiet, 0, "POSTs were held back");
    load.stop().await.assert_none_failed(&log);
}

#[tokio::test]
async fn backends_answer_what_they_are_told() {
    let backend = Backend::saying("hello").await;
    assert_eq!(backend.target().get("/one").await.text(), "hello");
    assert_eq!(backend.paths(), ["/one"]);
    assert!(Target::parse(&backend.address()).accepts().await);
}

#[tokio::test]
async fn a_gate_holds_answers_back() {
    let gate = Gate::shut();
    let backend = Backend::behind(&gate, "hello").await;
    let request = backend.target().request("POST", "/one").body("x").spawn();
    eventually("it has the request", async || backend.paths() == ["/one"]).await;
    pass(ms(100)).await;
    assert!(!request.is_finished());
    gate.open();
    assert_eq!(answers([request]).await[0].text(), "hello");
}

#[tokio::test]
async fn a_clogged_port_neither_accepts_nor_refuses() {
    let address = vacant();
    let clogged = Clogged::at(&address).await;
    assert!(tokio::time::timeout(ms(300), TcpStream::connect(&address)).await.is_err());
    drop(clogged);
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn names_have_the_addresses_they_are_given() {
    let dns = Dns::start().await;
    dns.set("a.example", &["127.0.0.2", "127.0.0.3"]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ask = async |name: &[u8], kind: u8| {
        let query = [b"id\x01\0\0\x01\0\0\0\0\0\0", name, &[0, kind, 0, 1]].concat();
        socket.send_to(&query, dns.resolver().split('"').nth(1).unwrap()).await.unwrap();
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply).await.unwrap();
        assert_eq!((&reply[..3], &reply[12..query.len()]), (&b"id\x81"[..], &query[12..]));
        // Its code, the count of answers, and the addresses.
        let addresses: Vec<_> = reply[query.len()..length].chunks(16).map(|answer| answer[15]).collect();
        (reply[3] & 15, reply[7], addresses)
    };
    assert_eq!(ask(b"\x01A\x07example\0", 1).await, (0, 2, vec![2, 3]));
    assert_eq!(ask(b"\x01a\x07example\0", 28).await, (0, 0, vec![]));
    assert_eq!(ask(b"\x01b\x07example\0", 1).await, (3, 0, vec![]));
    dns.set("a.example", &["127.0.0.4"]);
    assert_eq!(ask(b"\x01a\x07example\0", 1).await, (0, 1, vec![4]));
}

#[tokio::test]
async fn gunicorn_replaces_its_workers_when_it_is_told_and_when_one_is_killed() {
    let gunicorn = Gunicorn::app().start().await;
    let first = gunicorn.worker_pid().await;
    gunicorn.reload().await;
    let second = gunicorn.worker_pid().await;
    gunicorn.kill_worker().await;
    let third = gunicorn.worker_pid().await;
    assert!(first != second && second != third && first != third);
    gunicorn.freeze();
    let request = gunicorn.target().get("/pid").spawn();
    pass(ms(200)).await;
    assert!(!request.is_finished());
    gunicorn.thaw();
    assert_eq!(answers([request]).await[0].text(), third);
}

#[tokio::test]
async fn nginx_serves_a_folder() {
    let scratch = Scratch::new();
    scratch.write("a.css", "body {}");
    let nginx = Nginx::serving(scratch.root()).await;
    let answer = nginx.request("GET", "/static/a.css").await.expect(200);
    assert_eq!(answer.text(), "body {}");
    assert_eq!(answer.header("content-type"), "text/css");
}

#[tokio::test]
async fn prometheus_starts_and_is_asked() {
    let mut prometheus = Prometheus::scraping("127.0.0.1:1").await;
    assert_eq!(prometheus.value("up").await.to_bits(), 0_f64.to_bits(), "nobody is there");
}
