//! What hostile clients do to the proxy, while a bystander asks and waits no longer than before; memory stays bounded.

use std::{fs, future::Future, net::Ipv4Addr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::{net::TcpSocket, task::JoinHandle};

use crate::fixtures::{
    Backend, Builder, Bystander, Gate, Proxy, SOON, Scratch, SmallDisk, Target, Wire, answers, eventually,
    ms, noise, pass,
};

const MIB: u64 = 1024 * 1024;

/// Lets this process open as many files as it may: shells allow fewer at first.
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// A proxy before a worker and a folder, with what `[server]` says.
fn site(server: &str, app: &Backend, folder: &Scratch) -> Builder {
    limited("", server, app, folder)
}

/// The same, with limits of these names.
fn limited(limits: &str, server: &str, app: &Backend, folder: &Scratch) -> Builder {
    Proxy::toml(
        "[[site]]\nlimits = [@LIMITS@]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
         \"/files\" = { files = \"@FOLDER@\" }\n\"/answer\" = { answer = 200, body = \"here\" }\n\
         [upstream.app]\nservers = [\"@SERVER@\"]\n",
    )
    .server(server)
    .fill("LIMITS", limits)
    .fill("FOLDER", folder.root().display())
    .fill("SERVER", app.address())
}

/// A worker that answers as soon as it has a whole request.
async fn app() -> Backend {
    Backend::saying("ok").await
}

async fn wires(proxy: &Proxy, count: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for _ in 0..count {
        wires.push(proxy.wire().await);
    }
    wires
}

/// Connects from another address of loopback, as somebody else.
async fn wire_from(address: [u8; 4], proxy: &Proxy) -> Wire {
    let Target::Tcp(target) = proxy.target() else { panic!("needs TCP") };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(address), 0).into()).unwrap();
    Wire::on(socket.connect(target).await.unwrap())
}

async fn connections(proxy: &Proxy) -> u64 {
    proxy.status().await["listeners"][0]["connections"].as_u64().unwrap()
}

#[track_caller]
fn assert_grown_by_less_than(most: u64, proxy: &Proxy, before: u64) {
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < most * MIB, "{} MiB more than before", grown / MIB);
}

/// Does something again and again, with a pause, until it is dropped.
struct Repeated(JoinHandle<()>);

