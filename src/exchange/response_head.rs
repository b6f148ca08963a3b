//! A server's response: what the application says to us in it, and what the client gets of it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::PathAndQuery};

use crate::{
    downstream::Transport,
    exchange::{
        admit,
        cached::{self, CacheVerdict},
        context::RequestContext,
        failure,
        finish::{add_client_headers, finish},
        internal_redirect::{Replacement, accelerate},
        map_back::map_back,
        tools,
        values::MatchedPath,
    },
    files::{accelerated, archive},
    message::{EditHeaders, RequestHead, is_event_stream, named_in_connection, write_plain_length},
    net::Pace,
    observe::BodySource,
    response::{Explanation, Response, prefers_json},
    site::Route,
    state::State,
    upstream::{ResponseOutcome, Selection},
};

/// Verdict on a server's response.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The client gets it.
    PassOn,
    /// The client gets this in its place.
    Replace(Response),
    /// The body is the list of an archive, which the client gets in its place.
    Archive,
    /// Another server is asked: another one of the upstream, or that of the route which the exchange names.
    RetryElsewhere,
    /// The response leads nowhere: the client gets an error.
    Refuse(Explanation),
}

/// Takes the head of a server's response, which is no interim one; `has_body` says whether the client has sent one.
pub(crate) async fn receive_head(
    state: &State,
    transport: &mut Transport,
    request: &RequestHead,
    has_body: bool,
    (status, response): (StatusCode, &mut impl EditHeaders),
    context: &mut RequestContext,
) -> Verdict {
    if context.tool.is_some() {
        tools::forget_instructions(response);
    }
    context.has_response = true;
    context.how = BodySource::Proxy;
    record_response_head(state, status, response, context);
    if failure::retries_on_status(&state.metrics, request, transport.is_replayable(), status, context) {
        return Verdict::RetryElsewhere;
    }
    if context.cache.is_some() {
        match Box::pin(cached::receive(state, request, (status, response), context)).await {
            CacheVerdict::PassOn => {}
            CacheVerdict::Replace(stored) => {
                context.lease = None;
                return Verdict::Replace(stored);
            }
            CacheVerdict::AskAgain => return Verdict::RetryElsewhere,
        }
    }
    if let Err(too_many) = admit::count_as_in_progress(context) {
        return Verdict::Refuse(too_many);
    }
    transport.forget_request();
    let told = response
        .get(&accelerated::X_ACCEL_LIMIT_RATE)
        .and_then(|rate| std::str::from_utf8(rate).ok()?.parse().ok());
    transport.limit(context.route.as_ref().and_then(|route| pace(route, told)));
    accelerated::set_charset(response);
    if archive::is_list(response) && status == StatusCode::OK {
        drop_connection_fields(response);
        if request.method != Method::HEAD {
            return Verdict::Archive;
        }
        archive::forget_list(response);
        return Verdict::PassOn;
    }
    if accelerated::target(response).is_none() {
        return match site_page(status, response, request, context) {
            Some(response) => Verdict::Replace(response),
            None => Verdict::PassOn,
        };
    }
    drop_connection_fields(response);
    let fields = response.map();
    match accelerate(&state.table(), request, &fields, context).await {
        Replacement::Response(response, route) => {
            if let Some(route) = route.filter(|route| told.is_none() && route.settings.limit_rate.is_some()) {
                transport.limit(pace(&route, None));
            }
            // The worker has done its part; it need not be counted for the length of a download.
            context.lease = None;
            Verdict::Replace(response)
        }
        Replacement::Route(route, target, matched) => {
            save_redirect_headers(&fields, context);
            redirect(has_body, context, (route, matched), target)
        }
    }
}

/// The site's own page in place of a server's error (`errors` with `upstream = true`).
fn site_page(
    status: StatusCode,
    received: &impl EditHeaders,
    request: &RequestHead,
    context: &RequestContext,
) -> Option<Response> {
    context.error_page(status).filter(|page| page.upstream && !prefers_json(&request.headers))?;
    let mut response =
        Explanation::new(status, "The server has responded with an error.").answer(&request.headers);
    // A client must know how to log in, and when to come back.
    for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        received.each(&name, |value| {
            response.headers.extend(HeaderValue::from_bytes(value).ok().map(|value| (name.clone(), value)));
        });
    }
    Some(finish(response, request, context))
}

