//! Servers that speak the uwsgi protocol: gunicorn's own, and one whose every byte the test decides.

use std::{fmt::Display, os::unix::net::UnixStream, path::Path, process::Command};

use crate::fixtures::{Backend, Process, Proxy, Scratch, eventually, outcome, venv};

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
