//! What hostile clients do by TLS and HTTP/2, while a bystander asks and waits no longer than before; memory stays
//! bounded.

use std::{future::Future, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpStream, task::JoinSet};

use crate::fixtures::{
    Backend, Bystander, End, Frames, Proxy, SOON, Scratch, Target, Wire,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADER_TABLE_SIZE, HEADERS,
        INITIAL_WINDOW_SIZE, PING, PRIORITY, block, fields, frame, get, post, reset, settings,
    },
    ms, noise, pass,
};

const MIB: u64 = 1 << 20;

/// A proxy before a worker and a folder with a large file, and who asks it for something small by HTTP/1.1.
struct Scene {
    proxy: Proxy,
    _app: Backend,
    bystander: Bystander,
    before: u64,
    _scratch: Scratch,
}

async fn scene(server: &str) -> Scene {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let (app, scratch) = (Backend::saying("ok").await, Scratch::new());
    scratch.write("large", noise(10 << 20));
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\", max_body = \"none\" }\n\
         \"/files\" = { files = \"@FOLDER@\" }\n\"/answer\" = { answer = 200, body = \"here\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .fill("FOLDER", scratch.root().display())
    .fill("SERVER", app.address())
    .server(server)
    .secure()
    .start()
    .await;
    // What is allocated once.
    proxy.h2().get("/answer").await.expect(200);
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    Scene { proxy, _app: app, bystander, before, _scratch: scratch }
}

impl Scene {
    /// So many attackers, each of which does something again and again on connections of its own.
    fn attack<F: Future<Output = ()> + Send + 'static>(
        &self,
        count: usize,
        what: impl Fn(Target) -> F + Clone + Send + 'static,
    ) -> JoinSet<()> {
        let mut attackers = JoinSet::new();
        for _ in 0..count {
            let (target, what) = (self.proxy.h2(), what.clone());
            attackers.spawn(async move {
                loop {
                    what(target.clone()).await;
                    pass(ms(100)).await;
                }
            });
        }
        attackers
    }

    #[track_caller]
    fn assert_grown_by_less_than(&self, most: u64) {
        let grown = self.proxy.resident().saturating_sub(self.before);
        eprintln!("{} KiB more than before", grown >> 10);
        assert!(grown < most * MIB, "{} MiB more than before", grown / MIB);
    }

    /// Whoever attacks is gone, and nothing of it is left.
    async fn assert_over(&self) {
        soon_eq!(self.proxy.status().await["listeners"][1]["connections"], 0);
        soon_eq!(self.proxy.inflight().await, [0]);
        self.proxy.h2().get("/answer").await.expect(200);
    }
}

/// Sends until the server has had enough; how the connection ended.
async fn until_refused(client: &mut Frames, bytes: impl AsRef<[u8]>, times: usize) -> End {
    for _ in 0..times {
        if client.try_send(&bytes).await.is_err() {
            break;
        }
    }
    tokio::time::timeout(SOON, client.end()).await.unwrap_or(End::Closed)
}

