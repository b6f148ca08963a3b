//! One upstream: its servers, and what is known of them at this moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering};

use arc_swap::ArcSwap;
use tokio::{sync::oneshot, time::Instant};

use super::{Lease, Server, balance, health, queue::Queue};
use crate::{config, observe::HoldMetrics};

/// A group of servers that serve the same requests.
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    settings: ArcSwap<config::Upstream>,
    state: Mutex<State>,
    pub(super) metrics: HoldMetrics,
}

/// What changes together.
#[derive(Default)]
pub(super) struct State {
    servers: Vec<Slot>,
    /// Servers that have left the list with requests still on them; they come back with their counts.
    retired: Vec<Arc<Server>>,
    pub(super) queue: Queue<oneshot::Sender<Lease>>,
}

/// A server's place in the list, with what the configuration says of it.
struct Slot {
    server: Arc<Server>,
    weight: u32,
    backup: bool,
    max_requests: Option<usize>,
}

impl Upstream {
    pub(super) fn new(settings: &config::Upstream, metrics: HoldMetrics) -> Arc<Self> {
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

    /// Chooses a server and counts the request on it.
    pub(super) fn pick(self: &Arc<Self>, state: &State, tried: &[Arc<Server>]) -> Option<Lease> {
        let now = Instant::now();
        let candidates = state.servers.iter().map(|slot| balance::Candidate {
            inflight: slot.server.inflight(),
            weight: slot.weight,
            up: slot.server.is_up(),
            backup: slot.backup,
            full: slot.max_requests.is_some_and(|most| slot.server.inflight() >= most),
            tried: tried.iter().any(|tried| Arc::ptr_eq(tried, &slot.server)),
            silent: slot.server.is_silent(now),
        });
        let place = balance::least_conn(candidates, |n| fastrand::u64(0..n))?;
        let server = Arc::clone(&state.servers[place].server);
        server.inflight.fetch_add(1, Ordering::Relaxed);
        server.silence().sent(now);
        Some(Lease::new(Arc::clone(self), server))
    }

    /// Gives free places to those who wait, the oldest first.
    pub(super) fn serve_waiting(self: &Arc<Self>) {
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

    /// A request on `server` is over: its place is free.
    pub(super) fn free(self: &Arc<Self>, server: &Arc<Server>) {
        {
            let mut state = self.lock();
            let left = server.inflight.fetch_sub(1, Ordering::Relaxed) - 1;
            if left == 0 && server.is_retired() {
                state.retired.retain(|retired| !Arc::ptr_eq(retired, server));
            }
        }
        self.serve_waiting();
    }

    /// Takes over what the configuration says, and lets those who wait see the new list.
    pub(super) fn change(self: &Arc<Self>, settings: &config::Upstream) {
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
    pub(super) fn retire(&self) {
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
    pub(super) fn recovered(self: &Arc<Self>, server: &Server) {
        let was_up = {
            let _state = self.lock();
            server.up.swap(true, Ordering::Relaxed)
        };
        if !was_up {
            tracing::info!(upstream = self.name, server = server.label, "server is up");
            self.serve_waiting();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
