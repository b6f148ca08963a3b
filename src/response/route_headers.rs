//! Fields that a route adds to its answers, whoever made them.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, StatusCode, header};

use crate::{
    config::RouteSettings,
    message::{EditHeaders, http_date},
};

/// Adds the route's `expires` and `headers`.
///
/// `headers` go on every answer, errors included (a CORS field that is missing from a 404 hides the 404 from the
/// page that asked); `expires` only where there is something to keep.
pub(crate) fn apply_route_headers(answer: &mut impl EditHeaders, status: StatusCode, route: &RouteSettings) {
    if let Some(expires) = route.expires.filter(|_| status.is_success() || status == StatusCode::NOT_MODIFIED)
    {
        expire(answer, expires, SystemTime::now());
    }
    for (name, value) in &route.headers {
        answer.set(name.clone(), value.clone());
    }
}

fn expire(answer: &mut impl EditHeaders, expires: Duration, now: SystemTime) {
    let seconds = expires.as_secs();
    if let Ok(max_age) = HeaderValue::from_str(&format!("max-age={seconds}")) {
        answer.set(header::CACHE_CONTROL, max_age);
    }
    answer.set(header::EXPIRES, http_date(now + expires));
}
