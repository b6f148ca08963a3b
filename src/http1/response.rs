//! The head of a server's answer: bounded, and readable in one way only.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::{body::Framing, fields::closes};
use crate::listen::lines;

/// Most bytes of a head.
const MAX_HEAD: usize = 64 * 1024;

/// Most fields in a head.
const MAX_FIELDS: usize = 256;

/// What came is no head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is malformed: {0}")]
pub(super) struct Malformed(&'static str);

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// As it came.
    bytes: Bytes,
}

impl Head {
    /// Reads a whole head at the start of `buffer`, and tells how many bytes it takes there; `None` when more must be
    /// read.
    ///
    /// # Errors
    ///
    /// A head that is too large, or that is none.
    pub(super) fn read(buffer: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(buffer) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if buffer.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Malformed("its head is too large")),
            Err(_) => return Err(Malformed("its head is not HTTP")),
        };
        let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
        let status = status.map_err(|_| Malformed("its status is none"))?;
        let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        // Empty lines may come before it.
        let begin = buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or_default();
        let bytes = Bytes::copy_from_slice(&buffer[begin..length]);
        let place = |text: &[u8]| {
            let start = text.as_ptr() as usize - buffer[begin..].as_ptr() as usize;
            bytes.slice(start..start + text.len())
        };
        let mut names = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(place(field.value));
            names.append(
                name.map_err(|_| Malformed("the name of a field is none"))?,
                value.map_err(|_| Malformed("the value of a field is none"))?,
            );
        }
        Ok(Some((Self { version, status, fields: names, bytes }, length)))
    }

    /// The status line without its version: the code, and what the server says beside it.
    pub(super) fn status_line(&self) -> &[u8] {
        let line = self.bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
        line.and_then(|line| line.get(9..)).unwrap_or_default()
    }

    /// The names and values of its fields as they came.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        lines(&self.bytes)
    }

    /// Whether the server takes another request on this connection.
    pub(super) fn is_persistent(&self) -> bool {
        self.version == Version::HTTP_11 && !closes(&self.fields)
    }

    /// Where the body of this answer to a request of `method` ends (RFC 9112 §6.3).
    ///
    /// # Errors
    ///
    /// Where two programs could read it in two ways.
    pub(super) fn framing(&self, method: &Method) -> Result<Framing, Malformed> {
        let mut lengths = self.fields.get_all(header::CONTENT_LENGTH).iter();
        let mut codings = self.fields.get_all(header::TRANSFER_ENCODING).iter();
        let (length, coding) = (lengths.next(), codings.next());
        if lengths.next().is_some() || codings.next().is_some() {
            return Err(Malformed("Content-Length or Transfer-Encoding is there twice"));
        }
        let length = length.map(content_length).transpose()?;
        let bodiless = self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD;
        match (coding, length) {
            (Some(_), Some(_)) => Err(Malformed("Content-Length and Transfer-Encoding are both there")),
            (Some(coding), None) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                Err(Malformed("its Transfer-Encoding is not \"chunked\""))
            }
            (Some(_), None) if self.version == Version::HTTP_10 => {
                Err(Malformed("HTTP/1.0 knows no Transfer-Encoding"))
            }
            _ if bodiless => Ok(Framing::Length(0)),
            (Some(_), None) => Ok(Framing::chunked()),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::Close),
        }
    }
}

fn content_length(value: &HeaderValue) -> Result<u64, Malformed> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(Malformed("Content-Length is not a number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> Head {
        Head::read(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn a_head_is_waited_for_and_read() {
        let text = b"\r\nHTTP/1.1 404 No such thing: x\r\nX-Y: z\r\nServer:  a b \r\n\r\nbody";
        for end in 0..text.len() - 4 {
            assert!(Head::read(&text[..end]).unwrap().is_none());
        }
        let (head, length) = Head::read(text).unwrap().unwrap();
        assert_eq!(length, text.len() - 4);
        assert_eq!((head.status, head.status_line()), (StatusCode::NOT_FOUND, &b"404 No such thing: x"[..]));
        assert_eq!(head.lines().collect::<Vec<_>>(), [(&b"X-Y"[..], &b"z"[..]), (b"Server", b"a b")]);
        assert_eq!(head.fields["server"], "a b");
    }

    #[test]
    fn the_body_ends_where_the_head_says() {
        let get = |fields: &str| head(fields).framing(&Method::GET);
        assert_eq!(get("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(get("Transfer-Encoding: Chunked\r\n"), Ok(Framing::chunked()));
        assert_eq!(get(""), Ok(Framing::Close));
        assert_eq!(head("Content-Length: 12\r\n").framing(&Method::HEAD), Ok(Framing::Length(0)));
        let (head, _) =
            Head::read(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.framing(&Method::GET), Ok(Framing::Length(0)));
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
        for text in ["SSH-2.0-x\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n"] {
            assert!(Head::read(text.as_bytes()).is_err(), "{text}");
        }
        let flood = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert!(Head::read(flood.as_bytes()).is_err());
    }
}
