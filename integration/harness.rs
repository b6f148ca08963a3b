//! The fixtures themselves, without the proxy: a failing scenario should never be the fault of its harness.

use crate::fixtures::{
    Backend, Gunicorn, Load, Nginx, Prometheus, Scratch, Target, eventually, ms, noise, pass, received,
    sha256,
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
