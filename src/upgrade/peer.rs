//! Server selection for a request, and the connection settings for the engine.

use std::time::Duration;

use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use pingora_proxy::Session;

use super::{
    connect,
    engine::request_head,
    failure,
    io::{put_back, take},
};
use crate::{
    config::Address,
    exchange::{self, RequestContext, select_server},
    state::State,
};

/// Selects a server of the route's upstream, waiting for one if need be.
pub(super) async fn choose(
    state: &State,
    session: &mut Session,
    context: &mut RequestContext,
) -> Result<Box<HttpPeer>> {
    // Releases the server of a failed attempt.
    context.lease = None;
    let request = request_head(context);
    let mut transport = take(session)?;
    let selected = select_server(state, &mut transport, &request, context).await;
    put_back(session, transport)?;
    match selected {
        Ok(()) => peer_for(context),
        Err(exchange::Error::ClientLeft) => Err(Error::new_down(ErrorType::ConnectionClosed)),
        Err(exchange::Error::Refused(explanation)) => Err(failure::refused(explanation)),
        Err(exchange::Error::Retry | exchange::Error::Incomplete(_)) => {
            Err(failure::refused(exchange::internal()))
        }
    }
}

/// Connection settings for the selected server.
fn peer_for(context: &RequestContext) -> Result<Box<HttpPeer>> {
    let lease = context.lease.as_ref().or_err(ErrorType::InternalError, "no server is selected")?;
    let mut peer = match &lease.server().address {
        Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => {
            let path = path.to_str().or_err(ErrorType::InternalError, "a socket path that is not UTF-8")?;
            HttpPeer::new_uds(path, false, String::new())?
        }
    };
    let settings = lease.settings();
    peer.options.connection_timeout = Some(settings.connect_timeout);
    peer.options.read_timeout = Some(exchange::read_timeout(context));
    peer.options.write_timeout = Some(settings.send_timeout);
    // By default the engine refuses requests whose `Connection` names headers that it protects; our policy removes
    // those names and keeps the request.
    peer.options.http_upstream_request_policy.strip_connection_nominated = false;
    peer.options.custom_l4 = Some(connect::connector(lease));
    // A unique key: no pooled connection matches, and this connection is not pooled.
    peer.group_key = fastrand::u64(1..);
    peer.options.idle_timeout = Some(Duration::ZERO);
    Ok(Box::new(peer))
}
