//! Bodies of requests on their way to a worker: passed on as they come, or taken in whole before.

use std::fs;

use crate::fixtures::{
    Backend, Frames, Proxy, Scratch, SmallDisk, Target,
    frames::{DATA, END_STREAM, frame, post},
    ms, noise, pass,
};

const MIB: usize = 1 << 20;

/// A worker that repeats the length of each body, after all of it has come.
async fn measuring() -> Backend {
    Backend::serving(|mut wire, heads| async move {
        while let Some((head, body)) = wire.request().await {
            heads.lock().unwrap().push(head);
            let sum = crate::fixtures::sha256(&body);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{sum}", sum.len());
            if wire.try_send(answer).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Every way to ask.
fn ways(proxy: &Proxy) -> [Target; 3] {
    [proxy.target(), proxy.https(), proxy.h2()]
}

/// Files of a process that have no name any more.
fn unnamed_files(proxy: &mut Proxy) -> usize {
    let folder = format!("/proc/{}/fd", proxy.process().pid());
    let links = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().ends_with("(deleted)")).count()
}

#[tokio::test]
async fn bodies_arrive_whole_whatever_is_done_with_them() {
    let app = measuring().await;
    for buffer in ["off", "memory", "disk"] {
        let route = format!("buffer = {buffer:?}, max_body = \"none\"");
        let proxy = Proxy::to([app.address()]).route(&route).secure().start().await;
        for target in ways(&proxy) {
            for size in [0, 1, 65_536, 262_144, MIB - 1, MIB, MIB + 70_000, 5 * MIB] {
                let body = noise(size);
                let answer = target.request("POST", "/").body(body.clone()).await.expect(200);
                assert_eq!(answer.text(), crate::fixtures::sha256(&body), "{buffer}, {size}, {target:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_slow_upload_keeps_no_worker_waiting_where_it_is_spooled() {
    for (buffer, early) in [("off", 1), ("memory", 0), ("disk", 0)] {
        let app = measuring().await;
        let proxy = Proxy::to([app.address()]).route(&format!("buffer = {buffer:?}")).secure().start().await;
        // By HTTP/1.1 and by HTTP/2.
        let mut wire = proxy.wire().await;
        wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf,").await;
        let mut client = Frames::to(&proxy.h2()).await;
        client.send([post(1, "/"), frame(DATA, 0, 1, "half,")].concat()).await;
        soon_eq!(proxy.inflight().await, [2 * early], "{buffer}");
        pass(ms(200)).await;
        assert_eq!(proxy.inflight().await, [2 * early], "{buffer}");
        wire.send("whole").await;
        wire.answer().await.unwrap().expect(200);
        assert_eq!(client.ask(1, frame(DATA, END_STREAM, 1, "whole")).await.status(), Some(200));
        soon_eq!(proxy.inflight().await, [0]);
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_asked() {
    let app = measuring().await;
    let proxy = Proxy::to([app.address()]).route("buffer = \"disk\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(wire.head().await.unwrap(), "HTTP/1.1 100 Continue");
    wire.send("body").await;
    wire.answer().await.unwrap().expect(200);
    assert!(!app.heads()[0].to_ascii_lowercase().contains("expect"));
}

#[tokio::test]
async fn files_have_no_names_and_go_with_their_requests() {
    let app = measuring().await;
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("tmp")).unwrap();
    let proxy = Proxy::to([app.address()]).route("buffer = \"disk\"").secure();
    let mut proxy = proxy.env("TMPDIR", scratch.path("tmp").to_str().unwrap()).start().await;
    let mut wire = proxy.wire().await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 3 * MIB)).await;
    wire.send(noise(2 * MIB)).await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(post(1, "/")).await;
    for _ in 0..15 {
        client.send(frame(DATA, 0, 1, noise(16 << 10))).await;
    }
    client.send(frame(DATA, 0, 1, noise(16 << 10))).await;
    let mut open = 0;
    crate::fixtures::eventually("both have a file", async || {
        open = unnamed_files(&mut proxy);
        open == 2
    })
    .await;
    assert_eq!(
        fs::read_dir(scratch.path("tmp")).unwrap().count(),
        0,
        "nothing to clean up, whatever happens"
    );
    drop((wire, client));
    crate::fixtures::eventually("who leaves leaves no file", async || unnamed_files(&mut proxy) == 0).await;
    assert!(app.heads().is_empty());
}

#[tokio::test]
async fn a_full_disk_is_507_and_nothing_leaks() {
    let app = measuring().await;
    let disk = SmallDisk::mount(2 * MIB);
    let proxy = Proxy::to([app.address()]).route("buffer = \"disk\", max_body = \"none\"").secure();
    let mut proxy = proxy.env("TMPDIR", disk.root().to_str().unwrap()).start().await;
    for target in ways(&proxy) {
        let answer = target.request("POST", "/").body(noise(8 * MIB)).await.expect(507);
        assert!(answer.header("content-type").starts_with("text/html"), "{answer:?}");
        crate::fixtures::eventually("its file is gone", async || unnamed_files(&mut proxy) == 0).await;
        // There is room for those that fit.
        target.request("POST", "/").body(noise(MIB)).await.expect(200);
    }
    assert_eq!(app.heads().len(), 3);
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_a_worker_is_asked() {
    let app = measuring().await;
    for buffer in ["off", "memory", "disk"] {
        let route = format!("buffer = {buffer:?}, max_body = \"100k\"");
        let proxy = Proxy::to([app.address()]).route(&route).secure().start().await;
        for target in ways(&proxy) {
            target.request("POST", "/").body(noise(102_401)).await.expect(413);
            target.request("POST", "/").body(noise(102_400)).await.expect(200);
        }
        let mut client = Frames::to(&proxy.h2()).await;
        client.send(post(1, "/")).await;
        for _ in 0..10 {
            client.send(frame(DATA, 0, 1, noise(16 << 10))).await;
        }
        assert_eq!(client.end_of(1).await.status(), Some(413), "{buffer}: of unknown length");
    }
}

#[tokio::test]
async fn a_body_that_is_streamed_is_held_back_by_a_worker_that_does_not_read() {
    let app = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let proxy = Proxy::to([app.address()]).route("max_body = \"none\"").secure().start().await;
    let before = proxy.resident();
    let _uploads: Vec<_> = ways(&proxy)
        .iter()
        .map(|target| target.request("POST", "/").body(noise(100 * MIB)).spawn())
        .collect();
    soon_eq!(proxy.inflight().await, [3]);
    pass(ms(1500)).await;
    let grown = proxy.resident().saturating_sub(before) >> 20;
    assert!(grown < 40, "{grown} MiB for three uploads of 100 MiB that nobody reads");
}

#[tokio::test]
async fn a_body_taken_in_whole_is_sent_with_its_length() {
    for buffer in ["memory", "disk"] {
        let app = measuring().await;
        let proxy = Proxy::to([app.address()]).route(&format!("buffer = {buffer:?}")).secure().start().await;
        let mut wire = proxy.wire().await;
        let body = "3\r\nnam\r\n6;x=y\r\ne=\r\nva\r\n0\r\nTrailer: t\r\n\r\n";
        wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        let answer = wire.answer().await.unwrap().expect(200);
        assert_eq!(answer.text(), crate::fixtures::sha256(b"name=\r\nva"));
        let mut client = Frames::to(&proxy.h2()).await;
        client
            .send([post(1, "/"), frame(DATA, 0, 1, "name"), frame(DATA, END_STREAM, 1, "=value")].concat())
            .await;
        soon_eq!(app.heads().len(), 2);
        for (head, length) in app.heads().iter().zip([9, 10]) {
            let head = head.to_ascii_lowercase();
            assert!(head.contains(&format!("content-length: {length}")), "{head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_in_memory_is_passed_on_and_not_written_to_disk() {
    let app = measuring().await;
    let mut proxy =
        Proxy::to([app.address()]).route("buffer = \"memory\", max_body = \"none\"").start().await;
    let body = noise(40 * MIB);
    let mut wire = proxy.wire().await;
    wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    for part in body.chunks(MIB) {
        wire.send(part).await;
        assert_eq!(unnamed_files(&mut proxy), 0);
    }
    assert_eq!(wire.answer().await.unwrap().expect(200).text(), crate::fixtures::sha256(&body));
}

#[tokio::test]
async fn a_server_that_leaves_a_client_waiting_for_100_is_the_slow_one() {
    let app = Backend::silent().await;
    let proxy = Proxy::to([app.address()])
        .route("read_timeout = \"2s\"")
        .server("client_body_timeout = \"500ms\"")
        .start()
        .await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    wire.answer().await.unwrap().expect(504);
    // A client that has begun its body is the slow one.
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhi").await;
    wire.answer().await.unwrap().expect(408);
}

#[tokio::test]
async fn a_client_that_was_told_to_go_on_and_does_not_is_the_slow_one() {
    let app = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        wire.rest().await;
    })
    .await;
    let proxy = Proxy::to([app.address()]).server("client_body_timeout = \"1s\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    wire.answer().await.unwrap().expect(100);
    wire.answer().await.unwrap().expect(408);
}

#[tokio::test]
async fn a_chunk_that_cannot_be_taken_is_refused_when_it_is_announced() {
    let app = Backend::saying("ok").await;
    for route in [
        "max_body = \"64m\"",
        "max_body = \"64m\", buffer = \"memory\"",
        "max_body = \"64m\", buffer = \"disk\"",
    ] {
        let proxy = Proxy::to([app.address()]).route(route).start().await;
        for (size, status) in [
            ("7fffffffffffffff", 413),
            ("4000001", 413),
            ("8000000000000000", 400),
            ("10000000000000000", 400),
        ] {
            let mut wire = proxy.wire().await;
            let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
            // Nothing of it comes.
            wire.send(format!("{head}{size}\r\n")).await;
            wire.answer().await.expect("an answer").expect(status);
        }
    }
}
