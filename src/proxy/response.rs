//! A server's answer on its way to the client.

use http::{StatusCode, Version, header};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use super::{failure, peer, send};
use crate::{
    answer::{Fields, dress},
    exchange::Exchange,
    files::accelerated,
    handler,
    observe::{How, X_REQUEST_ID},
    state::State,
};

/// Takes the head of a server's answer; sends a file in its place where the application says so.
pub(super) async fn receive(
    state: &State,
    session: &mut Session,
    response: &mut ResponseHeader,
    exchange: &mut Exchange,
) -> Result<()> {
    if send::is_interim(response.status) {
        return Ok(());
    }
    let tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if tunnel && !session.is_upgrade_req() {
        return Err(failure::uninvited_upgrade());
    }
    exchange.answered = true;
    send::transport(session)?.forget_request();
    exchange.how = How::Proxy;
    count(state, response, exchange);
    let told = response
        .headers
        .get(accelerated::X_ACCEL_LIMIT_RATE)
        .and_then(|rate| rate.to_str().ok()?.parse().ok());
    send::limit(session, exchange, told)?;
    accelerated::set_charset(response);
    if tunnel {
        send::transport(session)?.become_tunnel();
        session.set_read_timeout(Some(peer::read_timeout(exchange)));
    }
    if response.headers.contains_key(accelerated::X_ACCEL_REDIRECT) {
        let (request, table) = (session.req_header(), state.table());
        let answer = handler::accelerate(&table, request, &request.method, &response.headers, exchange).await;
        // The worker has done its part; it need not be counted for the length of a download.
        exchange.lease = None;
        send::answer(session, answer, exchange).await?;
    }
    Ok(())
}

/// The server has begun its answer: it is not silent, and how long it took is known. What it says of its load is for us
/// alone.
fn count(state: &State, response: &mut ResponseHeader, exchange: &mut Exchange) {
    let (Some(lease), Some(sent)) = (&mut exchange.lease, exchange.sent) else { return };
    let load = lease.upstream().settings().load_header.as_ref().and_then(|name| response.remove_header(name));
    lease.answered(load.as_ref());
    let took = Instant::now() - sent;
    exchange.upstream_took = Some(took);
    let (upstream, server) = (&lease.upstream().name, &lease.server().label);
    state.metrics.upstream_answer(upstream, server, response.status, took);
}

/// Takes out of the head what clients must not see, adds what the route adds.
pub(super) fn pass_on(session: &mut Session, response: &mut ResponseHeader, exchange: &Exchange) {
    if send::has_begun(session) || send::is_interim(response.status) {
        return;
    }
    send::close_if_stopping(session);
    accelerated::hide(response);
    if session.req_header().version < Version::HTTP_11 {
        // HTTP/1.0 knows no chunks: the answer ends with the connection.
        response.remove(&header::TRANSFER_ENCODING);
    }
    if let Some(route) = &exchange.route {
        dress(response, response.status, &route.settings);
    }
    if !response.headers.contains_key(X_REQUEST_ID) {
        response.set(X_REQUEST_ID, exchange.id.value());
    }
}
