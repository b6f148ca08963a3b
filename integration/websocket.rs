//! The handshake of a WebSocket is a request like any other, over HTTP/1.1 and HTTP/2: held, retried, counted, limited,
//! refused; what it opens outlives reloads and drains.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::Signal;

use crate::fixtures::{
    Backend, Builder, Frames, Gate, Process, Proxy, SOON, Scratch, Wire, eventually,
    frames::{DATA, END_STREAM, HEADERS, decode_status, frame, headers},
    free_port, ms, pass, vacant, venv, within,
};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Http1,
    Http2,
}

const BOTH: [Over; 2] = [Over::Http1, Over::Http2];

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const CONNECT: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/chat"),
    ("sec-websocket-version", "13"),
];

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An open WebSocket.
enum Socket {
    Http1(Wire),
    Http2(Frames),
}

impl Socket {
    /// Opens one, or says with which status that was refused.
    async fn open(proxy: &Proxy, over: Over) -> Result<Self, u16> {
        within(SOON, "the handshake ends", Self::handshake(proxy, over)).await
    }

    /// Opens one, which must succeed.
    async fn opened(proxy: &Proxy, over: Over) -> Self {
        Self::open(proxy, over).await.unwrap_or_else(|status| panic!("{over:?}: {status}"))
    }

    async fn handshake(proxy: &Proxy, over: Over) -> Result<Self, u16> {
        if over == Over::Http2 {
            let mut client = Frames::to(&proxy.h2()).await;
            client.send(headers(1, 0, &CONNECT)).await;
            let head = client.until(|frame| frame.kind == HEADERS).await;
            // 200 stands for 101 there (RFC 8441 §5).
            return match decode_status(&head.payload) {
                200 => Ok(Self::Http2(client)),
                status => Err(status),
            };
        }
        let mut wire = Wire::to(&proxy.target()).await;
        wire.send(UPGRADE).await;
        let head = wire.head().await.expect("a response");
        match head.split(' ').nth(1).and_then(|code| code.parse().ok()) {
            Some(101) => Ok(Self::Http1(wire)),
            Some(status) => Err(status),
            None => panic!("not a response: {head}"),
        }
    }

    /// Sends some bytes, which the worker repeats.
    async fn assert_repeats(&mut self, word: &str) {
        let mut came = Vec::new();
        match self {
            Self::Http1(wire) => {
                wire.send(word).await;
                came = wire.read(word.len()).await;
            }
            Self::Http2(client) => {
                client.send(frame(DATA, 0, 1, word)).await;
                while came.len() < word.len() {
                    came.extend(client.until(|frame| frame.kind == DATA).await.payload);
                }
            }
        }
        assert_eq!(came, word.as_bytes());
    }
}

