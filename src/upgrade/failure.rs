//! Failures of handshakes: their cause, whether another server is tried, and the response to the client.

use std::io;

use http::StatusCode;
use pingora_error::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::{engine::request_head, io::with_transport, send};
use crate::{
    downstream::Transport,
    exchange::{self, ConnectFailure, RequestContext},
    observe::Metrics,
    response::Explanation,
    upstream::{
        self,
        retry::{Decision, Failure},
    },
};

/// Error that carries an [`Explanation`] through the engine to [`explain`].
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.sentence)]
struct ClientExplanation(Explanation);

/// An error that makes [`explain`] send `explanation` to the client.
pub(super) fn refused(explanation: Explanation) -> Box<Error> {
    let mut error = Error::new_down(ErrorType::HTTPStatus(explanation.status.as_u16()));
    error.cause = Some(Box::new(ClientExplanation(explanation)));
    error
}

/// Handles a failed connection to a server.
pub(super) fn on_connect_error(
    metrics: &Metrics,
    context: &mut RequestContext,
    mut error: Box<Error>,
) -> Box<Error> {
    let system = error.root_cause().downcast_ref::<io::Error>();
    let failure = ConnectFailure {
        reason: connect_reason(&error),
        ours: system.is_some_and(upstream::is_local_shortage),
    };
    let decision = exchange::connection_failed(metrics, &request_head(context), true, failure, context);
    error.set_retry(decision == Decision::Retry);
    error
}

/// Error that moves the request to another server (`retry.on`).
#[derive(Debug, thiserror::Error)]
#[error("the request moves to another server")]
struct MovedToAnotherServer;

/// An error that moves the request to another server.
pub(super) fn move_to_another_server() -> Box<Error> {
    Error::because(ErrorType::InternalError, "retrying on another server", MovedToAnotherServer)
}

/// Short reason for the log and the `reason` label.
fn connect_reason(error: &Error) -> &'static str {
    match error.root_etype() {
        ErrorType::ConnectTimedout => "timeout",
        ErrorType::ConnectRefused => "refused",
        ErrorType::ConnectNoRoute => "unreachable",
        _ => error.root_cause().downcast_ref::<io::Error>().map_or("error", upstream::error_label),
    }
}

/// Handles an exchange with a server that broke off, and decides whether the request is retried.
pub(super) fn on_exchange_error(
    metrics: &Metrics,
    context: &mut RequestContext,
    mut error: Box<Error>,
) -> Box<Error> {
    if error.cause.as_ref().is_some_and(|cause| cause.is::<MovedToAnotherServer>()) {
        error.set_retry(true);
        return error;
    }
    error.set_retry(false);
    if *error.esource() != ErrorSource::Upstream {
        return error;
    }
    let decision =
        exchange::exchange_failed(metrics, &request_head(context), true, classify(&error), context);
    error.set_retry(decision == Decision::Retry);
    error
}

/// Kind of failure, as our retry policy classifies it.
fn classify(error: &Error) -> Failure {
    match error.etype() {
        _ if io_kind(error) == Some(io::ErrorKind::InvalidData) => Failure::Malformed,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::ReadTimeout,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => Failure::BeforeResponse,
        ErrorType::ConnectError
        | ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute => Failure::Connect,
        _ => Failure::Malformed,
    }
}

/// Sends an error response, unless the response has begun: then the connection is closed, so that the client does not
/// take a part for the whole.
pub(super) async fn explain(
    session: &mut Session,
    error: &Error,
    context: &mut RequestContext,
) -> FailToProxy {
    let explanation = explanation(error);
    context.lease = None;
    session.set_keepalive(None);
    let has_begun = send::has_begun(session);
    let Some(explanation) = explanation.filter(|_| !has_begun) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    // Fails only without a connection.
    let _ = with_transport(session, Transport::close_unannounced);
    let code = explanation.status.as_u16();
    let request = request_head(context);
    let response = exchange::finish(explanation.answer(&request.headers), &request, context);
    if let Err(error) = send::respond(session, response, context).await {
        tracing::debug!(%error, "cannot send the error response to the client");
    }
    FailToProxy { error_code: code, can_reuse_downstream: false }
}

/// Kind of the I/O error from our transport or our connection to a server: `TimedOut` after a timeout, `InvalidData`
/// for malformed HTTP.
fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Explanation for the client; `None` when the client has left.
fn explanation(error: &Error) -> Option<Explanation> {
    if let Some(refusal) = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<ClientExplanation>()) {
        return Some(refusal.0.clone());
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
