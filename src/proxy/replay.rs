//! Sending a request again whose body is larger than what the engine keeps of it.
//!
//! The engine (0.9.1) keeps 64 KiB of a body for a second attempt. Our transport keeps the rest, where the route says
//! so; before the attempt the engine gets a new session on the same transport, which reads the request from its start.

use http::{Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;

use super::{instead, send::transport};
use crate::{
    exchange::Exchange,
    http1::is_persistent,
    listen::{Head, Transport},
    state::State,
};

/// Has the transport keep the body of this request, if its route wants that.
pub(super) fn keep(session: &Session, exchange: &Exchange) -> Result<()> {
    if exchange.route.as_ref().is_some_and(|route| route.settings.retry.any_method) {
        transport(session)?.keep_request();
    }
    Ok(())
}

/// Whether what was read of the request can be sent again.
pub(super) fn is_replayable(session: &Session) -> bool {
    !session.as_downstream().retry_buffer_truncated() || transport(session).is_ok_and(Transport::has_kept)
}

/// Makes the session ready for another attempt, if the engine alone cannot.
pub(super) async fn rewind(state: &State, session: &mut Session, asked: &Head) -> Result<()> {
    if !session.as_downstream().retry_buffer_truncated() || !transport(session)?.has_kept() {
        return Ok(());
    }
    let mut transport = instead::take_out(session).await?;
    transport.rewind();
    let mut again = ServerSession::new_http1(transport);
    // The engine takes a first read that fails for a client that has gone, and tells it as "no request".
    if !again.read_request().await.or_err(ErrorType::InternalError, "reading a kept request")? {
        return Error::e_explain(ErrorType::InternalError, "a kept request cannot be read");
    }
    *session.downstream_session = again;
    prepare(state, session, asked);
    Ok(())
}

/// Sets what holds for every session.
pub(super) fn prepare(state: &State, session: &mut Session, asked: &Head) {
    let settings = state.settings();
    session.set_read_timeout(Some(settings.client_body_timeout));
    session.set_total_drain_timeout(Some(settings.client_body_timeout));
    // HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
    let no_interim = session.req_header().version < Version::HTTP_11;
    session.set_ignore_info_resp(no_interim);
    if !is_persistent(asked) || transport(session).is_ok_and(|transport| !transport.keeps_alive()) {
        // The engine looks at one field named Connection only.
        session.set_keepalive(None);
    }
    if !asked.asks_for_websocket() {
        // The engine takes every request with this field for one that asks for a tunnel.
        session.req_header_mut().remove_header(&header::UPGRADE);
    }
}
