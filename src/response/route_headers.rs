//! Headers that a route adds to its responses, those of the upstream and those of the proxy.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, StatusCode, header};

use crate::{
    config::{HeaderSetting, Headers, RouteSettings, Template},
    message::{EditHeaders, http_date},
};

/// Applies the route's `expires` and `headers`; `render` gives the values of templates.
///
/// `headers` are set on every response, errors included (a CORS header missing from a 404 hides the 404 from the page
/// that made the request). `expires` is set only on responses that can be cached.
pub(crate) fn apply_route_headers<H: EditHeaders>(
    response: &mut H,
    status: StatusCode,
    route: &RouteSettings,
    render: impl Fn(&Template, &H) -> Option<HeaderValue>,
) {
    if let Some(expires) = route.expires.filter(|_| status.is_success() || status == StatusCode::NOT_MODIFIED)
    {
        expire(response, expires, SystemTime::now());
    }
    change_headers(response, &route.headers, render);
}

/// Sets and removes headers; `render` gives the values of templates, `None` for one that is empty.
pub(crate) fn change_headers<H: EditHeaders>(
    head: &mut H,
    changes: &Headers,
    render: impl Fn(&Template, &H) -> Option<HeaderValue>,
) {
    for (name, setting) in changes {
        let value = match setting {
            HeaderSetting::Value(value) | HeaderSetting::File { value, .. } => Some(value.clone()),
            HeaderSetting::Template(template) => render(template, head),
            HeaderSetting::Remove => None,
        };
        match value {
            Some(value) => head.set(name.clone(), value),
            None => head.remove(name),
        }
    }
}

fn expire(response: &mut impl EditHeaders, expires: Duration, now: SystemTime) {
    let seconds = expires.as_secs();
    if let Ok(max_age) = HeaderValue::from_str(&format!("max-age={seconds}")) {
        response.set(header::CACHE_CONTROL, max_age);
    }
    response.set(header::EXPIRES, http_date(now + expires));
}
