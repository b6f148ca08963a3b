//! Trailers that go on (RFC 9110 §6.5).

use http::HeaderMap;

use super::is_hop_by_hop;

/// Fields that are no trailers (RFC 9110 §6.5.1): they frame the message, say whom it is for and from whom it comes, or
/// how its content is to be read. A recipient that adds trailers to the head must not find them there.
const FORBIDDEN: [&str; 25] = [
    "accept-ranges",
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
];

/// Whether a field may go on as a trailer.
fn is_forwardable(name: &str) -> bool {
    let is_to_proxies =
        ["x-forwarded-", "x-accel-", "x-sendfile", "x-archive-"].iter().any(|start| name.starts_with(start));
    !is_to_proxies && !is_hop_by_hop(name.as_bytes()) && !FORBIDDEN.contains(&name)
}

/// The trailers of `received` that go on, if there are any.
pub(crate) fn forwardable_trailers(mut received: HeaderMap) -> Option<HeaderMap> {
    let forbidden: Vec<_> = received.keys().filter(|name| !is_forwardable(name.as_str())).cloned().collect();
    for name in forbidden {
        received.remove(name);
    }
    (!received.is_empty()).then_some(received)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_belongs_into_a_head_is_no_trailer() {
        let mut received = HeaderMap::new();
        for name in
            ["grpc-status", "content-length", "te", "connection", "x-forwarded-for", "host", "x-checksum"]
        {
            received.insert(name, HeaderValue::from_static("0"));
        }
        let trailers = forwardable_trailers(received).unwrap();
        assert_eq!(
            trailers.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
            ["grpc-status", "x-checksum"]
        );
        assert_eq!(forwardable_trailers(HeaderMap::new()), None);
    }
}
