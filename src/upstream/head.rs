//! The head that a server gets: the client's, without what was meant for us alone, with who asks.

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use crate::{
    answer::Fields,
    client::Client,
    observe::{RequestId, X_REQUEST_ID},
};

/// Named in `Connection` or not, these belong to the request and stay (RFC 9110 §7.6.1 forbids naming them); the
/// engine has dealt with framing and upgrades itself.
const KEPT: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::AUTHORIZATION,
];

/// Makes the head for a server out of `received`, a copy of which `request` is.
pub(crate) fn prepare(
    request: &mut impl Fields,
    received: &http::request::Parts,
    client: &Client,
    id: &RequestId,
    upstream: &str,
) {
    for name in named_in_connection(&received.headers) {
        request.remove(&name);
    }
    if received.version == Version::HTTP_10 && !received.headers.contains_key(header::HOST) {
        // It goes on as HTTP/1.1, where a host is due; as in nginx, it is the name of the upstream when none was said.
        let named = received.uri.authority().map_or(upstream, |authority| authority.as_str());
        request
            .set(header::HOST, HeaderValue::from_str(named).unwrap_or(HeaderValue::from_static("localhost")));
    }
    client.forward(request);
    request.set(X_REQUEST_ID, id.value());
}

/// The fields that end at us because the client says so (RFC 9110 §7.6.1). What we say ourselves is set after they
/// are gone, so that nobody can take it away.
fn named_in_connection(received: &HeaderMap) -> Vec<HeaderName> {
    let values = received.get_all(header::CONNECTION).iter();
    let words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let names = words.filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok());
    names.filter(|name| !KEPT.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_fields_end_here_and_needed_ones_do_not() {
        let mut received = HeaderMap::new();
        received.append(header::CONNECTION, HeaderValue::from_static("close, X-Hop"));
        received.append(header::CONNECTION, HeaderValue::from_static("host, \"x\", Cookie"));
        let named = named_in_connection(&received);
        assert_eq!(named, ["close", "x-hop", "cookie"]);
    }
}
