//! The uwsgi protocol: a request is a packet of variables and a body, a response is HTTP or CGI.
//!
//! The packet is made of the head that an HTTP server would get, so that all that prepares heads need not know.

use bytes::{BufMut, BytesMut};
use percent_encoding::percent_decode;

use crate::{
    message::{MalformedHead, ResponseHead, text},
    route::normalize_bytes,
};

/// First letters of the variables of headers.
const HEADER: &[u8] = b"HTTP_";

/// The variables take more than the 64 KiB that a packet may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head takes more than the 64 KiB of a uwsgi packet")]
pub(crate) struct PacketTooLarge;

/// Makes the packet of a request from its HTTP head; `params` are further variables, which replace others.
pub(crate) fn packet(head: &[u8], params: &[(String, Vec<u8>)]) -> Result<BytesMut, PacketTooLarge> {
    // The request line is read by hand: a target may have bytes that a URI may not. What was written here has all parts.
    let line = memchr::memmem::find(head, b"\r\n").ok_or(PacketTooLarge)?;
    let mut words = head[..line].split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut fields = vec![httparse::EMPTY_HEADER; head.iter().filter(|byte| **byte == b'\n').count()];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&head[line + 2..], &mut fields)
    else {
        return Err(PacketTooLarge);
    };
    let mut variables = Variables { out: BytesMut::with_capacity(head.len() * 2), params };
    // Size and modifiers of the packet come first.
    variables.out.put_bytes(0, 4);
    let query_at = memchr::memchr(b'?', target);
    let path = &target[..query_at.unwrap_or(target.len())];
    let field = |name: &str| {
        let found = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value).unwrap_or_default()
    };
    let scheme = if field("x-forwarded-proto") == b"https" { &b"https"[..] } else { b"http" };
    let host = field("host");
    let name = &host[..host.iter().rposition(|byte| *byte == b':').unwrap_or(host.len())];
    variables.add("QUERY_STRING", query_at.map_or(&b""[..], |at| &target[at + 1..]));
    variables.add("REQUEST_METHOD", method);
    variables.add("CONTENT_TYPE", field("content-type"));
    variables.add("CONTENT_LENGTH", field("content-length"));
    variables.add("REQUEST_URI", target);
    variables.add("PATH_INFO", &normalize_bytes(path).unwrap_or_else(|_| percent_decode(path).into()));
    variables.add("SERVER_PROTOCOL", b"HTTP/1.1");
    variables.add("REQUEST_SCHEME", scheme);
    variables.add("UWSGI_SCHEME", scheme);
    if scheme == b"https" {
        variables.add("HTTPS", b"on");
    }
    variables.add("REMOTE_ADDR", field("x-real-ip"));
    variables.add("REMOTE_PORT", b"0");
    variables.add("SERVER_PORT", field("x-forwarded-port"));
    variables.add("SERVER_NAME", name);
    for (place, header) in fields.iter().enumerate() {
        if is_passed(header.name) && !fields[..place].iter().any(|other| is_same(other.name, header.name)) {
            let others =
                fields[place + 1..].iter().filter(|other| other.name.eq_ignore_ascii_case(header.name));
            variables.add_header(header.name, header.value, others.map(|other| other.value));
        }
    }
    for (name, value) in params {
        variables.put(name, value);
    }
    let mut out = variables.out;
    let size = u16::try_from(out.len() - 4).map_err(|_| PacketTooLarge)?;
    out[1..3].copy_from_slice(&size.to_le_bytes());
    Ok(out)
}

/// Whether a header becomes a variable. Those of the connection, of the body and of its sending do not.
fn is_passed(name: &str) -> bool {
    let own = [
        "content-type",
        "content-length",
        "connection",
        "transfer-encoding",
        "keep-alive",
        "te",
        "upgrade",
        "expect",
    ];
    !own.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Whether two names become one variable.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().map(variable_letter).eq(other.bytes().map(variable_letter))
}

fn variable_letter(letter: u8) -> u8 {
    if letter == b'-' { b'_' } else { letter.to_ascii_uppercase() }
}

/// Length of a part; a longer one makes the packet too large in any case.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

struct Variables<'p> {
    out: BytesMut,
    params: &'p [(String, Vec<u8>)],
}

impl Variables<'_> {
    /// Adds a variable that the configuration does not replace.
    fn add(&mut self, name: &str, value: &[u8]) {
        if !self.params.iter().any(|(replaced, _)| replaced == name) {
            self.put(name, value);
        }
    }

    /// Adds the variable of a header, whose lines are joined, unless the configuration replaces it.
    fn add_header<'h>(&mut self, name: &str, first: &[u8], others: impl Iterator<Item = &'h [u8]>) {
        let start = self.out.len();
        self.put_length(HEADER.len() + name.len());
        self.out.put_slice(HEADER);
        self.out.extend(name.bytes().map(variable_letter));
        let variable = &self.out[start + 2..];
        if self.params.iter().any(|(replaced, _)| replaced.as_bytes() == variable) {
            return self.out.truncate(start);
        }
        let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
        let length_at = self.out.len();
        self.put_length(0);
        self.out.put_slice(first);
        for other in others {
            self.out.put_slice(separator);
            self.out.put_slice(other);
        }
        let length = length(self.out.len() - length_at - 2);
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_le_bytes());
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.put_length(part.len());
            self.out.put_slice(part);
        }
    }

    fn put_length(&mut self, bytes: usize) {
        self.out.put_u16_le(length(bytes));
    }
}

