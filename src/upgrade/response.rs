//! Responses to handshakes, on their way from the server to the client.

use http::{StatusCode, Version};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{
    engine::request_head,
    failure,
    io::{put_back, take, with_transport},
    send,
};
use crate::{
    downstream::Transport,
    exchange::{self, RequestContext, Verdict, receive_head},
    files::{accelerated, archive},
    message::{EditHeaders, is_hop_by_hop, is_interim},
    state::State,
};

/// Handles the head of a server's response.
pub(super) async fn receive(
    state: &State,
    session: &mut Session,
    response: &mut ResponseHeader,
    context: &mut RequestContext,
) -> Result<()> {
    let status = response.status;
    if is_interim(status) {
        return Ok(());
    }
    if context.tool.is_some() {
        exchange::forget_instructions(response);
    }
    if accelerated::target(response).is_some() || archive::is_list(response) {
        tracing::error!(
            request_id = %context.id,
            "the application responds to the handshake of a WebSocket with X-Accel-Redirect, X-Sendfile or X-Archive-Files: 502"
        );
        return Err(failure::refused(exchange::leads_nowhere()));
    }
    let request = request_head(context);
    let mut transport = take(session)?;
    let verdict = receive_head(state, &mut transport, &request, false, (status, response), context).await;
    put_back(session, transport)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        with_transport(session, Transport::become_tunnel)?;
        session.set_read_timeout(Some(exchange::read_timeout(context)));
    }
    match verdict {
        Verdict::PassOn => Ok(()),
        Verdict::RetryElsewhere => Err(failure::move_to_another_server()),
        Verdict::Refuse(explanation) => Err(failure::refused(explanation)),
        // Responses that lead to these were refused above.
        Verdict::Replace(_) | Verdict::Archive => Err(failure::refused(exchange::internal())),
    }
}

/// Removes headers that clients must not see, and adds those of the route.
pub(super) fn pass_on(session: &mut Session, response: &mut ResponseHeader, context: &RequestContext) {
    if send::has_begun(session) {
        return;
    }
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        let own = [&b"connection"[..], b"transfer-encoding"];
        response.remove_if(|name| is_hop_by_hop(name) && !own.contains(&name));
    }
    if is_interim(response.status) {
        return exchange::hide(response);
    }
    send::close_if_stopping(session);
    // The version is that of this proxy, not the server's (RFC 9110 §2.5).
    response.set_version(Version::HTTP_11);
    exchange::pass_on(response.status, response, &request_head(context), context);
}
