//! What went wrong, whose fault it is, whether to try again, and what to tell the client.

use std::io;

use http::{StatusCode, Version};
use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::{replay, send};
use crate::{
    answer::Explanation,
    exchange::Exchange,
    handler,
    observe::Metrics,
    upstream::{
        self, NoServer, Upstream,
        retry::{self, Attempt, Decision, Failure},
    },
};

/// Seconds after which a client that found no server may ask again.
const ASK_AGAIN: u32 = 5;

/// Carries an [`Explanation`] through the engine to [`explain`].
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.sentence)]
struct Told(Explanation);

/// An error that tells the client `explanation`.
pub(super) fn refused(explanation: Explanation) -> Box<Error> {
    let mut error = Error::new_down(ErrorType::HTTPStatus(explanation.status.as_u16()));
    error.cause = Some(Box::new(Told(explanation)));
    error
}

/// No server could be had.
pub(super) fn no_server(upstream: &Upstream, none: NoServer) -> Box<Error> {
    let sentence = match none {
        NoServer::Expired(held) if held.is_zero() => {
            "No server can be reached at the moment. Please try again soon.".into()
        }
        NoServer::Expired(held) => {
            let held = humantime::format_duration(held);
            format!("No server could be reached for {held}. Please try again soon.")
        }
        NoServer::Gone => "What was asked for is no longer there. Please try again.".into(),
        NoServer::QueueFull(_) => "Too many requests are waiting already. Please try again soon.".into(),
    };
    tracing::warn!(upstream = upstream.name, reason = %none, "a request got no server: 503");
    refused(Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(ASK_AGAIN))
}

/// A server could not be connected to: nothing was sent, so another one gets the request, whatever its method.
pub(super) fn at_connect(
    metrics: &Metrics,
    session: &Session,
    exchange: &mut Exchange,
    mut error: Box<Error>,
) -> Box<Error> {
    exchange.failed_connects += 1;
    let decision = decide(Failure::Connect, session, exchange);
    if let Some(lease) = exchange.lease.take() {
        let reason = connect_reason(&error);
        let group = lease.upstream();
        metrics.connect_failure(&group.name, &lease.server().label, reason);
        if decision == Decision::Retry {
            metrics.retry(&group.name, "connect");
        }
        let system = error.root_cause().downcast_ref::<io::Error>();
        if system.is_some_and(upstream::is_our_own_want) {
            tracing::error!(%error, "cannot make connections; is the limit of open files too low?");
        } else {
            group.failed(lease.server(), reason);
        }
    }
    error.set_retry(decision == Decision::Retry);
    error
}

/// Carries the request from one server to another that the first has named.
#[derive(Debug, thiserror::Error)]
#[error("another server is asked")]
struct Elsewhere;

/// The request goes to another server, which its exchange names.
pub(super) fn elsewhere() -> Box<Error> {
    Error::because(ErrorType::InternalError, "redirected inside", Elsewhere)
}

/// The server switches protocols, and nobody has asked it to.
pub(super) fn uninvited_upgrade() -> Box<Error> {
    Error::explain(ErrorType::InvalidHTTPHeader, "101 without an Upgrade in the request").into_up()
}

fn decide(failure: Failure, session: &Session, exchange: &Exchange) -> Decision {
    let Some(route) = &exchange.route else { return Decision::GiveUp };
    let Some(upstream) = &route.upstream else { return Decision::GiveUp };
    let (request, settings) = (session.req_header(), route.settings.retry);
    retry::decide(&Attempt {
        failure,
        method: &request.method,
        repeatable: settings.any_method || request.headers.contains_key(retry::IDEMPOTENCY_KEY),
        replayable: replay::is_replayable(session),
        reused: exchange.reused,
        tries: exchange.tries,
        most_tries: settings.tries.unwrap_or_else(|| upstream.settings().retry.tries),
        failed_connects: exchange.failed_connects,
        budget: upstream.may_retry(),
    })
}

/// A few words for the log and the `reason` label.
fn connect_reason(error: &Error) -> &'static str {
    match error.root_etype() {
        ErrorType::ConnectTimedout => "timeout",
        ErrorType::ConnectRefused => "refused",
        ErrorType::ConnectNoRoute => "unreachable",
        _ => error.root_cause().downcast_ref::<io::Error>().map_or("error", upstream::why),
    }
}

