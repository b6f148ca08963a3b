//! One upstream: its servers, and what is known of them at this moment.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;

use super::{
    Answered, Lease, Selection, Server,
    balance::{self, Candidate, Doubts, Method},
    budget::Budget,
    lease::Held,
    names::ResolvedNames,
    outlier,
    queue::{Queue, Waiter, Wish},
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
    /// Its name in the configuration.
    pub name: String,
    pub(super) settings: ArcSwap<config::UpstreamSettings>,
    /// How its servers are spoken to under TLS, where they are.
    tls: ArcSwapOption<TlsClient>,
    state: Mutex<GroupState>,
    pub(super) metrics: HoldMetrics,
    /// Has a server watched.
    pub(super) watch: Watch,
}

/// Has a server of an upstream watched ([`health`](super::health)).
pub(super) type Watch = Box<dyn Fn(&Arc<Upstream>, &Arc<Server>) + Send + Sync>;

/// What changes together.
#[derive(Default)]
pub(super) struct GroupState {
    pub(super) slots: Vec<Slot>,
    /// Servers that have left the list with requests still on them; they come back with their counts.
    pub(super) retired: Vec<Arc<Server>>,
    /// Where the host names among the servers lead.
    pub(super) names: ResolvedNames,
    /// Requests that wait for a server, or for a place on one.
    pub(super) queue: Queue<Waiter>,
    /// Requests for event streams and tunnels: they wait for a server only, and hold nobody else up.
    pub(super) streams: Queue<Waiter>,
    pub(super) budget: Budget,
    /// It is no longer configured: what is in flight ends, and nothing new begins.
    pub(super) gone: bool,
    /// The process ends: nobody waits any more.
    pub(super) stopping: bool,
    /// Room for the choice, so that it costs no allocation.
    candidates: Vec<Candidate>,
}

/// A server's place in the list, with what the configuration says of it.
pub(super) struct Slot {
    pub(super) server: Arc<Server>,
    /// The host name that it is an address of, as the file has it.
    pub(super) name: Option<String>,
    pub(super) weight: u32,
    pub(super) backup: bool,
    pub(super) max_requests: Option<usize>,
    /// What it is owed (`round_robin`).
    pub(super) credit: i64,
    /// When it came, or came back (`slow_start`).
    pub(super) returned: Option<Instant>,
    /// It has just returned and others have not.
    pub(super) share: Option<Share>,
    /// What became of requests on it.
    pub(super) results: Window,
    /// How often others were chosen because it is an outlier, since its last turn.
    pub(super) passed_over: usize,
}

/// How many of those who wait a server that has just returned may have at once, while others may return too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    until: Instant,
    requests: Option<usize>,
    streams: Option<usize>,
}

/// A server, and what the configuration says of it.
pub struct Standing {
    /// The server.
    pub server: Arc<Server>,
    /// The host name that it is an address of, as the file has it.
    pub name: Option<String>,
    /// Its share of the load.
    pub weight: u32,
    /// Used only while no other can be.
    pub backup: bool,
    /// Most requests in flight on it.
    pub max_requests: Option<usize>,
}

/// What those who wait are waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// No server can be used.
    Servers,
    /// Those that can be used have as many requests as they may have.
    Places,
}

/// Why a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DownReason {
    /// For a request that has just arrived.
    Arrived,
    /// For one that has waited.
    Waited,
    /// For one that would be refused because all servers are down.
    LastResort,
}

/// How long the first server to return leaves some of those who wait to the others: they are back in a moment, and
/// should not find that it has everything.
const OTHERS_RETURN: Duration = Duration::from_secs(2);

/// A weight of 1 as the choice counts, so that there is room below it for a server that starts slowly.
const WHOLE: u64 = 1000;

/// The least share of its weight that a server which starts slowly has.
const LEAST: u64 = 10;

