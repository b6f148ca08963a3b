//! Servers that speak the uwsgi protocol: gunicorn's own, and one whose every byte the test decides.

use std::{fmt::Display, os::unix::net::UnixStream, path::Path, process::Command};

use crate::fixtures::{Backend, Load, Process, Proxy, Scratch, Uwsgi, eventually, outcome, venv};

/// A gunicorn that speaks uwsgi on a unix socket.
fn gunicorn(scratch: &Scratch) -> Process {
    let mut command = Command::new(venv().join("bin/gunicorn"));
    command
        .args(["wsgi:app", "--protocol", "uwsgi", "--no-control-socket", "--log-level", "warning"])
        .arg("--chdir")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration"))
        .arg("--bind")
        .arg(format!("unix:{}", scratch.path("app.sock").display()))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Process::start("gunicorn", &command, scratch.root())
}

async fn proxy(server: impl Display, more: &str) -> Proxy {
    let text = "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
                [upstream.app]\nservers = [\"@SERVER@\"]\nprotocol = \"uwsgi\"\n@MORE@\n";
    Proxy::toml(text).fill("SERVER", server).fill("MORE", more).start().await
}

#[tokio::test]
async fn a_wsgi_application_is_asked_over_uwsgi() {
    let scratch = Scratch::new();
    let _gunicorn = gunicorn(&scratch);
    let server = format!("unix:{}", scratch.path("app.sock").display());
    let proxy =
        proxy(server, "health = { path = \"/\" }\nuwsgi_params = { HTTP_X_EXTRA = \"{method} {host}\" }")
            .await;
    let told = proxy.get("/a%20b?c=d").header("host", "galaxy.example.org").await.expect(200).json();
    for (name, value) in [
        ("REQUEST_METHOD", "GET"),
        ("PATH_INFO", "/a b"),
        ("QUERY_STRING", "c=d"),
        ("HTTP_HOST", "galaxy.example.org"),
        ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
        ("HTTP_X_EXTRA", "GET galaxy.example.org"),
        ("scheme", "http"),
    ] {
        assert_eq!(told[name], value, "{name} in {told}");
    }
    let told = proxy.post("/", "a body").await.expect(200).json();
    assert_eq!((told["body"].as_str(), told["CONTENT_LENGTH"].as_str()), (Some("a body"), Some("6")));
    let mut wire = proxy.wire().await;
    wire.send(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    )
    .await;
    let told = wire.answer().await.expect("an answer").expect(200).json();
    assert_eq!((told["body"].as_str(), told["CONTENT_LENGTH"].as_str()), (Some("abcdef"), Some("6")));
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(wire.read(25).await, b"HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("abc").await;
    assert_eq!(wire.answer().await.expect("an answer").expect(200).json()["body"], "abc");
    assert_eq!(proxy.get("/redirect").await.expect(302).header("location"), "/elsewhere");
    proxy.get("/").header("x-long", &"x".repeat(60_000)).await.expect(200);
}

#[tokio::test]
async fn requests_are_held_while_it_restarts() {
    let scratch = Scratch::new();
    let mut first = gunicorn(&scratch);
    let proxy = proxy(format!("unix:{}", scratch.path("app.sock").display()), "").await;
    proxy.get("/").await.expect(200);
    first.kill();
    // Its worker may outlive the signal for a moment, and accept.
    let socket = scratch.path("app.sock");
    eventually("it refuses", async || UnixStream::connect(&socket).is_err()).await;
    let held = proxy.post("/", "held").spawn();
    eventually("it waits", async || proxy.upstream("app").await["waiting"] == 1).await;
    let _second = gunicorn(&scratch);
    let told = outcome(held).await.expect(200).json();
    assert_eq!(told["body"], "held");
}

#[tokio::test]
async fn a_response_may_have_the_form_of_cgi() {
    let app = Backend::serving(|mut wire, _| async move {
        let packet = wire.read(4).await;
        wire.read(usize::from(u16::from_le_bytes([packet[1], packet[2]]))).await;
        wire.send("Status: 201 Created\r\nContent-Type: text/plain\r\n\r\nuntil the end").await;
    })
    .await;
    let proxy = proxy(app.address(), "").await;
    assert_eq!(proxy.get("/").await.expect(201).text(), "until the end");
}

/// What `happens` to a real uWSGI under 50 requests a second, half of them POSTs, is not seen.
async fn is_not_seen(happens: impl AsyncFnOnce(&mut Uwsgi, &Proxy, &Load)) {
    let mut uwsgi = Uwsgi::start(&[]).await;
    let proxy = proxy(uwsgi.address(), "").await;
    let load = Load::on(proxy.target(), 50);
    more(&load).await;
    happens(&mut uwsgi, &proxy, &load).await;
    more(&load).await;
    load.stop().await.assert_none_failed(&uwsgi.scratch.path("app.log"));
}

/// Waits until some more requests are answered.
async fn more(load: &Load) {
    let settled = load.settled();
    eventually("more requests are answered", async || load.settled() >= settled + 50).await;
}

#[tokio::test]
async fn sighup_of_a_uwsgi_is_not_seen() {
    is_not_seen(async |uwsgi, _, load| {
        for _ in 0..2 {
            uwsgi.reload().await;
            more(load).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_chain_reload_of_a_uwsgi_is_not_seen() {
    is_not_seen(async |uwsgi, _, _| uwsgi.chain_reload().await).await;
}

#[tokio::test]
async fn workers_of_a_uwsgi_that_are_killed_are_not_seen() {
    // A POST in the hands of a worker that is killed cannot be saved by anybody.
    is_not_seen(async |uwsgi, _, load| load.quiet_posts(async || uwsgi.kill_workers().await).await).await;
}

#[tokio::test]
async fn a_uwsgi_that_is_away_for_a_while_is_not_seen() {
    is_not_seen(async |uwsgi, proxy, _| {
        uwsgi.stop().await;
        eventually("ten seconds of requests wait", async || proxy.waiting().await >= 500).await;
        uwsgi.restart().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_that_takes_a_uwsgi_too_long_is_one_502_and_others_go_on() {
    let uwsgi = Uwsgi::start(&["--harakiri", "1"]).await;
    let proxy = proxy(uwsgi.address(), "retry = { tries = 1 }").await;
    let slow = proxy.get("/sleep?30").spawn();
    eventually("it is at work", async || proxy.inflight().await == [1]).await;
    for _ in 0..20 {
        proxy.post("/", "others").await.expect(200);
    }
    outcome(slow).await.expect(502);
    proxy.post("/", "after").await.expect(200);
}

#[tokio::test]
async fn a_uwsgi_is_asked_for_clients_of_http_2() {
    let uwsgi = Uwsgi::start(&[]).await;
    let proxy = Proxy::to([uwsgi.address()]).secure().with("protocol = \"uwsgi\"").start().await;
    let target = proxy.h2();
    let told = target.request("POST", "/h2?a=b").body("a body").await.expect(200).json();
    assert_eq!((told["body"].as_str(), told["CONTENT_LENGTH"].as_str()), (Some("a body"), Some("6")));
    assert_eq!((told["PATH_INFO"].as_str(), told["QUERY_STRING"].as_str()), (Some("/h2"), Some("a=b")));
}
