//! Headers that a route adds to its responses, those of the upstream and those of the proxy.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, StatusCode, header};

use crate::{
    config::RouteSettings,
    message::{EditHeaders, http_date},
};

/// Adds the route's `expires` and `headers`.
///
/// `headers` are set on every response, errors included (a CORS header missing from a 404 hides the 404 from the page
/// that made the request). `expires` is set only on responses that can be cached.
pub(crate) fn apply_route_headers(
    response: &mut impl EditHeaders,
    status: StatusCode,
    route: &RouteSettings,
) {
    if let Some(expires) = route.expires.filter(|_| status.is_success() || status == StatusCode::NOT_MODIFIED)
    {
        expire(response, expires, SystemTime::now());
    }
    for (name, value) in &route.headers {
        response.set(name.clone(), value.clone());
    }
}

fn expire(response: &mut impl EditHeaders, expires: Duration, now: SystemTime) {
    let seconds = expires.as_secs();
    if let Ok(max_age) = HeaderValue::from_str(&format!("max-age={seconds}")) {
        response.set(header::CACHE_CONTROL, max_age);
    }
    response.set(header::EXPIRES, http_date(now + expires));
}
