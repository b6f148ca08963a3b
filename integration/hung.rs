//! File systems that hang: what is in them gets 503, and nothing else is held up.

use crate::fixtures::{
    Backend, Pending, Proxy, SOON, Scratch, SlowFiles, Target, eventually, ms, noise, within,
};

/// Reads of the slow file system take this long, which is longer than any test.
const NEVER: std::time::Duration = ms(3_600_000);

/// More than the threads that block (512).
const MANY: usize = 600;

const SITE: &str = r#"
[[site]]
compress = true
[site.routes]
"/" = { proxy = "app" }
"/upload" = { proxy = "app", buffer = "disk" }
"/hung" = { files = "@HUNG@", listing = true }
"/well" = { files = "@WELL@" }
"/_x" = { files = "/", internal = true, within = ["@HUNG@", "@WELL@"] }
[upstream.app]
servers = ["@APP@"]
"#;

struct Site {
    /// Gone before the proxy, whose threads in it could not be ended.
    _files: SlowFiles,
    proxy: Proxy,
    scratch: Scratch,
    _app: Backend,
}

impl Site {
    /// Nothing where there can be no slow file system.
    async fn start() -> Option<Self> {
        let files = SlowFiles::mount(NEVER)?;
        let scratch = Scratch::new();
        scratch.write("well/large.bin", noise(300_000));
        scratch.write("well/a.css", "a { color: black }\n".repeat(4_000));
        let (hung, well) = (files.root().display().to_string(), scratch.path("well").display().to_string());
        let list = |folder: &str, size: u64, name: &str| format!("- {size} /_x{folder}/{name} {name}\n");
        let (good, bad) = (list(&well, 300_000, "large.bin"), list(&hung, 1 << 30, "5"));
        let app = Backend::answering(move |head| {
            let zip = |list: &str| {
                format!(
                    "HTTP/1.1 200 OK\r\nX-Archive-Files: zip\r\nContent-Length: {}\r\n\r\n{list}",
                    list.len()
                )
            };
            let answer = match head.split(' ').nth(1) {
                Some("/zip") => zip(&good),
                Some("/zip-hung") => zip(&bad),
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            };
            answer.into_bytes()
        })
        .await;
        let proxy = Proxy::toml(SITE).fill("HUNG", &hung).fill("WELL", &well).fill("APP", app.address());
        Some(Self { _files: files, proxy: proxy.start().await, scratch, _app: app })
    }

    fn ask(&self, path: impl Fn(usize) -> String) -> Vec<Pending> {
        (0..MANY).map(|number| self.proxy.get(&path(number)).spawn()).collect()
    }

    /// Requests for what hangs are refused, and all others answered.
    async fn assert_that_only_hung_files_are_refused(&self) {
        eventually("there is a refusal", async || refused(&self.proxy.target(), "/hung/small").await).await;
        let refused = within(SOON, "a refusal", self.proxy.get("/hung/hung-x").send()).await;
        assert!(!refused.unwrap().expect(503).header("retry-after").is_empty());
        within(SOON, "what is unhurt", async {
            let large = self.proxy.get("/well/large.bin").await.expect(200);
            assert!(large.body == std::fs::read(self.scratch.path("well/large.bin")).unwrap());
            let coded = self.proxy.get("/well/a.css").header("accept-encoding", "gzip").await.expect(200);
            assert_eq!(coded.header("content-encoding"), "gzip");
            self.proxy.post("/upload", noise(2_000_000)).await.expect(200);
            let archive = self.proxy.get("/zip").await.expect(200);
            assert!(archive.body.len() > 300_000);
        })
        .await;
    }
}

/// Whether a request is refused. (The answer may be that there is none yet.)
async fn refused(target: &Target, path: &str) -> bool {
    let answer = tokio::time::timeout(ms(2000), target.get(path).send()).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 503))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_that_hang_hold_up_nothing_else() {
    let Some(site) = Site::start().await else { return };
    let asked = site.ask(|number| format!("/hung/hung-{number}"));
    site.assert_that_only_hung_files_are_refused().await;
    drop(asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_hang_hold_up_nothing_else() {
    let Some(site) = Site::start().await else { return };
    // Some get a head, and wait for what follows.
    let asked = site.ask(|number| format!("/hung/{number}"));
    site.assert_that_only_hung_files_are_refused().await;
    let metrics = site.proxy.metrics().await;
    assert!(metrics.sum("bowshock_file_system_refusals_total", &[]) > 0.0);
    drop(asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_of_files_that_hang_hold_up_nothing_else() {
    let Some(site) = Site::start().await else { return };
    let asked = site.ask(|_| "/zip-hung".into());
    site.assert_that_only_hung_files_are_refused().await;
    within(SOON, "a refusal", site.proxy.get("/zip-hung").send()).await.unwrap().expect(503);
    drop(asked);
}
