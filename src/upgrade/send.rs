//! Error responses to the client, and the record of the sent response.

use http::{StatusCode, header};
use pingora_error::{Error, ErrorSource, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::io::with_transport;
use crate::{
    exchange::{RequestContext, Sent},
    message::is_interim,
    observe::BodySource,
    response::{Body, Response},
};

/// Whether the head of the response has been sent, or the connection has become a tunnel: then nothing else may be
/// written to it.
pub(super) fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|written| !is_interim(written.status))
}

/// Sends a response from memory, such as an error page.
pub(super) async fn respond(
    session: &mut Session,
    response: Response,
    context: &mut RequestContext,
) -> Result<()> {
    close_if_stopping(session);
    context.how = BodySource::Memory;
    let mut head = ResponseHeader::build(response.status, Some(response.headers.len() + 3))?;
    for (name, value) in &response.headers {
        head.append_header(name, value)?;
    }
    head.insert_header(header::CONTENT_LENGTH, response.body.length())?;
    let head = Box::new(head);
    match response.body {
        Body::Bytes(bytes) if !bytes.is_empty() => {
            session.write_response_header(head, false).await?;
            session.write_response_body(Some(bytes), true).await
        }
        Body::Empty | Body::Bytes(_) | Body::Pieces { .. } => session.write_response_header(head, true).await,
    }
}

/// Closes the connection after this response when its listener is closing. Must be called before the head is sent.
pub(super) fn close_if_stopping(session: &mut Session) {
    if with_transport(session, |transport| transport.peer.listener.is_closing()).unwrap_or(false) {
        session.set_keepalive(None);
    }
}

/// The response that the client got, for the record.
pub(super) fn sent(session: &Session, error: Option<&Error>) -> Sent {
    Sent { status: status(session, error), bytes: session.body_bytes_sent() as u64 }
}

/// Status of the response that the client got.
fn status(session: &Session, error: Option<&Error>) -> StatusCode {
    let written = session.response_written().map(|written| written.status);
    let left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    written.unwrap_or(if left { Sent::nothing().status } else { StatusCode::INTERNAL_SERVER_ERROR })
}
