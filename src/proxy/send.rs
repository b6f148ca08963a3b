//! Sending answers of ours through the engine, and recording what was sent.

use http::{Method, StatusCode, header};
use pingora_error::{Error, ErrorSource, ErrorType, OkOrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::engine::asked;
use crate::{
    answer::{Answer, Body},
    exchange::Exchange,
    handler::{
        self, Sent,
        response::{is_interim, pace},
    },
    listen::Transport,
    observe::How,
};

/// Our transport under a request of the engine.
pub(super) fn transport(session: &Session) -> Result<&Transport> {
    let stream = session.as_downstream().as_http1().map(|session| session.stream().as_any());
    stream.and_then(|stream| stream.downcast_ref()).or_err(ErrorType::InternalError, "not our transport")
}

/// Whether the client has got the head of its answer, or the connection has become a tunnel: then nothing else may be
/// written to it.
pub(super) fn has_begun(session: &Session) -> bool {
    session.response_written().is_some_and(|written| !is_interim(written.status))
}

/// Sends an answer.
pub(super) async fn answer(session: &mut Session, answer: Answer, exchange: &mut Exchange) -> Result<()> {
    let answer = handler::for_client(answer, &asked(exchange), exchange).await;
    close_if_stopping(session);
    if exchange.lease.is_none() && !exchange.answered {
        transport(session)?.limit(exchange.route.as_ref().and_then(|route| pace(route, None)));
    }
    let method = session.req_header().method.clone();
    let bodiless = matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    exchange.how = match answer.body {
        Body::Pieces { how, .. } => how,
        Body::Empty | Body::Bytes(_) => How::Memory,
    };
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 3))?;
    for (name, value) in &answer.headers {
        head.append_header(name, value)?;
    }
    if !bodiless {
        head.insert_header(header::CONTENT_LENGTH, answer.body.length())?;
    }
    let head = Box::new(head);
    match answer.body {
        Body::Bytes(bytes) if !bodiless && method != Method::HEAD && !bytes.is_empty() => {
            session.write_response_header(head, false).await?;
            session.write_response_body(Some(bytes), true).await
        }
        Body::Pieces { pieces, length, .. } if !bodiless && method != Method::HEAD && length > 0 => {
            transport(session)?.queue(pieces);
            send_with_pieces(session, head, method).await
        }
        Body::Empty | Body::Bytes(_) | Body::Pieces { .. } => session.write_response_header(head, true).await,
    }
}

/// Tells the client not to send another request on a connection whose listener is closing. Must come before the head
/// of the answer.
pub(super) fn close_if_stopping(session: &mut Session) {
    if transport(session).is_ok_and(|transport| transport.peer.listener.is_closing()) {
        session.set_keepalive(None);
    }
}

/// Has the engine write a head whose body the transport sends.
///
/// The engine takes an answer to HEAD to be complete with its head and flushes it, whatever its Content-Length; our
/// transport's flush then sends what is queued. The engine's own count of body bytes stays at zero.
async fn send_with_pieces(session: &mut Session, head: Box<ResponseHeader>, method: Method) -> Result<()> {
    session.req_header_mut().set_method(Method::HEAD);
    let sent = session.write_response_header(head, true).await;
    session.req_header_mut().set_method(method);
    sent
}

/// What the client got by the engine.
pub(super) fn sent(session: &Session, error: Option<&Error>) -> Sent {
    let queued_bytes = transport(session).map_or(0, Transport::queued_bytes);
    Sent { status: status(session, error), bytes: session.body_bytes_sent() as u64 + queued_bytes }
}

/// The status that the client got.
fn status(session: &Session, error: Option<&Error>) -> StatusCode {
    let written = session.response_written().map(|written| written.status);
    let left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    written.unwrap_or(if left { Sent::nothing().status } else { StatusCode::INTERNAL_SERVER_ERROR })
}
