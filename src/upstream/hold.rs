//! Waiting for a server: in order, for as long as `hold` says, over all attempts of a request.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{Lease, Server, Upstream, queue::Ticket};

/// A request's way through an upstream, over all of its attempts.
#[derive(Default)]
pub struct Turn {
    ticket: Option<Ticket>,
    deadline: Option<Instant>,
    tried: Vec<Arc<Server>>,
    /// How long it has waited for a server so far; `None` when it never had to.
    pub waited: Option<Duration>,
}

impl Turn {
    /// This request has failed at `server`: another one first from now on.
    pub fn avoid(&mut self, server: &Arc<Server>) {
        self.tried.push(Arc::clone(server));
    }
}

/// Why a request got no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    /// It waited for as long as it may.
    #[error("no server could be used for {} s", .0.as_secs())]
    Expired(Duration),
    /// As many wait as may.
    #[error("{0} requests are waiting already")]
    QueueFull(usize),
}

impl Upstream {
    /// Gets a place on the best server, waiting for one if need be.
    ///
    /// # Errors
    ///
    /// See [`NoServer`]. Dropping the future leaves the queue.
    pub async fn acquire(self: &Arc<Self>, turn: &mut Turn) -> Result<Lease, NoServer> {
        let settings = self.settings();
        let started = Instant::now();
        let deadline = *turn.deadline.get_or_insert(started + settings.hold);
        let (ticket, place) = {
            let mut state = self.lock();
            let ticket = *turn.ticket.get_or_insert_with(|| state.queue.ticket());
            // Who waits already goes first.
            if state.queue.is_empty()
                && let Some(lease) = self.pick(&state, &turn.tried)
            {
                return Ok(lease);
            }
            if settings.hold.is_zero() {
                return Err(NoServer::Expired(Duration::ZERO));
            }
            if state.queue.len() >= settings.queue {
                self.metrics.refused.inc();
                return Err(NoServer::QueueFull(state.queue.len()));
            }
            let (sender, place) = oneshot::channel();
            state.queue.wait(ticket, sender);
            (ticket, place)
        };
        let mut waiting = Waiting { upstream: self, ticket, started, turn, served: false };
        match tokio::time::timeout_at(deadline, place).await {
            Ok(Ok(lease)) => {
                waiting.served = true;
                Ok(lease)
            }
            Ok(Err(_)) | Err(_) => {
                self.metrics.expired.inc();
                Err(NoServer::Expired(settings.hold))
            }
        }
    }
}

/// A request in the queue; takes itself out, and tells what became of it, however it ends.
struct Waiting<'a> {
    upstream: &'a Upstream,
    ticket: Ticket,
    started: Instant,
    turn: &'a mut Turn,
    served: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.upstream.lock().queue.leave(self.ticket);
        let waited = self.started.elapsed();
        *self.turn.waited.get_or_insert_default() += waited;
        self.upstream.metrics.seconds.observe(waited.as_secs_f64());
        if self.served {
            self.upstream.metrics.served.inc();
        } else if self.turn.deadline.is_some_and(|deadline| Instant::now() < deadline) {
            self.upstream.metrics.left.inc();
        }
    }
}
