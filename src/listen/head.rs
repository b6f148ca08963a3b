//! The head of a request: complete, bounded, and readable in one way only.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request};

use super::{
    inbound::{Chunk, Inbound},
    lines::Lines,
};
use crate::answer::copy;

/// Most bytes of a head; past it 431. Four times what browsers and Galaxy's cookies need.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Most fields in a head; past it 431.
const MAX_FIELDS: usize = 128;

/// Why a head is refused: an answer, then the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// 400, 408, 431, 501 or 505.
    pub(crate) status: StatusCode,
    /// What is wrong, as a sentence.
    pub(crate) sentence: &'static str,
}

impl Refusal {
    pub(crate) const TOO_LARGE: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        sentence: "The head of the request is larger than 64 KiB or has more than 128 fields.",
    };

    pub(crate) const TOO_SLOW: Self = Self {
        status: StatusCode::REQUEST_TIMEOUT,
        sentence: "The head of the request took too long to arrive.",
    };

    const fn bad(sentence: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, sentence }
    }
}

/// A request whose head has come.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its head, read.
    pub(crate) parts: request::Parts,
    /// The same as it came.
    pub(crate) lines: Lines,
    /// Where its body ends.
    pub(crate) body: Inbound,
}

/// Reads a whole head at the start of `buffer`, and tells how many bytes it takes there; `None` when more must be read.
///
/// The first `seen` bytes were looked at before and held no end, so that a head that arrives byte by byte costs
/// no more than one that arrives whole.
///
/// # Errors
///
/// A head that is too large or that two programs could read in two ways (RFC 9112 §3, §5 and §6).
pub(crate) fn read(buffer: &[u8], seen: usize) -> Result<Option<(Request, usize)>, Refusal> {
    let Some(start) = buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return too_large_or_not_yet(buffer);
    };
    let Some(end) = end_of_head(buffer, start.max(seen.saturating_sub(2))) else {
        return too_large_or_not_yet(buffer);
    };
    if end > MAX_HEAD {
        return Err(Refusal::TOO_LARGE);
    }
    // Empty lines before the request line do not count (RFC 9112 §2.2), but they are lines.
    let has_bare_line_feed =
        memchr::memchr_iter(b'\n', &buffer[..end]).any(|at| at == 0 || buffer[at - 1] != b'\r');
    if has_bare_line_feed {
        return Err(Refusal::bad("A line of the head ends without a carriage return."));
    }
    parse(&buffer[start..end]).map(|request| Some((request, end)))
}

fn too_large_or_not_yet<T>(buffer: &[u8]) -> Result<Option<T>, Refusal> {
    if buffer.len() >= MAX_HEAD { Err(Refusal::TOO_LARGE) } else { Ok(None) }
}

fn parse(head: &[u8]) -> Result<Request, Refusal> {
    let malformed = || Refusal::bad("The head of the request is malformed.");
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TOO_LARGE),
        Err(httparse::Error::Version) if names_other_version(head) => {
            return Err(Refusal {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                sentence: "Only HTTP/1.0 and HTTP/1.1 are spoken on this connection.",
            });
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(malformed()),
    }
    let body = framing(&parsed)?;
    let lines = Lines::new(head, parsed.headers);
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method =
        Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| malformed())?;
    // The target must be one that the `http` crate takes, by which everything else here looks at it.
    parts.uri = Uri::from_maybe_shared(copy(parsed.path.unwrap_or_default().as_bytes())).map_err(|_| {
        Refusal::bad("The target holds a character that must be percent-encoded, or is malformed.")
    })?;
    // A name of somebody before the host is deceit (RFC 9110 §4.2.4); `Host` is held to the same.
    if parts.uri.authority().is_some_and(|authority| !authority.as_str().bytes().all(is_host_byte)) {
        return Err(Refusal::bad("The host of the target is not a name or an address."));
    }
    parts.version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = HeaderMap::with_capacity(parsed.headers.len());
    for (name, value) in lines.shared() {
        let name = HeaderName::from_bytes(name).map_err(|_| malformed())?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| malformed())?;
        parts.headers.append(name, value);
    }
    Ok(Request { parts, lines, body })
}

/// Where the empty line after `start` ends.
///
/// Lines that end in bare line feeds count too, so that such a head is refused rather than waited for.
fn end_of_head(buffer: &[u8], start: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &buffer[start..]).map(|at| start + at + 1).find_map(|next| {
        match &buffer[next..] {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }
    })
}

/// Whether the request line is `METHOD target HTTP/x`, with an `x` that is not ours.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    words.next().is_some_and(|version| version.starts_with(b"HTTP/")) && words.next().is_none()
}

