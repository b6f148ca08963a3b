//! The head of a request, looked at before the engine sees it: complete, bounded, and readable in one way only.

use http::StatusCode;

use super::inbound::{Chunk, Inbound};

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

/// Finds a whole head at the start of `buffer` and tells where its request ends; `None` when more must be read.
///
/// The first `seen` bytes were looked at before and held no end, so that a head that arrives byte by byte costs
/// no more than one that arrives whole.
///
/// # Errors
///
/// A head that is too large or that two programs could read in two ways (RFC 9112 §3, §5 and §6).
pub(crate) fn inspect(buffer: &[u8], seen: usize) -> Result<Option<Inbound>, Refusal> {
    let Some(length) = end_of_head(buffer, seen) else {
        return if buffer.len() >= MAX_HEAD { Err(Refusal::TOO_LARGE) } else { Ok(None) };
    };
    if length > MAX_HEAD {
        return Err(Refusal::TOO_LARGE);
    }
    let head = &buffer[..length];
    if has_bare_line_feed(head) {
        return Err(Refusal::bad("A line of the head ends without a carriage return."));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {
            check_target(request.path.unwrap_or_default())?;
            framing(&request, length as u64).map(Some)
        }
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::TOO_LARGE),
        Err(httparse::Error::Version) if names_other_version(head) => Err(Refusal {
            status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            sentence: "Only HTTP/1.0 and HTTP/1.1 are spoken on this connection.",
        }),
        Ok(httparse::Status::Partial) | Err(_) => Err(Refusal::bad("The head of the request is malformed.")),
    }
}

/// Bytes up to and with the empty line; empty lines before the request line do not count (RFC 9112 §2.2).
///
/// Lines that end in bare line feeds count too, so that such a head is refused rather than waited for.
fn end_of_head(buffer: &[u8], seen: usize) -> Option<usize> {
    let start = buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?.max(seen.saturating_sub(2));
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
    let line = head.split(|byte| *byte == b'\r').find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.trim_ascii_start().split(|byte| *byte == b' ').skip(2);
    words.next().is_some_and(|version| version.starts_with(b"HTTP/")) && words.next().is_none()
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'))
}

/// Whether the target is one that the `http` crate takes, by which everything else here looks at it.
fn check_target(target: &str) -> Result<(), Refusal> {
    match http::Uri::try_from(target) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Refusal::bad("The target holds a character that must be percent-encoded, or is malformed."))
        }
    }
}

/// What names, IPv4 and bracketed IPv6 addresses and ports are made of (RFC 3986 §3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(&byte)
}

/// Where the request ends, by the fields that frame it (RFC 9112 §6.3).
fn framing(request: &httparse::Request<'_, '_>, head: u64) -> Result<Inbound, Refusal> {
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
        (true, None) => Ok(Inbound::Chunked { head, at: Chunk::Size(0) }),
        (false, length) => Ok(Inbound::Length(head.saturating_add(length.unwrap_or_default()))),
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
        inspect(head.as_bytes(), 0).expect_err("should be refused").status.as_u16()
    }

    #[test]
    fn a_head_is_waited_for() {
        assert_eq!(inspect(b"GET / HTTP/1.1\r\nHost: a\r\n\r", 0), Ok(None));
        assert_eq!(inspect(b"", 0), Ok(None));
        assert_eq!(inspect(b"\r\n", 0), Ok(None));
    }

    #[test]
    fn the_end_is_head_plus_body() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
        assert_eq!(inspect(head.as_bytes(), 0), Ok(Some(Inbound::Length(head.len() as u64 + 10))));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n";
        let expected = Inbound::Chunked { head: head.len() as u64 - 3, at: Chunk::Size(0) };
        assert_eq!(inspect(head.as_bytes(), 0), Ok(Some(expected)));
        let head = "\r\nGET / HTTP/1.0\r\n\r\n";
        assert_eq!(inspect(head.as_bytes(), 0), Ok(Some(Inbound::Length(head.len() as u64))));
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
            assert_eq!(inspect(&head[..end], end - 1), Ok(None));
        }
        assert_eq!(inspect(head, head.len() - 1), Ok(Some(Inbound::Length(head.len() as u64))));
    }

    #[test]
    fn other_versions_and_too_much_are_named() {
        assert_eq!(refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200))), 431);
        assert_eq!(refused(&"a".repeat(MAX_HEAD)), 431);
    }
}
