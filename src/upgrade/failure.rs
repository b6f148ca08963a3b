//! What went wrong, whose fault it is, whether to try again, and what to tell the client.

use std::io;

use http::StatusCode;
use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::{engine::asked, io::with_transport, send};
use crate::{
    downstream::Transport,
    exchange::{self, NoConnection, RequestContext},
    observe::Metrics,
    response::Explanation,
    upstream::{
        self,
        retry::{Decision, Failure},
    },
};

/// Carries an [`Explanation`] through the engine to [`explain`].
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.sentence)]
struct ClientExplanation(Explanation);

/// An error that tells the client `explanation`.
pub(super) fn refused(explanation: Explanation) -> Box<Error> {
    let mut error = Error::new_down(ErrorType::HTTPStatus(explanation.status.as_u16()));
    error.cause = Some(Box::new(ClientExplanation(explanation)));
    error
}

/// A server could not be connected to.
pub(super) fn at_connect(
    metrics: &Metrics,
    exchange: &mut RequestContext,
    mut error: Box<Error>,
) -> Box<Error> {
    let system = error.root_cause().downcast_ref::<io::Error>();
    let failure =
        NoConnection { reason: connect_reason(&error), ours: system.is_some_and(upstream::is_our_own_want) };
    let decision = exchange::connection_failed(metrics, &asked(exchange), true, failure, exchange);
    error.set_retry(decision == Decision::Retry);
    error
}

/// Carries the request from one server to another one (`retry.on`).
#[derive(Debug, thiserror::Error)]
#[error("another server is asked")]
struct Elsewhere;

/// The request goes to another server.
pub(super) fn elsewhere() -> Box<Error> {
    Error::because(ErrorType::InternalError, "tried elsewhere", Elsewhere)
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
    exchange: &mut RequestContext,
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
    let decision = exchange::exchange_failed(metrics, &asked(exchange), true, classify(&error), exchange);
    error.set_retry(decision == Decision::Retry);
    error
}

/// How an attempt has failed in the eyes of our policy.
fn classify(error: &Error) -> Failure {
    match error.etype() {
        _ if io_kind(error) == Some(io::ErrorKind::InvalidData) => Failure::Malformed,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Silence,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => Failure::BeforeAnswer,
        ErrorType::ConnectError
        | ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute => Failure::Connect,
        _ => Failure::Malformed,
    }
}

/// Tells the client, unless its answer has begun: then the connection ends, so that a part is not taken for the
/// whole.
pub(super) async fn explain(
    session: &mut Session,
    error: &Error,
    exchange: &mut RequestContext,
) -> FailToProxy {
    let explanation = explanation(error);
    exchange.lease = None;
    session.set_keepalive(None);
    let begun = send::has_begun(session);
    let Some(explanation) = explanation.filter(|_| !begun) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    // Fails only where there is no connection any more.
    let _ = with_transport(session, Transport::close_unannounced);
    let code = explanation.status.as_u16();
    let answer = exchange::finish(explanation.answer(&asked(exchange).headers), exchange);
    if let Err(error) = send::answer(session, answer, exchange).await {
        tracing::debug!(%error, "the client did not take the explanation");
    }
    FailToProxy { error_code: code, can_reuse_downstream: false }
}

/// What our transport, or our connection to a server, says is wrong: `TimedOut` when it has lost its patience,
/// `InvalidData` when what comes is not HTTP.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind)
}

/// What to say; `None` when there is nobody to tell.
fn explanation(error: &Error) -> Option<Explanation> {
    if let Some(told) = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<ClientExplanation>()) {
        return Some(told.0.clone());
    }
    Some(match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Explanation::new(status, "The request was refused.")
        }
        (ErrorSource::Upstream, _) => exchange::explain(classify(error)),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => exchange::body_timeout(),
        (ErrorSource::Downstream, ErrorType::ReadError)
            if io_kind(error) == Some(io::ErrorKind::TimedOut) =>
        {
            exchange::body_too_slow()
        }
        (ErrorSource::Downstream, ErrorType::ReadError)
            if io_kind(error) == Some(io::ErrorKind::InvalidData) =>
        {
            exchange::bad_request()
        }
        (
            ErrorSource::Downstream,
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed,
        ) => {
            return None;
        }
        (ErrorSource::Downstream, _) => exchange::bad_request(),
        (ErrorSource::Internal | ErrorSource::Unset, _) => exchange::internal(),
    })
}
