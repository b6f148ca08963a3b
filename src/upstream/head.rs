//! The head that a server gets: the client's, without what was meant for us alone, with who asks.

use http::{HeaderValue, Method, Version, header};

use crate::{
    client::Client,
    message::{EditHeaders, RequestHead, RequestId, X_REQUEST_ID, named_in_connection, write_plain_length},
};

/// Makes the head for a server out of `received`, a copy of which `request` is.
pub(crate) fn prepare(
    request: &mut impl EditHeaders,
    received: &RequestHead,
    client: &Client,
    id: &RequestId,
    upstream: &str,
) {
    // What we say ourselves is set after they are gone, so that nobody can take it away.
    for name in named_in_connection(|take| received.headers.values(&header::CONNECTION).for_each(take)) {
        request.remove(&name);
    }
    if received.version == Version::HTTP_10 && !received.headers.has(header::HOST) {
        // It goes on as HTTP/1.1, where a host is due; as in nginx, it is the name of the upstream when none was said.
        let named = received.target.authority().unwrap_or(upstream);
        request
            .set(header::HOST, HeaderValue::from_str(named).unwrap_or(HeaderValue::from_static("localhost")));
    }
    if received.version == Version::HTTP_10 {
        // Its client does not wait for a 100, whatever it says (RFC 9110 §10.1.1).
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
