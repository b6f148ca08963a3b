//! The head of a request: complete, bounded, and readable in one way only.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use crate::message::{
    authority::Authority, framing::BodyFraming, headers::RawHeaders, target::RequestTarget,
};

/// Most bytes of a head; past it 431. Four times what browsers and Galaxy's cookies need.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Most bytes of a request line; past it 414.
const MAX_LINE: usize = 32 * 1024;

/// Most fields in a head; past it 431.
const MAX_FIELDS: usize = 128;

/// Why a head is refused: a response, then the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// 400, 408, 414, 417, 431, 501 or 505.
    pub(crate) status: StatusCode,
    /// Sentence that says what is wrong.
    pub(crate) sentence: &'static str,
}

impl Refusal {
    pub(crate) const TOO_LARGE: Self = Self {
        status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        sentence: "The head of the request is larger than 64 KiB or has more than 128 fields.",
    };

    const TOO_LONG: Self = Self {
        status: StatusCode::URI_TOO_LONG,
        sentence: "The target of the request is longer than 32 KiB.",
    };

    pub(crate) const TOO_SLOW: Self = Self {
        status: StatusCode::REQUEST_TIMEOUT,
        sentence: "The head of the request took too long to arrive.",
    };

    /// CONNECT, whose target is a host.
    pub(crate) const NO_TUNNELS: Self =
        Self { status: StatusCode::NOT_IMPLEMENTED, sentence: "There are no tunnels to other hosts here." };

    pub(crate) const fn bad(sentence: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, sentence }
    }
}

/// The head of a request.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Request target: a path and a query, `*`, or the URL of one.
    pub(crate) target: RequestTarget,
    pub(crate) version: Version,
    /// Headers, as they came.
    pub(crate) headers: RawHeaders,
}

/// A request whose head has come.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    /// Framing of the body.
    pub(crate) body: BodyFraming,
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
    let Some(start) = empty_lines(buffer)? else { return too_large_or_not_yet(buffer) };
    if memchr::memchr(b'\n', &buffer[start..]).unwrap_or(buffer.len() - start) > MAX_LINE {
        return Err(Refusal::TOO_LONG);
    }
    let found = end_of_head(buffer, start.max(seen.saturating_sub(2)));
    let end = found.unwrap_or(buffer.len());
    let new = start.max(seen).min(end);
    let mut line_feeds = memchr::memchr_iter(b'\n', &buffer[new..end]).map(|at| new + at);
    if line_feeds.any(|at| at == 0 || buffer[at - 1] != b'\r') {
        return Err(Refusal::bad("A line of the head ends without a carriage return."));
    }
    if found.is_none() {
        return too_large_or_not_yet(buffer);
    }
    if end > MAX_HEAD {
        return Err(Refusal::TOO_LARGE);
    }
    parse(&buffer[start..end]).map(|request| Some((request, end)))
}

/// Most bytes of the first line of a refused request that are told: it may be all that was sent, and no line at all.
const MOST_TOLD: usize = 1024;

/// The first line of what came of a head, as far as it is told.
pub(crate) fn first_line(came: &[u8]) -> &[u8] {
    let start = came.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(came.len());
    let line = &came[start..];
    let end = line.iter().take(MOST_TOLD).position(|byte| matches!(byte, b'\r' | b'\n'));
    &line[..end.unwrap_or(line.len().min(MOST_TOLD))]
}

/// Number of bytes at the start of `buffer` that are empty lines, which do not count before a request (RFC 9112 §2.2); `None`
/// while nothing else is there.
fn empty_lines(buffer: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut start = 0;
    loop {
        match &buffer[start..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => start += 2,
            [b'\r' | b'\n', ..] => {
                return Err(Refusal::bad("Before the request there is half of a line end."));
            }
            _ => return Ok(Some(start)),
        }
    }
}

fn too_large_or_not_yet<T>(buffer: &[u8]) -> Result<Option<T>, Refusal> {
    if buffer.len() >= MAX_HEAD { Err(Refusal::TOO_LARGE) } else { Ok(None) }
}

fn parse(head: &[u8]) -> Result<Request, Refusal> {
    parse_as(head, head)
}

/// Reads `head`, in whose place `kept` goes on: the same but for bytes of its first line that the parser does not take.
fn parse_as(head: &[u8], kept: &[u8]) -> Result<Request, Refusal> {
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
        Err(httparse::Error::Token) if std::ptr::eq(head, kept) => {
            return match in_ascii(head) {
                Some(plain) => parse_as(&plain, head),
                None => Err(malformed()),
            };
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(malformed()),
    }
    let framing = framing(&parsed)?;
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| malformed())?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let headers = RawHeaders::found_in(head, kept, parsed.headers);
    let target = headers.part(head, parsed.path.unwrap_or_default().as_bytes());
    let target = RequestTarget::read(&method, target, framing.host)?;
    Ok(Request { head: RequestHead { method, target, version, headers }, body: framing.body })
}

/// A head with another character for each byte of its target that is not ASCII, if there are any: the parser takes only
/// UTF-8, and some clients send Latin-1.
fn in_ascii(head: &[u8]) -> Option<Vec<u8>> {
    let mut words = head.split(|byte| matches!(byte, b' ' | b'\r'));
    let (start, length) = (words.next()?.len() + 1, words.next()?.len());
    let target = start..start + length;
    (!head.get(target.clone())?.is_ascii()).then(|| {
        let mut plain = head.to_vec();
        plain[target].iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'-');
        plain
    })
}

/// End of the empty line after `start`.
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

