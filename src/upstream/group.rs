//! An upstream: its servers and their current state.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use super::{
    Lease, ResponseOutcome, Selection, Server,
    balance::{self, Candidate, Doubts, Method},
    budget::Budget,
    lease::Held,
    names::ResolvedNames,
    outlier,
    queue::{Preference, Queue, Waiter},
    server::ServerHealth,
    window::{Tally, Window},
};
use crate::{
    clock,
    config::{self, Balance},
    observe::HoldMetrics,
    tls::TlsClient,
};

/// A group of servers that serve the same requests.
pub struct Upstream {
    /// Name in the configuration.
    pub name: String,
    pub(super) settings: ArcSwap<config::UpstreamSettings>,
    /// TLS connector for the servers, if the upstream has `tls`.
    tls: ArcSwapOption<TlsClient>,
    state: Mutex<GroupState>,
    pub(super) metrics: HoldMetrics,
    /// Starts the prober of a server.
    pub(super) watch: Watch,
}

/// Starts the prober of a server ([`health`](super::health)).
pub(super) type Watch = Box<dyn Fn(&Arc<Upstream>, &Arc<Server>) + Send + Sync>;

/// State that changes together, under one lock.
#[derive(Default)]
pub(super) struct GroupState {
    pub(super) slots: Vec<Slot>,
    /// Servers removed from the list while requests were in flight. If they are added again, they keep their counts.
    pub(super) retired: Vec<Arc<Server>>,
    /// Resolved addresses of the host names among the servers.
    pub(super) names: ResolvedNames,
    /// Requests that wait for a server, or for a free place on one.
    pub(super) queue: Queue<Waiter>,
    /// Requests for event streams and tunnels. They wait only until a server is up, and do not delay other requests.
    pub(super) streams: Queue<Waiter>,
    pub(super) budget: Budget,
    /// The upstream is no longer configured: requests in flight finish, new ones are refused.
    pub(super) gone: bool,
    /// The process is stopping: waiting requests are refused.
    pub(super) stopping: bool,
    /// Scratch space for the choice, to avoid an allocation.
    candidates: Vec<Candidate>,
}

/// A server in the list, with its configuration and its balancing state.
pub(super) struct Slot {
    pub(super) server: Arc<Server>,
    /// Host name that resolved to this server, as in the configuration.
    pub(super) name: Option<String>,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) max_requests: Option<usize>,
    /// Accumulated weight for `round_robin`.
    pub(super) credit: i64,
    /// Time at which the server was added or recovered, for `slow_start`.
    pub(super) recovered_at: Option<Instant>,
    /// Limit while this server has just recovered and others may follow.
    pub(super) share: Option<Share>,
    /// Recent results of requests, for the passive health check.
    pub(super) results: Window,
    /// Times that others were chosen because this server is an outlier, since its last turn.
    pub(super) passed_over: usize,
}

/// Most waiting requests that a server that has just recovered may take at once, while other servers may recover too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    until: Instant,
    requests: Option<usize>,
    streams: Option<usize>,
}

/// A server with its configuration.
pub struct Standing {
    /// The server.
    pub server: Arc<Server>,
    /// Host name that resolved to this server, as in the configuration.
    pub name: Option<String>,
    /// Configured weight.
    pub weight: u32,
    /// Whether the server is a backup, used only while no other server is usable.
    pub backup: bool,
    /// Most requests in flight on the server.
    pub max_requests: Option<usize>,
}

/// Reason why requests are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// No server is usable.
    Servers,
    /// Every usable server has reached its `max_requests`.
    Places,
}

/// Circumstance of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PickReason {
    /// The request has just arrived.
    Arrived,
    /// The request has waited in the queue.
    Waited,
    /// The request would be refused otherwise, because all servers are down.
    LastResort,
}

/// Time during which the first server to recover leaves some waiting requests to the others. They usually follow at
/// once, and should not find that the first has taken everything.
const SHARE_TIME: Duration = Duration::from_secs(2);