impl Slot {
    /// Whether it takes requests whenever it is up.
    fn is_for_all(&self) -> bool {
        !self.backup && !self.server.is_draining()
    }

    /// Its weight at this moment, in thousandths.
    fn weight(&self, now: Instant, slow_start: Duration) -> u64 {
        let whole = u64::from(self.weight) * WHOLE;
        let Some(returned) = self.returned else { return whole };
        let age = now.saturating_duration_since(returned);
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

    /// What the configuration says at present.
    pub fn settings(&self) -> Arc<config::UpstreamSettings> {
        self.settings.load_full()
    }

    /// How its servers are spoken to under TLS, where they are.
    pub(crate) fn tls(&self) -> Option<Arc<TlsClient>> {
        self.tls.load_full()
    }

    /// From now on they are spoken to like this.
    pub(super) fn change_tls(&self, connector: Option<Arc<TlsClient>>) {
        self.tls.store(connector);
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        let state = self.lock();
        state.queue.len() + state.streams.len()
    }

    /// What those who wait are waiting for; `None` when nobody waits.
    pub fn waiting_for(&self) -> Option<WaitingFor> {
        let state = self.lock();
        let asked = self.settings.load().health.is_some();
        let usable = state.slots.iter().any(|slot| slot.server.is_usable(asked));
        let what = if usable { WaitingFor::Places } else { WaitingFor::Servers };
        state.has_waiting().then_some(what)
    }

    /// Its servers at present, with what the configuration says of each.
    pub fn servers(&self) -> Vec<Standing> {
        let describe = |slot: &Slot| {
            let Slot { weight, backup, max_requests, .. } = *slot;
            let (server, name) = (Arc::clone(&slot.server), slot.name.clone());
            Standing { server, name, weight, backup, max_requests }
        };
        self.lock().slots.iter().map(describe).collect()
    }

    /// The labels of servers that have left the list with requests still on them.
    pub fn leaving(&self) -> Vec<String> {
        self.lock().retired.iter().map(|server| server.label.to_string()).collect()
    }

    /// Chooses a server and counts the request on it.
    pub(super) fn pick(
        self: &Arc<Self>,
        state: &mut GroupState,
        wish: &Wish,
        why: DownReason,
    ) -> Option<Lease> {
        let now = clock::now();
        let settings = self.settings.load_full();
        let others_come =
            state.slots.iter().any(|slot| slot.is_for_all() && slot.server.health() != ServerHealth::Up);
        let method = match (&settings.balance, wish.key) {
            (Balance::RoundRobin, _) => Method::RoundRobin,
            (Balance::Random, _) => Method::Random,
            (Balance::Hash(_), Some(key)) => Method::Hash(key),
            (Balance::Hash(_), None) | (Balance::LeastConn, _) => Method::LeastConn,
        };
        let hears_reports = settings.load_header.is_some();
        let slots = state.slots.len();
        let mut candidates = std::mem::take(&mut state.candidates);
        candidates.clear();
        candidates.extend(state.slots.iter().map(|slot| {
            let server = &slot.server;
            let share =
                slot.share.filter(|share| why == DownReason::Waited && others_come && now < share.until);
            let (load, most) = if wish.is_stream {
                // Streams are spread by their own number, and their servers are never full.
                (server.streams() as u64 * 100, share.and_then(|share| share.streams))
            } else {
                let share = share.and_then(|share| share.requests);
                let most = share.into_iter().chain(slot.max_requests).min();
                (server.load(settings.streaming_share), most)
            };
            let reported = if hears_reports { server.reported_load(now, slot.max_requests) } else { 0 };
            Candidate {
                load: load + reported,
                weight: slot.weight(now, settings.slow_start),
                usable: server.is_usable(settings.health.is_some())
                    || (why == DownReason::LastResort && server.may_be_back(settings.health.is_some())),
                backup: slot.backup,
                full: most.is_some_and(|most| load >= most as u64 * 100),
                doubts: Doubts {
                    tried: wish.tried.iter().any(|tried| Arc::ptr_eq(tried, server)),
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
        let count = if wish.is_stream { &server.streams } else { &server.inflight };
        count.fetch_add(1, Ordering::Relaxed);
        Some(Lease::new(Arc::clone(self), settings, server, now, wish.is_stream))
    }

    /// Gives free places to those who wait, in their order.
    pub(super) fn serve_waiting(self: &Arc<Self>) {
        for is_stream in [true, false] {
            while self.serve_first(is_stream) {}
        }
    }

    /// Gives the first of those who wait a place; false when nobody waits or there is none.
    fn serve_first(self: &Arc<Self>, is_stream: bool) -> bool {
        let (first, lease) = {
            let mut state = self.lock();
            let order = self.settings.load().queue_order;
            let Some(first) = state.queue(is_stream).first(order) else { return false };
            let wish = first.wish.clone();
            let Some(lease) = self.pick(&mut state, &wish, DownReason::Waited) else { return false };
            (state.queue(is_stream).pop(order), lease)
        };
        // A lease that finds nobody (who waited has just left) is given back by being dropped; the lock is not held here.
        if let Some((_, waiter)) = first {
            drop(waiter.sender.send(lease));
        }
        true
    }

    /// Counts the head of a response to a request on `server`, which was counted as a stream or not: it counts less from
    /// now on, or not at all.
    pub(super) fn answered(self: &Arc<Self>, server: &Arc<Server>, was_stream: bool, result: Answered) {
        let somebody_waits = {
            let mut state = self.lock();
            state.count_result(server, result == Answered::Failed);
            match (was_stream, result == Answered::Stream) {
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
            if result != Answered::Stream {
                server.streaming.fetch_add(1, Ordering::Relaxed);
            }
            state.has_waiting()
        };
        if somebody_waits {
            self.serve_waiting();
        }
    }

    /// Counts a request that failed on `server` without a whole response.
    pub(super) fn broke(&self, server: &Arc<Server>) {
        self.lock().count_result(server, true);
    }

    /// Frees the place of a request on `server`, or of a stream.
    pub(super) fn free(self: &Arc<Self>, server: &Arc<Server>, held: Held) {
        let somebody_waits = {
            let mut state = self.lock();
            let count = if held == Held::Stream { &server.streams } else { &server.inflight };
            count.fetch_sub(1, Ordering::Relaxed);
            server.streaming.fetch_sub(usize::from(held == Held::Streaming), Ordering::Relaxed);
            if server.is_idle() {
                state.retired.retain(|retired| !Arc::ptr_eq(retired, server));
            }
            state.has_waiting()
        };
        if somebody_waits {
            self.serve_waiting();
        }
    }

    /// Takes note that a server cannot be used, and has it watched until it can.
    pub fn failed(self: &Arc<Self>, server: &Arc<Server>, reason: &str) {
        server.was_away.store(true, Ordering::Relaxed);
        self.fails(server, reason);
    }

    /// Takes note that a server has broken a new connection: it may be gone, which its prober finds out.
    pub fn cut(self: &Arc<Self>, server: &Arc<Server>) {
        self.fails(server, "closed the connection before an answer");
    }

    fn fails(self: &Arc<Self>, server: &Arc<Server>, reason: &str) {
        let before = {
            let state = self.lock();
            if let Some(slot) = state.slots.iter().find(|slot| Arc::ptr_eq(&slot.server, server)) {
                // Its name may lead elsewhere by now.
                state.names.look(slot.name.as_deref());
            }
            server.becomes(ServerHealth::Failing, Some(reason.to_owned()))
        };
        if before != ServerHealth::Failing {
            tracing::warn!(upstream = self.name, server = server.label, reason, "server is down");
            server.look.notify_one();
            // It may have been the last but the backups, whose turn it is now.
            self.serve_waiting();
        }
    }

    /// Takes note that a server can be used: when that was not known before, those who wait go to it at once, up to its
    /// share of them while others may come as well.
    pub(super) fn recovered(self: &Arc<Self>, server: &Arc<Server>) {
        let share = {
            let mut state = self.lock();
            let before = server.becomes(ServerHealth::Up, None);
            let (upstream, label) = (&self.name, &server.label);
            match before {
                ServerHealth::Up => return,
                ServerHealth::Unknown => tracing::debug!(upstream, server = label, "server is up"),
                ServerHealth::Failing => tracing::info!(upstream, server = label, "server is up"),
            }
            state.returned(server, before)
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

    /// Lets a server finish what it has and gives it nothing new, or ends that.
    pub(super) fn drain(self: &Arc<Self>, server: &Arc<Server>, draining: bool) {
        let before = {
            let _state = self.lock();
            server.draining.swap(draining, Ordering::Relaxed)
        };
        if before != draining {
            let (upstream, server) = (&self.name, &server.label);
            tracing::info!(upstream, server, draining, "an operator has decided who gets requests");
            // A server is back, or the backups' turn has come.
            self.serve_waiting();
        }
    }

    /// Whether a server other than `asked`, and than those that `turn` has failed at, could take a request now.
    pub fn has_other(&self, turn: &Selection, asked: &Arc<Server>) -> bool {
        let settings = self.settings.load();
        let has_room = |slot: &Slot| {
            let load = slot.server.load(settings.streaming_share);
            slot.max_requests.is_none_or(|most| load < most as u64 * 100)
        };
        let state = self.lock();
        let others = || {
            let usable = state.slots.iter().filter(|slot| slot.server.is_usable(settings.health.is_some()));
            usable.filter(|slot| !Arc::ptr_eq(&slot.server, asked) && !turn.has_failed_at(&slot.server))
        };
        let primary = others().any(|slot| !slot.backup);
        others().any(|slot| has_room(slot) && !(primary && slot.backup))
    }

    /// Whether one more request may be sent again.
    pub fn may_retry(&self) -> bool {
        let percent = self.settings.load().retry.budget;
        self.lock().budget.has_left(Instant::now(), percent)
    }

    /// A request is sent again.
    pub fn retries(&self) {
        self.lock().budget.spend(Instant::now());
    }

    /// Everything that changes together.
    pub(super) fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupState {
    /// The queue of streams, or that of other requests.
    pub(super) fn queue(&mut self, of_streams: bool) -> &mut Queue<Waiter> {
        if of_streams { &mut self.streams } else { &mut self.queue }
    }

    fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.streams.is_empty()
    }

    /// Counts what became of a request, and decides anew who is an outlier where that may have changed.
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
                        "server fails far more than its peers and gets less"
                    ),
                    false => tracing::info!(server, failed, of = all, "server fails no more than its peers"),
                }
            }
        }
    }

    /// A server has come, or come back: how many of those who wait it may have while others may come too.
    fn returned(&mut self, server: &Arc<Server>, before: ServerHealth) -> Option<Share> {
        let now = Instant::now();
        let servers = self.slots.iter().filter(|slot| slot.is_for_all()).count().max(1);
        let part = |waiting: usize| (waiting > 0).then(|| waiting.div_ceil(servers));
        let (requests, streams) = (part(self.queue.len()), part(self.streams.len()));
        let share = self.has_waiting().then_some(Share { until: now + OTHERS_RETURN, requests, streams });
        if let Some(slot) = self.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.server, server)) {
            slot.share = share;
            if before == ServerHealth::Failing {
                slot.returned = Some(now);
            }
            if server.was_away.swap(false, Ordering::Relaxed) && before == ServerHealth::Failing {
                // Requests that its end has cut say nothing of what has come in its place. One that breaks connections
                // and was there all the time is the same as before.
                slot.results = outlier::results();
                server.outlier.store(false, Ordering::Relaxed);
            }
        }
        share
    }
}
