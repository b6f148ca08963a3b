//! A place on a server for a request, waited for if need be.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    downstream::Transport,
    exchange::{
        Error,
        context::RequestContext,
        failure::{explain, internal, no_server},
        resolve::reroute,
        tools,
    },
    message::RequestHead,
    state::State,
    upstream::{
        self, Lease, NoServer, Upstream,
        retry::{self, Failure},
    },
};

/// Interval of the check whether a waiting client is still connected.
const LOOK_FOR_CLIENT: Duration = Duration::from_secs(1);

/// Gets a place on a server of the route's upstream for the next attempt, waiting for one if need be.
pub(crate) async fn select_server(
    state: &State,
    transport: &mut Transport,
    request: &RequestHead,
    context: &mut RequestContext,
) -> Result<(), Error> {
    let pause = retry::pause(context.tries, context.failed_connects);
    if !pause.is_zero() {
        // Even a sleep of nothing waits for the next tick of the timer.
        sleep(pause).await;
    }
    let mut lease = loop {
        let upstream = context.upstream().cloned();
        let upstream = upstream.ok_or_else(|| Error::Refused(internal()))?;
        match wait(transport, request, context, &upstream).await? {
            Ok(lease) => break lease,
            Err(NoServer::Gone) if context.tool.is_none() && reroute(&state.table(), request, context) => {}
            Err(NoServer::Gone) if context.redirect.is_some() || context.tries > 0 => {
                return Err(Error::Refused(explain(Failure::BeforeResponse)));
            }
            Err(none) if context.tool.is_some() => return Err(Error::Refused(tools::unreachable(none))),
            Err(none) => return Err(Error::Refused(no_server(&upstream, none))),
        }
    };
    context.server = Some(Arc::clone(lease.server()));
    context.has_response = false;
    if transport.has_whole_request() {
        lease.sent();
    }
    context.trace_selection(&lease);
    context.lease = Some(lease);
    Ok(())
}

/// Waits for a place for as long as the client does.
async fn wait(
    transport: &mut Transport,
    request: &RequestHead,
    context: &mut RequestContext,
    upstream: &Arc<Upstream>,
) -> Result<Result<Lease, NoServer>, Error> {
    let hold = {
        let settings = upstream.settings();
        if let Some(client) = &context.client {
            context.selection.set_hash_key(upstream::key_of(&settings.balance, &request.headers, client));
        }
        context.selection.set_stream(request.asks_for_stream());
        if context.cache.as_ref().is_some_and(|used| used.has_usable()) {
            // What is stored is served in place of a wait.
            Duration::ZERO
        } else {
            context.route.as_ref().and_then(|route| route.settings.proxy.hold).unwrap_or(settings.hold)
        }
    };
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
        lease = upstream.acquire(&mut context.selection, hold) => Ok(lease),
        () = abandoned => Err(Error::ClientLeft),
    }
}

/// Read timeout where neither route nor upstream has one.
const DEFAULT_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest pause that the server may make in taking a request: the route's, else the upstream's.
pub(crate) fn send_timeout(context: &RequestContext) -> Duration {
    let own = context.route.as_ref().and_then(|route| route.settings.proxy.send_timeout);
    let upstream = || context.lease.as_ref().map(|lease| lease.settings().send_timeout);
    own.or_else(upstream).unwrap_or(Duration::MAX)
}

/// The longest pause that the server may make: the route's, else the upstream's.
pub(crate) fn read_timeout(context: &RequestContext) -> Duration {
    let own = context.route.as_ref().and_then(|route| route.settings.proxy.read_timeout);
    let upstream = || context.lease.as_ref().map(|lease| lease.settings().read_timeout);
    own.or_else(upstream).unwrap_or(DEFAULT_READ_TIMEOUT)
}
