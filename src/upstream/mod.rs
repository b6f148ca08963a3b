//! Upstreams: groups of servers, the requests on them, and the requests that wait for them.
//!
//! Everything that changes together (the list of servers, counts, health, the queue) changes under one short
//! lock that is never held across an await. So the choice is exact however many threads choose, no wake-up is
//! lost, and the oldest waiting request gets the first free place.

mod balance;
mod head;
mod health;
mod queue;
pub mod retry;
mod server;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    config,
    observe::{HoldMetrics, Metrics},
};
pub(crate) use head::prepare;
use queue::{Queue, Ticket};
pub use server::{Endpoint, Server};

/// All upstreams of the process, by name. Those that stay over a reload keep what they know.
#[derive(Default)]
pub struct Upstreams {
    by_name: Mutex<BTreeMap<String, Arc<Upstream>>>,
}

impl Upstreams {
    /// Takes over a new configuration: changes what stays, starts what is new, retires what is gone.
    pub fn apply(&self, configured: &BTreeMap<String, config::Upstream>, metrics: &Metrics) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.retain(|name, upstream| {
            let stays = configured.contains_key(name);
            if !stays {
                upstream.retire();
            }
            stays
        });
        for (name, settings) in configured {
            let upstream =
                by_name.entry(name.clone()).or_insert_with(|| Upstream::new(settings, metrics.hold(name)));
            upstream.change(settings);
        }
    }

    /// The upstream of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Upstream>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Upstream>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// A group of servers that serve the same requests.
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    settings: ArcSwap<config::Upstream>,
    state: Mutex<State>,
    metrics: HoldMetrics,
}

#[derive(Default)]
struct State {
    servers: Vec<Slot>,
    /// Servers that have left the list with requests still on them; they come back with their counts.
    retired: Vec<Arc<Server>>,
    queue: Queue<oneshot::Sender<Lease>>,
}

/// A server's place in the list, with what the configuration says of it.
struct Slot {
    server: Arc<Server>,
    weight: u32,
    backup: bool,
    max_requests: Option<usize>,
}

/// The right to have one request on a server; gives the place back when dropped.
pub struct Lease {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
}

/// A request's way through an upstream, over all of its attempts.
#[derive(Default)]
pub struct Turn {
    ticket: Option<Ticket>,
    deadline: Option<Instant>,
    tried: Vec<Arc<Server>>,
    /// How long it has waited for a server so far; `None` when it never had to.
    pub waited: Option<Duration>,
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
    fn new(settings: &config::Upstream, metrics: HoldMetrics) -> Arc<Self> {
        Arc::new(Self {
            name: settings.name.clone(),
            settings: ArcSwap::from_pointee(settings.clone()),
            state: Mutex::default(),
            metrics,
        })
    }

    /// What the configuration says at present.
    pub fn settings(&self) -> Arc<config::Upstream> {
        self.settings.load_full()
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Its servers at present, with what the configuration says of each.
    pub fn servers(&self) -> Vec<(Arc<Server>, config::UpstreamServer)> {
        let describe = |slot: &Slot| {
            let address = slot.server.address.clone();
            let Slot { weight, backup, max_requests, .. } = *slot;
            (Arc::clone(&slot.server), config::UpstreamServer { address, weight, backup, max_requests })
        };
        self.lock().servers.iter().map(describe).collect()
    }

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

    /// Chooses a server and counts the request on it.
    fn pick(self: &Arc<Self>, state: &State, tried: &[Arc<Server>]) -> Option<Lease> {
        let candidates = state.servers.iter().map(|slot| balance::Candidate {
            inflight: slot.server.inflight(),
            weight: slot.weight,
            up: slot.server.is_up(),
            backup: slot.backup,
            full: slot.max_requests.is_some_and(|most| slot.server.inflight() >= most),
            tried: tried.iter().any(|tried| Arc::ptr_eq(tried, &slot.server)),
        });
        let place = balance::least_conn(candidates, |n| fastrand::u64(0..n))?;
        let server = Arc::clone(&state.servers[place].server);
        server.inflight.fetch_add(1, Ordering::Relaxed);
        Some(Lease { upstream: Arc::clone(self), server })
    }

    /// Gives free places to those who wait, the oldest first.
    fn serve_waiting(self: &Arc<Self>) {
        loop {
            let (oldest, lease) = {
                let mut state = self.lock();
                if state.queue.is_empty() {
                    return;
                }
                let Some(lease) = self.pick(&state, &[]) else { return };
                (state.queue.pop(), lease)
            };
            // A lease that finds nobody (who waited has just left) is given back by being dropped; the lock is not
            // held here.
            if let Some((_, waiter)) = oldest {
                drop(waiter.send(lease));
            }
        }
    }

    /// Takes over what the configuration says, and lets those who wait see the new list.
    fn change(self: &Arc<Self>, settings: &config::Upstream) {
        self.settings.store(Arc::new(settings.clone()));
        let mut fresh = Vec::new();
        {
            let mut state = self.lock();
            let mut known: Vec<Arc<Server>> = state.servers.drain(..).map(|slot| slot.server).collect();
            known.append(&mut state.retired);
            for configured in &settings.servers {
                let found = known.iter().position(|server| server.address == configured.address);
                let server = found.map(|place| known.swap_remove(place)).unwrap_or_else(|| {
                    let server = Server::new(configured.address.clone());
                    fresh.push(Arc::clone(&server));
                    server
                });
                if server.retired.swap(false, Ordering::Relaxed) {
                    fresh.push(Arc::clone(&server));
                }
                state.servers.push(Slot {
                    server,
                    weight: configured.weight,
                    backup: configured.backup,
                    max_requests: configured.max_requests,
                });
            }
            for gone in &known {
                gone.retired.store(true, Ordering::Relaxed);
                gone.look.notify_one();
            }
            state.retired = known.into_iter().filter(|server| server.inflight() > 0).collect();
        }
        for server in fresh {
            health::watch(self, server);
        }
        self.serve_waiting();
    }

    /// The upstream is no longer configured: what is in flight ends, nobody asks about its servers any more.
    fn retire(&self) {
        for slot in &self.lock().servers {
            slot.server.retired.store(true, Ordering::Relaxed);
            slot.server.look.notify_one();
        }
    }

    /// Takes note that a server cannot be used, and has it watched until it can.
    pub fn failed(&self, server: &Arc<Server>, reason: &str) {
        let was_up = {
            let _state = self.lock();
            server.up.swap(false, Ordering::Relaxed)
        };
        if was_up {
            tracing::warn!(upstream = self.name, server = server.label, reason, "server is down");
            server.look.notify_one();
        }
    }

    /// Takes note that a server can be used again: those who wait go to it at once.
    fn recovered(self: &Arc<Self>, server: &Server) {
        let was_up = {
            let _state = self.lock();
            server.up.swap(true, Ordering::Relaxed)
        };
        if !was_up {
            tracing::info!(upstream = self.name, server = server.label, "server is up");
            self.serve_waiting();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Turn {
    /// This request has failed at `server`: another one first from now on.
    pub fn avoid(&mut self, server: &Arc<Server>) {
        self.tried.push(Arc::clone(server));
    }
}

impl Lease {
    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The upstream that it belongs to.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a place on {} of {}", self.server.label, self.upstream.name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        {
            let mut state = self.upstream.lock();
            let left = self.server.inflight.fetch_sub(1, Ordering::Relaxed) - 1;
            if left == 0 && self.server.is_retired() {
                state.retired.retain(|server| !Arc::ptr_eq(server, &self.server));
            }
        }
        self.upstream.serve_waiting();
    }
}

#[cfg(test)]
mod tests;