/// A weight of 1 in units of the choice, which leaves room below it for slow start.
const WHOLE: u64 = 1000;

/// Smallest share of its weight during slow start, in thousandths.
const LEAST: u64 = 10;

impl Slot {
    /// Whether the server takes requests whenever it is up: neither a backup nor draining.
    fn is_active_primary(&self) -> bool {
        !self.backup && !self.server.is_draining()
    }

    /// Current weight, in thousandths.
    fn weight(&self, now: Instant, slow_start: Duration) -> u64 {
        let whole = u64::from(self.weight) * WHOLE;
        let Some(recovered_at) = self.recovered_at else { return whole };
        let age = now.saturating_duration_since(recovered_at);
        if age >= slow_start {
            return whole;
        }
        let ramp = WHOLE as f64 * age.as_secs_f64() / slow_start.as_secs_f64();
        // At most the whole.
        u64::from(self.weight) * (ramp as u64).max(LEAST)
    }
}

impl Upstream {
    pub(super) fn new(settings: &config::UpstreamSettings, metrics: HoldMetrics, watch: Watch) -> Arc<Self> {
        Arc::new(Self {
            name: settings.name.clone(),
            settings: ArcSwap::from_pointee(settings.clone()),
            tls: ArcSwapOption::empty(),
            state: Mutex::default(),
            metrics,
            watch,
        })
    }

    /// Current configuration.
    pub fn settings(&self) -> Arc<config::UpstreamSettings> {
        self.settings.load_full()
    }

    /// TLS connector for the servers, if the upstream has `tls`.
    pub(crate) fn tls(&self) -> Option<Arc<TlsClient>> {
        self.tls.load_full()
    }

    /// Replaces the TLS connector.
    pub(super) fn change_tls(&self, connector: Option<Arc<TlsClient>>) {
        self.tls.store(connector);
    }

