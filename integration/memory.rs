//! What many clients cost in memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fixtures::{Backend, Frames, Proxy, Scratch, Wire, eventually, frames, ms, noise, pass};

const MIB: u64 = 1024 * 1024;

/// Lets this process open as many files as it may: shells allow fewer at first.
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[tokio::test]
async fn a_thousand_slow_downloads_and_a_thousand_slow_uploads_take_little() {
    const EACH: usize = 1000;
    open_many_files();
    let uploads = Arc::new(AtomicUsize::new(0));
    let (begun, answer) = (Arc::clone(&uploads), Arc::new(noise(1 << 20)));
    let app = Backend::serving(move |mut wire, _| {
        let (begun, answer) = (Arc::clone(&begun), Arc::clone(&answer));
        async move {
            let Some(head) = wire.head().await else { return };
            if head.starts_with("POST") {
                // The first of the body has come through.
                wire.read(2000).await;
                begun.fetch_add(1, Ordering::SeqCst);
                wire.closes(ms(600_000)).await;
            } else {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len())).await;
                // It is never taken.
                let _ = wire.try_send(&answer[..]).await;
                wire.closes(ms(600_000)).await;
            }
        }
    })
    .await;
    // A unix socket holds less for a client that does not read than TCP does here.
    let scratch = Scratch::new();
    let proxy = Proxy::toml(
        "[[listen]]\naddress = \"unix:@SOCKET@\"\n[[site]]\nroutes = { \"/\" = { proxy = \"app\" } }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    );
    let proxy = proxy.fill("SOCKET", scratch.path("sock").display()).fill("SERVER", app.address());
    let proxy = proxy.start().await;
    let mut first = proxy.wire().await;
    first.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    first.read(1000).await;
    let before = proxy.resident();
    let mut clients = Vec::new();
    for _ in 0..EACH {
        let mut reader = proxy.wire().await;
        reader.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        reader.read_until("200 OK").await;
        clients.push(reader);
        let mut uploader = proxy.wire().await;
        uploader.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").await;
        uploader.send(&noise(2000)).await;
        clients.push(uploader);
    }
    eventually("all uploads have begun", async || uploads.load(Ordering::SeqCst) == EACH).await;
    soon_eq!(proxy.inflight().await, [2 * EACH as u64 + 1], "nothing has come to its end");
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB for {EACH} slow downloads and {EACH} slow uploads", grown / MIB);
}

#[tokio::test]
async fn an_idle_connection_takes_a_kilobyte() {
    const MANY: u64 = 2500;
    open_many_files();
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).start().await;
    let mut clients = Vec::new();
    let connect = async |clients: &mut Vec<Wire>| {
        let mut wire = proxy.wire().await;
        wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        wire.answer().await.unwrap().expect(200);
        clients.push(wire);
    };
    for _ in 0..500 {
        connect(&mut clients).await;
    }
    // The rest of what is allocated once.
    pass(ms(200)).await;
    let before = proxy.resident();
    for _ in 0..MANY {
        connect(&mut clients).await;
    }
    let each = proxy.resident().saturating_sub(before) / MANY;
    // 800 in a release; a debug build has larger tasks.
    assert!(each < 2048, "{each} bytes");
}

/// Bytes of the proxy for each idle connection that `connect` makes.
async fn each_idle<T>(proxy: &Proxy, connect: impl AsyncFn() -> T) -> u64 {
    const MANY: u64 = 500;
    open_many_files();
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(connect().await);
    }
    // The rest of what is allocated once.
    pass(ms(200)).await;
    let before = proxy.resident();
    for _ in 0..MANY {
        clients.push(connect().await);
    }
    let each = proxy.resident().saturating_sub(before) / MANY;
    eprintln!("{each} bytes");
    each
}

#[tokio::test]
async fn an_idle_connection_under_tls_takes_some_kilobytes() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).secure().start().await;
    let target = proxy.https();
    let each = each_idle(&proxy, async || {
        let mut wire = Wire::to(&target).await;
        wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        wire.answer().await.unwrap().expect(200);
        wire
    })
    .await;
    assert!(each < 32 << 10, "{each} bytes");
}