/// What names, IPv4 and bracketed IPv6 addresses and ports are made of (RFC 3986 §3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(&byte)
}

/// Where the body ends, by the fields that frame it (RFC 9112 §6.3).
fn framing(request: &httparse::Request<'_, '_>) -> Result<Inbound, Refusal> {
    let mut hosts = 0;
    let mut length = None;
    let mut chunked = false;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if !field.value.iter().all(|byte| is_host_byte(*byte)) {
                return Err(Refusal::bad("Host is not a name or an address."));
            }
        } else if field.name.eq_ignore_ascii_case("content-length") {
            if length.replace(content_length(field.value)?).is_some() {
                return Err(Refusal::bad("Content-Length is there twice."));
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::bad("The only Transfer-Encoding understood here is \"chunked\", once."));
            }
            chunked = true;
        }
    }
    let http_11 = request.version == Some(1);
    match (chunked, length) {
        _ if hosts > 1 => Err(Refusal::bad("Host is there twice.")),
        _ if hosts == 0 && http_11 => Err(Refusal::bad("Host is missing.")),
        (true, Some(_)) => Err(Refusal::bad(
            "Transfer-Encoding and Content-Length are both there: the end of the body is unclear.",
        )),
        (true, None) if !http_11 => Err(Refusal::bad("Transfer-Encoding is not known in HTTP/1.0.")),
        (true, None) => Ok(Inbound::Chunked { head: 0, at: Chunk::Size(0) }),
        (false, length) => Ok(Inbound::Length(length.unwrap_or_default())),
    }
}

/// Digits only: no sign, no list, no hexadecimal (RFC 9110 §8.6).
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or(Refusal::bad("Content-Length is not a number of bytes."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(head: &str) -> u16 {
        read(head.as_bytes(), 0).expect_err("should be refused").status.as_u16()
    }

    /// Bytes that the head takes, and where its body ends.
    fn end(head: &str) -> (usize, Inbound) {
        let (request, length) = read(head.as_bytes(), 0).unwrap().unwrap();
        (length, request.body)
    }

    #[test]
    fn a_head_is_waited_for() {
        for part in ["GET / HTTP/1.1\r\nHost: a\r\n\r", "", "\r\n"] {
            assert!(read(part.as_bytes(), 0).unwrap().is_none(), "{part:?}");
        }
    }

    #[test]
    fn a_head_says_where_its_body_ends() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
        assert_eq!(end(head), (head.len(), Inbound::Length(10)));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n";
        assert_eq!(end(head), (head.len() - 3, Inbound::Chunked { head: 0, at: Chunk::Size(0) }));
        let head = "\r\nGET / HTTP/1.0\r\n\r\n";
        assert_eq!(end(head), (head.len(), Inbound::Length(0)));
    }

    #[test]
    fn fields_are_kept_as_they_came() {
        let head = b"GET /a?b HTTP/1.1\r\nHOST:a\r\nX-y:  1: 2 \r\nx-Y:\r\n\r\n";
        let (request, _) = read(head, 0).unwrap().unwrap();
        let lines: Vec<_> = request.lines.iter().collect();
        assert_eq!(lines, [(&b"HOST"[..], &b"a"[..]), (b"X-y", b"1: 2"), (b"x-Y", b"")]);
        assert_eq!(request.parts.headers.get_all("x-y").iter().collect::<Vec<_>>(), ["1: 2", ""]);
        assert_eq!(request.parts.uri, "/a?b");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for fields in [
            "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "Host: a\r\nContent-Length: 3\r\nContent-Length: 3",
            "Host: a\r\nContent-Length: 3, 3",
            "Host: a\r\nContent-Length: +3",
            "Host: a\r\nContent-Length:",
            "Host: a\r\nTransfer-Encoding: gzip, chunked",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Host: a\r\nTransfer-Encoding: xchunked",
            "Host: a\r\nHost: b",
            "Host: a\nX: b",
            "Host: a\r\n X: folded",
            "Host : a",
            "X: no host",
        ] {
            assert_eq!(refused(&format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n")), 400, "{fields}");
        }
        assert_eq!(refused("GET / HTTP/1.1\nHost: a\n\n"), 400);
        assert_eq!(refused("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    }

    #[test]
    fn a_head_may_come_one_byte_at_a_time() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 1..head.len() {
            assert!(read(&head[..end], end - 1).unwrap().is_none());
        }
        assert!(read(head, head.len() - 1).unwrap().is_some());
    }

    #[test]
    fn other_versions_and_too_much_are_named() {
        assert_eq!(refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200))), 431);
        assert_eq!(refused(&"a".repeat(MAX_HEAD)), 431);
    }
}