    /// Number of waiting requests.
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        state.queue.len() + state.streams.len()
    }

    /// Reason why requests are waiting; `None` when the queue is empty.
    pub fn waiting_for(&self) -> Option<WaitingFor> {
        let state = self.lock();
        let health_checks = self.settings.load().health.is_some();
        let usable = state.slots.iter().any(|slot| slot.server.is_usable(health_checks));
        let what = if usable { WaitingFor::Places } else { WaitingFor::Servers };
        state.has_waiting().then_some(what)
    }

    /// Current servers with their configuration.
    pub fn servers(&self) -> Vec<Standing> {
        let describe = |slot: &Slot| {
            let Slot { weight, backup, max_requests, .. } = *slot;
            let (server, name) = (Arc::clone(&slot.server), slot.name.clone());
            Standing { server, name, weight, backup, max_requests }
        };
        self.lock().slots.iter().map(describe).collect()
    }

    /// Labels of servers that were removed from the list and still have requests in flight.
    pub fn leaving(&self) -> Vec<String> {
        self.lock().retired.iter().map(|server| server.label.to_string()).collect()
    }

    /// Chooses a server and counts the request on it.
    pub(super) fn pick(
        self: &Arc<Self>,
        state: &mut GroupState,
        preference: &Preference,
        reason: PickReason,
    ) -> Option<Lease> {
        let now = clock::now();
        let settings = self.settings.load_full();
        let others_may_recover = state
            .slots
            .iter()
            .any(|slot| slot.is_active_primary() && slot.server.health() != ServerHealth::Up);
        let method = match (&settings.balance, preference.key) {
            (Balance::RoundRobin, _) => Method::RoundRobin,
            (Balance::Random, _) => Method::Random,
            (Balance::Hash(_), Some(key)) => Method::Hash(key),
            (Balance::Hash(_), None) | (Balance::LeastConn, _) => Method::LeastConn,
        };
        let uses_reports = settings.load_header.is_some();
        let slots = state.slots.len();
        let mut candidates = std::mem::take(&mut state.candidates);
        candidates.clear();
        candidates.extend(state.slots.iter().map(|slot| {
            let server = &slot.server;
            let share = slot
                .share
                .filter(|share| reason == PickReason::Waited && others_may_recover && now < share.until);
            let (load, most) = if preference.is_stream {
                // Streams are balanced by their own count, and are not limited by `max_requests`.
                (server.streams() as u64 * 100, share.and_then(|share| share.streams))
            } else {
                let share = share.and_then(|share| share.requests);
                let most = share.into_iter().chain(slot.max_requests).min();
                (server.load(settings.streaming_share), most)
            };
            let reported = if uses_reports { server.reported_load(now, slot.max_requests) } else { 0 };
            Candidate {
                load: load + reported,
                weight: slot.weight(now, settings.slow_start),
                usable: server.is_usable(settings.health.is_some())
                    || (reason == PickReason::LastResort
                        && server.may_have_recovered(settings.health.is_some())),
                backup: slot.backup,
                full: most.is_some_and(|most| load >= most as u64 * 100),
                doubts: Doubts {
                    tried: preference.tried.iter().any(|tried| Arc::ptr_eq(tried, server)),
                    silent: server.is_silent(now),
                    outlier: server.is_outlier() && slot.passed_over < outlier::TURNS * slots,
                },
                id: server.id,
                credit: slot.credit,
            }
        }));
        let place = balance::choose(method, &mut candidates, |n| fastrand::u64(0..n));
        for (slot, candidate) in state.slots.iter_mut().zip(&candidates) {
            slot.credit = candidate.credit;
            slot.passed_over += usize::from(candidate.doubts.outlier && candidate.usable);
        }
        state.candidates = candidates;
        let chosen = &mut state.slots[place?];
        chosen.passed_over = 0;
        let server = Arc::clone(&chosen.server);
        let count = if preference.is_stream { &server.streams } else { &server.inflight };
        count.fetch_add(1, Ordering::Relaxed);
        Some(Lease::new(Arc::clone(self), settings, server, now, preference.is_stream))
    }

    /// Gives free places to waiting requests, in queue order.
    pub(super) fn serve_waiting(self: &Arc<Self>) {
        for is_stream in [true, false] {
            while self.serve_first(is_stream) {}
        }
    }

    /// Gives a place to the first waiting request. Returns false when the queue is empty or no place is free.
    fn serve_first(self: &Arc<Self>, is_stream: bool) -> bool {
        let (first, lease) = {
            let mut state = self.lock();
            let order = self.settings.load().queue_order;
            let Some(first) = state.queue(is_stream).first(order) else { return false };
            let preference = first.preference.clone();
            let Some(lease) = self.pick(&mut state, &preference, PickReason::Waited) else { return false };
            (state.queue(is_stream).pop(order), lease)
        };
        // If the waiting request has just been cancelled, dropping the lease returns the place. The lock is not held
        // here.
        if let Some((_, waiter)) = first {
            drop(waiter.sender.send(lease));
        }
        true
    }

    /// Counts the head of a response from `server`; `was_stream` says how the request was counted so far. From now on
    /// the request counts for less, or for nothing.
    pub(super) fn answered(
        self: &Arc<Self>,
        server: &Arc<Server>,
        was_stream: bool,
        result: ResponseOutcome,
    ) {
        let has_waiting = {
            let mut state = self.lock();
            state.count_result(server, result == ResponseOutcome::Failure);
            match (was_stream, result == ResponseOutcome::Stream) {
                (true, true) => return,
                (false, false) => {}
                (true, false) => {
                    server.streams.fetch_sub(1, Ordering::Relaxed);
                    server.inflight.fetch_add(1, Ordering::Relaxed);
                }
                (false, true) => {
                    server.inflight.fetch_sub(1, Ordering::Relaxed);
                    server.streams.fetch_add(1, Ordering::Relaxed);
                }
            }
            if result != ResponseOutcome::Stream {
                server.streaming.fetch_add(1, Ordering::Relaxed);
            }
            state.has_waiting()
        };
        if has_waiting {
            self.serve_waiting();
        }
    }

    /// Counts a failed request: `server` sent no complete response.
    pub(super) fn broke(&self, server: &Arc<Server>) {
        self.lock().count_result(server, true);
    }

    /// Releases the place of a request or stream on `server`.
    pub(super) fn free(self: &Arc<Self>, server: &Arc<Server>, held: Held) {
        let has_waiting = {
            let mut state = self.lock();
            let count = if held == Held::Stream { &server.streams } else { &server.inflight };
            count.fetch_sub(1, Ordering::Relaxed);
            server.streaming.fetch_sub(usize::from(held == Held::Streaming), Ordering::Relaxed);
            if server.is_idle() {
                state.retired.retain(|retired| !Arc::ptr_eq(retired, server));
            }
            state.has_waiting()
        };
        if has_waiting {
            self.serve_waiting();
        }
    }

    /// Marks a server as down; its prober watches it until it recovers.
    pub fn failed(self: &Arc<Self>, server: &Arc<Server>, reason: &str) {
        server.was_away.store(true, Ordering::Relaxed);
        self.mark_failing(server, reason);
    }

    /// Marks a server as down because it closed a new connection. Its prober then finds out whether the server is
    /// gone.
    pub fn cut(self: &Arc<Self>, server: &Arc<Server>) {
        self.mark_failing(server, "closed the connection before a response");
    }

    fn mark_failing(self: &Arc<Self>, server: &Arc<Server>, reason: &str) {
        let before = {
            let state = self.lock();
            if let Some(slot) = state.slots.iter().find(|slot| Arc::ptr_eq(&slot.server, server)) {
                // The host name may resolve to other addresses by now.
                state.names.look_up_again(slot.name.as_deref());
            }
            server.set_health(ServerHealth::Failing, Some(reason.to_owned()))
        };
        if before != ServerHealth::Failing {
            tracing::warn!(upstream = self.name, server = server.label, reason, "server is down");
            server.wake_prober.notify_one();
            // If that was the last server but the backups, they take over now.
            self.serve_waiting();
        }
    }

    /// Marks a server as up. If it was not up before, waiting requests are sent to it at once, up to its share of
    /// them while other servers may recover too.
    pub(super) fn recovered(self: &Arc<Self>, server: &Arc<Server>) {
        let share = {
            let mut state = self.lock();
            let before = server.set_health(ServerHealth::Up, None);
            let (upstream, label) = (&self.name, &server.label);
            match before {
                ServerHealth::Up => return,
                ServerHealth::Unknown => tracing::debug!(upstream, server = label, "server is up"),
                ServerHealth::Failing => tracing::info!(upstream, server = label, "server is up"),
            }
            state.handle_recovery(server, before)
        };
        self.serve_waiting();
        let Some(share) = share else { return };
        let upstream = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(share.until).await;
            if let Some(upstream) = upstream.upgrade() {
                upstream.serve_waiting();
            }
        });
    }

    /// Starts or ends draining: a draining server finishes its requests and gets no new ones.
    pub(super) fn drain(self: &Arc<Self>, server: &Arc<Server>, draining: bool) {
        let before = {
            let _state = self.lock();
            server.draining.swap(draining, Ordering::Relaxed)
        };
        if before != draining {
            let (upstream, drain_begins, server) = (&self.name, &server.drain_begins, &server.label);
            if draining {
                drain_begins.notify_waiters();
            }
            tracing::info!(upstream, server, draining, "server is drained or resumed by an operator");
            // Either the server is back, or the backups take over.
            self.serve_waiting();
        }
    }

    /// Whether one of the servers is known to speak HTTP/1.0.
    pub(crate) fn speaks_http_1_0(&self) -> bool {
        self.lock().slots.iter().any(|slot| slot.server.speaks_http_1_0())
    }

    /// Whether a server other than `current`, and other than those at which `selection` has failed, could take a
    /// request now.
    pub fn has_other(&self, selection: &Selection, current: &Arc<Server>) -> bool {
        let settings = self.settings.load();
        let has_room = |slot: &Slot| {
            let load = slot.server.load(settings.streaming_share);
            slot.max_requests.is_none_or(|most| load < most as u64 * 100)
        };
        let state = self.lock();
        let others = || {
            let usable = state.slots.iter().filter(|slot| slot.server.is_usable(settings.health.is_some()));
            usable
                .filter(|slot| !Arc::ptr_eq(&slot.server, current) && !selection.has_failed_at(&slot.server))
        };
        let primary = others().any(|slot| !slot.backup);
        others().any(|slot| has_room(slot) && !(primary && slot.backup))
    }

    /// Whether the retry budget allows another retry.
    pub fn may_retry(&self) -> bool {
        let percent = self.settings.load().retry.budget;
        self.lock().budget.has_left(Instant::now(), percent)
    }

    /// Counts a retry.
    pub fn retries(&self) {
        self.lock().budget.spend(Instant::now());
    }

    /// Locks the state.
    pub(super) fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupState {
    /// Queue of streams, or of other requests.
    pub(super) fn queue(&mut self, of_streams: bool) -> &mut Queue<Waiter> {
        if of_streams { &mut self.streams } else { &mut self.queue }
    }

    fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.streams.is_empty()
    }

    /// Counts the result of a request, and updates the outliers if it may change them.
    fn count_result(&mut self, server: &Arc<Server>, failed: bool) {
        let now = clock::now();
        let Some(slot) = self.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.server, server)) else { return };
        slot.results.add(now, 1, u64::from(failed));
        if !failed && !self.slots.iter().any(|slot| slot.server.is_outlier()) {
            return;
        }
        let tallies: Vec<_> = self.slots.iter_mut().map(|slot| slot.results.tally(now)).collect();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            let peers = tallies.iter().enumerate().filter(|(peer, _)| *peer != place);
            let was = slot.server.is_outlier();
            let is = outlier::is_outlier(tallies[place], peers.map(|(_, tally)| *tally), was);
            if is != was {
                slot.server.outlier.store(is, Ordering::Relaxed);
                let Tally { all, marked } = tallies[place];
                let (server, failed) = (&slot.server.label, marked);
                match is {
                    true => tracing::warn!(
                        server,
                        failed,
                        of = all,
                        "server fails far more often than its peers and gets fewer requests"
                    ),
                    false => tracing::info!(
                        server,
                        failed,
                        of = all,
                        "server no longer fails more often than its peers"
                    ),
                }
            }
        }
    }

    /// Handles a server that has come up: returns the share of waiting requests that it may take while other servers
    /// may recover too.
    fn handle_recovery(&mut self, server: &Arc<Server>, before: ServerHealth) -> Option<Share> {
        let now = Instant::now();
        let servers = self.slots.iter().filter(|slot| slot.is_active_primary()).count().max(1);
        let part = |waiting: usize| (waiting > 0).then(|| waiting.div_ceil(servers));
        let (requests, streams) = (part(self.queue.len()), part(self.streams.len()));
        let share = self.has_waiting().then_some(Share { until: now + SHARE_TIME, requests, streams });
        if let Some(slot) = self.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.server, server)) {
            slot.share = share;
            if before == ServerHealth::Failing {
                slot.recovered_at = Some(now);
            }
            if server.was_away.swap(false, Ordering::Relaxed) && before == ServerHealth::Failing {
                // Requests cut off when the server went away say nothing about the process that replaced it. A server
                // that breaks connections and was reachable all the time is still the same one.
                slot.results = outlier::results();
                server.outlier.store(false, Ordering::Relaxed);
            }
        }
        share
    }
}
