//! Downloads of data that is not in memory slow nobody else down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use crate::fixtures::{Backend, Nginx, Proxy, SlowFiles, Target, eventually, ms};

/// How long the file system takes for each read.
const READ: Duration = ms(200);

const DOWNLOADS: usize = 20;

/// Each asks ten times a second.
const CLIENTS: usize = 32;

const BODY: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

const OURS: &str = r#"
[[site]]
[site.routes]
"/" = { proxy = "app" }
"/cold" = { files = "@ROOT@" }
[upstream.app]
servers = ["@APP@"]
"#;

const THEIRS: &str = "location / { proxy_pass http://@APP@; }
    location /cold/ { alias @ROOT@/; sendfile on; tcp_nopush on; }";

/// 99 of 100 small requests take no longer than this, before the downloads, beside them and after them.
#[derive(Debug)]
struct Figures {
    before: Duration,
    beside: Duration,
    after: Duration,
    /// Bytes of all downloads.
    received: u64,
}

impl Figures {
    /// Each for `time`.
    async fn of(target: &Target, time: Duration) -> Self {
        let before = p99(target, time).await;
        let downloads = Downloads::start(target).await;
        let beside = p99(target, time).await;
        let received = downloads.stop();
        let after = p99(target, time).await;
        Self { before, beside, after, received }
    }

    #[track_caller]
    fn assert_equal_but_for(&self, noise: Duration) {
        assert!(self.beside <= self.before.max(self.after) * 3 / 2 + noise, "{self:?}");
    }
}

/// Downloads of different files that go on until they are stopped.
struct Downloads {
    received: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Downloads {
    async fn start(target: &Target) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for number in 0..DOWNLOADS {
            let (request, received) = (target.get(&format!("/cold/{number}")), Arc::clone(&received));
            clients.spawn(async move {
                let mut answer = request.open().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                while let Some(piece) = answer.piece().await.expect("more") {
                    received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
            });
        }
        eventually("there is something of the files", async || received.load(Ordering::Relaxed) > 0).await;
        Self { received, clients }
    }

    /// Ends all of them, and tells how many bytes they have received.
    fn stop(mut self) -> u64 {
        assert!(self.clients.try_join_next().is_none(), "they go on");
        self.received.load(Ordering::Relaxed)
    }
}

/// Sends small requests for some `time`, each when it is due, whatever became of those before it. What counts is the
/// time from then until it is answered.
async fn p99(target: &Target, time: Duration) -> Duration {
    let end = Instant::now() + time;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let mut connection = target.connect().await.expect("a connection");
        clients.spawn(async move {
            let start = Instant::now() + ms(100) * number as u32 / CLIENTS as u32;
            let mut clock = tokio::time::interval_at(start, ms(100));
            clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut times = Vec::new();
            while Instant::now() < end {
                let due = clock.tick().await;
                let answer = connection.send(connection.get("/small"));
                let answer = tokio::time::timeout_at(end + READ, answer).await;
                times.push(due.elapsed());
                // Who is not answered by now took at least as long, and so did those that are due after it.
                let Ok(answer) = answer else { break };
                assert_eq!(answer.expect("an answer").expect(200).body.len(), 100);
            }
            times
        });
    }
    let mut times = clients.join_all().await.concat();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Ours, and nginx's beside it; nothing where there can be no slow file system.
async fn measure(time: Duration) -> Option<Figures> {
    let files = SlowFiles::mount(READ)?;
    let backend = Backend::saying(BODY).await;
    let root = files.root().display().to_string();
    let proxy = Proxy::toml(OURS).fill("ROOT", &root).fill("APP", backend.address()).start().await;
    let nginx = Nginx::start(&THEIRS.replace("@ROOT@", &root).replace("@APP@", &backend.address())).await;
    let ours = Figures::of(&proxy.target(), time).await;
    let theirs = Figures::of(&nginx.target(), time).await;
    eprintln!("p99 of small requests beside {DOWNLOADS} cold downloads: {ours:?}, of nginx: {theirs:?}");
    Some(ours)
}

/// Whoever waited for one read of the disk would be seen, also on a machine that is busy with other tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_downloads_do_not_stop_other_requests() {
    let Some(figures) = measure(ms(1500)).await else { return };
    assert!(figures.received > DOWNLOADS as u64 * 100_000, "{figures:?}");
    figures.assert_equal_but_for(READ / 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "its bound is for a machine that does nothing else"]
async fn cold_downloads_do_not_slow_other_requests_down() {
    let Some(figures) = measure(Duration::from_secs(10)).await else { return };
    figures.assert_equal_but_for(ms(1));
}
