//! The PROXY header: who has connected to a balancer in front, told by it before anything else (the PROXY protocol,
//! versions 1 and 2).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Facts about a client's connection to a load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Address of the client.
    pub(crate) client: SocketAddr,
    /// The port of its own that was connected to.
    pub(crate) port: Option<u16>,
}

/// A client of which the balancer knows nothing: it is nobody who is trusted.
const UNKNOWN: Announced =
    Announced { client: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), port: None };

/// Signature of version 2; version 1 begins with a word.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Most bytes of a header of version 1, line end included.
const MOST_TEXT: usize = 107;

/// Most bytes that follow the fixed part of version 2: addresses, and what the balancer says beside them.
const MOST_BINARY: usize = 4096;

/// Reads a header, and not one byte more; what it tells, `None` where the balancer speaks for itself.
///
/// # Errors
///
/// What is no such header, or the end of the connection.
pub(crate) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Announced>> {
    let mut start = [0; 12];
    socket.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        let mut fixed = [0; 4];
        socket.read_exact(&mut fixed).await?;
        let [command, family, high, low] = fixed;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MOST_BINARY {
            return Err(malformed("its PROXY header is too long"));
        }
        let mut rest = vec![0; length];
        socket.read_exact(&mut rest).await?;
        return binary(command, family, &rest);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed("it sends no PROXY header"));
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MOST_TEXT {
            return Err(malformed("its PROXY header does not end"));
        }
        line.push(socket.read_u8().await?);
    }
    text(&line[..line.len() - 2])
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`.
fn text(line: &[u8]) -> io::Result<Option<Announced>> {
    let line = std::str::from_utf8(line).map_err(|_| malformed("its PROXY header is not text"))?;
    // What follows UNKNOWN is not looked at, but a line feed would be the end of the header for somebody else.
    if line.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(malformed("its PROXY header has ends of lines within"));
    }
    let words: Vec<&str> = line.split(' ').collect();
    let v4 = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let v6 = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let (source, destination, ports) = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Ok(Some(UNKNOWN)),
        ["PROXY", "TCP4", source, destination, from, to] => (v4(source), v4(destination), [from, to]),
        ["PROXY", "TCP6", source, destination, from, to] => (v6(source), v6(destination), [from, to]),
        _ => return Err(malformed("its PROXY header has not the words that it should")),
    };
    let [from, to] = ports.map(port);
    match (source, destination, from, to) {
        (Some(source), Some(_), Some(from), Some(to)) => {
            Ok(Some(Announced { client: SocketAddr::new(source, from), port: Some(to) }))
        }
        _ => Err(malformed("its PROXY header has no address where there should be one")),
    }
}

/// Decimal, without a sign and without zeros before it.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Version 2, past its signature.
fn binary(command: u8, family: u8, rest: &[u8]) -> io::Result<Option<Announced>> {
    let short = || malformed("its PROXY header is shorter than its addresses");
    match command {
        // A health check of the balancer's own.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(malformed("its PROXY header is of an unknown version")),
    }
    match family {
        0x11 | 0x12 => {
            let [a, b, c, d, _, _, _, _, ports @ ..] = *rest.first_chunk::<12>().ok_or_else(short)?;
            Ok(Some(between(Ipv4Addr::new(a, b, c, d).into(), ports)))
        }
        0x21 | 0x22 => {
            let source: [u8; 16] = *rest.first_chunk().ok_or_else(short)?;
            let ports = rest.get(32..36).and_then(|ports| ports.first_chunk()).ok_or_else(short)?;
            Ok(Some(between(Ipv6Addr::from(source).into(), *ports)))
        }
        // Or a unix socket: it has no address that would mean something here.
        0x00 | 0x31 | 0x32 => Ok(Some(UNKNOWN)),
        _ => Err(malformed("its PROXY header is of an unknown family of addresses")),
    }
}

/// Header of version 2 for a client with this address and both ports.
fn between(source: IpAddr, [a, b, c, d]: [u8; 4]) -> Announced {
    let client = SocketAddr::new(source, u16::from_be_bytes([a, b]));
    Announced { client, port: Some(u16::from_be_bytes([c, d])) }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> io::Result<(Option<Announced>, usize)> {
        let mut rest = bytes;
        let address = read(&mut rest).await?;
        Ok((address, rest.len()))
    }

    /// A client that has connected to port 443 of the balancer.
    fn told(client: &str) -> Option<Announced> {
        Some(Announced { client: client.parse().unwrap(), port: Some(443) })
    }

    #[tokio::test]
    async fn a_header_is_read_and_not_one_byte_more() {
        let text = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /";
        assert_eq!(read_all(text).await.unwrap(), (told("192.0.2.1:56324"), 5));
        let text = b"PROXY TCP6 2001:db8::1 ::1 1 443\r\n";
        assert_eq!(read_all(text).await.unwrap(), (told("[2001:db8::1]:1"), 0));
        assert_eq!(read_all(b"PROXY UNKNOWN\r\n\r\n").await.unwrap(), (Some(UNKNOWN), 2));
        let v4 = [SIGNATURE, &b"\x21\x11\0\x0e"[..], &[192, 0, 2, 1, 1, 2, 3, 4, 0, 80, 1, 187], b"xxGET"]
            .concat();
        assert_eq!(read_all(&v4).await.unwrap(), (told("192.0.2.1:80"), 3));
        let v6 = [SIGNATURE, &b"\x21\x21\0\x24"[..], &[0; 15], &[1], &[2; 16], &[0, 81, 1, 187]].concat();
        assert_eq!(read_all(&v6).await.unwrap(), (told("[::1]:81"), 0));
        let local = [SIGNATURE, &b"\x20\0\0\0"[..]].concat();
        assert_eq!(read_all(&local).await.unwrap(), (None, 0));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = format!("PROXY TCP4 192.0.2.1 198.51.100.1 1 443 {}\r\n", "x".repeat(100));
        for text in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 ::1 198.51.100.1 56324 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 056 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +56 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
            b"PROXY TCP5 192.0.2.1 198.51.100.1 1 443\r\n",
            b"PROXY TCP4 192.0.2.1 198.51",
            b"PROXY UNKNOWN a\nb\r\n",
            b"PROXY UNKNOWN a\rb\r\n",
            long.as_bytes(),
            &[SIGNATURE, &b"\x31\x11\0\0"[..]].concat(),
            &[SIGNATURE, &b"\x21\x11\0\x04\x01\x02\x03\x04"[..]].concat(),
            &[SIGNATURE, &b"\x21\x11\xff\xff"[..]].concat(),
            &[SIGNATURE, &b"\x21\x41\0\0"[..]].concat(),
        ] {
            assert!(read_all(text).await.is_err(), "{}", String::from_utf8_lossy(text));
        }
    }
}
