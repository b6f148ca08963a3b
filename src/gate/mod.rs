//! What may answer before a route's action: limits on methods and on the size of bodies.

mod https;

pub(crate) use https::Https;

use http::{HeaderValue, Method, StatusCode, header, request};

use crate::{
    answer::{Answer, Explanation},
    config::{Action, Route},
};

/// Refuses what the route does not take.
pub(crate) fn refuse(route: &Route, request: &request::Parts) -> Option<Answer> {
    refuse_method(route, request).or_else(|| refuse_body(route, request)).or_else(|| end_here(route, request))
}

/// OPTIONS that may not be passed on is answered by who holds it then (RFC 9110 §7.6.2).
fn end_here(route: &Route, request: &request::Parts) -> Option<Answer> {
    let goes_on = matches!(route.action, Action::Proxy(_)) && request.method == Method::OPTIONS;
    let left = request.headers.get(header::MAX_FORWARDS).filter(|_| goes_on)?;
    (left == "0").then(|| Answer::empty(StatusCode::NO_CONTENT))
}

/// TRACE would echo what nobody should see (RFC 9110 §9.3.8); files can only be read.
fn refuse_method(route: &Route, request: &request::Parts) -> Option<Answer> {
    const READ: &[Method] = &[Method::GET];
    let allowed = match (&route.methods, &route.action) {
        (Some(methods), _) => Some(methods.as_slice()),
        (None, Action::Files(_)) => Some(READ),
        (None, _) => None,
    };
    let method = &request.method;
    let implied = if *method == Method::HEAD { &Method::GET } else { method };
    let fits = |methods: &[Method]| methods.contains(method) || methods.contains(implied);
    if *method != Method::TRACE && allowed.is_none_or(fits) {
        return None;
    }
    let mut names: Vec<&str> = allowed.unwrap_or_default().iter().map(Method::as_str).collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    // What may be done with a file is no secret; OPTIONS asks for just that (RFC 9110 §9.3.7).
    let is_question = *method == Method::OPTIONS && route.methods.is_none();
    let mut answer = if is_question {
        Answer::empty(StatusCode::NO_CONTENT)
    } else {
        let sentence = format!("{method} is not allowed for this address.");
        Explanation::new(StatusCode::METHOD_NOT_ALLOWED, sentence).answer(&request.headers)
    };
    if let Ok(allow) = HeaderValue::from_str(&names.join(", ")) {
        answer.headers.insert(header::ALLOW, allow);
    }
    Some(answer)
}

fn refuse_body(route: &Route, request: &request::Parts) -> Option<Answer> {
    let limit = route.max_body?;
    let length: u64 = request.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (length > limit).then(|| too_large(limit).answer(&request.headers))
}

/// The body is, or has turned out to be, larger than the route takes.
pub(crate) fn too_large(limit: u64) -> Explanation {
    Explanation::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The body of the request is larger than the {limit} bytes that are taken here (max_body)."),
    )
}
