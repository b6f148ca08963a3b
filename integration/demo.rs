//! The demo shows what it promises.

use std::{process::Command, time::Instant};

use crate::fixtures::{Process, SOON, Scratch, Target, free_port, ms, pass, within};

async fn demo() -> (Process, Target, Scratch) {
    let scratch = Scratch::new();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowshock"));
    command.args(["demo", "--listen", &address]).env("TMPDIR", scratch.root());
    let process = Process::start("demo", &command, scratch.root());
    let target = Target::parse(&address);
    // It makes its dataset first, which takes a debug build some seconds of a core.
    within(6 * SOON, "the demo answers", async {
        while !target.get("/").send().await.is_ok_and(|answer| answer.status == 200) {
            pass(ms(50)).await;
        }
    })
    .await;
    (process, target, scratch)
}

#[tokio::test]
async fn a_restart_of_all_workers_loses_nothing() {
    let (_demo, demo, _scratch) = demo().await;
    demo.request("POST", "/restart").await.expect(200);
    let mut slowest = ms(0);
    let mut requests = Vec::new();
    for _ in 0..30 {
        let start = Instant::now();
        let request = demo.get("/fast").spawn();
        requests.push(async move {
            request.await.unwrap().unwrap().expect(200);
            start.elapsed()
        });
        pass(ms(50)).await;
    }
    for request in requests {
        slowest = slowest.max(request.await);
    }
    assert!(slowest > ms(1000), "the workers should have been away: {slowest:?}");
}

#[tokio::test]
async fn its_page_its_download_and_its_locked_door() {
    let (_demo, demo, scratch) = demo().await;
    assert!(demo.get("/").await.expect(200).text().contains("Restart all workers"));
    assert!(
        demo.get("/static/pulse.js").await.expect(200).header("content-type").starts_with("text/javascript")
    );
    let part = demo.get("/dataset").header("range", "bytes=0-5").await.expect(206);
    assert_eq!(part.text(), "@read0");
    assert!(part.header("content-disposition").contains("reads.fastq"));
    demo.get("/_x_accel_redirect/etc/passwd").await.expect(404);
    drop(scratch);
}
