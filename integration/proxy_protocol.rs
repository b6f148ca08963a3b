//! The PROXY header: who has connected, told by a balancer in front.

use crate::fixtures::{
    Backend, Proxy, SOON, Tls, Wire,
    frames::{PREFACE, get, settings},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

/// Version 2, with this command, family and rest.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

fn v2_of(address: [u8; 4]) -> Vec<u8> {
    v2(0x21, 0x11, &[&address[..], &[198, 51, 100, 1, 220, 4, 1, 187]].concat())
}

async fn start(app: &Backend, trust: &str) -> Proxy {
    let lines = format!("proxy_protocol = true\ntrust = [{trust:?}]");
    Proxy::to([app.address()]).listener(&lines).secure_with(&lines).start().await
}

/// The address that the worker was told of.
fn told(app: &Backend) -> String {
    let head = app.heads().pop().expect("a request").to_ascii_lowercase();
    let line = head.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
    line.expect("X-Forwarded-For").to_owned()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn whoever_it_names_is_the_client() {
    let app = Backend::saying("ok").await;
    let proxy = start(&app, "127.0.0.0/8").await;
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[1, 2, 3, 4]].concat();
    let with_more = [&[192, 0, 2, 9, 198, 51, 100, 1, 220, 4, 1, 187][..], b"\x02\x00\x03abc"].concat();
    for (header, expected) in [
        (V1.to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 443\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "0.0.0.0"),
        (b"PROXY UNKNOWN ff:: ::1 1 2\r\n".to_vec(), "0.0.0.0"),
        (v2_of([192, 0, 2, 8]), "192.0.2.8"),
        (v2(0x21, 0x11, &with_more), "192.0.2.9"),
        (v2(0x21, 0x21, &v6), "2001:db8::1"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
        (v2(0x21, 0, &[]), "0.0.0.0"),
    ] {
        let name = String::from_utf8_lossy(&header).into_owned();
        // At once, and byte by byte.
        let mut wire = proxy.wire().await;
        wire.send([&header[..], REQUEST].concat()).await;
        wire.answer().await.unwrap_or_else(|| panic!("{name:?}")).expect(200);
        assert_eq!(told(&app), expected, "{name:?}");
        let mut wire = proxy.wire().await;
        for byte in header {
            wire.send([byte]).await;
        }
        wire.send(REQUEST).await;
        wire.answer().await.unwrap().expect(200);
        assert_eq!(told(&app), expected, "{name:?} byte by byte");
        wire.send(REQUEST).await;
        wire.answer().await.unwrap().expect(200);
        assert_eq!(told(&app), expected, "{name:?} holds for the whole connection");
    }
}

#[tokio::test]
async fn whoever_is_not_trusted_is_refused() {
    let app = Backend::saying("ok").await;
    let proxy = start(&app, "10.0.0.0/8").await;
    for bytes in [[V1, REQUEST].concat(), REQUEST.to_vec()] {
        let mut wire = proxy.wire().await;
        // It may be closed before all is sent.
        let _ = wire.try_send(bytes).await;
        assert_eq!(wire.rest().await, b"");
    }
    assert!(app.heads().is_empty());
}

#[tokio::test]
async fn without_a_header_nothing_is_served() {
    let app = Backend::saying("ok").await;
    let proxy = start(&app, "127.0.0.0/8").await;
    for bytes in [
        REQUEST.to_vec(),
        [b"PROXY TCP4 1.2.3.4\r\n", REQUEST].concat(),
        [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n", REQUEST].concat(),
        [&v2(0x22, 0x11, &[0; 12])[..], REQUEST].concat(),
        [&v2(0x21, 0x11, &[0; 4])[..], REQUEST].concat(),
        [&v2(0x31, 0x11, &[0; 12])[..], REQUEST].concat(),
        vec![b'P'; 200],
    ] {
        let mut wire = proxy.wire().await;
        let _ = wire.try_send(&bytes).await;
        assert_eq!(wire.rest().await, b"", "{:?}", String::from_utf8_lossy(&bytes));
    }
    // The second header of a connection is a request, and a bad one.
    let mut wire = proxy.wire().await;
    wire.send([V1, V1, REQUEST].concat()).await;
    wire.answer().await.unwrap().expect(400);
    assert!(app.heads().is_empty());
}

#[tokio::test]
async fn the_port_is_that_of_the_balancer() {
    let app = Backend::saying("ok").await;
    let proxy = start(&app, "127.0.0.0/8").await;
    for (header, port) in [
        (V1.to_vec(), "443"),
        (b"PROXY TCP6 2001:db8::1 ::1 1 8443\r\n".to_vec(), "8443"),
        (v2_of([192, 0, 2, 8]), "443"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "80"),
    ] {
        let mut wire = proxy.wire().await;
        wire.send([&header[..], REQUEST].concat()).await;
        wire.answer().await.unwrap().expect(200);
        let head = app.heads().pop().unwrap().to_ascii_lowercase();
        assert!(head.contains(&format!("x-forwarded-port: {port}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_header_that_does_not_come_has_a_deadline() {
    let app = Backend::saying("ok").await;
    let lines = "proxy_protocol = true\ntrust = [\"127.0.0.1\"]";
    let proxy = Proxy::to([app.address()]).listener(lines).server("client_header_timeout = \"500ms\"");
    let proxy = proxy.start().await;
    for bytes in [&b""[..], b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21"] {
        let mut wire = proxy.wire().await;
        wire.send(bytes).await;
        assert!(wire.closes(SOON).await.is_some());
    }
    soon_eq!(proxy.status().await["listeners"][0]["connections"], 0);
}

#[tokio::test]
async fn tls_comes_behind_it() {
    let app = Backend::saying("ok").await;
    let proxy = start(&app, "127.0.0.0/8").await;
    let address = proxy.https().address();
    for header in [V1.to_vec(), v2_of([192, 0, 2, 7])] {
        let connect = async |tls: Tls| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&header).await.unwrap();
            tls.shake(stream).await.unwrap()
        };
        let mut wire = Wire::on(connect(Tls::anybody()).await);
        wire.send(REQUEST).await;
        wire.answer().await.unwrap().expect(200);
        assert_eq!(told(&app), "192.0.2.7");
        let mut wire = Wire::on(connect(Tls::anybody().h2()).await);
        let count = app.heads().len();
        wire.send([PREFACE, &settings(&[]), &get(1, "/")].concat()).await;
        eventually_asked(&app, count + 1).await;
        assert_eq!(told(&app), "192.0.2.7");
    }
    assert!(Tls::anybody().connect(address).await.is_err(), "TLS without a header");
}

async fn eventually_asked(app: &Backend, count: usize) {
    soon_eq!(app.heads().len(), count);
}

#[tokio::test]
async fn addresses_that_it_names_are_counted() {
    let app = Backend::saying("ok").await;
    let lines = "proxy_protocol = true\ntrust = [\"127.0.0.1\"]";
    let proxy = Proxy::to([app.address()]).listener(lines).server("max_connections_per_address = 2");
    let proxy = proxy.start().await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut wire = proxy.wire().await;
        wire.send([V1, REQUEST].concat()).await;
        wire.answer().await.unwrap().expect(200);
        open.push(wire);
    }
    let mut third = proxy.wire().await;
    let _ = third.try_send([V1, REQUEST].concat()).await;
    assert_eq!(third.rest().await, b"");
    let mut other = proxy.wire().await;
    other.send([&v2_of([192, 0, 2, 8])[..], REQUEST].concat()).await;
    other.answer().await.unwrap().expect(200);
}
