//! Choosing a server for a request, and telling the engine how to reach it.

use std::{sync::Arc, time::Duration};

use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use pingora_proxy::Session;
use tokio::time::{Instant, sleep};

use super::{failure, replay, send::transport, upgrade};
use crate::{
    config::Address,
    exchange::Exchange,
    handler,
    state::State,
    upstream::{self, Lease, NoServer, Upstream, retry},
};

/// How often it is looked whether a client that waits is still there.
const LOOK_FOR_CLIENT: Duration = Duration::from_secs(1);

/// Gets a place on a server of the route's upstream, waiting for one if need be.
pub(super) async fn choose(
    state: &State,
    session: &mut Session,
    exchange: &mut Exchange,
) -> Result<Box<HttpPeer>> {
    // An attempt that failed leaves its place to others, and its body is sent from the start.
    exchange.lease = None;
    exchange.expect_body();
    replay::rewind(state, session).await?;
    let pause = retry::pause(exchange.tries, exchange.failed_connects);
    if !pause.is_zero() {
        // Even a sleep of nothing waits for the next tick of the timer.
        sleep(pause).await;
    }
    let mut lease = loop {
        let upstream = exchange.upstream().cloned();
        let upstream = upstream.or_err(ErrorType::InternalError, "a route without upstream")?;
        match wait(session, exchange, &upstream).await? {
            Ok(lease) => break lease,
            Err(NoServer::Gone) if handler::reroute(&state.table(), session.req_header(), exchange) => {}
            Err(none) => return Err(failure::no_server(&upstream, none)),
        }
    };
    let whole = transport(session)?.has_whole_request();
    let peer = peer_for(&lease, session, exchange, whole)?;
    exchange.server = Some(lease.server().label.clone());
    exchange.sent = Some(Instant::now());
    exchange.answered = false;
    if whole {
        lease.sent();
    }
    exchange.lease = Some(lease);
    Ok(peer)
}

/// Waits for a place for as long as the client does.
async fn wait(
    session: &Session,
    exchange: &mut Exchange,
    upstream: &Arc<Upstream>,
) -> Result<std::result::Result<Lease, NoServer>> {
    let transport = transport(session)?;
    let settings = upstream.settings();
    let hold = exchange.route.as_ref().and_then(|route| route.settings.hold).unwrap_or(settings.hold);
    if let Some(client) = &exchange.client {
        exchange.turn.wants(upstream::key_of(&settings.balance, &session.req_header().headers, client));
    }
    let abandoned = async {
        loop {
            sleep(LOOK_FOR_CLIENT).await;
            if transport.is_abandoned() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        lease = upstream.acquire(&mut exchange.turn, hold) => Ok(lease),
        () = abandoned => Err(Error::new_down(ErrorType::ConnectionClosed)),
    }
}

/// How the engine reaches the server; `whole` says that all of the request has arrived.
fn peer_for(lease: &Lease, session: &Session, exchange: &Exchange, whole: bool) -> Result<Box<HttpPeer>> {
    let mut peer = match &lease.server().address {
        Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => {
            let path = path.to_str().or_err(ErrorType::InternalError, "a socket path that is not UTF-8")?;
            HttpPeer::new_uds(path, false, String::new())?
        }
    };
    let settings = lease.upstream().settings();
    peer.options.connection_timeout = Some(settings.connect_timeout);
    peer.options.read_timeout = Some(read_timeout(exchange));
    if !whole {
        // While the client takes its time over the body, the server has nothing to answer yet.
        peer.options.read_timeout = peer.options.read_timeout.max(session.get_read_timeout());
    }
    peer.options.write_timeout = Some(settings.send_timeout);
    peer.options.idle_timeout = Some(settings.keepalive);
    // The engine would refuse requests whose Connection names what it protects; we drop the names and keep the rest.
    peer.options.http_upstream_request_policy.strip_connection_nominated = false;
    let asks_for_upgrade = session.is_upgrade_req();
    if asks_for_upgrade {
        peer.options.custom_l4 = Some(upgrade::connector(settings.connect_timeout));
    }
    if asks_for_upgrade
        || exchange.tries > 0
        || settings.keepalive.is_zero()
        || retry::needs_fresh_connection(&session.req_header().method)
    {
        // A key that no other connection has: none is found, and this one is not kept for others. A second try has no
        // time for kept connections that may be stale as well.
        peer.group_key = fastrand::u64(1..);
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    Ok(Box::new(peer))
}

/// The longest pause that the server may make: the route's, else the upstream's.
pub(super) fn read_timeout(exchange: &Exchange) -> Duration {
    let own = exchange.route.as_ref().and_then(|route| route.settings.read_timeout);
    let upstream = || exchange.upstream().map(|upstream| upstream.settings().read_timeout);
    own.or_else(upstream).unwrap_or(Duration::from_secs(60))
}
