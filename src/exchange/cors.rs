//! The CORS protocol (Fetch standard §3.2): which pages of other origins may read a response.

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    config::Cors,
    message::{EditHeaders, RequestHead, has_word, starts_with},
    response::Response,
};

/// The response to a preflight request; `None` for other requests.
pub(super) fn preflight(cors: &Cors, request: &RequestHead) -> Option<Response> {
    let headers = &request.headers;
    let asked =
        headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method == Method::OPTIONS)?;
    headers.get(header::ORIGIN)?;
    let mut response = Response::empty(StatusCode::NO_CONTENT);
    if origin(cors, request).is_none() {
        return Some(response);
    }
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            response.headers.insert(name, value);
        }
    };
    let methods = match &cors.methods {
        Some(methods) => list(methods.iter().map(Method::as_str)),
        None => HeaderValue::from_bytes(asked).ok(),
    };
    set(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let names = match &cors.headers {
        Some(names) => list(names.iter().map(HeaderName::as_str)),
        None => headers
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
            .and_then(|names| HeaderValue::from_bytes(names).ok()),
    };
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    set(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.map(|age| age.as_secs().into()));
    Some(response)
}

/// Sets the headers of a response that say who may read it, in place of the application's.
pub(super) fn apply(cors: &Cors, request: &RequestHead, response: &mut impl EditHeaders) {
    let is_preflight =
        request.method == Method::OPTIONS && request.headers.has(header::ACCESS_CONTROL_REQUEST_METHOD);
    response.remove_if(|name| {
        // The proxy's own response to a preflight request has those already.
        let of_preflight = [
            &b"access-control-allow-methods"[..],
            b"access-control-allow-headers",
            b"access-control-max-age",
        ];
        starts_with(name, b"access-control-")
            && !(is_preflight && of_preflight.iter().any(|kept| name.eq_ignore_ascii_case(kept)))
    });
    vary(response);
    let Some(origin) = origin(cors, request) else { return };
    response.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        response.set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let exposed =
        (!cors.expose.is_empty() && !is_preflight).then(|| list(cors.expose.iter().map(HeaderName::as_str)));
    if let Some(exposed) = exposed.flatten() {
        response.set(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The value of Access-Control-Allow-Origin.
fn origin(cors: &Cors, request: &RequestHead) -> Option<HeaderValue> {
    cors.allowed_origin(request.headers.text(header::ORIGIN)?)
}

/// Caches keep one response per origin.
fn vary(response: &mut impl EditHeaders) {
    let mut is_there = false;
    response.each(&header::VARY, |value| is_there |= has_word(value, b"origin") || has_word(value, b"*"));
    if !is_there {
        response.add(header::VARY, HeaderValue::from_static("Origin"));
    }
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    HeaderValue::from_str(&words.collect::<Vec<_>>().join(", ")).ok()
}