/// The exchange with a server broke off. Decides whether another one gets the request.
pub(super) fn while_proxying(
    metrics: &Metrics,
    session: &Session,
    exchange: &mut Exchange,
    mut error: Box<Error>,
) -> Box<Error> {
    if error.cause.as_ref().is_some_and(|cause| cause.is::<Elsewhere>()) {
        error.set_retry(true);
        return error;
    }
    error.set_retry(false);
    if *error.esource() != ErrorSource::Upstream {
        return error;
    }
    let failure = classify(&error, exchange.answered);
    let decision = decide(failure, session, exchange);
    if let Some(lease) = &exchange.lease {
        if failure == Failure::BeforeAnswer && !exchange.reused {
            // A fresh connection that breaks is evidence; an old one may just have been due.
            lease.upstream().failed(lease.server(), "closed the connection before an answer");
        }
        if failure == Failure::Silence {
            lease.timed_out();
        }
        if decision == Decision::Retry {
            if !exchange.reused {
                lease.upstream().retries();
            }
            metrics.retry(&lease.upstream().name, "closed");
            exchange.turn.avoid(lease.server());
        }
    }
    error.set_retry(decision == Decision::Retry);
    error
}

fn classify(error: &Error, answered: bool) -> Failure {
    match error.etype() {
        _ if answered => Failure::WithinAnswer,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Silence,
        ErrorType::ReadError
        | ErrorType::WriteError
        | ErrorType::ConnectionClosed
        | ErrorType::ConnectError => Failure::BeforeAnswer,
        _ => Failure::Malformed,
    }
}

/// Tells the client, unless its answer has begun: then the connection ends, so that a part is not taken for the
/// whole.
pub(super) async fn explain(session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
    let explanation = explanation(error);
    exchange.lease = None;
    if exchange.collected.is_some() {
        // Nothing has gone to the client; what goes in its place is made at the end.
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    session.set_keepalive(None);
    let begun = send::has_begun(session);
    if begun
        && session.req_header().version < Version::HTTP_11
        && let Ok(transport) = send::transport(session)
    {
        transport.reset_at_close();
    }
    let Some(explanation) = explanation.filter(|_| !begun) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    let code = explanation.status.as_u16();
    let answer = handler::finish(explanation.answer(&session.req_header().headers), exchange);
    if let Err(error) = send::answer(session, answer, exchange).await {
        tracing::debug!(%error, "the client did not take the explanation");
    }
    FailToProxy { error_code: code, can_reuse_downstream: false }
}

/// Whether our transport has lost its patience with the client.
fn is_timeout(error: &Error) -> bool {
    let system = error.root_cause().downcast_ref::<io::Error>();
    system.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// What to say; `None` when there is nobody to tell.
fn explanation(error: &Error) -> Option<Explanation> {
    if let Some(told) = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<Told>()) {
        return Some(told.0.clone());
    }
    let (status, sentence) = match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => (
            StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "The request was refused.",
        ),
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            (StatusCode::GATEWAY_TIMEOUT, "The server took too long to answer.")
        }
        (
            ErrorSource::Upstream,
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed,
        ) => (
            StatusCode::BAD_GATEWAY,
            "The server went away while it was at work on the request. It was not sent again, because that is not \
             safe: please check whether it took effect.",
        ),
        (
            ErrorSource::Upstream,
            ErrorType::ConnectError
            | ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute,
        ) => (StatusCode::BAD_GATEWAY, "No connection to a server could be made. Please try again soon."),
        (ErrorSource::Upstream, _) => (StatusCode::BAD_GATEWAY, "The server's answer cannot be understood."),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => {
            (StatusCode::REQUEST_TIMEOUT, "The body of the request took too long to arrive.")
        }
        (ErrorSource::Downstream, ErrorType::ReadError) if is_timeout(error) => {
            (StatusCode::REQUEST_TIMEOUT, "The body of the request arrived too slowly.")
        }
        (
            ErrorSource::Downstream,
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed,
        ) => {
            return None;
        }
        (ErrorSource::Downstream, _) => (StatusCode::BAD_REQUEST, "The request cannot be understood."),
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "The proxy could not serve the request.")
        }
    };
    Some(Explanation::new(status, sentence))
}
