//! Refusals before a route's action: access lists, methods, the size of bodies, limits, and the ceiling of memory.

use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    client::Client,
    clock,
    config::{Action, RouteSettings, Satisfy},
    exchange::{RequestContext, cors},
    limits::{self, Memory},
    message::RequestHead,
    observe::Metrics,
    response::{Explanation, Response},
    site,
};

/// Refuses any request while memory is short.
pub(super) fn refuse_if_memory_full(
    memory: &Memory,
    metrics: &Metrics,
    request: &RequestHead,
) -> Option<Response> {
    let refusal = memory.pass().err()?;
    metrics.refused_request("memory");
    Some(refusal.answer(&request.headers))
}

/// Refuses what the route does not take, as often as it is asked. The request then counts for its limits, once. A CORS
/// preflight request is answered here.
pub(super) fn enter(
    metrics: &Metrics,
    route: &site::Route,
    request: &RequestHead,
    context: &mut RequestContext,
) -> Option<Response> {
    let client = context.client.as_ref()?;
    if let Some(response) = refuse_client(&route.settings, request, client) {
        metrics.refused_request("denied");
        return Some(response);
    }
    let preflight = route.settings.cors.as_ref().and_then(|cors| cors::preflight(cors, request));
    if preflight.is_none()
        && let Some(response) = refuse_request(&route.settings, request)
    {
        return Some(response);
    }
    if route.limits.is_empty() {
        return preflight;
    }
    let may_stream = route.asks_server();
    match limits::pass(&route.limits, request, client, context.started, may_stream) {
        Ok(in_progress) => {
            context.in_progress = in_progress;
            preflight
        }
        Err(refusal) => Some(refusal.answer(&request.headers)),
    }
}

/// Counts a request that has asked for an event stream or a tunnel as one in progress, as its response is something else:
/// else a word in its head would be a way around `connections`.
///
/// # Errors
///
/// What the client is told where that is one too many.
pub(crate) fn count_as_in_progress(context: &mut RequestContext) -> Result<(), Explanation> {
    let Some(client) = &context.client else { return Ok(()) };
    context.in_progress.iter_mut().try_for_each(|one| one.count(client, clock::now()))
}

/// Refuses what the route does not take.
pub(crate) fn refuse(route: &RouteSettings, request: &RequestHead, client: &Client) -> Option<Response> {
    refuse_client(route, request, client).or_else(|| refuse_request(route, request))
}

fn refuse_request(route: &RouteSettings, request: &RequestHead) -> Option<Response> {
    refuse_method(route, request)
        .or_else(|| refuse_body(route, request))
        .or_else(|| answer_max_forwards(route, request))
}

/// OPTIONS that may not be passed on is answered by who holds it then (RFC 9110 §7.6.2).
fn answer_max_forwards(route: &RouteSettings, request: &RequestHead) -> Option<Response> {
    let is_passed_on = matches!(route.action, Action::Proxy(_) | Action::InteractiveTools(_));
    let goes_on = is_passed_on && request.method == Method::OPTIONS;
    let left = goes_on.then(|| request.headers.get(header::MAX_FORWARDS)).flatten()?;
    (left == b"0").then(|| Response::empty(StatusCode::NO_CONTENT))
}

fn refuse_client(route: &RouteSettings, request: &RequestHead, client: &Client) -> Option<Response> {
    let denied = match (route.satisfy, &route.auth) {
        // Who is not in `allow` may log in.
        (Satisfy::Any, Some(_)) => route.access.deny.contains(client.address),
        _ => !route.access.permits(client.address),
    };
    if !denied {
        return None;
    }
    let sentence = format!("Your address, {}, may not ask for this.", client.address);
    Some(Explanation::new(StatusCode::FORBIDDEN, sentence).answer(&request.headers))
}

/// TRACE would echo what nobody should see (RFC 9110 §9.3.8); files can only be read.
fn refuse_method(route: &RouteSettings, request: &RequestHead) -> Option<Response> {
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
    let mut response = if is_question {
        Response::empty(StatusCode::NO_CONTENT)
    } else {
        let sentence = format!("{method} is not allowed for this address.");
        Explanation::new(StatusCode::METHOD_NOT_ALLOWED, sentence).answer(&request.headers)
    };
    if let Ok(allow) = HeaderValue::from_str(&names.join(", ")) {
        response.headers.insert(header::ALLOW, allow);
    }
    Some(response)
}

fn refuse_body(route: &RouteSettings, request: &RequestHead) -> Option<Response> {
    let limit = route.max_body?;
    let length: u64 = request.headers.text(header::CONTENT_LENGTH)?.parse().ok()?;
    (length > limit).then(|| too_large(limit).answer(&request.headers))
}

/// The body is, or has turned out to be, larger than the route takes.
pub(crate) fn too_large(limit: u64) -> Explanation {
    Explanation::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The body of the request is larger than the {limit} bytes that are taken here (max_body)."),
    )
}