/// Limit of the sending rate by the route and the site, or by the application (`X-Accel-Limit-Rate`: bytes
/// per second, 0 for no limit of the route's).
pub(crate) fn pace(route: &Route, told: Option<u64>) -> Option<Pace> {
    let rate = told.map_or(route.settings.limit_rate, |told| (told > 0).then_some(told));
    Pace::new(rate, route.settings.limit_rate_after, route.shared_rate.clone())
}

/// Redirects inside before it is taken for a loop, as in nginx.
const MOST_REDIRECTS: u8 = 10;

/// Keeps what the application says to the client beside what another server is to send: who it is, and how the content
/// is to be called and kept.
fn save_redirect_headers(response: &HeaderMap, context: &mut RequestContext) {
    const KEPT: [HeaderName; 4] =
        [header::SET_COOKIE, header::CONTENT_DISPOSITION, header::CACHE_CONTROL, header::EXPIRES];
    for (name, value) in response.iter().filter(|(name, _)| KEPT.contains(name)) {
        context.redirect_headers.push((name.clone(), value.clone()));
    }
}

/// Has a server of another route asked in place of the one that has answered. What the client sent as a body was for
/// that one.
fn redirect(
    has_body: bool,
    context: &mut RequestContext,
    (route, matched): (Arc<Route>, Box<MatchedPath>),
    target: PathAndQuery,
) -> Verdict {
    let trouble = |sentence| {
        tracing::error!(request_id = %context.id, to = %target, "{sentence}");
        Verdict::Refuse(failure::leads_nowhere())
    };
    if has_body {
        return trouble("the application redirects a request with a body to another server");
    }
    if context.redirects == MOST_REDIRECTS {
        return trouble("the application redirects in a circle");
    }
    context.redirects += 1;
    context.redirect = Some(target);
    context.set_route(&route, || matched);
    (context.tries, context.was_stale) = (0, false);
    context.selection = Selection::default();
    Verdict::RetryElsewhere
}

/// The server has begun its response: it is not silent, and how long it took is known. What it says of its load is for us
/// alone.
fn record_response_head(
    state: &State,
    status: StatusCode,
    response: &mut impl EditHeaders,
    context: &mut RequestContext,
) {
    let Some(lease) = &mut context.lease else { return };
    let mut load = None;
    if let Some(name) = &lease.settings().load_header {
        load = response.get(name).and_then(|load| HeaderValue::from_bytes(load).ok());
        response.remove(name);
    }
    let is_stream = status == StatusCode::SWITCHING_PROTOCOLS
        || response.get(&header::CONTENT_TYPE).is_some_and(is_event_stream);
    let result = if is_stream { ResponseOutcome::Stream } else { ResponseOutcome::of(status) };
    let took = lease.response_begun(result, load.as_ref());
    if is_stream {
        // It stays open for hours: no limit counts it as a request in progress.
        context.in_progress.clear();
    }
    context.upstream_took = Some(took);
    let (upstream, server) = (lease.upstream(), lease.server());
    let metrics = || state.metrics.server(&upstream.name, &server.label);
    server.metrics.get_or_init(metrics).answer(status, took);
}

/// Takes out of a head that is passed on what is not for the client: what the application says to us, and what its
/// server says of their connection (RFC 9110 §7.6.1).
pub(crate) fn hide(response: &mut impl EditHeaders) {
    accelerated::hide(response);
    drop_connection_fields(response);
}

/// Removes the fields that `Connection` names, but for what is said to us.
fn drop_connection_fields(response: &mut impl EditHeaders) {
    let named = named_in_connection(|take| response.each(&header::CONNECTION, take));
    for name in named.into_iter().filter(|name| !accelerated::is_to_us(name.as_str().as_bytes())) {
        response.remove(&name);
    }
}

/// Takes out of a head that is passed on what clients must not see, adds what the route adds.
pub(crate) fn pass_on(
    status: StatusCode,
    response: &mut impl EditHeaders,
    request: &RequestHead,
    context: &RequestContext,
) {
    hide(response);
    map_back(response, request, context);
    if status == StatusCode::NO_CONTENT {
        // It has no body, and may not say that it has (RFC 9110 §8.6, RFC 9112 §6.1).
        response.remove(&header::CONTENT_LENGTH);
        response.remove(&header::TRANSFER_ENCODING);
    }
    write_plain_length(response);
    for (name, value) in &context.redirect_headers {
        // Cookies of both are set; of the rest the application's word counts, which knows what it has asked for.
        if *name == header::SET_COOKIE {
            response.add(name.clone(), value.clone());
        } else {
            response.set(name.clone(), value.clone());
        }
    }
    add_client_headers(status, response, request, context);
}
