//! Telling the client why there is no other response, and recording what was sent.

use http::{StatusCode, header};
use pingora_error::{Error, ErrorSource, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::io::with_transport;
use crate::{
    exchange::{RequestContext, Sent},
    message::is_interim,
    observe::How,
    response::{Body, Response},
};

/// Whether the client has got the head of its response, or the connection has become a tunnel: then nothing else may be
/// written to it.
pub(super) fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|written| !is_interim(written.status))
}

/// Sends an answer that is in memory, as explanations are.
pub(super) async fn answer(
    session: &mut Session,
    answer: Response,
    exchange: &mut RequestContext,
) -> Result<()> {
    close_if_stopping(session);
    exchange.how = How::Memory;
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 3))?;
    for (name, value) in &answer.headers {
        head.append_header(name, value)?;
    }
    head.insert_header(header::CONTENT_LENGTH, answer.body.length())?;
    let head = Box::new(head);
    match answer.body {
        Body::Bytes(bytes) if !bytes.is_empty() => {
            session.write_response_header(head, false).await?;
            session.write_response_body(Some(bytes), true).await
        }
        Body::Empty | Body::Bytes(_) | Body::Pieces { .. } => session.write_response_header(head, true).await,
    }
}

/// Tells the client not to send another request on a connection whose listener is closing. Must come before the head
/// of the response.
pub(super) fn close_if_stopping(session: &mut Session) {
    if with_transport(session, |transport| transport.peer.listener.is_closing()).is_ok_and(|closing| closing)
    {
        session.set_keepalive(None);
    }
}

/// What the client got by the engine.
pub(super) fn sent(session: &Session, error: Option<&Error>) -> Sent {
    Sent { status: status(session, error), bytes: session.body_bytes_sent() as u64 }
}

/// The status that the client got.
fn status(session: &Session, error: Option<&Error>) -> StatusCode {
    let written = session.response_written().map(|written| written.status);
    let left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    written.unwrap_or(if left { Sent::nothing().status } else { StatusCode::INTERNAL_SERVER_ERROR })
}
