//! Handshakes, and how connections end.

use std::process::Command;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{ADDRESS, listening, simple, site};
use crate::fixtures::{Authority, Backend, Proxy, SOON, Scratch, Target, Tls, Wire, run, within};

#[tokio::test]
async fn who_speaks_no_tls_is_told_so() {
    let simple = simple("", "").await;
    let plain = Target::Tcp(simple.target().address());
    let answer = plain.get("/").await.expect(400);
    assert!(answer.text().contains("https://"), "{}", answer.text());
    let mut wire = Wire::to(&plain).await;
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(wire.closes(SOON).await.is_some());
}

#[tokio::test]
async fn a_handshake_has_a_deadline_and_blocks_nobody() {
    let simple = simple("", "client_header_timeout = \"1s\"").await;
    let plain = Target::Tcp(simple.target().address());
    let mut silent = Wire::to(&plain).await;
    let mut half = Wire::to(&plain).await;
    half.send(b"\x16\x03\x01\x02\x00\x01\x00").await;
    simple.target().get("/").await.expect(200);
    assert!(silent.closes(SOON).await.is_some());
    assert!(half.closes(SOON).await.is_some());
    soon_eq!(simple.proxy.status().await["listeners"][1]["connections"], 0);
}

#[tokio::test]
async fn the_end_is_said() {
    let simple = simple("", "keepalive_timeout = \"300ms\"").await;
    let address = simple.target().address();
    let tls = Tls::asking("localhost", &simple.authority);
    for (end, request) in [
        ("asked for", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        ("idle", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("refused", "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
    ] {
        let mut stream = tls.connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        // Without close_notify this is an error.
        let read = within(SOON, "the end", stream.read_to_end(&mut all)).await;
        assert!(read.is_ok(), "{end}: {read:?}");
        assert!(all.starts_with(b"HTTP/1.1 "), "{end}");
    }
    let mut stream = tls.h2().connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let read = within(SOON, "the end", stream.read_to_end(&mut Vec::new())).await;
    assert!(read.is_ok(), "HTTP/2: {read:?}");
}

#[tokio::test]
async fn an_answer_that_is_cut_does_not_end_well() {
    let app = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\n\r\npart of it").await;
        wire.finish().await;
    })
    .await;
    let broken = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    })
    .await;
    for (app, is_whole) in [(app, true), (broken, false)] {
        let proxy = Proxy::to([app.address()]).secure().start().await;
        let answer = proxy.https().get("/").send().await;
        assert_eq!(answer.is_ok(), is_whole, "{answer:?}");
        // Of HTTP/1.0 the end of the connection is the end of the answer.
        let mut stream = Tls::anybody().connect(proxy.https().address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await.unwrap();
        let read = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(read.is_ok(), is_whole, "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_taken_up_again_but_not_where_more_is_asked() {
    let (authority, clients, scratch) =
        (Authority::new("authority"), Authority::new("clients"), Scratch::new());
    let ca = clients.write(&scratch, "clients");
    let open = authority.server(&["open.example"]).write(&scratch, "open");
    let strict = authority.server(&["strict.example"]).write(&scratch, "strict");
    let strict = format!("{strict}, client_ca = {ca:?}, client_verify = \"optional\"");
    let text = [site("open.example", &open, ""), site("strict.example", &strict, "")].concat();
    let mut proxy = Proxy::toml(&listening(&text)).start().await;
    let address = proxy.listener(ADDRESS).address().to_string();
    let session = scratch.path("session");
    let connect = |name: &str, version: &str, which: &str| {
        let script = format!(
            "(printf 'GET / HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | \
             timeout 10 openssl s_client -connect {address} -servername {name} {version} {which} {}",
            session.display()
        );
        let (_, said, error) = run(Command::new("sh").args(["-c", &script]));
        assert!(said.contains("HTTP/1.1 200 OK"), "{said}{error}");
        said.contains("Reused, TLSv1")
    };
    for version in ["-tls1_3", "-tls1_2"] {
        assert!(!connect("open.example", version, "-sess_out"));
        assert!(connect("open.example", version, "-sess_in"), "{version}");
        assert!(!connect("strict.example", version, "-sess_in"), "{version}: another trust");
        proxy.reload(Proxy::toml(&listening(&text))).await;
        assert!(connect("open.example", version, "-sess_in"), "{version}: tickets outlive a reload");
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer_to_the_end() {
    let simple = simple("", "").await;
    let tls = Tls::asking("localhost", &simple.authority);
    let stream = TcpStream::connect(simple.target().address()).await.unwrap();
    let mut stream = tls.shake(stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(SOON, "an answer", stream.read_to_end(&mut all)).await.unwrap();
    assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&all));
}