fn is_refused(end: &End) -> bool {
    matches!(end, End::GoAway(ENHANCE_YOUR_CALM) | End::Closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets() {
    let scene = scene("").await;
    let attackers = scene.attack(5, |target| async move {
        let mut client = Frames::to(&target).await;
        let mut stream = 1;
        for _ in 0..100 {
            let mut bytes = Vec::new();
            for _ in 0..50 {
                bytes.extend(get(stream, "/"));
                bytes.extend(reset(stream));
                stream += 2;
            }
            if client.try_send(bytes).await.is_err() {
                break;
            }
        }
        let end = client.end().await;
        assert!(is_refused(&end), "{end:?}");
    });
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(24);
    drop(attackers);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end() {
    let scene = scene("").await;
    let attackers = scene.attack(5, |target| async move {
        let mut client = Frames::to(&target).await;
        client.send(frame(HEADERS, END_STREAM, 1, block(&fields("GET", "/")))).await;
        let more = frame(CONTINUATION, 0, 1, block(&[("x", &"y".repeat(10_000))]));
        let end = until_refused(&mut client, more, 1000).await;
        assert!(matches!(end, End::GoAway(_) | End::Closed), "{end:?}");
        let mut client = Frames::to(&target).await;
        client.send(frame(HEADERS, END_STREAM, 1, block(&fields("GET", "/")))).await;
        let end = until_refused(&mut client, frame(CONTINUATION, 0, 1, ""), 10_000).await;
        assert!(matches!(end, End::GoAway(_) | End::Closed), "{end:?}");
    });
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(24);
    drop(attackers);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_settings_and_frames_that_carry_nothing() {
    let scene = scene("").await;
    let attackers = scene.attack(2, |target| async move {
        for flood in [
            frame(PING, 0, 0, [0; 8]),
            settings(&[(INITIAL_WINDOW_SIZE, 1000)]),
            frame(DATA, 0, 1, ""),
            frame(PRIORITY, 0, 7, [0, 0, 0, 0, 1]),
            frame(0x42, 0, 0, "unknown"),
        ] {
            let mut client = Frames::to(&target).await;
            client.send(post(1, "/")).await;
            let end = until_refused(&mut client, flood.repeat(100), 100).await;
            assert!(is_refused(&end), "{flood:?}: {end:?}");
        }
    });
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(24);
    drop(attackers);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_unpack_to_much() {
    let scene = scene("").await;
    let attackers = scene.attack(3, |target| async move {
        // One field of four kilobytes is remembered, and then said again with one byte each.
        let mut client = Frames::with(&target, &[(HEADER_TABLE_SIZE, 4096)], 1 << 20).await;
        let mut large = block(&fields("GET", "/answer"));
        let value = "y".repeat(3900);
        large.extend([0x40, 1, b'x', 0x7f]);
        let mut rest = value.len() - 127;
        while rest >= 128 {
            large.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        large.push(u8::try_from(rest).unwrap());
        large.extend(value.as_bytes());
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, large)).await;
        for stream in (3..200).step_by(2) {
            let mut bomb = block(&fields("GET", "/answer"));
            bomb.extend([0xbe; 15_000]);
            if client.try_send(frame(HEADERS, END_HEADERS | END_STREAM, stream, bomb)).await.is_err() {
                break;
            }
        }
        // Each is 431, or the connection has ended.
        let end = client.end_of(3).await;
        assert!(end.status().is_none_or(|status| status == 431), "{end:?}");
    });
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(32);
    drop(attackers);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_with_tiny_windows() {
    let scene = scene("send_timeout = \"2s\"").await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Frames::with(&scene.proxy.h2(), &[(INITIAL_WINDOW_SIZE, 1)], 1 << 20).await;
        for number in 0..100 {
            client.send(get(2 * number + 1, "/files/large")).await;
        }
        clients.push(client);
    }
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(64);
    for client in &mut clients {
        assert!(matches!(client.end_of(1).await, End::Reset(_)), "send_timeout");
    }
    drop(clients);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_with_large_windows_that_read_nothing() {
    let scene = scene("send_timeout = \"3s\"").await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Frames::to(&scene.proxy.h2()).await;
        let requests = (0..100).flat_map(|number| get(2 * number + 1, "/files/large"));
        client.send(requests.collect::<Vec<u8>>()).await;
        clients.push(client);
    }
    scene.bystander.assert_unharmed().await;
    // A thousand answers that wait, each with what a stream may hold.
    scene.assert_grown_by_less_than(160);
    drop(clients);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_with_bodies_that_stop() {
    let scene = scene("client_body_timeout = \"2s\"").await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Frames::to(&scene.proxy.h2()).await;
        for number in 0..100 {
            client.send([post(2 * number + 1, "/"), frame(DATA, 0, 2 * number + 1, "x")].concat()).await;
        }
        clients.push(client);
    }
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(96);
    for client in &mut clients {
        assert_eq!(client.end_of(1).await.status(), Some(408));
    }
    drop(clients);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_left_half_open() {
    let scene = scene("client_header_timeout = \"3s\"").await;
    let Target::Tls(address, _) = scene.proxy.h2() else { panic!("TLS") };
    let mut wires = Vec::new();
    for number in 0..1000 {
        let mut wire = Wire::on(TcpStream::connect(address).await.unwrap());
        if number % 2 == 0 {
            wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
        }
        wires.push(wire);
    }
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(32);
    soon_eq!(scene.proxy.status().await["listeners"][1]["connections"], 0, "each has its deadline");
    drop(wires);
    scene.assert_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_after_their_handshake() {
    let scene = scene("client_header_timeout = \"3s\"").await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(Frames::silent(&scene.proxy.h2()).await);
    }
    scene.bystander.assert_unharmed().await;
    scene.assert_grown_by_less_than(32);
    for client in &mut clients {
        assert!(client.closes(Duration::from_secs(10)).await.is_some());
    }
    scene.assert_over().await;
}
