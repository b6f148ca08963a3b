//! Sending answers of ours through the engine, and recording what was sent.

use http::{Method, StatusCode, header};
use pingora_error::{Error, ErrorSource, ErrorType, OkOrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::instead::Sent;
use crate::{
    answer::{Answer, Body},
    exchange::Exchange,
    handler::{self, host},
    listen::{Pace, Transport},
    observe::{Entry, How},
    route::Route,
    state::State,
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

/// 1xx, but not 101: an answer is still to come (RFC 9110 §15.2).
pub(super) fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Sends an answer.
pub(super) async fn answer(session: &mut Session, answer: Answer, exchange: &mut Exchange) -> Result<()> {
    let answer = handler::with_own_page(answer, exchange).await;
    close_if_stopping(session);
    if exchange.lease.is_none() && !exchange.answered {
        limit(session, exchange, None)?;
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

/// Has the answer sent no faster than its route and site say, or the application (`X-Accel-Limit-Rate`: bytes per
/// second, 0 for no limit of the route's).
pub(super) fn limit(session: &Session, exchange: &Exchange, told: Option<u64>) -> Result<()> {
    exchange.route.as_ref().map_or(Ok(()), |route| limit_by(session, route, told))
}

/// The same, by the word of this route.
pub(super) fn limit_by(session: &Session, route: &Route, told: Option<u64>) -> Result<()> {
    let rate = told.map_or(route.settings.limit_rate, |told| (told > 0).then_some(told));
    let pace = Pace::new(rate, route.settings.limit_rate_after, route.shared_rate.clone());
    transport(session)?.limit(pace);
    Ok(())
}

/// Counts and logs a request that is over.
pub(super) fn record(state: &State, request: &RequestHeader, sent: Sent, exchange: &Exchange) {
    let Sent { status, bytes } = sent;
    let took = exchange.started.elapsed();
    let (site, route) = (&*exchange.site, exchange.route_key());
    state.metrics.request(site, route, &request.method, status, took);
    state.metrics.response_bytes(site, route, exchange.how, bytes);
    let field = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
    state.log_access(&Entry {
        time: exchange.time,
        client: exchange.client.as_ref().map(|client| client.address),
        method: &request.method,
        target: request.uri.path_and_query().map_or("-", |target| target.as_str()),
        version: request.version,
        host: host(request),
        status: status.as_u16(),
        bytes,
        referer: field(header::REFERER),
        user_agent: field(header::USER_AGENT),
        request_id: exchange.id.as_str(),
        site,
        route,
        took,
        waited: exchange.turn.waited,
        upstream: exchange.upstream().map(|upstream| &*upstream.name),
        server: exchange.server.as_deref(),
        upstream_took: exchange.upstream_took,
    });
}

/// What the client got by the engine.
pub(super) fn sent(session: &Session, error: Option<&Error>) -> Sent {
    let queued_bytes = transport(session).map_or(0, Transport::queued_bytes);
    Sent { status: status(session, error), bytes: session.body_bytes_sent() as u64 + queued_bytes }
}

/// The status of a client that left before any (as nginx).
pub(super) fn client_has_left() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// The status that the client got.
fn status(session: &Session, error: Option<&Error>) -> StatusCode {
    let written = session.response_written().map(|written| written.status);
    let left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    written.unwrap_or(if left { client_has_left() } else { StatusCode::INTERNAL_SERVER_ERROR })
}