#[tokio::test]
async fn an_idle_connection_of_http_2_takes_some_more() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).secure().start().await;
    let target = proxy.h2();
    let each = each_idle(&proxy, async || {
        let mut client = Frames::to(&target).await;
        assert_eq!(client.ask(1, frames::get(1, "/")).await.status(), Some(200));
        client
    })
    .await;
    assert!(each < 64 << 10, "{each} bytes");
}

#[tokio::test]
async fn an_idle_websocket_takes_some_kilobytes() {
    let app = Backend::serving(|mut wire, _| async move {
        if wire.head().await.is_none() {
            return;
        }
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        wire.rest().await;
    })
    .await;
    let proxy = Proxy::to([app.address()]).start().await;
    let target = proxy.target();
    let each = each_idle(&proxy, async || {
        let mut wire = Wire::to(&target).await;
        wire.send(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
        assert!(wire.head().await.expect("a response").starts_with("HTTP/1.1 101"));
        wire
    })
    .await;
    assert!(each < 8 << 10, "{each} bytes");
}

#[tokio::test]
async fn an_idle_event_stream_takes_some_kilobytes() {
    let app = Backend::serving(|mut wire, _| async move {
        if wire.head().await.is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 0\n\n").await;
            wire.rest().await;
        }
    })
    .await;
    let proxy = Proxy::to([app.address()]).start().await;
    let target = proxy.target();
    let each = each_idle(&proxy, async || {
        let mut wire = Wire::to(&target).await;
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n").await;
        wire.read_until("data: 0").await;
        wire
    })
    .await;
    assert!(each < 16 << 10, "{each} bytes");
}

/// Bytes of the proxy for each of a thousand requests that wait, of which `connect` sends a hundred at a time.
async fn each_held<T>(proxy: &Proxy, connect: impl AsyncFn() -> T) -> u64 {
    let mut clients = vec![connect().await];
    soon_eq!(proxy.waiting().await, 99, "one is with the worker");
    // The rest of what is allocated once.
    pass(ms(200)).await;
    let before = proxy.resident();
    for held in 2..=11 {
        clients.push(connect().await);
        soon_eq!(proxy.waiting().await, held * 100 - 1);
    }
    let each = proxy.resident().saturating_sub(before) / 1000;
    eprintln!("{each} bytes");
    each
}

#[tokio::test]
async fn a_request_that_waits_takes_its_head_and_nothing_that_it_came_in() {
    const CRUMBS: usize = 1600;
    const JOINED: u64 = 3 * CRUMBS as u64;
    open_many_files();
    let each = async |request: &(dyn Fn(u32) -> Vec<u8> + Sync)| {
        let app = Backend::silent().await;
        let proxy = Proxy::to([app.address()]).with("max_requests = 1\nqueue = 2000\nhold = \"2m\"");
        let proxy = proxy.secure().start().await;
        let target = proxy.h2();
        each_held(&proxy, async || {
            let mut client = Frames::to(&target).await;
            for number in 0..100 {
                client.send(request(2 * number + 1)).await;
            }
            client
        })
        .await
    };
    let plain = each(&|stream| frames::get(stream, "/")).await;
    let crumbs = each(&|stream| {
        let fields = [&frames::fields("GET", "/")[..], &[("cookie", "a"); CRUMBS]].concat();
        frames::headers(stream, frames::END_STREAM, &fields)
    })
    .await;
    assert!(crumbs < plain + 2 * JOINED + 4096, "{crumbs} bytes with crumbs, {plain} without");
}

#[tokio::test]
async fn a_head_that_came_slowly_takes_no_more_than_one_that_came_at_once() {
    const FIELDS: usize = 100;
    open_many_files();
    let app = Backend::silent().await;
    let proxy =
        Proxy::to([app.address()]).with("max_requests = 1\nqueue = 2000\nhold = \"2m\"").start().await;
    let fields: String = (0..FIELDS).map(|number| format!("X-{number}: {}\r\n", "y".repeat(200))).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let each = each_held(&proxy, async || {
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut wire = proxy.wire().await;
            let (first, rest) = head.split_at(head.len() / 2);
            wire.send(first).await;
            clients.push((wire, rest));
        }
        // The first half is read by itself.
        pass(ms(100)).await;
        for (wire, rest) in &mut clients {
            wire.send(rest).await;
        }
        clients
    })
    .await;
    let most = 2 * head.len() as u64 + 4096;
    assert!(each < most, "{each} bytes for a head of {}", head.len());
}
