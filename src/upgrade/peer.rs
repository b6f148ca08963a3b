//! Choosing a server for a request, and telling the engine how to reach it.

use std::time::Duration;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use pingora_proxy::Session;

use super::{
    connect,
    engine::asked,
    failure,
    io::{put_back, take},
};
use crate::{
    config::Address,
    exchange::{self, RequestContext, select_server},
    state::State,
};

/// Gets a place on a server of the route's upstream, waiting for one if need be.
pub(super) async fn choose(
    state: &State,
    session: &mut Session,
    exchange: &mut RequestContext,
) -> Result<Box<HttpPeer>> {
    // An attempt that failed leaves its place to others.
    exchange.lease = None;
    let request = asked(exchange);
    let mut transport = take(session)?;
    let place = select_server(state, &mut transport, &request, exchange).await;
    put_back(session, transport)?;
    match place {
        Ok(()) => peer_for(exchange),
        Err(exchange::Error::ClientLeft) => Err(Error::new_down(ErrorType::ConnectionClosed)),
        Err(exchange::Error::Refused(explanation)) => Err(failure::refused(explanation)),
        Err(exchange::Error::Retry | exchange::Error::Incomplete(_)) => {
            Err(failure::refused(exchange::internal()))
        }
    }
}

/// How the engine reaches the server.
fn peer_for(exchange: &RequestContext) -> Result<Box<HttpPeer>> {
    let lease = exchange.lease.as_ref().or_err(ErrorType::InternalError, "no place on a server")?;
    let mut peer = match &lease.server().address {
        Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => {
            let path = path.to_str().or_err(ErrorType::InternalError, "a socket path that is not UTF-8")?;
            HttpPeer::new_uds(path, false, String::new())?
        }
    };
    let settings = lease.settings();
    peer.options.connection_timeout = Some(settings.connect_timeout);
    peer.options.read_timeout = Some(exchange::read_timeout(exchange));
    peer.options.write_timeout = Some(settings.send_timeout);
    // The engine would refuse requests whose Connection names what it protects; we drop the names and keep the rest.
    peer.options.http_upstream_request_policy.strip_connection_nominated = false;
    peer.options.custom_l4 = Some(connect::connector(lease));
    // A key that no other connection has: none is found, and this one is not kept for others.
    peer.group_key = fastrand::u64(1..);
    peer.options.idle_timeout = Some(Duration::ZERO);
    Ok(Box::new(peer))
}
