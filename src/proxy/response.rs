//! A server's answer on its way to the client.

use http::{StatusCode, Version, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::{engine::asked, failure, instead, send};
use crate::{
    answer::Fields,
    exchange::Exchange,
    handler::{
        self,
        response::{Response, is_interim},
    },
    http1::fields::is_hop_by_hop,
    state::State,
};

/// Takes the head of a server's answer; sends a file in its place where the application says so.
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
    let tunnel = status == StatusCode::SWITCHING_PROTOCOLS;
    if tunnel && !session.is_upgrade_req() {
        return Err(failure::uninvited_upgrade());
    }
    let has_body = !session.is_body_empty();
    let transport = send::transport(session)?;
    let request = asked(exchange);
    let becomes =
        handler::response::receive(state, transport, &request, has_body, (status, response), exchange).await;
    if tunnel {
        send::transport(session)?.become_tunnel();
        session.set_read_timeout(Some(handler::read_timeout(exchange)));
    }
    match becomes {
        Response::PassOn => Ok(()),
        Response::Instead(answer) => send::answer(session, answer, exchange).await,
        Response::List => instead::collect(session, response.headers.clone(), exchange),
        Response::Elsewhere => Err(failure::elsewhere()),
        Response::Refuse(explanation) => Err(failure::refused(explanation)),
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
    if session.req_header().version < Version::HTTP_11 {
        // HTTP/1.0 knows no chunks: the answer ends with the connection.
        response.remove_header(&header::TRANSFER_ENCODING);
    }
    // Ours, not the server's (RFC 9110 §2.5).
    response.set_version(Version::HTTP_11);
    handler::response::pass_on(response.status, response, exchange);
}
