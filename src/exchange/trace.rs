//! Messages that follow one request (`level = "debug"`), each with its id: the route, the server and why it was chosen,
//! the outcome of each attempt, the response. Costs a comparison where the level is off.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Level, debug};

use crate::{
    exchange::{RequestContext, record::Sent},
    message::RequestHead,
    upstream::{
        Lease,
        retry::{Decision, Failure},
    },
};

impl RequestContext {
    /// The route that was found.
    pub(super) fn trace_route(&self, request: &RequestHead) {
        debug!(
            request_id = %self.id,
            client = self.client.as_ref().map(|client| tracing::field::display(client.address)),
            method = %request.method,
            target = %request.target.shown(),
            site = self.site().map(|site| &*site.name),
            route = self.route_key(),
            "request"
        );
    }

    /// The server that was selected, beside all servers of its upstream as they are now: requests in flight, this one
    /// counted, event streams and tunnels, and the state that keeps a server from being selected.
    pub(super) fn trace_selection(&self, lease: &Lease) {
        if !tracing::enabled!(Level::DEBUG) {
            return;
        }
        let now = Instant::now();
        let candidates = lease.upstream().servers().into_iter().map(|entry| {
            let server = &entry.server;
            let state = server.state(now);
            format!("{} {state} {}+{}", server.label, server.inflight(), server.streams())
        });
        debug!(
            request_id = %self.id,
            upstream = &*lease.upstream().name,
            server = &*lease.server().label,
            balance = ?lease.settings().balance,
            candidates = candidates.collect::<Vec<_>>().join(", "),
            attempt = self.tries + self.failed_connects + 1,
            waited_ms = self.selection.waited.map(|waited| waited.as_millis() as u64),
            "server selected"
        );
    }

    /// An attempt that failed, and whether another server is asked.
    pub(super) fn trace_failure(&self, failure: Failure, replayable: bool, decision: Decision) {
        debug!(
            request_id = %self.id,
            server = self.server.as_ref().map(|server| &*server.label),
            ?failure,
            tries = self.tries,
            replayable,
            reused = self.reused,
            retry = decision == Decision::Retry,
            "attempt failed"
        );
    }

    /// The end of the request.
    pub(super) fn trace_end(&self, sent: Sent, took: Duration) {
        debug!(
            request_id = %self.id,
            status = sent.status.as_u16(),
            bytes = sent.bytes,
            took_ms = took.as_millis() as u64,
            upstream_ms = self.upstream_took.map(|took| took.as_millis() as u64),
            tries = self.tries,
            "request done"
        );
    }
}
