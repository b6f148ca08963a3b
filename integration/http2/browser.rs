//! Chromium: a page with what belongs to it over one connection of HTTP/2, and a WebSocket on the same.

use std::{process::Command, time::Duration};

use crate::fixtures::{Backend, Gunicorn, Process, Proxy, Scratch, ms, pass};

const PAGE: &str = r#"<!doctype html><title>page</title><link rel="stylesheet" href="style.css">
<script>
const protocols = () => new Set(performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol));
const loads = Array.from({ length: 20 }, (_, number) => fetch(`part${number}.bin`).then((part) => part.arrayBuffer()));
const socket = new WebSocket(`wss://${location.host}/socket`);
const heard = new Promise((hear) => { socket.onmessage = (message) => hear(message.data); });
socket.onopen = () => socket.send("hello");
Promise.all([heard, ...loads]).then(([word, ...parts]) => {
  const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  fetch(`/said?${word}-${bytes}-${[...protocols()]}`);
});
</script>"#;

#[tokio::test]
async fn chromium_loads_a_page_and_talks() {
    let app = Gunicorn::app().start().await;
    let ears = Backend::saying("heard").await;
    let scratch = Scratch::new();
    scratch.write("site/index.html", PAGE);
    scratch.write("site/style.css", "p { color: red }");
    for number in 0..20 {
        scratch.write(&format!("site/part{number}.bin"), vec![b'x'; 10_000]);
    }
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\"/said\" = { proxy = \"ears\" }\n\
         \"/page\" = { files = \"@FOLDER@\", index = [\"index.html\"] }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n[upstream.ears]\nservers = [\"@EARS@\"]\n",
    )
    .fill("FOLDER", scratch.path("site").display())
    .fill("SERVER", app.address())
    .fill("EARS", ears.address())
    .secure()
    .start()
    .await;
    let mut command = Command::new("chromium");
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.args(["--ignore-certificate-errors", "--no-proxy-server", "--disable-quic", "--disable-sync"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", scratch.path("profile").display()));
    command.arg(format!("https://{}/page/", proxy.h2().address()));
    let chromium = Process::start("chromium", &command, scratch.root());
    let said = async {
        loop {
            if let Some(path) = ears.paths().first() {
                return path.clone();
            }
            pass(ms(100)).await;
        }
    };
    // A browser takes its time to start on a busy machine.
    let said = tokio::time::timeout(Duration::from_secs(60), said).await;
    assert_eq!(said.as_deref(), Ok("/said?hello-200000-h2"), "{}", chromium.stderr());
}
