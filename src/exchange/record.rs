//! Counting and logging a request that is over.

use std::time::{Duration, SystemTime};

use http::{StatusCode, header};

use crate::{
    client, clock,
    exchange::{context::RequestContext, resolve::host},
    listen::RefusedRequest,
    message::RequestHead,
    observe::{AccessLogEntry, RequestLine},
    state::State,
    tls::TlsSession,
};

/// The response that a client got.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// The status of its response.
    pub(crate) status: StatusCode,
    /// Bytes of its body.
    pub(crate) bytes: u64,
}

impl Sent {
    /// The client left before any response; the status is that of nginx.
    pub(crate) fn nothing() -> Self {
        Self { status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), bytes: 0 }
    }
}

/// Counts and logs a request that is over.
pub(crate) fn record(state: &State, request: &RequestHead, sent: Sent, context: &RequestContext) {
    let Sent { status, bytes } = sent;
    let took = clock::read().saturating_duration_since(context.started);
    context.trace_end(sent, took);
    let (site, route) = (context.site().map_or("-", |site| &site.name), context.route_key());
    let metrics = || state.metrics.route(site, route);
    match &context.route {
        Some(route) => {
            route.metrics.get_or_init(metrics).request(&request.method, status, took, context.how, bytes);
        }
        None => metrics().request(&request.method, status, took, context.how, bytes),
    }
    if !state.has_access_log() {
        return;
    }
    let field = |name| request.headers.get(name);
    state.log_access(&AccessLogEntry {
        time: context.time,
        client: context.client.as_ref().map(|client| client.address),
        line: RequestLine::Read {
            method: &request.method,
            target: &request.target.shown(),
            version: request.version,
        },
        tls: context.tls.as_deref().map(TlsSession::used),
        host: host(request),
        status: status.as_u16(),
        bytes,
        referer: field(header::REFERER),
        user_agent: field(header::USER_AGENT),
        request_id: context.id.as_str(),
        site,
        route,
        took,
        waited: context.selection.waited,
        upstream: context.upstream().map(|upstream| &*upstream.name),
        server: context.server.as_ref().map(|server| &*server.label),
        upstream_took: context.upstream_took,
        tries: context.tries,
    });
}

/// Logs a request that was refused before it was read: to no site, as nothing of it is believed.
pub(crate) fn record_refused(state: &State, refused: &RefusedRequest<'_>) {
    if !state.has_access_log() {
        return;
    }
    let RefusedRequest { peer, line, status, bytes } = refused;
    state.log_access(&AccessLogEntry {
        time: SystemTime::now(),
        client: client::untrusted_peer_address(peer),
        line: RequestLine::Unread(line),
        tls: peer.tls.as_deref().map(TlsSession::used),
        host: "-",
        status: status.as_u16(),
        bytes: *bytes,
        referer: None,
        user_agent: None,
        request_id: "-",
        site: "-",
        route: "-",
        took: Duration::ZERO,
        waited: None,
        upstream: None,
        server: None,
        upstream_took: None,
        tries: 0,
    });
}