/// Reads the head of a response: that of HTTP, or fields with the status among them, as CGI has it (RFC 3875 §6.3.3).
pub(crate) fn read_head(bytes: &[u8], most: usize) -> Result<Option<(ResponseHead, usize)>, MalformedHead> {
    let is_http = bytes.iter().zip(b"HTTP/").all(|(one, other)| one == other);
    if is_http {
        return ResponseHead::read(bytes, most);
    }
    let Some(length) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        // The limit of a head is told by its reader.
        return if bytes.len() < most { Ok(None) } else { ResponseHead::read(bytes, most) };
    };
    let head = &bytes[..length - 2];
    let (mut status, mut rest) = (&b"200 OK"[..], Vec::with_capacity(length));
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        match line.get(..7) {
            Some(name) if name.eq_ignore_ascii_case(b"status:") => status = line[7..].trim_ascii(),
            _ => rest.extend_from_slice(line),
        }
    }
    let status = text(status).unwrap_or_default();
    let whole = [b"HTTP/1.1 ", status.as_bytes(), b"\r\n", &rest, b"\r\n"].concat();
    let read = ResponseHead::read(&whole, most + "HTTP/1.1 ".len())?;
    Ok(read.map(|(head, _)| (head, length)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn variables(packet: &[u8]) -> HashMap<String, String> {
        assert_eq!((packet[0], packet[3]), (0, 0));
        assert_eq!(usize::from(u16::from_le_bytes([packet[1], packet[2]])), packet.len() - 4);
        let (mut rest, mut found) = (&packet[4..], HashMap::new());
        let mut take = || {
            let length = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
            let part = String::from_utf8_lossy(&rest[2..2 + length]).into_owned();
            rest = &rest[2 + length..];
            (part, rest.is_empty())
        };
        loop {
            let (name, _) = take();
            let (value, is_last) = take();
            assert_eq!(found.insert(name, value), None);
            if is_last {
                return found;
            }
        }
    }

    #[test]
    fn a_head_becomes_variables() {
        let head = b"POST /a%2Fb%20c?d=e HTTP/1.1\r\nHost: g.example.org:8443\r\nContent-Length: 3\r\nContent-Type: text/x\r\n\
                     X-Forwarded-Proto: https\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Port: 8443\r\nCookie: a=1\r\nCookie: b=2\r\n\
                     X-One: 1\r\nX_One: evil\r\nX-One: 2\r\nConnection: close\r\n\r\n";
        let found = variables(&packet(head, &[("SCRIPT_NAME".into(), b"/galaxy".to_vec())]).unwrap());
        for (name, value) in [
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/a%2Fb%20c?d=e"),
            ("PATH_INFO", "/a/b c"),
            ("QUERY_STRING", "d=e"),
            ("CONTENT_LENGTH", "3"),
            ("CONTENT_TYPE", "text/x"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("UWSGI_SCHEME", "https"),
            ("HTTPS", "on"),
            ("REMOTE_ADDR", "192.0.2.1"),
            ("SERVER_NAME", "g.example.org"),
            ("SERVER_PORT", "8443"),
            ("HTTP_HOST", "g.example.org:8443"),
            ("HTTP_COOKIE", "a=1; b=2"),
            ("HTTP_X_ONE", "1, 2"),
            ("SCRIPT_NAME", "/galaxy"),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!found.contains_key("HTTP_CONTENT_LENGTH") && !found.contains_key("HTTP_CONNECTION"));
    }

    #[test]
    fn the_path_is_decoded_and_resolved_as_in_nginx() {
        for (target, path) in [
            (&b"/a//b/./c/../d%20e"[..], &b"/a/b/d e"[..]),
            (b"/a/..%2fb?/../c", b"/b"),
            (b"/a/.", b"/a/"),
            (b"/\xe9%e8", b"/\xe9\xe8"),
            (b"*", b"*"),
        ] {
            let head = [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
            let packet = packet(&head, &[]).unwrap();
            let name = memchr::memmem::find(&packet, b"PATH_INFO").unwrap();
            let value = &packet[name + "PATH_INFO".len()..];
            assert_eq!(&value[2..2 + usize::from(value[0])], path, "{}", target.escape_ascii());
        }
    }

    #[test]
    fn a_packet_has_64_kib() {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
        assert_eq!(packet(head.as_bytes(), &[]), Err(PacketTooLarge));
    }

    #[test]
    fn responses_have_a_status_line_or_a_status() {
        for (bytes, status) in [
            (&b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nx"[..], 404),
            (b"HTTP/1.0 200 OK\r\n\r\n", 200),
            (b"Status: 302 Found\r\nLocation: /x\r\n\r\n", 302),
            (b"Content-Type: text/plain\r\nstatus: 500 Oops\r\n\r\n", 500),
            (b"Content-Type: text/plain\r\n\r\n", 200),
        ] {
            let (head, length) = read_head(bytes, 1024).unwrap().unwrap();
            assert_eq!(head.status.as_u16(), status);
            assert!(bytes[..length].ends_with(b"\r\n\r\n"));
        }
        assert!(read_head(b"HT", 1024).unwrap().is_none());
        assert!(read_head(b"Status: 200", 1024).unwrap().is_none());
        assert!(read_head(b"Status: nonsense\r\n\r\n", 1024).is_err());
        assert!(read_head(&[b'x'; 2000], 1024).is_err());
    }
}
