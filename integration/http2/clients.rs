//! Programs that others have written.

use std::process::Command;

use super::before;
use crate::fixtures::{Backend, Proxy, Scratch, noise, run};

#[tokio::test(flavor = "multi_thread")]
async fn curl_downloads_and_uploads() {
    let scratch = Scratch::new();
    let body = noise(3_000_000);
    let file = scratch.write("file", &body);
    let app = Backend::serving(|mut wire, _| async move {
        while let Some((_, body)) = wire.request().await {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            wire.send([answer.as_bytes(), &body].concat()).await;
        }
    })
    .await;
    let proxy = before(&app).start().await;
    let out = scratch.path("out");
    let mut curl = Command::new("curl");
    curl.args(["-m", "30", "-skf", "--http2", "-w", "%{http_version} %{http_code}", "-o"]).arg(&out);
    curl.arg("--data-binary").arg(format!("@{}", file.display()));
    let (code, said, error) = run(curl.arg(format!("https://{}/", proxy.h2().address())));
    assert_eq!((code, said.as_str()), (Some(0), "2 200"), "{error}");
    assert!(std::fs::read(out).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn nghttp_sees_nothing_wrong() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).start().await;
    let url = format!("https://{}", proxy.h2().address());
    let urls = (0..20).map(|number| format!("{url}/{number}"));
    let (code, said, error) = run(Command::new("nghttp").args(["-nvas", "-t", "20"]).args(urls));
    assert_eq!(code, Some(0), "{said}{error}");
    assert_eq!(said.matches(":status: 200").count(), 20, "{said}");
    assert!(!said.contains("error_code=PROTOCOL_ERROR"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_has_every_request_answered() {
    let app = Backend::saying("ok").await;
    let proxy: Proxy = before(&app).start().await;
    let url = format!("https://{}/", proxy.h2().address());
    let load = ["-n", "3000", "-c", "10", "-m", "100", "-T", "30"];
    let (code, said, error) = run(Command::new("h2load").args(load).arg(url));
    assert_eq!(code, Some(0), "{said}{error}");
    assert!(said.contains("3000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    soon_eq!(proxy.status().await["listeners"][1]["connections"], 0);
    assert_eq!(app.heads().len(), 3000);
}