/// Whether the request line is `METHOD target HTTP/1.2`, or with other digits that are not ours (RFC 9112 §2.3).
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let is_version = |word: &[u8]| match word {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    };
    words.next().is_some_and(is_version) && words.next().is_none()
}

/// Host and framing that the headers give.
struct Framing<'a> {
    host: Option<Authority<'a>>,
    body: BodyFraming,
}

/// Reads the framing (RFC 9112 §6.3) and the host from the headers.
fn framing<'a>(request: &httparse::Request<'_, 'a>) -> Result<Framing<'a>, Refusal> {
    let http_11 = request.version == Some(1);
    let mut host = None;
    let mut length = None;
    let mut chunked = false;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("host") {
            let read = Authority::read(field.value);
            let read = read.ok_or(Refusal::bad("Host is not a name or an address."))?;
            if host.replace(read).is_some() {
                return Err(Refusal::bad("Host is there twice."));
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
        } else if http_11
            && field.name.eq_ignore_ascii_case("expect")
            && !field.value.eq_ignore_ascii_case(b"100-continue")
        {
            return Err(Refusal {
                status: StatusCode::EXPECTATION_FAILED,
                sentence: "The only expectation understood here is \"100-continue\".",
            });
        }
    }
    let body = match (chunked, length) {
        _ if host.is_none() && http_11 => return Err(Refusal::bad("Host is missing.")),
        (true, Some(_)) => {
            return Err(Refusal::bad(
                "Transfer-Encoding and Content-Length are both there: the end of the body is unclear.",
            ));
        }
        (true, None) if !http_11 => {
            return Err(Refusal::bad("Transfer-Encoding is not known in HTTP/1.0."));
        }
        (true, None) => BodyFraming::chunked(),
        (false, length) => BodyFraming::Length(length.unwrap_or_default()),
    };
    Ok(Framing { host, body })
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
    fn end(head: &str) -> (usize, BodyFraming) {
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
        assert_eq!(end(head), (head.len(), BodyFraming::Length(10)));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n";
        assert_eq!(end(head), (head.len() - 3, BodyFraming::chunked()));
        let head = "\r\nGET / HTTP/1.0\r\n\r\n";
        assert_eq!(end(head), (head.len(), BodyFraming::Length(0)));
    }

    #[test]
    fn fields_are_kept_as_they_came() {
        let head = b"GET /a?b HTTP/1.1\r\nHOST:a\r\nX-y:  1: 2 \r\nx-Y:\r\n\r\n";
        let (request, _) = read(head, 0).unwrap().unwrap();
        let lines: Vec<_> = request.head.headers.iter().collect();
        assert_eq!(lines, [(&b"HOST"[..], &b"a"[..]), (b"X-y", b"1: 2"), (b"x-Y", b"")]);
        assert_eq!(
            request.head.headers.values(&http::HeaderName::from_static("x-y")).collect::<Vec<_>>(),
            [&b"1: 2"[..], b""]
        );
        assert_eq!(request.head.target.text(), b"/a?b");
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
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(MAX_HEAD))), 431);
        assert_eq!(refused(&"a".repeat(MAX_LINE + 1)), 414);
        assert_eq!(refused("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), 501);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n"), 417);
    }

    #[test]
    fn a_url_must_be_for_the_host_that_is_named() {
        let uri = |line: &str| {
            read(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), 0).unwrap().unwrap().0
        };
        assert_eq!(uri("GET HTTP://A:80/b").head.target.path(), b"/b");
        assert_eq!(uri("OPTIONS http://a").head.target.path(), b"*");
        for line in ["GET http://b/", "GET ftp://a/", "GET *", "GET a", "GET /#b", "GET http://u@a/"] {
            assert_eq!(refused(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n")), 400, "{line}");
        }
    }

    #[test]
    fn half_of_a_line_end_is_not_waited_behind() {
        for head in ["\n", "\r\r\n", "GET / HTTP/1.1\nHost:"] {
            assert_eq!(refused(head), 400, "{head:?}");
        }
    }

    #[test]
    fn the_first_line_of_what_came_is_told() {
        for (came, line) in [
            (&b"GET / HTTP/1.1\r\nHost"[..], &b"GET / HTTP/1.1"[..]),
            (b"\r\nGET", b"GET"),
            (b"GET / HTTP/1.1\nHost: a", b"GET / HTTP/1.1"),
            (b"", b""),
            (b"\r\n", b""),
            (&[b'x'; 5000], &[b'x'; MOST_TOLD]),
        ] {
            assert_eq!(first_line(came), line);
        }
    }

    proptest::proptest! {
        #[test]
        fn it_makes_no_difference_in_which_pieces_a_head_comes(
            parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..12),
            at in 0_usize..100,
        ) {
            let all = parts.concat();
            let came = &all[..at.min(all.len())];
            let outcome = |read: Result<Option<(Request, usize)>, Refusal>| {
                read.map(|read| read.map(|(request, length)| (request.head.headers.bytes().clone(), length, request.body)))
            };
            let whole = outcome(read(&all, 0));
            match outcome(read(came, 0)) {
                Ok(None) => proptest::prop_assert_eq!(outcome(read(&all, came.len())), whole),
                Ok(some) => proptest::prop_assert_eq!(Ok(some), whole),
                Err(_) => proptest::prop_assert!(whole.is_err()),
            }
        }
    }

    /// Parts of heads, good and bad.
    const PARTS: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"POST http://a/b HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X: y\r\n",
        b"X: y\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b":",
        b"\0",
        b"\xff",
    ];
}
