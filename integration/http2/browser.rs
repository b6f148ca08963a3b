//! Chromium: a page with what belongs to it over one connection of HTTP/2, and a WebSocket on the same.

use std::process::Command;

use crate::fixtures::{Gunicorn, Proxy, Scratch, run};

const PAGE: &str = r#"<!doctype html><title>page</title><link rel="stylesheet" href="style.css">
<p id="said">nothing</p>
<script>
const protocols = () => new Set(performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol));
const loads = Array.from({ length: 20 }, (_, number) => fetch(`part${number}.bin`).then((part) => part.arrayBuffer()));
const socket = new WebSocket(`wss://${location.host}/socket`);
const heard = new Promise((hear) => { socket.onmessage = (message) => hear(message.data); });
socket.onopen = () => socket.send("hello");
Promise.all([heard, ...loads]).then(([word, ...parts]) => {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  document.getElementById("said").textContent = `${word} ${bytes} ${[...protocols()]}`;
});
</script>"#;

#[tokio::test(flavor = "multi_thread")]
async fn chromium_loads_a_page_and_talks() {
    let app = Gunicorn::app().start().await;
    let scratch = Scratch::new();
    scratch.write("site/index.html", PAGE);
    scratch.write("site/style.css", "p { color: red }");
    for number in 0..20 {
        scratch.write(&format!("site/part{number}.bin"), vec![b'x'; 10_000]);
    }
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         \"/page\" = { files = \"@FOLDER@\", index = [\"index.html\"] }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("FOLDER", scratch.path("site").display())
    .fill("SERVER", app.address())
    .secure()
    .start()
    .await;
    let mut chromium = Command::new("timeout");
    chromium.args([
        "60",
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]);
    chromium.args(["--ignore-certificate-errors", "--no-proxy-server", "--virtual-time-budget=20000"]);
    chromium.arg(format!("--user-data-dir={}", scratch.path("profile").display()));
    chromium.args(["--disable-background-networking", "--disable-component-update", "--no-first-run"]);
    chromium.arg("--dump-dom").arg(format!("https://{}/page/", proxy.h2().address()));
    let (_, dom, error) = run(&mut chromium);
    assert!(dom.contains("<p id=\"said\">hello 200000 h2</p>"), "{dom}\n{error}");
}
