//! Consequences of a failed attempt: whether another server gets the request, and what the client is told.

use http::StatusCode;

use crate::{
    exchange::context::RequestContext,
    message::RequestHead,
    observe::Metrics,
    response::Explanation,
    upstream::{
        CannotTranslate, NoServer, Upstream,
        retry::{self, Attempt, Decision, Failure},
    },
};

/// Seconds after which a client that found no server may ask again.
const ASK_AGAIN: u32 = 5;

/// No server could be had.
pub(crate) fn no_server(upstream: &Upstream, none: NoServer) -> Explanation {
    let sentence = match none {
        NoServer::Expired(held) if held.is_zero() => {
            "No server can be reached at the moment. Please try again soon.".into()
        }
        NoServer::Expired(held) => {
            let held = humantime::format_duration(held);
            format!("No server could be reached for {held}. Please try again soon.")
        }
        NoServer::Gone => "What was asked for is no longer there. Please try again.".into(),
        NoServer::Stopping => "The service is being restarted. Please try again soon.".into(),
        NoServer::QueueFull(_) => "Too many requests are waiting already. Please try again soon.".into(),
    };
    tracing::warn!(upstream = upstream.name, reason = %none, "a request got no server: 503");
    Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(ASK_AGAIN)
}

/// The mistake is ours.
pub(crate) fn internal() -> Explanation {
    Explanation::new(StatusCode::INTERNAL_SERVER_ERROR, "The proxy could not serve the request.")
}

/// Why there is no connection to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectFailure {
    /// In a word, for the log and the `reason` label.
    pub(crate) reason: &'static str,
    /// The proxy itself lacks something (file descriptors): no evidence against the server.
    pub(crate) ours: bool,
}

/// A server could not be connected to: nothing was sent, so another one gets the request, whatever its method.
pub(crate) fn connection_failed(
    metrics: &Metrics,
    request: &RequestHead,
    replayable: bool,
    failure: ConnectFailure,
    context: &mut RequestContext,
) -> Decision {
    context.failed_connects += 1;
    let decision = decide(Failure::Connect, request, replayable, context);
    if let Some(lease) = context.lease.take() {
        let group = lease.upstream();
        metrics.connect_failure(&group.name, &lease.server().label, failure.reason);
        if decision == Decision::Retry {
            metrics.retry(&group.name, "connect");
        }
        if failure.ours {
            tracing::error!("cannot make connections; is the limit of open files too low?");
        } else {
            group.failed(lease.server(), failure.reason);
        }
    }
    decision
}

/// The exchange with a server broke off. Decides whether another one gets the request.
pub(crate) fn exchange_failed(
    metrics: &Metrics,
    request: &RequestHead,
    replayable: bool,
    failure: Failure,
    context: &mut RequestContext,
) -> Decision {
    let failure = if context.has_response { Failure::WithinResponse } else { failure };
    if failure == Failure::Unread {
        // Like a connection that was refused: not a try.
        context.failed_connects += 1;
        context.tries -= 1;
    } else {
        context.failed_connects = 0;
    }
    let decision = decide(failure, request, replayable, context);
    if let Some(lease) = &context.lease {
        // Where requests share a connection, it may go on without this one, or end in order.
        let is_stream = lease.settings().http2;
        if matches!(failure, Failure::BeforeResponse | Failure::Unread) && !context.reused && !is_stream {
            // A fresh connection that breaks is evidence; an old one may just have been due.
            lease.upstream().cut(lease.server());
        }
        match failure {
            Failure::ReadTimeout => lease.timed_out(),
            Failure::BeforeResponse | Failure::Unread if context.reused => {}
            Failure::Unread if is_stream => context.selection.avoid(lease.server()),
            _ => lease.broke(),
        }
        if decision == Decision::Retry {
            let reason = if failure == Failure::Unread { "unread" } else { "closed" };
            metrics.retry(&lease.upstream().name, reason);
            context.was_stale |= context.reused;
            if failure == Failure::Unread {
                // Nothing more: it was no try.
            } else if context.reused {
                // The server was closing a connection it had kept: no evidence against it, and no try.
                context.tries -= 1;
            } else {
                lease.upstream().retries();
                context.selection.avoid(lease.server());
            }
        }
    }
    decision
}

/// Whether another server is asked in place of the one that has answered with this status (`retry.on`).
pub(crate) fn retries_on_status(
    metrics: &Metrics,
    request: &RequestHead,
    replayable: bool,
    status: StatusCode,
    context: &mut RequestContext,
) -> bool {
    let (Some(route), Some(lease)) = (&context.route, &context.lease) else { return false };
    let on = route.settings.proxy.retry.on.as_ref().unwrap_or(&lease.settings().retry.on);
    if !on.contains(&status) {
        return false;
    }
    let upstream = lease.upstream();
    let has_other = upstream.has_other(&context.selection, lease.server());
    let any_method = context.repeats_any_method();
    let Some(attempt) = attempt(Failure::Status, request, replayable, any_method, context) else {
        return false;
    };
    if retry::after_status(&attempt, has_other) == Decision::GiveUp {
        return false;
    }
    metrics.retry(&upstream.name, "status");
    upstream.retries();
    context.selection.avoid(lease.server());
    true
}

