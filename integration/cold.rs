//! Downloads of data that is not in memory: whoever waits for the disk waits alone.

use crate::fixtures::{Backend, Proxy, SOON, SlowFiles, eventually, ms, within};

/// Downloads at the same time, on all threads of the proxy; the kernel asks such a file system for a dozen things at once.
const DOWNLOADS: usize = 10;

/// Small requests beside them.
const REQUESTS: usize = 200;

const SITE: &str = r#"
[[site]]
[site.routes]
"/" = { proxy = "app" }
"/cold" = { files = "@ROOT@" }
[upstream.app]
servers = ["@APP@"]
"#;

async fn before(files: &SlowFiles, app: &Backend) -> Proxy {
    Proxy::toml(SITE).fill("ROOT", files.root().display()).fill("APP", app.address()).start().await
}

/// No read of the disk ends while these are answered: whoever waited for one would wait for ever.
#[tokio::test]
async fn cold_downloads_do_not_stop_other_requests() {
    let Some(files) = SlowFiles::mount(ms(3_600_000)) else { return };
    let app = Backend::saying("small").await;
    let proxy = before(&files, &app).await;
    let _downloads: Vec<_> =
        (0..DOWNLOADS).map(|number| proxy.get(&format!("/cold/{number}")).spawn()).collect();
    eventually("they are read", async || files.reads() >= DOWNLOADS).await;
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(proxy.connect().await);
    }
    for number in 0..REQUESTS {
        let connection = &mut connections[number % 8];
        let request = connection.get("/small");
        let answer = within(SOON, "an answer beside cold downloads", connection.send(request)).await;
        assert_eq!(answer.expect("an answer").expect(200).text(), "small");
    }
}

#[tokio::test]
async fn cold_downloads_go_on_at_the_same_time() {
    let Some(files) = SlowFiles::mount(ms(100)) else { return };
    let app = Backend::saying("small").await;
    let proxy = before(&files, &app).await;
    let mut downloads = Vec::new();
    for number in 0..DOWNLOADS {
        downloads.push(proxy.get(&format!("/cold/{number}")).open().await.expect("a head"));
    }
    for download in &mut downloads {
        let mut received = 0;
        while received < 300_000 {
            received += download.piece().await.expect("it goes on").expect("more").len();
        }
    }
}
