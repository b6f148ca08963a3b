//! Heads of HTTP/1.1 as those of HTTP/2 (RFC 9113 §8.3), and back.

use std::borrow::Cow;

use bytes::BufMut;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use percent_encoding::percent_encode;

use crate::message::{BodyFraming, NOT_IN_URIS, is_hop_by_hop};

/// A head cannot be said in HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the head cannot be said in HTTP/2")]
pub(crate) struct NotHttp2;

/// The request that `head` makes, and how its body ends; `None` for no body.
pub(super) fn request(
    head: &[u8],
    is_encrypted: bool,
) -> Result<(Request<()>, Option<BodyFraming>), NotHttp2> {
    let line = memchr::memmem::find(head, b"\r\n").ok_or(NotHttp2)?;
    let mut words = head[..line].split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut fields = vec![httparse::EMPTY_HEADER; head.iter().filter(|byte| **byte == b'\n').count()];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&head[line + 2..], &mut fields)
    else {
        return Err(NotHttp2);
    };
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(method).map_err(|_| NotHttp2)?;
    let (mut authority, mut framing) = (None, None);
    request.headers_mut().reserve(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NotHttp2)?;
        match name {
            header::HOST => authority = Some(Authority::try_from(field.value).map_err(|_| NotHttp2)?),
            header::TRANSFER_ENCODING => framing = Some(BodyFraming::chunked()),
            // The client has been asked for its body.
            header::EXPECT => {}
            header::TE => drop(request.headers_mut().insert(name, HeaderValue::from_static("trailers"))),
            _ if is_hop_by_hop(name.as_str().as_bytes()) => {}
            _ => {
                let value = HeaderValue::from_bytes(field.value).map_err(|_| NotHttp2)?;
                if name == header::CONTENT_LENGTH {
                    let length =
                        value.to_str().ok().and_then(|length| length.parse().ok()).ok_or(NotHttp2)?;
                    framing = Some(BodyFraming::Length(length)).filter(|framing| !framing.is_done());
                }
                request.headers_mut().append(name, value);
            }
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if is_encrypted { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority.ok_or(NotHttp2)?);
    parts.path_and_query = Some(path(target)?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| NotHttp2)?;
    Ok((request, framing))
}

/// The target as it came, or with escapes for what cannot stand in a URI.
fn path(target: &[u8]) -> Result<PathAndQuery, NotHttp2> {
    PathAndQuery::try_from(target).or_else(|_| {
        let escaped: Cow<'_, str> = percent_encode(target, &NOT_IN_URIS).into();
        PathAndQuery::try_from(&*escaped).map_err(|_| NotHttp2)
    })
}

/// Writes the head of a response. Returns whether its body, of which `has_ended` says that there is none, follows in chunks.
pub(super) fn write<B>(out: &mut Vec<u8>, response: &Response<B>, is_head: bool, has_ended: bool) -> bool {
    let (status, fields) = (response.status(), response.headers());
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    let is_bodiless = is_head
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let in_chunks = !is_bodiless
        && !has_ended
        && (!fields.contains_key(header::CONTENT_LENGTH) || has_trailers(response));
    for (name, value) in fields {
        if !(in_chunks && name == header::CONTENT_LENGTH) {
            out.put_slice(name.as_str().as_bytes());
            out.put_slice(b": ");
            out.put_slice(value.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
    if in_chunks {
        out.put_slice(b"transfer-encoding: chunked\r\n");
    } else if has_ended && !is_bodiless && !fields.contains_key(header::CONTENT_LENGTH) {
        out.put_slice(b"content-length: 0\r\n");
    }
    out.put_slice(b"\r\n");
    in_chunks
}

/// Whether trailers follow the body, which only chunks have room for.
fn has_trailers<B>(response: &Response<B>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    response.headers().contains_key(header::TRAILER)
        || content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"))
}

/// Writes the start of a chunk.
pub(super) fn write_chunk(out: &mut Vec<u8>, length: usize) {
    out.put_slice(format!("{length:x}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(head: &str) -> Result<(Request<()>, Option<BodyFraming>), NotHttp2> {
        request(head.as_bytes(), false)
    }

    fn written(response: http::response::Builder, is_head: bool, has_ended: bool) -> (String, bool) {
        let mut out = Vec::new();
        let in_chunks = write(&mut out, &response.body(()).unwrap(), is_head, has_ended);
        (String::from_utf8(out).unwrap(), in_chunks)
    }

    #[test]
    fn a_head_of_http1_is_one_of_http2() {
        let text = "POST /a%20b?c={d} HTTP/1.1\r\nHost: a.example:8080\r\nX-F: g\r\nTE: trailers\r\nExpect: 100-continue\r\n\
                    Connection: close\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (request, framing) = said(text).unwrap();
        assert_eq!(request.uri(), "http://a.example:8080/a%20b?c={d}");
        assert_eq!(framing, Some(BodyFraming::chunked()));
        let fields: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x-f", &b"g"[..]), ("te", b"trailers")]);
    }

    #[test]
    fn a_body_ends_where_the_head_says() {
        let framing = |fields: &str| said(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap().1;
        assert_eq!(framing(""), None);
        assert_eq!(framing("Content-Length: 0\r\n"), None);
        assert_eq!(framing("Content-Length: 5\r\n"), Some(BodyFraming::Length(5)));
    }

    #[test]
    fn what_cannot_stand_in_a_uri_is_escaped() {
        let uri = |target: &str| {
            said(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).map(|said| said.0.uri().to_string())
        };
        assert_eq!(uri("/a^b<c>%2F").unwrap(), "http://a/a%5Eb%3Cc%3E%2F");
        assert_eq!(said("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().0.uri().path(), "*");
        assert!(said("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").is_err());
        assert!(said("GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
    }

    #[test]
    fn a_response_of_http2_is_one_of_http1() {
        let response = || Response::builder().header("x", "y");
        assert_eq!(
            written(response(), false, false),
            ("HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n".into(), true)
        );
        let length = || response().header("content-length", "3");
        assert_eq!(
            written(length(), false, false),
            ("HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\n\r\n".into(), false)
        );
        assert!(
            written(length().header("trailer", "a"), false, false).1,
            "only chunks have room for trailers"
        );
        assert!(written(length().header("content-type", "application/grpc"), false, false).1);
        assert_eq!(
            written(response(), false, true).0,
            "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\n\r\n"
        );
        for (status, is_head) in [(204, false), (304, false), (103, false), (200, true)] {
            let (text, in_chunks) = written(response().status(status), is_head, false);
            assert!(text.ends_with("\r\nx: y\r\n\r\n") && !in_chunks, "{text}");
        }
    }
}