fn decide(failure: Failure, request: &RequestHead, replayable: bool, context: &RequestContext) -> Decision {
    let repeatable = context.is_repeatable(&request.headers);
    let attempt = attempt(failure, request, replayable, repeatable, context);
    let decision = attempt.map_or(Decision::GiveUp, |attempt| retry::decide(&attempt));
    context.trace_failure(failure, replayable, decision);
    decision
}

/// The facts about an attempt that failed; `None` where no server was to be asked.
fn attempt<'a>(
    failure: Failure,
    request: &'a RequestHead,
    replayable: bool,
    repeatable: bool,
    context: &RequestContext,
) -> Option<Attempt<'a>> {
    let route = context.route.as_ref()?;
    let upstream = context.upstream()?;
    Some(Attempt {
        failure,
        method: &request.method,
        repeatable,
        replayable,
        reused: context.reused,
        tries: context.tries,
        most_tries: route.settings.proxy.retry.tries.unwrap_or_else(|| upstream.settings().retry.tries),
        failed_connects: context.failed_connects,
        budget: upstream.may_retry(),
    })
}

/// Explanation for the client of a request that is given up after this failure.
pub(crate) fn explain(failure: Failure) -> Explanation {
    let (status, sentence) = match failure {
        Failure::Connect => {
            (StatusCode::BAD_GATEWAY, "No connection to a server could be made. Please try again soon.")
        }
        Failure::Unread => (
            StatusCode::BAD_GATEWAY,
            "The server closed the connection before it read the request. Please try again soon.",
        ),
        Failure::BeforeResponse | Failure::WithinResponse => (
            StatusCode::BAD_GATEWAY,
            "The server closed the connection while it was at work on the request, which was not sent again: please \
             check whether it took effect.",
        ),
        Failure::ReadTimeout => (StatusCode::GATEWAY_TIMEOUT, "The server took too long to answer."),
        Failure::Malformed | Failure::Status => {
            (StatusCode::BAD_GATEWAY, "The server's answer cannot be understood.")
        }
    };
    Explanation::new(status, sentence)
}

/// The head does not fit into what the server speaks.
fn head_too_large() -> Explanation {
    let sentence = "The head of the request is larger than the server can take (64 KiB of uwsgi variables).";
    Explanation::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, sentence)
}

/// The head cannot be said in what the server speaks.
pub(crate) fn cannot_translate(error: CannotTranslate) -> Explanation {
    match error {
        CannotTranslate::TooLarge(_) => head_too_large(),
        CannotTranslate::NotHttp2(_) => bad_request(),
    }
}

/// A WebSocket is asked for, and the server speaks HTTP/2.
pub(crate) fn no_websocket(context: &RequestContext) -> Explanation {
    let upstream = context.upstream().map(|upstream| &*upstream.name);
    tracing::warn!(request_id = %context.id, upstream, "WebSockets to servers that speak HTTP/2 are not supported: 501");
    Explanation::new(StatusCode::NOT_IMPLEMENTED, "WebSockets are not supported here.")
}

/// The body cannot be taken in.
pub(crate) fn no_room(error: &std::io::Error) -> Explanation {
    tracing::error!(%error, "the body of a request could not be kept in a temporary file: 507");
    let sentence = "There is no room for the body of the request at the moment. Please try again later.";
    Explanation::new(StatusCode::INSUFFICIENT_STORAGE, sentence).retry_after(ASK_AGAIN)
}

/// The client has paused for too long within its body.
pub(crate) fn body_timeout() -> Explanation {
    Explanation::new(StatusCode::REQUEST_TIMEOUT, "The body of the request took too long to arrive.")
}

/// The client sends its body too slowly.
pub(crate) fn body_too_slow() -> Explanation {
    Explanation::new(StatusCode::REQUEST_TIMEOUT, "The body of the request arrived too slowly.")
}

/// Explanation for a response whose application names something that cannot be sent in its place.
pub(crate) fn leads_nowhere() -> Explanation {
    Explanation::new(StatusCode::BAD_GATEWAY, "The application's answer leads nowhere.")
}

/// The server has responded to the handshake of a WebSocket with another success. Over HTTP/2 the client would take that for
/// an open WebSocket (RFC 8441 §5).
pub(crate) fn not_switched() -> Explanation {
    Explanation::new(StatusCode::BAD_GATEWAY, "The server did not open a WebSocket.")
}

/// Explanation for a malformed request.
pub(crate) fn bad_request() -> Explanation {
    Explanation::new(StatusCode::BAD_REQUEST, "The request cannot be understood.")
}
