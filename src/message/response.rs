//! The head of a server's response: bounded, and readable in one way only.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version, header};

use crate::message::{fields::has_word, framing::BodyFraming, headers::RawHeaders};

/// Most fields in a head.
const MAX_FIELDS: usize = 256;

/// 1xx, but not 101: a response is still to come (RFC 9110 §15.2).
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Most interim responses to one request: past that no final one is expected.
pub(crate) const MOST_INTERIM: u32 = 1000;

/// Error for bytes that are no response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the response is malformed: {0}")]
pub(crate) struct MalformedHead(&'static str);

/// The head of a response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) version: Version,
    pub(crate) status: StatusCode,
    /// Status line as it came.
    pub(crate) lines: RawHeaders,
}

impl ResponseHead {
    /// Reads a whole head of at most so many bytes at the start of `buffer`, and tells how many bytes it takes there;
    /// `None` when more must be read.
    ///
    /// # Errors
    ///
    /// A head that is too large, or that is none.
    pub(crate) fn read(buffer: &[u8], most: usize) -> Result<Option<(Self, usize)>, MalformedHead> {
        // One empty line may come before it: some servers end a body with one.
        let (begin, buffer) = buffer.strip_prefix(b"\r\n").map_or((0, buffer), |rest| (2, rest));
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length <= most => length,
            Ok(httparse::Status::Partial) if buffer.len() < most => return Ok(None),
            Ok(_) => return Err(MalformedHead("its head is too large (max_response_head)")),
            Err(httparse::Error::TooManyHeaders) => return Err(MalformedHead("it has more than 256 fields")),
            Err(_) => return Err(MalformedHead("its head is not HTTP")),
        };
        let head = &buffer[..length];
        if matches!(head[0], b'\r' | b'\n')
            || memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
        {
            return Err(MalformedHead("a line of its head does not end as it should"));
        }
        let status = parsed.code.filter(|code| (100..600).contains(code));
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(MalformedHead("its status is none"))?;
        let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        let lines = RawHeaders::new(head, parsed.headers);
        let head = Self { version, status, lines };
        if head.is_interim() && head.says_where_its_body_ends() {
            return Err(MalformedHead("it is an interim one, and says that it has a body"));
        }
        Ok(Some((head, begin + length)))
    }

    /// Whether it is one before the response.
    pub(crate) fn is_interim(&self) -> bool {
        is_interim(self.status)
    }

    /// Whether it announces a body, which is not there in a response to HEAD.
    pub(crate) fn says_where_its_body_ends(&self) -> bool {
        let framing = [&header::CONTENT_LENGTH, &header::TRANSFER_ENCODING];
        framing.into_iter().any(|name| self.lines.get(name).is_some())
    }

    /// Reason phrase of the server.
    pub(crate) fn reason(&self) -> &[u8] {
        let end = memchr::memchr(b'\r', self.lines.bytes()).unwrap_or_default();
        self.lines.bytes().get("HTTP/1.1 200 ".len()..end).unwrap_or_default()
    }

    /// Whether the server takes another request on this connection.
    pub(crate) fn is_persistent(&self) -> bool {
        let mut connection = self.lines.values(&header::CONNECTION);
        self.version == Version::HTTP_11 && !connection.any(|words| has_word(words, b"close"))
    }

    /// Framing of the body of this response to a request of `method` (RFC 9112 §6.3).
    ///
    /// # Errors
    ///
    /// Where two programs could read it in two ways.
    pub(crate) fn framing(&self, method: &Method) -> Result<BodyFraming, MalformedHead> {
        let mut lengths = self.lines.values(&header::CONTENT_LENGTH);
        let mut codings = self.lines.values(&header::TRANSFER_ENCODING);
        let (length, coding) = (lengths.next(), codings.next());
        if lengths.next().is_some() || codings.next().is_some() {
            return Err(MalformedHead("Content-Length or Transfer-Encoding is there twice"));
        }
        let length = length.map(content_length).transpose()?;
        let bodiless = self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD;
        match (coding, length) {
            (Some(_), Some(_)) => Err(MalformedHead("Content-Length and Transfer-Encoding are both there")),
            (Some(coding), None) if !coding.eq_ignore_ascii_case(b"chunked") => {
                Err(MalformedHead("its Transfer-Encoding is not \"chunked\""))
            }
            (Some(_), None) if self.version == Version::HTTP_10 => {
                Err(MalformedHead("HTTP/1.0 knows no Transfer-Encoding"))
            }
            _ if bodiless => Ok(BodyFraming::Length(0)),
            (Some(_), None) => Ok(BodyFraming::chunked()),
            (None, Some(length)) => Ok(BodyFraming::Length(length)),
            (None, None) => Ok(BodyFraming::UntilClose),
        }
    }
}

fn content_length(value: &[u8]) -> Result<u64, MalformedHead> {
    let bad = MalformedHead("Content-Length is not a number of bytes");
    let add = |number: u64, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(digit.into())
    };
    let length = value.iter().try_fold(0, add).filter(|_| !value.is_empty());
    length.ok_or(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> ResponseHead {
        read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn read(text: &[u8]) -> Result<Option<(ResponseHead, usize)>, MalformedHead> {
        ResponseHead::read(text, 64 * 1024)
    }

    #[test]
    fn a_head_is_waited_for_and_read() {
        let text = b"\r\nHTTP/1.1 404 No such thing: x\r\nX-Y: z\r\nServer:  a b \r\n\r\nbody";
        for end in 0..text.len() - 4 {
            assert!(read(&text[..end]).unwrap().is_none());
        }
        let (head, length) = read(text).unwrap().unwrap();
        assert_eq!(length, text.len() - 4);
        assert_eq!((head.status, head.reason()), (StatusCode::NOT_FOUND, &b"No such thing: x"[..]));
        assert_eq!(head.lines.iter().collect::<Vec<_>>(), [(&b"X-Y"[..], &b"z"[..]), (b"Server", b"a b")]);
        assert_eq!(head.lines.map()["server"], "a b");
    }

    #[test]
    fn the_body_ends_where_the_head_says() {
        let get = |fields: &str| head(fields).framing(&Method::GET);
        assert_eq!(get("Content-Length: 12\r\n"), Ok(BodyFraming::Length(12)));
        assert_eq!(get("Transfer-Encoding: Chunked\r\n"), Ok(BodyFraming::chunked()));
        assert_eq!(get(""), Ok(BodyFraming::UntilClose));
        assert_eq!(head("Content-Length: 12\r\n").framing(&Method::HEAD), Ok(BodyFraming::Length(0)));
        let (head, _) = read(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.framing(&Method::GET), Ok(BodyFraming::Length(0)));
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert!(get(fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "SSH-2.0-x\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 600 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
            "HTTP/1.1 200 OK\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\n\n",
            "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\n\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        let flood = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(64 * 1024));
        assert!(read(flood.as_bytes()).is_err());
    }
}
