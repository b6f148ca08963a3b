//! Clients that are given up leave nothing behind, not even in the kernel.

use std::{fs, net::SocketAddr};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::fixtures::{
    Builder, Proxy, SOON, Scratch, Tls, Wire, eventually,
    frames::{INITIAL_WINDOW_SIZE, PREFACE, get, settings, window},
    ms, pass,
};

const REQUEST: &str = "GET /f/large HTTP/1.1\r\nHost: x\r\n\r\n";

/// A site with a file that no buffer of the kernel holds, and one that every buffer does.
fn site(scratch: &Scratch, server: &str) -> Builder {
    fs::create_dir_all(scratch.path("files")).unwrap();
    fs::File::create(scratch.path("files/large")).unwrap().set_len(32 << 20).unwrap();
    scratch.write("files/small", "x".repeat(100_000));
    let routes = "[[site]]\n[site.routes]\n\"/f\" = { files = \"@ROOT@\" }\n";
    Proxy::toml(routes).fill("ROOT", scratch.path("files").display()).server(server)
}

/// A connection whose client has room for little.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

/// Connections of this port that wait in the kernel for a client to take their last bytes.
fn waiting(port: u16) -> usize {
    const FIN_WAIT_1: &str = "04";
    let of_port = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[1].ends_with(&of_port) && fields[3] == FIN_WAIT_1).count()
}

async fn connections(proxy: &Proxy) -> u64 {
    let status = proxy.status().await;
    let listeners = status["listeners"].as_array().unwrap().iter();
    listeners.map(|listener| listener["connections"].as_u64().unwrap()).sum()
}

/// What a client of HTTP/2 sends that takes everything and never reads.
fn greedy() -> Vec<u8> {
    let most = (1 << 31) - 1 - 65_535;
    [PREFACE, &settings(&[(INITIAL_WINDOW_SIZE, 1 << 30)]), &window(0, most), &get(1, "/f/large")].concat()
}

#[tokio::test]
async fn three_hundred_clients_that_never_read_leave_nothing() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let scratch = Scratch::new();
    let proxy = site(&scratch, "send_timeout = \"2s\"\nkeepalive_timeout = \"60s\"").secure().start().await;
    let (plain, secure) = (proxy.target().address(), proxy.https().address());
    let mut clients = Vec::new();
    for number in 0..300 {
        let mut wire = match number % 10 {
            0..8 => Wire::on(narrow(plain).await),
            8 => Wire::on(Tls::anybody().shake(narrow(secure).await).await.unwrap()),
            _ => Wire::on(Tls::anybody().h2().shake(narrow(secure).await).await.unwrap()),
        };
        if number % 10 == 9 {
            wire.send(greedy()).await;
        } else {
            wire.send(REQUEST).await;
        }
        clients.push(wire);
    }
    // Long before an HTTP/2 connection would be idle for too long.
    eventually("they are given up", async || connections(&proxy).await == 0).await;
    assert_eq!([waiting(plain.port()), waiting(secure.port())], [0, 0]);
    drop(clients);
}

#[tokio::test]
async fn too_slow_a_client_is_reset_too() {
    // Half a minute: so long a client may be slow.
    const LONG_ENOUGH: u32 = 900;
    let scratch = Scratch::new();
    let proxy = site(&scratch, "min_rate = \"10m\"").start().await;
    let address = proxy.target().address();
    let mut wire = Wire::on(narrow(address).await);
    wire.send(REQUEST).await;
    let mut looks = 0;
    while connections(&proxy).await > 0 {
        looks += 1;
        assert!(looks < LONG_ENOUGH, "it is not given up");
        wire.read(20_000).await;
        pass(ms(100)).await;
    }
    assert_eq!(waiting(address.port()), 0);
}

#[tokio::test]
async fn an_http2_client_that_never_reads_is_given_up_though_its_windows_are_small() {
    let scratch = Scratch::new();
    let proxy = site(&scratch, "send_timeout = \"1s\"\nkeepalive_timeout = \"60s\"").secure().start().await;
    let mut wire = Wire::to(&proxy.h2()).await;
    wire.send([PREFACE, &settings(&[]), &get(1, "/f/large")].concat()).await;
    soon_eq!(connections(&proxy).await, 1);
    eventually("it is given up", async || connections(&proxy).await == 0).await;
}

/// What the buffer of TLS still takes is nothing that the client has taken.
#[tokio::test]
async fn an_http2_client_that_never_reads_is_given_up_after_one_send_timeout() {
    let scratch = Scratch::new();
    let proxy = site(&scratch, "send_timeout = \"8s\"\nkeepalive_timeout = \"60s\"").secure().start().await;
    let client = narrow(proxy.https().address()).await;
    let mut wire = Wire::on(Tls::anybody().h2().shake(client).await.unwrap());
    wire.send(greedy()).await;
    soon_eq!(connections(&proxy).await, 1);
    // `eventually` gives up before a second one would end.
    assert!(SOON < 2 * ms(8000));
    eventually("it is given up", async || connections(&proxy).await == 0).await;
}

#[tokio::test]
async fn what_grace_cuts_off_does_not_stay() {
    let scratch = Scratch::new();
    let mut proxy = site(&scratch, "grace = \"1s\"").secure().start().await;
    let (plain, secure) = (proxy.target().address(), proxy.https().address());
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut wire = Wire::on(narrow(plain).await);
        wire.send(REQUEST).await;
        clients.push(wire);
        let mut wire = Wire::on(Tls::anybody().h2().shake(narrow(secure).await).await.unwrap());
        wire.send(greedy()).await;
        clients.push(wire);
    }
    soon_eq!(connections(&proxy).await, 20);
    pass(ms(500)).await;
    proxy.signal(Signal::TERM);
    proxy.process().exited(SOON).await;
    soon_eq!([waiting(plain.port()), waiting(secure.port())], [0, 0]);
    drop(clients);
}

#[tokio::test]
async fn a_client_that_reads_late_gets_all_that_was_sent() {
    let scratch = Scratch::new();
    let proxy = site(&scratch, "send_timeout = \"500ms\"").start().await;
    let mut wire = Wire::on(narrow(proxy.target().address()).await);
    wire.send("GET /f/small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    soon_eq!(connections(&proxy).await, 0);
    pass(ms(1500)).await;
    assert_eq!(wire.answer().await.expect("an answer").expect(200).body.len(), 100_000);
}