/// A worker that accepts WebSockets and repeats every byte; other paths it answers with its name.
async fn worker_at(address: &str, name: &'static str) -> Backend {
    Backend::serving_at(address, move |mut wire: Wire, heads| async move {
        while let Some(head) = wire.head().await {
            let opens = head.to_ascii_lowercase().contains("upgrade: websocket");
            heads.lock().unwrap().push(head);
            if !opens {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())).await;
                continue;
            }
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .await;
            loop {
                let byte = wire.read(1).await;
                if byte.is_empty() || wire.try_send(&byte).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

async fn worker(name: &'static str) -> Backend {
    worker_at(&vacant(), name).await
}

fn before(servers: &[String]) -> Builder {
    Proxy::to(servers).secure()
}

async fn streams(proxy: &Proxy) -> Vec<u64> {
    proxy.servers().await.iter().map(|server| server["streams"].as_u64().expect("a count")).collect()
}

#[tokio::test]
async fn a_handshake_is_held_while_no_worker_is_there() {
    for over in BOTH {
        let address = vacant();
        let proxy = before(std::slice::from_ref(&address)).start().await;
        let (opening, _worker) = tokio::join!(Socket::open(&proxy, over), async {
            eventually("it waits", async || proxy.waiting().await == 1).await;
            worker_at(&address, "x").await
        });
        opening.unwrap_or_else(|status| panic!("{over:?}: {status}")).assert_repeats("hello").await;
    }
}

#[tokio::test]
async fn a_handshake_that_may_not_wait_is_refused() {
    for over in BOTH {
        let proxy = before(&[vacant()]).with("hold = \"0s\"").start().await;
        assert_eq!(Socket::open(&proxy, over).await.err(), Some(503), "{over:?}");
    }
}

#[tokio::test]
async fn a_worker_that_refuses_the_connection_costs_nothing() {
    for over in BOTH {
        for _ in 0..4 {
            let there = worker("x").await;
            let proxy = before(&[vacant(), there.address()]).start().await;
            let mut socket = Socket::opened(&proxy, over).await;
            socket.assert_repeats("hello").await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_over_the_handshake_leaves_it_to_another() {
    for over in BOTH {
        let (dies, lives) = (Backend::dying().await, worker("x").await);
        let proxy = before(&[dies.address(), lives.address()]).start().await;
        for _ in 0..4 {
            let mut socket = Socket::opened(&proxy, over).await;
            socket.assert_repeats("hello").await;
        }
    }
}

#[tokio::test]
async fn an_open_one_is_counted_apart_from_requests_and_in_the_metrics_when_it_ends() {
    for over in BOTH {
        let there = worker("x").await;
        let proxy = before(&[there.address()]).start().await;
        let mut socket = Socket::opened(&proxy, over).await;
        socket.assert_repeats("hello").await;
        soon_eq!((streams(&proxy).await, proxy.inflight().await), (vec![1], vec![0]));
        drop(socket);
        soon_eq!(streams(&proxy).await, [0]);
        let code = if over == Over::Http1 { "code=\"101\"" } else { "code=\"" };
        let counted = async || proxy.metrics().await.sum("bowshock_requests_total", &[code]);
        eventually("it is counted", async || counted().await >= 1.0).await;
    }
}

#[tokio::test]
async fn a_worker_that_is_drained_keeps_what_is_open_and_gets_no_new_one() {
    for over in BOTH {
        let (one, two) = (worker("one").await, worker("two").await);
        let proxy = before(&[one.address(), two.address()]).start().await;
        proxy.succeed(&format!("drain {}", two.address()));
        let mut socket = Socket::opened(&proxy, over).await;
        proxy.succeed(&format!("resume {}", two.address()));
        proxy.succeed(&format!("drain {}", one.address()));
        for _ in 0..3 {
            let mut other = Socket::opened(&proxy, over).await;
            other.assert_repeats("there").await;
        }
        assert_eq!([one.heads().len(), two.heads().len()], [1, 3], "{over:?}");
        socket.assert_repeats("still here").await;
    }
}

#[tokio::test]
async fn limits_and_lists_of_networks_refuse_it_like_any_request() {
    let there = worker("x").await;
    for over in BOTH {
        let denied = before(&[there.address()]).route("deny = [\"127.0.0.0/8\"]").start().await;
        assert_eq!(Socket::open(&denied, over).await.err(), Some(403), "{over:?}");
        let limited = before(&[there.address()])
            .route("limit = \"slow\"")
            .with("[limit.slow]\nkey = [\"address\"]\nrate = \"1r/h\"\n")
            .start()
            .await;
        Socket::opened(&limited, over).await;
        assert_eq!(Socket::open(&limited, over).await.err(), Some(429), "{over:?}");
    }
    assert_eq!(there.heads().len(), 2, "what is refused reaches nobody");
}

#[tokio::test]
async fn what_a_worker_answers_instead_of_switching_is_passed_on() {
    for (status, reason) in [(200, "OK"), (403, "Forbidden"), (426, "Upgrade Required"), (503, "Unavailable")]
    {
        let refuses = Backend::answering(move |_| {
            format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 2\r\n\r\nno").into_bytes()
        })
        .await;
        let proxy = before(&[refuses.address()]).start().await;
        assert_eq!(Socket::open(&proxy, Over::Http1).await.err(), Some(status));
        // Over HTTP/2 a 200 would say that the WebSocket is open (RFC 8441 §5).
        let told = if status == 200 { 502 } else { status };
        assert_eq!(Socket::open(&proxy, Over::Http2).await.err(), Some(told));
        soon_eq!((streams(&proxy).await, proxy.inflight().await), (vec![0], vec![0]));
    }
}

#[tokio::test]
async fn an_open_one_outlives_reloads_that_take_its_server_away() {
    for over in BOTH {
        let (one, two) = (worker("one").await, worker("two").await);
        let mut proxy = before(&[one.address()]).start().await;
        let mut socket = Socket::opened(&proxy, over).await;
        for server in [&two, &one, &two] {
            proxy.reload(before(&[server.address()])).await;
            socket.assert_repeats("still here").await;
        }
        assert_eq!(proxy.get("/").await.expect(200).text(), "two");
    }
}

#[tokio::test]
async fn a_handshake_that_waits_goes_to_the_server_that_a_reload_brings() {
    for over in BOTH {
        let there = worker("x").await;
        let mut proxy = before(&[vacant()]).start().await;
        let opening = {
            let target = (proxy.target(), proxy.h2());
            tokio::spawn(async move {
                let (plain, h2) = target;
                match over {
                    Over::Http1 => {
                        let mut wire = Wire::to(&plain).await;
                        wire.send(UPGRADE).await;
                        wire.head().await.expect("a response").contains(" 101 ")
                    }
                    Over::Http2 => {
                        let mut client = Frames::to(&h2).await;
                        client.send(headers(1, 0, &CONNECT)).await;
                        client.until(|frame| frame.kind == HEADERS).await.flags & 1 == 0
                    }
                }
            })
        };
        eventually("it waits", async || proxy.waiting().await == 1).await;
        proxy.reload(before(&[there.address()])).await;
        assert!(within(SOON, "it opens", opening).await.unwrap(), "{over:?}");
        pass(ms(1)).await;
    }
}

#[tokio::test]
async fn a_file_in_place_of_a_switch_is_sent() {
    let (app, files) = (
        Backend::answering(|_| {
            b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_x/a\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
        .await,
        Scratch::new(),
    );
    files.write("a", "content");
    let text = "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
                \"/_x\" = { files = \"@FILES@\", internal = true }\n[upstream.app]\nservers = [\"@APP@\"]\n";
    let text = Proxy::toml(text).fill("FILES", files.root().display()).fill("APP", app.address());
    let proxy = text.secure().start().await;
    assert_eq!(Socket::open(&proxy, Over::Http1).await.err(), Some(200));
    assert_eq!(Socket::open(&proxy, Over::Http2).await.err(), Some(502));
    soon_eq!((streams(&proxy).await, proxy.inflight().await), (vec![0], vec![0]));
}

/// A worker that sends a part of a frame, the rest once it has read a byte, and then reads to the end; what it has read.
async fn in_the_middle_of_a_frame() -> (Backend, Arc<Mutex<Vec<u8>>>) {
    let read = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&read);
    let app = Backend::serving(move |mut wire, _| {
        let all = Arc::clone(&all);
        async move {
            if wire.head().await.is_none() {
                return;
            }
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x05hel")
                .await;
            wire.read(1).await;
            wire.send("lo").await;
            let rest = wire.rest().await;
            all.lock().unwrap().extend(rest);
        }
    })
    .await;
    (app, read)
}

#[tokio::test]
async fn when_the_proxy_stops_both_sides_are_told_between_two_frames() {
    let (app, read) = in_the_middle_of_a_frame().await;
    let mut proxy = before(&[app.address()]).server("grace = \"2s\"").start().await;
    let Ok(Socket::Http1(mut wire)) = Socket::open(&proxy, Over::Http1).await else { panic!("no tunnel") };
    assert_eq!(wire.read(5).await, b"\x01\x05hel");
    proxy.signal(Signal::TERM);
    proxy.process().logged("stopping").await;
    // Longer than half of `grace`, in which tunnels are closed.
    pass(ms(1_100)).await;
    wire.send([0x81, 0]).await;
    // What was begun is finished, then comes 1001 (going away).
    assert_eq!(wire.read(6).await, b"lo\x88\x02\x03\xe9");
    wire.send([0x88, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(wire.rest().await, b"");
    assert!(proxy.process().exited(SOON).await.success());
    let read = read.lock().unwrap().clone();
    let [0, 0x88, 0x82, mask @ .., first, second] = &read[..] else { panic!("{read:?}") };
    assert_eq!([first ^ mask[0], second ^ mask[1]], [0x03, 0xe9]);
}

#[tokio::test]
async fn when_the_proxy_stops_a_stream_without_pause_ends_between_two_frames() {
    let app = Backend::serving(|mut wire, _| async move {
        if wire.head().await.is_none() {
            return;
        }
        wire.send(SWITCHED).await;
        let frame = [&[0x82, 126, 16, 0][..], &[7; 4096]].concat();
        let mut part = frame[..1_000].to_vec();
        // Each part ends within a frame.
        while wire.try_send(&part).await.is_ok() {
            part = [&frame[1_000..], &frame[..1_000]].concat();
            pass(ms(2)).await;
        }
    })
    .await;
    let proxy = before(&[app.address()]).server("grace = \"3s\"").start().await;
    let Ok(Socket::Http1(mut wire)) = Socket::open(&proxy, Over::Http1).await else { panic!("no tunnel") };
    wire.read(1_000).await;
    proxy.signal(Signal::TERM);
    let rest = wire.rest().await;
    assert!(rest.ends_with(b"\x88\x02\x03\xe9"), "the end is {:?}", &rest[rest.len() - 4..]);
    assert_eq!((1_000 + rest.len() - 4) % 4_100, 0);
}

#[tokio::test]
async fn when_the_proxy_stops_all_are_told_within_grace() {
    let worker = worker("x").await;
    let mut proxy = before(&[worker.address()]).server("grace = \"3s\"").start().await;
    let mut open = Vec::new();
    for over in [Over::Http1, Over::Http2].repeat(20) {
        open.push(Socket::opened(&proxy, over).await);
    }
    proxy.signal(Signal::TERM);
    for socket in &mut open {
        let goodbye = match socket {
            Socket::Http1(wire) => wire.read(4).await,
            Socket::Http2(client) => client.until(|frame| frame.kind == DATA).await.payload.to_vec(),
        };
        assert_eq!(goodbye, b"\x88\x02\x03\xe9");
    }
    drop(open);
    assert!(proxy.process().exited(SOON).await.success());
    assert!(proxy.process().stderr().contains(" stopped\n"), "{}", proxy.process().stderr());
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_the_answer() {
    let app = Backend::serving(|mut wire, _| async move {
        if wire.head().await.is_none() {
            return;
        }
        wire.send(SWITCHED).await;
        let all = wire.rest().await;
        wire.send(format!("{} bytes", all.len())).await;
    })
    .await;
    let proxy = before(&[app.address()]).start().await;
    for over in BOTH {
        let mut came = Vec::new();
        match Socket::opened(&proxy, over).await {
            Socket::Http1(mut wire) => {
                wire.send([7; 300]).await;
                wire.finish().await;
                came = wire.rest().await;
            }
            Socket::Http2(mut client) => {
                client.send(frame(DATA, END_STREAM, 1, [7; 300])).await;
                while came.len() < 9 {
                    came.extend(client.until(|frame| frame.kind == DATA).await.payload);
                }
            }
        }
        assert_eq!(String::from_utf8_lossy(&came), "300 bytes", "{over:?}");
        soon_eq!(streams(&proxy).await, [0]);
    }
}

#[tokio::test]
async fn what_a_server_has_sent_before_it_closed_is_not_lost() {
    let scratch = Scratch::new();
    let path = scratch.path("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    // It sends until nobody takes any more, and is gone.
    let app = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut wire = Wire::on(stream);
            if wire.head().await.is_none() {
                continue;
            }
            wire.send(SWITCHED).await;
            let mut sent = 0;
            while tokio::time::timeout(ms(500), wire.try_send(vec![7; 10_000])).await.is_ok() {
                sent += 10_000;
            }
            return sent;
        }
    });
    let proxy = Proxy::to([format!("unix:{}", path.display())]).start().await;
    let Ok(Socket::Http1(mut wire)) = Socket::open(&proxy, Over::Http1).await else { panic!("no tunnel") };
    let sent = app.await.expect("it did not panic");
    for _ in 0..3 {
        wire.send([0x81, 0x80, 0, 0, 0, 0]).await;
        pass(ms(100)).await;
    }
    let came = wire.rest().await.len();
    assert!(came >= sent, "{came} of {sent} bytes came");
}

#[tokio::test]
async fn what_a_client_has_sent_before_it_closed_is_not_lost() {
    let (took, reads) = (Arc::new(Mutex::new(0)), Gate::shut());
    let (count, open) = (Arc::clone(&took), reads.clone());
    let app = Backend::serving(move |mut wire, _| {
        let (count, open) = (Arc::clone(&count), open.clone());
        async move {
            if wire.head().await.is_none() {
                return;
            }
            wire.send(SWITCHED).await;
            open.passed().await;
            // Nobody is there to take it.
            for _ in 0..3 {
                let _ = wire.try_send([7; 1_000]).await;
                pass(ms(100)).await;
            }
            *count.lock().unwrap() = wire.rest().await.len();
        }
    })
    .await;
    // A unix socket keeps what was sent over it before it was closed.
    let scratch = Scratch::new();
    let text = "[[listen]]\naddress = \"unix:@SOCKET@\"\n[[site]]\nroutes = { \"/\" = { proxy = \"app\" } }\n\
                [upstream.app]\nservers = [\"@APP@\"]\n";
    let text = Proxy::toml(text).fill("SOCKET", scratch.path("sock").display()).fill("APP", app.address());
    let proxy = text.start().await;
    let Ok(Socket::Http1(mut wire)) = Socket::open(&proxy, Over::Http1).await else { panic!("no tunnel") };
    let mut sent = 0;
    while tokio::time::timeout(ms(500), wire.try_send(vec![7; 10_000])).await.is_ok() {
        sent += 10_000;
    }
    drop(wire);
    reads.open();
    eventually("the server has all", async || *took.lock().unwrap() >= sent).await;
}

#[tokio::test]
async fn messages_fragments_pings_and_close_codes_come_through_as_they_are() {
    let (scratch, port) = (Scratch::new(), free_port());
    let proxy = before(&[format!("127.0.0.1:{port}")]).start().await;
    let mut command = Command::new(venv().join("bin/python"));
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/websockets_check.py"))
        .arg(port.to_string())
        .arg(format!("ws://{}/", proxy.target().address()))
        .arg(format!("wss://{}/", proxy.https().address()))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut check = Process::start("websockets", &command, scratch.root());
    let status = check.exited(Duration::from_secs(60)).await;
    assert!(status.success(), "{}", check.stderr());
}

#[tokio::test]
async fn silence_closes_none_unless_tunnel_idle_says() {
    let worker = worker("x").await;
    let patient = before(&[worker.address()]).with("read_timeout = \"500ms\"").start().await;
    let strict = before(&[worker.address()]).route("tunnel_idle = \"500ms\"").start().await;
    for over in BOTH {
        let mut open = Socket::opened(&patient, over).await;
        let Ok(Socket::Http1(mut wire)) = Socket::open(&strict, Over::Http1).await else {
            panic!("no tunnel")
        };
        assert_eq!(wire.rest().await, b"");
        pass(ms(700)).await;
        open.assert_repeats("still there").await;
    }
}
