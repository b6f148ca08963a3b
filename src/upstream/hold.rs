//! Waiting for a server: in order of arrival, at most `hold` over all attempts of a request.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Lease, Server, Upstream,
    group::{GroupState, PickReason},
    queue::{Preference, Ticket, Waiter},
};
use crate::clock;

/// State of a request in an upstream, over all of its attempts.
#[derive(Default)]
pub struct Selection {
    ticket: Option<Ticket>,
    preference: Preference,
    /// Whether the request has had a place on a server.
    was_placed: bool,
    /// Total time spent waiting for a server; `None` if the request never waited.
    pub waited: Option<Duration>,
}

impl Selection {
    /// Sets the hash key (`balance = "hash:…"`).
    pub fn set_hash_key(&mut self, key: Option<u64>) {
        self.preference.key = key;
    }

    /// Sets whether the request is for an event stream or a tunnel.
    pub fn set_stream(&mut self, is_stream: bool) {
        self.preference.is_stream = is_stream;
    }

    /// Whether this request has failed at `server`.
    pub(super) fn has_failed_at(&self, server: &Arc<Server>) -> bool {
        self.preference.tried.iter().any(|tried| Arc::ptr_eq(tried, server))
    }

    /// Records that the request has failed at `server`: other servers are preferred from now on.
    pub fn avoid(&mut self, server: &Arc<Server>) {
        self.preference.tried.push(Arc::clone(server));
    }
}

/// Why a request got no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    /// The request has waited for its whole `hold`.
    #[error("no upstream server was available within `hold` ({})", humantime::format_duration(*.0))]
    Expired(Duration),
    /// The queue is full.
    #[error("the queue is full: {0} requests are waiting")]
    QueueFull(usize),
    /// A reload has removed the upstream: the request needs another route.
    #[error("the upstream is no longer configured")]
    Gone,
    /// The process is stopping.
    #[error("the proxy is stopping and its grace period is over")]
    Stopping,
}

impl Upstream {
    /// Acquires a place on the best server. Waits if necessary, at most `hold` over all attempts of the request.
    ///
    /// # Errors
    ///
    /// See [`NoServer`]. Dropping the future leaves the queue.
    pub async fn acquire(
        self: &Arc<Self>,
        selection: &mut Selection,
        hold: Duration,
    ) -> Result<Lease, NoServer> {
        let started = clock::now();
        let deadline = started + hold.saturating_sub(selection.waited.unwrap_or_default());
        let (ticket, place) = {
            let mut state = self.lock();
            if state.stopping {
                return Err(NoServer::Stopping);
            }
            if state.gone {
                // The ticket is meaningless in another upstream's queue.
                selection.ticket = None;
                return Err(NoServer::Gone);
            }
            // The ticket is drawn once, on arrival: a failed connection does not cost the request its place in the
            // queue.
            let is_new = selection.ticket.is_none();
            let queue = state.queue(selection.preference.is_stream);
            let ticket = *selection.ticket.get_or_insert_with(|| queue.ticket());
            let waiting = queue.len();
            if is_new {
                state.budget.request(started);
            }
            // Requests that are waiting already go first.
            if waiting == 0
                && let Some(lease) = self.pick(&mut state, &selection.preference, PickReason::Arrived)
            {
                selection.was_placed = true;
                return Ok(lease);
            }
            if hold.is_zero() {
                let last = self.last_resort(&mut state, selection);
                return last.ok_or(NoServer::Expired(Duration::ZERO));
            }
            // The limit of the queue does not apply to a request that has had a place before.
            if is_new && waiting >= self.settings.load().queue {
                self.metrics.refused.inc();
                return Err(NoServer::QueueFull(waiting));
            }
            let (sender, place) = oneshot::channel();
            let preference = selection.preference.clone();
            state.queue(preference.is_stream).wait(ticket, Waiter { sender, preference });
            (ticket, place)
        };
        let mut waiting =
            QueuedRequest { upstream: self, ticket, started, selection, outcome: HoldOutcome::Left };
        let (outcome, result) = match tokio::time::timeout_at(deadline, place).await {
            Ok(Ok(lease)) => {
                waiting.selection.was_placed = true;
                (HoldOutcome::Served, Ok(lease))
            }
            Ok(Err(_)) if self.lock().stopping => (HoldOutcome::Expired, Err(NoServer::Stopping)),
            Ok(Err(_)) => (HoldOutcome::Gone, Err(NoServer::Gone)),
            Err(_) => match self.last_resort(&mut self.lock(), waiting.selection) {
                Some(lease) => (HoldOutcome::Served, Ok(lease)),
                None => (HoldOutcome::Expired, Err(NoServer::Expired(hold))),
            },
        };
        waiting.outcome = outcome;
        result
    }
}

impl Upstream {
    /// Acquires a place on a server that is marked as down, for a request that would be refused otherwise because all
    /// servers are down, and that has tried none itself. The server may have recovered since its last probe. Servers
    /// that failed their health check are not tried.
    fn last_resort(self: &Arc<Self>, state: &mut GroupState, selection: &mut Selection) -> Option<Lease> {
        let health_checks = self.settings.load().health.is_some();
        if selection.was_placed || state.slots.iter().any(|slot| slot.server.is_usable(health_checks)) {
            return None;
        }
        selection.was_placed = true;
        self.pick(state, &selection.preference, PickReason::LastResort)
    }
}

/// Outcome of a request's wait.
#[derive(Debug, Clone, Copy)]
enum HoldOutcome {
    Served,
    Expired,
    Left,
    Gone,
}

/// Guard of a request in the queue. On drop it leaves the queue and records the metrics, however the wait ended.
struct QueuedRequest<'a> {
    upstream: &'a Upstream,
    ticket: Ticket,
    started: Instant,
    selection: &'a mut Selection,
    outcome: HoldOutcome,
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        self.upstream.lock().queue(self.selection.preference.is_stream).leave(self.ticket);
        let waited = self.started.elapsed();
        *self.selection.waited.get_or_insert_default() += waited;
        let metrics = &self.upstream.metrics;
        match self.outcome {
            HoldOutcome::Served => metrics.served.inc(),
            HoldOutcome::Expired => metrics.expired.inc(),
            HoldOutcome::Left => metrics.left.inc(),
            HoldOutcome::Gone => {
                // The request goes on to wait in another upstream, with a new ticket, and is counted there.
                self.selection.ticket = None;
                return;
            }
        }
        metrics.seconds.observe(self.selection.waited.unwrap_or_default().as_secs_f64());
    }
}
