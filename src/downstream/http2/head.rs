//! From the head of a stream to that of a request of HTTP/1.1 (RFC 9113 §8.3), as strict as if it had come as one.
//!
//! It is written as text and read by what reads the heads of HTTP/1.1: what two programs could read in two ways is
//! refused there, whatever way it came.

use bytes::{BufMut, BytesMut};
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request};

use crate::{
    downstream::http2::heads::TARGET,
    message::{BodyFraming, Refusal, Request, read_request},
};

/// Fields of a connection, which HTTP/2 does not have (§8.2.2).
const OF_CONNECTIONS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

fn bad(sentence: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, sentence }
}

/// The request that a stream begins with; `has_no_body` when nothing follows.
///
/// # Errors
///
/// What cannot be said in HTTP/1.1 so that everybody understands the same.
pub(crate) fn downgrade(parts: &request::Parts, has_no_body: bool) -> Result<Request, Refusal> {
    let protocol = parts.extensions.get::<Protocol>().map(|protocol| protocol.as_str());
    let is_websocket = parts.method == Method::CONNECT && protocol == Some("websocket");
    if parts.method == Method::CONNECT && !is_websocket {
        let sentence = "CONNECT makes no tunnels here but for WebSocket.";
        return Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, sentence });
    }
    if parts.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(bad("The scheme is neither http nor https."));
    }
    let authority = authority(parts)?;
    let target = match target(parts) {
        Some(b"*") if parts.method == Method::OPTIONS => b"*",
        Some(target) if target.starts_with(b"/") => target,
        _ => return Err(bad("The path does not begin with a slash.")),
    };
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
    let mut text = BytesMut::with_capacity(1024);
    let mut put = |pieces: &[&[u8]]| pieces.iter().for_each(|piece| text.put_slice(piece));
    let method = if is_websocket { &Method::GET } else { &parts.method };
    put(&[method.as_str().as_bytes(), b" ", target, b" HTTP/1.1\r\n"]);
    put(&[b"host: ", authority, b"\r\n"]);
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        if OF_CONNECTIONS.contains(&name) {
            return Err(bad("A field of the head is about a connection, which HTTP/2 has none of."));
        }
        if value.first().is_some_and(u8::is_ascii_whitespace)
            || value.last().is_some_and(u8::is_ascii_whitespace)
        {
            return Err(bad("The value of a field begins or ends with a space."));
        }
        match name {
            "host" | "cookie" | TARGET => {}
            "sec-websocket-key" if is_websocket => {}
            _ => put(&[name.as_bytes(), b": ", value, b"\r\n"]),
        }
    }
    if let Some(cookies) = cookies(&parts.headers) {
        put(&[b"cookie: ", &cookies, b"\r\n"]);
    }
    if is_websocket {
        // What the client of HTTP/1.1 would have asked for (RFC 8441 §5, RFC 6455 §4.1).
        put(&[b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ", &key(), b"\r\n"]);
    } else if has_no_body && !has_length && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH)
    {
        put(&[b"content-length: 0\r\n"]);
    }
    put(&[b"\r\n"]);
    let length = text.len();
    match read_request(&text, 0)? {
        Some((mut request, read)) if read == length => {
            request.head.version = Version::HTTP_2;
            if !has_no_body && !has_length && !is_websocket {
                // The stream has an end of its own.
                request.body = BodyFraming::UntilClose;
            }
            Ok(request)
        }
        _ => Err(bad("The head of the request is malformed.")),
    }
}

/// The request line that HTTP/1.1 would have.
pub(crate) fn first_line(parts: &request::Parts) -> Vec<u8> {
    let authority = || parts.uri.authority().map_or("-", |authority| authority.as_str()).as_bytes();
    let target = target(parts).unwrap_or_else(authority);
    [parts.method.as_str().as_bytes(), b" ", target, b" HTTP/2.0"].concat()
}

/// The target as it came, which may be one that `h2` does not take.
fn target(parts: &request::Parts) -> Option<&[u8]> {
    let kept = parts.headers.get(TARGET).map(HeaderValue::as_bytes);
    kept.or_else(|| parts.uri.path_and_query().map(|target| target.as_str().as_bytes()))
}

/// Sixteen random bytes in base64: what tells a server of WebSocket from one that repeats what it hears.
fn key() -> [u8; 24] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = [b'='; 24];
    key[..21].fill_with(|| DIGITS[fastrand::usize(..64)]);
    // The last digit holds two bits of the sixteenth byte.
    key[21] = DIGITS[fastrand::usize(..4) << 4];
    key
}

/// The host asked for: the authority, which `Host` must not contradict (§8.3.1).
fn authority(parts: &request::Parts) -> Result<&[u8], Refusal> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(header::HOST).iter().map(|host| host.as_bytes());
    match (authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => Err(bad("Host is there twice.")),
        (Some(authority), Some(host), None) if !authority.eq_ignore_ascii_case(host) => {
            Err(bad("Host is not what the authority is."))
        }
        (Some(authority), ..) => Ok(authority),
        (None, Some(host), None) => Ok(host),
        (None, None, None) => Err(bad("Neither an authority nor Host is there.")),
    }
}

/// Cookies may come in many fields, and go on in one (§8.2.3).
fn cookies(fields: &HeaderMap) -> Option<Vec<u8>> {
    let cookies: Vec<&[u8]> = fields.get_all(header::COOKIE).iter().map(|value| value.as_bytes()).collect();
    (!cookies.is_empty()).then(|| cookies.join(&b"; "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::BodyFraming;

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = http::Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn text(method: &str, uri: &str, fields: &[(&str, &str)], has_no_body: bool) -> String {
        let request = downgrade(&parts(method, uri, fields), has_no_body).unwrap();
        String::from_utf8(request.head.headers.bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_stream_is_a_request() {
        assert_eq!(
            text(
                "GET",
                "https://a.example/b%2Fc?d=%00",
                &[("cookie", "e=1"), ("x-f", "g"), ("cookie", "h=2")],
                true
            ),
            "GET /b%2Fc?d=%00 HTTP/1.1\r\nhost: a.example\r\nx-f: g\r\ncookie: e=1; h=2\r\n\r\n"
        );
        assert_eq!(
            text("POST", "https://a/", &[("te", "trailers"), ("host", "A")], false),
            "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n"
        );
        let request = downgrade(&parts("POST", "https://a/", &[]), false).unwrap();
        assert_eq!(request.body, BodyFraming::UntilClose, "the stream has an end of its own");
        assert!(text("POST", "https://a/", &[], true).contains("content-length: 0\r\n"));
        let request = downgrade(&parts("PUT", "https://a/", &[("content-length", "7")]), false).unwrap();
        assert_eq!(request.body, BodyFraming::Length(7));
    }
}
