//! One upstream: its servers, and what is known of them at this moment.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{
    Lease, Server, balance, health,
    queue::{Queue, Waiter},
};
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
    pub(super) queue: Queue<Waiter>,
    /// It is no longer configured: what is in flight ends, and nothing new begins.
    pub(super) gone: bool,
}

/// A server's place in the list, with what the configuration says of it.
struct Slot {
    server: Arc<Server>,
    weight: u32,
    backup: bool,
    max_requests: Option<usize>,
    /// It has just returned and others have not: until when, and how many of those who wait it may have at once.
    share: Option<(Instant, usize)>,
}

/// Why a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// For a request that has just arrived.
    Arrived,
    /// For one that has waited.
    Waited,
}

/// How long the first server to return leaves some of those who wait to the others: they are back in a moment, and
/// should not find that it has everything.
const OTHERS_RETURN: Duration = Duration::from_secs(2);

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
    pub(super) fn pick(self: &Arc<Self>, state: &State, tried: &[Arc<Server>], why: Why) -> Option<Lease> {
        let now = Instant::now();
        let others_down = state.servers.iter().any(|slot| !slot.backup && !slot.server.is_up());
        let most = |slot: &Slot| {
            let share = slot.share.filter(|(until, _)| why == Why::Waited && others_down && now < *until);
            share.map(|(_, share)| share).into_iter().chain(slot.max_requests).min()
        };
        let candidates = state.servers.iter().map(|slot| balance::Candidate {
            inflight: slot.server.inflight(),
            weight: slot.weight,
            up: slot.server.is_up(),
            backup: slot.backup,
            full: most(slot).is_some_and(|most| slot.server.inflight() >= most),
            tried: tried.iter().any(|tried| Arc::ptr_eq(tried, &slot.server)),
            silent: slot.server.is_silent(now),
        });
        let place = balance::least_conn(candidates, |n| fastrand::u64(0..n))?;
        let server = Arc::clone(&state.servers[place].server);
        server.inflight.fetch_add(1, Ordering::Relaxed);
        Some(Lease::new(Arc::clone(self), server))
    }

    /// Gives free places to those who wait, the oldest first.
    pub(super) fn serve_waiting(self: &Arc<Self>) {
        loop {
            let (oldest, lease) = {
                let mut state = self.lock();
                let Some(oldest) = state.queue.front() else { return };
                let Some(lease) = self.pick(&state, &oldest.tried, Why::Waited) else { return };
                (state.queue.pop(), lease)
            };
            // A lease that finds nobody (who waited has just left) is given back by being dropped; the lock is not
            // held here.
            if let Some((_, waiter)) = oldest {
                drop(waiter.sender.send(lease));
            }
        }
    }

    /// A request on `server` is over: its place is free.
    pub(super) fn free(self: &Arc<Self>, server: &Arc<Server>) {
        {
            let mut state = self.lock();
            let left = server.inflight.fetch_sub(1, Ordering::Relaxed) - 1;
            if left == 0 {
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
            state.gone = false;
            let mut known: Vec<Arc<Server>> = state.servers.drain(..).map(|slot| slot.server).collect();
            known.append(&mut state.retired);
            for configured in &settings.servers {
                let found = known.iter().position(|server| server.address == configured.address);
                let server = match found.map(|place| known.swap_remove(place)) {
                    Some(server) => server,
                    None => Server::new(configured.address.clone()),
                };
                if server.is_watched() {
                    // What is asked of it, and how often, may have changed.
                    server.look.notify_one();
                } else {
                    fresh.push(Arc::clone(&server));
                }
                let config::UpstreamServer { weight, backup, max_requests, .. } = *configured;
                state.servers.push(Slot { server, weight, backup, max_requests, share: None });
            }
            state.retire(known);
        }
        for server in fresh {
            health::watch(self, &server);
        }
        self.serve_waiting();
    }

    /// The upstream is no longer configured: those who wait find another route, what is in flight ends.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.gone = true;
        let servers = state.servers.drain(..).map(|slot| slot.server).collect();
        state.retire(servers);
        state.queue.clear();
    }

    /// Whether it is configured no longer.
    pub fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// Whether requests are still in flight on servers that have left the list.
    pub(super) fn is_draining(&self) -> bool {
        !self.lock().retired.is_empty()
    }

    /// Takes note that a server cannot be used, and has it watched until it can.
    pub fn failed(self: &Arc<Self>, server: &Arc<Server>, reason: &str) {
        let was_up = {
            let _state = self.lock();
            server.up.swap(false, Ordering::Relaxed)
        };
        if was_up {
            tracing::warn!(upstream = self.name, server = server.label, reason, "server is down");
            server.look.notify_one();
            // It may have been the last but the backups, whose turn it is now.
            self.serve_waiting();
        }
    }

    /// Takes note that a server can be used: when it could not before, those who wait go to it at once, while others are
    /// still away up to its share of them.
    pub(super) fn recovered(self: &Arc<Self>, server: &Arc<Server>) {
        let share = {
            let mut state = self.lock();
            if server.up.swap(true, Ordering::Relaxed) {
                return;
            }
            let servers = state.servers.iter().filter(|slot| !slot.backup).count().max(1);
            let waiting = state.queue.len();
            let share = (waiting > 0).then(|| (Instant::now() + OTHERS_RETURN, waiting.div_ceil(servers)));
            if let Some(slot) = state.servers.iter_mut().find(|slot| Arc::ptr_eq(&slot.server, server)) {
                slot.share = share;
            }
            share
        };
        tracing::info!(upstream = self.name, server = server.label, "server is up");
        self.serve_waiting();
        let Some((until, _)) = share else { return };
        let upstream = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            if let Some(upstream) = upstream.upgrade() {
                upstream.serve_waiting();
            }
        });
    }

    /// Everything that changes together.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes servers out of use; those with requests on them are remembered until these are over.
    fn retire(&mut self, servers: Vec<Arc<Server>>) {
        for server in servers {
            server.unwatch();
            if server.inflight() > 0 {
                self.retired.push(server);
            }
        }
    }
}