impl Repeated {
    fn every<F: Future<Output = ()> + Send>(
        pause: Duration,
        what: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self(tokio::spawn(async move {
            loop {
                what().await;
                pass(pause).await;
            }
        }))
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads() {
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = site("client_header_timeout = \"15s\"", &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let mut attackers = wires(&proxy, 1000).await;
    for wire in &mut attackers {
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    }
    let dribbling = tokio::spawn(async move {
        loop {
            let mut all_closed = true;
            for wire in &mut attackers {
                all_closed &= wire.try_send("x").await.is_err();
            }
            if all_closed {
                return;
            }
            pass(ms(500)).await;
        }
    });
    bystander.assert_unharmed().await;
    assert_grown_by_less_than(32, &proxy, before);
    crate::fixtures::within(2 * SOON, "all are given up, however they dribble", dribbling).await.unwrap();
    soon_eq!(connections(&proxy).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies() {
    let (app, scratch) = (app().await, Scratch::new());
    let server = "client_body_timeout = \"10s\"\nmin_rate = \"1k\"";
    let proxy = site(server, &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let mut attackers = wires(&proxy, 500).await;
    for wire in &mut attackers {
        wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx").await;
    }
    eventually("they are in progress", async || proxy.inflight().await == [500]).await;
    bystander.assert_unharmed().await;
    assert_grown_by_less_than(32, &proxy, before);
    for wire in &mut attackers {
        assert!(wire.closes(3 * SOON).await.is_some(), "who sends nothing is given up");
    }
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers() {
    let (app, scratch) = (app().await, Scratch::new());
    scratch.write("large", noise(16 << 20));
    let proxy = site("send_timeout = \"10s\"", &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let mut attackers = wires(&proxy, 500).await;
    for wire in &mut attackers {
        wire.send("GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        wire.read(1).await;
    }
    bystander.assert_unharmed().await;
    assert_grown_by_less_than(32, &proxy, before);
    // None of them has closed; each is given up all the same.
    eventually("all are given up", async || connections(&proxy).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_flood() {
    open_many_files();
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = site("", &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let attackers = wires(&proxy, 5000).await;
    soon_eq!(connections(&proxy).await, 5000);
    bystander.assert_unharmed().await;
    assert_grown_by_less_than(24, &proxy, before);
    drop(attackers);
    soon_eq!(connections(&proxy).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_where_each_may_have_so_many() {
    open_many_files();
    let (app, scratch) = (app().await, Scratch::new());
    let server = "max_connections = 1000\nmax_connections_per_address = 100";
    let mut proxy = site(server, &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let mut attackers = Vec::new();
    for _ in 0..3000 {
        attackers.push(wire_from([127, 0, 0, 2], &proxy).await);
    }
    // All places would be taken: nobody else could get in.
    soon_eq!(connections(&proxy).await, 100);
    bystander.assert_unharmed().await;
    let rejected = async |proxy: &Proxy| {
        proxy.metrics().await.sum("bowshock_rejected_connections_total", &["reason=\"address\""])
    };
    soon_eq!(rejected(&proxy).await, 2900.0);
    wire_from([127, 0, 0, 3], &proxy).await.send("GET / HTTP/1.0\r\n\r\n").await;

    // When one goes another may come.
    drop(attackers);
    soon_eq!(connections(&proxy).await, 0);
    let mut wire = wire_from([127, 0, 0, 2], &proxy).await;
    wire.send("GET /answer HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.answer().await.unwrap().expect(200);
    drop(wire);

    // A proxy in front, which the listener trusts, has as many as it likes; so has everybody once the limit is gone.
    proxy.reload(site(server, &app, &scratch).listener("trust = [\"127.0.0.2\"]")).await;
    for listener in ["trust = [\"127.0.0.2\"]", ""] {
        let server = if listener.is_empty() { "max_connections = 1000" } else { server };
        proxy.reload(site(server, &app, &scratch).listener(listener)).await;
        let mut attackers = Vec::new();
        for _ in 0..200 {
            attackers.push(wire_from([127, 0, 0, 2], &proxy).await);
        }
        soon_eq!(connections(&proxy).await, 200, "{listener}");
        drop(attackers);
        soon_eq!(connections(&proxy).await, 0, "{listener}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn range_bombs() {
    let (app, scratch) = (app().await, Scratch::new());
    scratch.write("large", noise(1 << 20));
    let proxy = site("", &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let bombs = [
        (0..4500).map(|at| format!("{}-{}", 2 * at, 2 * at)).collect::<Vec<_>>().join(","),
        vec!["0-"; 9000].join(","),
        (1..5000).map(|at| format!("-{at}")).collect::<Vec<_>>().join(","),
        vec!["0-99999999999999999999"; 1000].join(","),
    ];
    let target = proxy.target();
    let attack = Repeated::every(ms(5), move || {
        let (target, bombs) = (target.clone(), bombs.clone());
        async move {
            for bomb in bombs {
                let request = target.get("/files/large").header("range", &format!("bytes={bomb}"));
                let answer = request.await;
                assert!([200, 206, 416].contains(&answer.status), "{}", answer.status);
                assert!(answer.body.len() <= (1 << 20) + 65_536, "{} bytes for 1 MiB", answer.body.len());
            }
        }
    });
    bystander.assert_unharmed().await;
    assert!(!attack.0.is_finished(), "an answer was wrong");
    assert_grown_by_less_than(48, &proxy, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_bombs() {
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = site("", &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let bombs = [
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(10_000)),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(1 << 20)),
    ];
    let target = proxy.target();
    let attack = Repeated::every(ms(5), move || {
        let (target, bombs) = (target.clone(), bombs.clone());
        async move {
            for bomb in bombs {
                let mut wire = Wire::to(&target).await;
                // It need not be read to its end.
                let _ = wire.try_send(bomb).await;
                if let Some(answer) = wire.answer().await {
                    assert!([414, 431].contains(&answer.status), "{answer:?}");
                }
            }
        }
    });
    bystander.assert_unharmed().await;
    assert!(!attack.0.is_finished(), "an answer was wrong");
    assert_grown_by_less_than(32, &proxy, before);
    drop(attack);
    let heads = app.heads();
    assert!(heads.iter().all(|head| head.len() < 1000), "none of it came to the worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_requests_in_one_packet() {
    // So few that a debug build has time to spare: what is looked for is who has to wait, not for what.
    const EACH: usize = 500;
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = site("", &app, &scratch).start().await;
    let bystander = Bystander::of(proxy.target(), "/answer").await;
    let before = proxy.resident();
    let request = "GET /answer HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = proxy.wire().await;
    first.send(format!("{request}{}", request.replace("\r\nHost", "\r\nConnection: close\r\nHost"))).await;
    let length = first.read_until("here").await.len();
    drop(first);
    // On each of the proxy's threads.
    let attacks = [(); 4].map(|()| {
        let target = proxy.target();
        Repeated::every(ms(200), move || {
            let target = target.clone();
            async move {
                let mut wire = Wire::to(&target).await;
                wire.send(request.repeat(EACH)).await;
                let answers = wire.read(length * EACH).await;
                assert_eq!(answers.len(), length * EACH);
                assert!(answers.ends_with(b"here"));
            }
        })
    });
    bystander.assert_unharmed().await;
    assert!(attacks.iter().all(|attack| !attack.0.is_finished()), "each is answered");
    drop(attacks);
    // Those who do not read their answers are not read from either.
    let mut attackers = wires(&proxy, 50).await;
    for wire in &mut attackers {
        let _ = tokio::time::timeout(ms(50), wire.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(EACH)))
            .await;
    }
    bystander.assert_unharmed().await;
    assert_grown_by_less_than(32, &proxy, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_limit_keys() {
    let (app, scratch) = (app().await, Scratch::new());
    let limits = "[limit.keys]\nkey = \"header:x-api-key\"\nrate = \"1r/m\"\nburst = 10\nkeys = 1000\n\
                  [limit.all]\nkey = \"header:x-attack\"\nrate = \"1r/h\"\nburst = 5000";
    let proxy = limited("\"keys\", \"all\"", "", &app, &scratch).with(limits).start().await;
    let bystander = Bystander::of(proxy.target(), "/answer").await;
    let before = proxy.resident();
    let target = proxy.target();
    let attack = Repeated::every(ms(20), move || {
        let target = target.clone();
        async move {
            let mut wire = Wire::to(&target).await;
            let request = |_| {
                let key = fastrand::u64(..);
                format!("GET /answer HTTP/1.1\r\nHost: x\r\nX-Attack: 1\r\nX-API-Key: {key}\r\n\r\n")
            };
            wire.send((0..1000).map(request).collect::<String>()).await;
            for _ in 0..1000 {
                let answer = wire.answer().await.unwrap();
                assert!([200, 429].contains(&answer.status), "{answer:?}");
            }
        }
    });
    bystander.assert_unharmed().await;
    let refused = async || proxy.metrics().await.sum("bowshock_limited_requests_total", &["limit=\"all\""]);
    eventually("the attacker is refused", async || refused().await > 1000.0).await;
    assert!(!attack.0.is_finished(), "an answer was wrong");
    let keys = proxy.metrics().await.sum("bowshock_limit_keys", &["limit=\"keys\""]);
    assert!((900.0..=1000.0).contains(&keys), "{keys} keys");
    assert_grown_by_less_than(16, &proxy, before);
}

/// Seconds of processor time that the proxy has used.
fn processor_time(proxy: &mut Proxy) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.process().pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse().unwrap()).collect();
    (ticks[0] + ticks[1]) / rustix::param::clock_ticks_per_second() as f64
}

/// How many files the proxy may open from now on: so many more than it has.
fn files_left(proxy: &mut Proxy, more: u64) {
    let pid = proxy.process().pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + more), ..getrlimit(Resource::Nofile) };
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Nofile, limit).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_files_can_be_opened() {
    let (app, scratch) = (app().await, Scratch::new());
    let mut proxy = site("", &app, &scratch).start().await;
    let mut early = proxy.connect().await;
    let request = early.get("/");
    early.send(request).await.unwrap().expect(200);
    files_left(&mut proxy, 20);

    let attackers = wires(&proxy, 100).await;
    proxy.process().logged("cannot accept connections").await;
    let (request, used) = (early.get("/answer"), processor_time(&mut proxy));
    early.send(request).await.unwrap().expect(200);
    pass(ms(2000)).await;
    let used = processor_time(&mut proxy) - used;
    assert!(used < 0.5, "{used} s of processor time in 2 s of waiting");
    // Operators get in, as often as they like.
    for _ in 0..50 {
        proxy.admin().get("/health").await.expect(200);
    }
    soon_eq!(proxy.metrics().await.sum("bowshock_accept_pauses_total", &[]), 1.0);
    let told = proxy.process().stderr().matches("cannot accept connections").count();
    assert_eq!(told, 1, "ten times a second it would fill the disk");

    // A client that waits is served as soon as there is a file for it.
    let waiting = proxy.get("/answer").spawn();
    pass(ms(300)).await;
    assert!(!waiting.is_finished());
    drop(attackers);
    answers([waiting]).await;
    eventually("it is over", async || {
        proxy.post("/", "body").await.expect(200);
        proxy.process().stderr().contains("accepting connections again")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_files_leave_some_for_workers() {
    let (app, scratch) = (app().await, Scratch::new());
    let proxy = site("", &app, &scratch).open_files(256).start().await;
    let mut early = proxy.connect().await;
    let attackers = wires(&proxy, 300).await;
    soon_eq!(connections(&proxy).await, 192);
    // Those who are in are served, with connections and files of the proxy's own.
    scratch.write("file", "a file");
    for _ in 0..10 {
        for request in [proxy.post("/", "x"), proxy.get("/"), proxy.get("/files/file")] {
            early.send(request).await.unwrap().expect(200);
        }
    }
    assert_eq!(proxy.metrics().await.sum("bowshock_accept_pauses_total", &[]), 0.0);
    drop(attackers);
    proxy.get("/").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_short() {
    const BODY: usize = 200 * 1024;
    const FULL: u64 = 80;
    open_many_files();
    let gate = Gate::shut();
    let (app, scratch) = (Backend::behind(&gate, "ok").await, Scratch::new());
    // Bodies are kept for another try.
    let proxy = site(&format!("max_memory = \"{FULL}m\""), &app, &scratch).route("retry = { unsafe = true }");
    let mut proxy = proxy.start().await;
    let mut early = proxy.wire().await;
    early.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;

    let is_full = async |proxy: &Proxy| proxy.metrics().await.sum("bowshock_memory_full", &[]) > 0.0;
    let (mut held, body) = (Vec::new(), noise(BODY));
    while !is_full(&proxy).await {
        assert!(held.len() < 2000, "{} MiB are taken", proxy.resident() / MIB);
        held.extend((0..20).map(|_| proxy.post("/", body.clone()).spawn()));
        pass(ms(50)).await;
    }
    proxy.process().logged("new requests are refused").await;
    let most = proxy.resident();
    assert!(most < (FULL + 32) * MIB, "{} MiB", most / MIB);

    // As much again is refused, but for a few while memory does not grow.
    let mut refused = 0;
    for _ in 0..20 {
        let more: Vec<_> = (0..20).map(|_| proxy.post("/", body.clone()).spawn()).collect();
        pass(ms(50)).await;
        for request in more {
            if !request.is_finished() {
                held.push(request);
                continue;
            }
            let answer = crate::fixtures::outcome(request).await.expect(503);
            assert_eq!(answer.header("retry-after"), "5");
            refused += 1;
        }
    }
    assert!(refused > 300, "{refused} of 400");
    assert!(proxy.resident() < most + 24 * MIB, "{} MiB", proxy.resident() / MIB);
    let counted = proxy.metrics().await.sum("bowshock_refused_requests_total", &["reason=\"memory\""]);
    assert!(counted >= f64::from(refused), "{counted}");
    proxy.admin().get("/health").await.expect(200);

    // Those who were in come to their end, and then others get in again.
    let inside = proxy.inflight().await[0];
    gate.open();
    early.answer().await.unwrap().expect(200);
    let mut served = 1;
    for request in held {
        match crate::fixtures::outcome(request).await.status {
            200 => served += 1,
            status => assert_eq!(status, 503),
        }
    }
    assert!(served >= inside && inside > 50, "{served} of {inside}");
    // Whether or not the allocator gives back what was freed.
    let mut in_a_row = 0;
    eventually("all others get in", async || {
        for _ in 0..50 {
            in_a_row = if proxy.get("/").await.status == 200 { in_a_row + 1 } else { 0 };
        }
        in_a_row >= 100
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() {
    let app = app().await;
    let disk = SmallDisk::mount(2 << 20);
    let proxy = Proxy::to([app.address()]).route("buffer = \"disk\", max_body = \"none\"");
    let proxy = proxy.env("TMPDIR", disk.root().to_str().unwrap()).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let before = proxy.resident();
    let target = proxy.target();
    let body = noise(8 << 20);
    let _attackers = [(); 2].map(|()| {
        let (target, body) = (target.clone(), body.clone());
        Repeated::every(ms(20), move || {
            let request = target.request("POST", "/").body(body.clone());
            async move {
                request.await.expect(507);
            }
        })
    });
    bystander.assert_unharmed().await;
    // What was written is freed; the allocator keeps some of it for each of the threads that wrote.
    assert_grown_by_less_than(96, &proxy, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords() {
    let app = app().await;
    let scratch = Scratch::new();
    // 2^12 rounds of bcrypt: a quarter of a second for each.
    let hash = "$2y$12$MdgP7IZxlQFkArD/4VOb8.nJq1Ne9CdrmNvDJEYRYh1UWPRR456ue";
    let users: String = (0..100).map(|number| format!("user{number}:{hash}\n")).collect();
    let file = scratch.write("htpasswd", users);
    let text = "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\
                \"/closed\" = { proxy = \"app\", auth = { htpasswd = \"@FILE@\" } }\n\
                [upstream.app]\nservers = [\"@SERVER@\"]\n";
    let proxy = Proxy::toml(text).fill("FILE", file.display()).fill("SERVER", app.address()).start().await;
    let bystander = Bystander::of(proxy.target(), "/").await;
    let target = proxy.target();
    let _attackers = [(); 16].map(|()| {
        let target = target.clone();
        Repeated::every(ms(5), move || {
            let (user, password) = (fastrand::u32(..100), fastrand::u64(..));
            let login = STANDARD.encode(format!("user{user}:{password}"));
            let request = target.get("/closed").header("authorization", &format!("Basic {login}"));
            async move {
                let status = request.await.status;
                assert!([401, 503].contains(&status), "{status}");
            }
        })
    });
    bystander.assert_unharmed().await;
}
