//! Programs that people download with: each gets the whole file, also when it takes it in parts, and while workers
//! restart. None of them is allowed a second try.

use std::{fs, process::Command, time::Duration};

use bytes::Bytes;

use crate::fixtures::{Gunicorn, Process, Proxy, Scratch, eventually, ms, noise, pass, venv, within};

const SITE: &str = r#"
[[site]]
[site.routes]
"/" = { proxy = "app" }
"/static" = { files = "@DATA@" }
"/_x_accel_redirect" = { files = "/", internal = true, within = ["@DATA@"] }
[upstream.app]
servers = ["@APP@"]
"#;

/// Not a multiple of anything.
const SIZE: usize = 60_000_007;

/// What a client has that was interrupted before.
const HAD: usize = 10_000_019;

/// Takes a file in parts with `requests`, and one that was begun with the standard library.
const PYTHON: &str = r#"
import os, sys, urllib.request, requests
url, parts, begun, size = *sys.argv[1:4], int(sys.argv[4])
with open(parts, "wb") as file, requests.Session() as session:
    while (at := file.tell()) < size:
        wanted = {"Range": f"bytes={at}-{at + 999_999}"}
        with session.get(url, headers=wanted, stream=True, timeout=60) as answer:
            assert answer.status_code == 206, answer
            for piece in answer.iter_content(65536):
                file.write(piece)
wanted = {"Range": f"bytes={os.path.getsize(begun)}-"}
with urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=60) as answer, open(begun, "ab") as file:
    assert answer.status == 206, answer.status
    while piece := answer.read(65536):
        file.write(piece)
"#;

/// A large file, which the proxy serves itself and which the application hands over.
struct Site {
    scratch: Scratch,
    content: Bytes,
    proxy: Proxy,
    app: Gunicorn,
}

impl Site {
    async fn start() -> Self {
        let scratch = Scratch::new();
        let content = noise(SIZE);
        scratch.write("data/large.bin", &content);
        let app = Gunicorn::app().start().await;
        let data = scratch.path("data");
        let proxy = Proxy::toml(SITE).fill("DATA", data.display()).fill("APP", app.address()).start().await;
        Self { scratch, content, proxy, app }
    }

    /// Where the file is: served by the proxy, and handed over by the application.
    fn addresses(&self) -> [String; 2] {
        let root = format!("http://{}", self.proxy.address());
        let path = self.scratch.path("data/large.bin");
        [
            format!("{root}/static/large.bin"),
            format!("{root}/accel?path=/_x_accel_redirect{}", path.display()),
        ]
    }

    /// The beginning of the file, as an interrupted download leaves it.
    fn begun(&self, name: &str) -> String {
        self.scratch.write(name, &self.content[..HAD]).display().to_string()
    }

    /// Runs a client in the scratch folder. The application is stopped and started again until it ends.
    async fn run(&mut self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.scratch.root()).env("no_proxy", "*");
        let mut client = Process::start("client", &command, self.scratch.root());
        let mut restarts = 0;
        within(Duration::from_secs(60), "the client ends", async {
            while client.running() {
                pass(ms(200)).await;
                self.app.stop().await;
                pass(ms(200)).await;
                self.app.restart().await;
                restarts += 1;
            }
        })
        .await;
        let status = client.exited(ms(100)).await;
        assert!(
            status.success(),
            "{program} {arguments:?}: {status}\n{}{}",
            client.stdout(),
            client.stderr()
        );
        assert!(restarts > 0);
    }

    #[track_caller]
    fn assert_whole(&self, name: &str) {
        let path = self.scratch.path(name);
        let received = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(received == self.content, "{name} has {} bytes, and not those of the file", received.len());
        fs::remove_file(path).expect("it is there");
    }
}

#[tokio::test]
async fn aria2_with_sixteen_connections() {
    let mut site = Site::start().await;
    for address in site.addresses() {
        let arguments = [
            "--no-conf",
            "--split=16",
            "--max-connection-per-server=16",
            "--min-split-size=1M",
            "--max-overall-download-limit=30M",
            "--max-tries=1",
            "--file-allocation=none",
            "--out=parts",
            &address,
        ];
        site.run("aria2c", &arguments).await;
        site.assert_whole("parts");
    }
}

#[tokio::test]
async fn wget_goes_on_where_it_was_interrupted() {
    let mut site = Site::start().await;
    for address in site.addresses() {
        site.begun("begun");
        let arguments =
            ["--continue", "--tries=1", "--limit-rate=30m", "--no-verbose", "-O", "begun", &address];
        site.run("wget", &arguments).await;
        site.assert_whole("begun");
    }
}

#[tokio::test]
async fn curl_goes_on_where_it_was_interrupted_and_takes_parts() {
    let mut site = Site::start().await;
    for address in site.addresses() {
        site.begun("begun");
        let arguments = ["-fsS", "--limit-rate", "30M", "--continue-at", "-", "--output", "begun", &address];
        site.run("curl", &arguments).await;
        site.assert_whole("begun");

        let bounds: Vec<String> =
            (0..SIZE).step_by(9_000_000).map(|at| format!("{at}-{}", at + 8_999_999)).collect();
        let names: Vec<String> = (0..bounds.len()).map(|number| format!("part{number}")).collect();
        let mut arguments = vec!["--parallel"];
        for (range, name) in bounds.iter().zip(&names) {
            arguments.extend([
                "-fsS",
                "--limit-rate",
                "6M",
                "--range",
                range,
                "--output",
                name,
                &address,
                "--next",
            ]);
        }
        arguments.pop();
        site.run("curl", &arguments).await;
        let parts: Vec<Vec<u8>> =
            names.iter().map(|name| fs::read(site.scratch.path(name)).unwrap()).collect();
        site.scratch.write("parts", parts.concat());
        site.assert_whole("parts");
    }
}

#[tokio::test]
async fn python_takes_parts_and_goes_on() {
    let mut site = Site::start().await;
    let python = venv().join("bin/python").display().to_string();
    for address in site.addresses() {
        site.begun("begun");
        let size = SIZE.to_string();
        site.run(&python, &["-c", PYTHON, &address, "parts", "begun", &size]).await;
        site.assert_whole("parts");
        site.assert_whole("begun");
    }
}

/// Whoever is in the middle of a download needs no worker any more; who goes on with one that broke off waits for it.
#[tokio::test]
async fn a_download_that_breaks_off_goes_on_when_the_application_returns() {
    let mut site = Site::start().await;
    let [_, address] = site.addresses();
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "--continue-at", "-", "--output", "begun", &address]).env("no_proxy", "*");
    curl.current_dir(site.scratch.root());
    let mut slow = Command::new("curl");
    slow.args(["--limit-rate", "5M"])
        .args(curl.get_args())
        .env("no_proxy", "*")
        .current_dir(site.scratch.root());
    let size = |site: &Site| fs::metadata(site.scratch.path("begun")).map_or(0, |file| file.len());

    let mut first = Process::start("first", &slow, site.scratch.root());
    eventually("it has begun", async || size(&site) > 0).await;
    site.app.stop().await;
    let before = size(&site);
    eventually("it goes on", async || size(&site) > before).await;
    first.kill();

    let mut second = Process::start("second", &curl, site.scratch.root());
    pass(ms(500)).await;
    assert!(second.running(), "it waits: {}", second.stderr());
    site.app.restart().await;
    assert!(second.exited(Duration::from_secs(30)).await.success(), "{}", second.stderr());
    site.assert_whole("begun");
}
