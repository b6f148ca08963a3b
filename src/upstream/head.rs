//! Request head for a server: the client's, without hop-by-hop headers, with forwarding headers added.

use http::{HeaderValue, Method, Version, header};

use crate::{
    client::Client,
    message::{EditHeaders, RequestHead, RequestId, X_REQUEST_ID, named_in_connection, write_plain_length},
};

/// Prepares `request`, a copy of `received`, for a server.
pub(crate) fn prepare(
    request: &mut impl EditHeaders,
    received: &RequestHead,
    client: &Client,
    id: &RequestId,
    upstream: &str,
) {
    // Our own headers are set after this, so that a client cannot remove them by naming them in Connection.
    for name in named_in_connection(|take| received.headers.values(&header::CONNECTION).for_each(take)) {
        request.remove(&name);
    }
    if received.version == Version::HTTP_10 && !received.headers.has(header::HOST) {
        // The request is forwarded as HTTP/1.1, which requires a Host. Like nginx, use the name of the upstream when
        // the client sent none.
        let named = received.target.authority().unwrap_or(upstream);
        request
            .set(header::HOST, HeaderValue::from_str(named).unwrap_or(HeaderValue::from_static("localhost")));
    }
    if received.version == Version::HTTP_10 {
        // An HTTP/1.0 client does not wait for a 100 response, so its Expect is ignored (RFC 9110 §10.1.1).
        request.remove(&header::EXPECT);
    }
    let is_options = received.method == Method::OPTIONS;
    let left = is_options.then(|| received.headers.text(header::MAX_FORWARDS)).flatten();
    if let Some(left) = left.and_then(|left| left.parse::<u32>().ok()) {
        request.set(header::MAX_FORWARDS, left.saturating_sub(1).into());
    }
    write_plain_length(request);
    client.forward(request);
    request.write(X_REQUEST_ID, |out| out.extend_from_slice(id.as_bytes()));
}
