//! A server's response to a handshake on its way to the client.

use http::{StatusCode, Version};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{engine::asked, failure, send};
use crate::{
    answer::{Explanation, Fields},
    exchange::Exchange,
    files::{accelerated, archive},
    handler::{
        self,
        response::{Response, is_interim},
    },
    http1::fields::is_hop_by_hop,
    state::State,
};

/// Takes the head of a server's response.
pub(super) async fn receive(
    state: &State,
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> Result<()> {
    let status = response.status;
    if is_interim(status) {
        return Ok(());
    }
    if accelerated::target(response).is_some() || archive::is_list(response) {
        tracing::error!(
            request_id = %exchange.id,
            "the application answers the handshake of a WebSocket with a file, a path or a list of members: 502"
        );
        let told = "The application's answer leads nowhere.";
        return Err(failure::refused(Explanation::new(StatusCode::BAD_GATEWAY, told)));
    }
    let transport = send::transport(session)?;
    let request = asked(exchange);
    let becomes =
        handler::response::receive(state, transport, &request, false, (status, response), exchange).await;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        send::transport(session)?.become_tunnel();
        session.set_read_timeout(Some(handler::read_timeout(exchange)));
    }
    match becomes {
        Response::PassOn => Ok(()),
        Response::Elsewhere => Err(failure::elsewhere()),
        Response::Refuse(explanation) => Err(failure::refused(explanation)),
        // What leads to these was refused above.
        Response::Instead(_) | Response::List => Err(failure::refused(handler::failed::internal())),
    }
}

/// Takes out of the head what clients must not see, adds what the route adds.
pub(super) fn pass_on(session: &mut Session, response: &mut ResponseHeader, exchange: &Exchange) {
    if send::has_begun(session) {
        return;
    }
    if response.status != StatusCode::SWITCHING_PROTOCOLS {
        let own = [&b"connection"[..], b"transfer-encoding"];
        response.remove_if(|name| is_hop_by_hop(name) && !own.contains(&name));
    }
    if is_interim(response.status) {
        return handler::response::hide(response);
    }
    send::close_if_stopping(session);
    // Ours, not the server's (RFC 9110 §2.5).
    response.set_version(Version::HTTP_11);
    handler::response::pass_on(response.status, response, exchange);
}
