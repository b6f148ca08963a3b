//! One server of an upstream: what is known about it outlives reloads for as long as its address stays.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{balance, health::OUT_OF_REACH, report::LoadReport, silence::Silence};
use crate::{config::Address, observe::ServerMetrics};

/// A server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; one of the addresses of a host name is a server of its own.
    pub address: Address,
    /// [`address`](Self::address) as text, made once: its name in metrics and commands.
    pub label: String,
    /// Its name in the file without a port, or its address: what it is called in TLS.
    pub(crate) host: String,
    /// What is counted of its answers, from the first on.
    pub(crate) metrics: OnceLock<ServerMetrics>,
    /// The label as a number.
    pub(super) id: u64,
    /// Requests in flight, streams not among them. Changed only under the lock of its upstream.
    pub(super) inflight: AtomicUsize,
    /// Requests whose answers have begun. Changed only under the lock of its upstream.
    pub(super) streaming: AtomicUsize,
    /// Event streams and tunnels, open or asked for. Changed only under the lock of its upstream.
    pub(super) streams: AtomicUsize,
    /// Whether its share of failures is far above its peers'. Changed only under the lock of its upstream.
    pub(super) outlier: AtomicBool,
    /// Since it was up last it could not be reached, or has said that it cannot be used.
    pub(super) was_away: AtomicBool,
    health: AtomicU8,
    /// Why it is failing, for people.
    reason: ArcSwapOption<String>,
    /// An operator wants no new requests on it. Changed only under the lock of its upstream.
    pub(super) draining: AtomicBool,
    /// Wakes its prober.
    pub(super) look: Notify,
    silence: Mutex<Silence>,
    report: Mutex<Option<LoadReport>>,
    /// The task that asks whether it can be used.
    prober: Mutex<Option<AbortHandle>>,
}

/// Whether a server can be used, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerHealth {
    /// Nothing has been heard of it: it may be tried when no other is known to be up.
    Unknown,
    /// It can.
    Up,
    /// It cannot, and is asked until it can.
    Failing,
}

impl Server {
    /// A server of which nothing is known.
    pub(super) fn new(address: Address, host: String) -> Arc<Self> {
        let label = address.to_string();
        Arc::new(Self {
            address,
            id: balance::hash(label.as_bytes()),
            label,
            host,
            metrics: OnceLock::new(),
            inflight: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            outlier: AtomicBool::new(false),
            was_away: AtomicBool::new(false),
            health: AtomicU8::new(ServerHealth::Unknown as u8),
            reason: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
            look: Notify::new(),
            silence: Mutex::default(),
            report: Mutex::default(),
            prober: Mutex::default(),
        })
    }

    /// Requests in flight on it.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Requests in flight whose responses have begun: only a body is still on its way.
    pub fn streaming(&self) -> usize {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Event streams and tunnels (WebSocket), open or asked for. They are open for hours and cost next to nothing, so they
    /// are no load and take no place in `max_requests`.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether nothing at all is in flight on it.
    pub(super) fn is_idle(&self) -> bool {
        self.inflight() + self.streams() == 0
    }

    /// Whether its share of failures is far above its peers': it gets less than they.
    pub fn is_outlier(&self) -> bool {
        self.outlier.load(Ordering::Relaxed)
    }

    /// What is in flight on it in hundredths of a request; what only streams counts `streaming_share` percent.
    pub(super) fn load(&self, streaming_share: u32) -> u64 {
        let streaming = self.streaming();
        let busy = self.inflight().saturating_sub(streaming);
        busy as u64 * 100 + streaming as u64 * u64::from(streaming_share)
    }

    /// Whether it can be used, as far as is known.
    pub fn health(&self) -> ServerHealth {
        match self.health.load(Ordering::Relaxed) {
            up if up == ServerHealth::Up as u8 => ServerHealth::Up,
            failing if failing == ServerHealth::Failing as u8 => ServerHealth::Failing,
            _ => ServerHealth::Unknown,
        }
    }

    /// Takes note of its health, and gives what was known before. Only under the lock of its upstream.
    pub(super) fn becomes(&self, health: ServerHealth, reason: Option<String>) -> ServerHealth {
        let before = self.health();
        self.health.store(health as u8, Ordering::Relaxed);
        self.reason.store(reason.map(Arc::new));
        before
    }

    /// Why it is failing, for people.
    pub fn reason(&self) -> Option<Arc<String>> {
        self.reason.load_full()
    }

    /// Whether it may get requests: it can be used, as far as is known, and nobody has forbidden it. Where servers are
    /// `asked` about their health, one that has not answered yet may be loading still.
    pub fn is_usable(&self, asked: bool) -> bool {
        let well = match self.health() {
            ServerHealth::Up => true,
            ServerHealth::Unknown => !asked,
            ServerHealth::Failing => false,
        };
        well && !self.is_draining()
    }

    /// Whether it may be back though it is taken to be down. Where servers are `asked` about their health, only one that
    /// could not be reached: any other has said itself that it cannot be used.
    pub(super) fn may_be_back(&self, asked: bool) -> bool {
        let was_out_of_reach = || self.reason().is_some_and(|reason| OUT_OF_REACH.contains(&reason.as_str()));
        !self.is_draining() && (!asked || was_out_of_reach())
    }

    /// Whether an operator wants no new requests on it.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether it owes answers and has begun none for a while: others are preferred.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silence().is_silent(now)
    }

    pub(super) fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what it says of its load.
    pub(super) fn reports(&self, report: LoadReport) {
        *self.report() = Some(report);
    }

    /// What it says of its load, in hundredths of a request; nothing when it has said nothing lately.
    pub fn reported_load(&self, now: Instant, max_requests: Option<usize>) -> u64 {
        self.report().map_or(0, |report| report.load(now, max_requests))
    }

    fn report(&self) -> MutexGuard<'_, Option<LoadReport>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a prober watches it.
    pub(super) fn is_watched(&self) -> bool {
        self.prober().is_some()
    }

    /// From now on this task watches it.
    pub(super) fn watched_by(&self, prober: AbortHandle) {
        if let Some(before) = self.prober().replace(prober) {
            before.abort();
        }
    }

    /// Nobody watches it any more.
    pub(super) fn unwatch(&self) {
        if let Some(prober) = self.prober().take() {
            prober.abort();
        }
    }

    fn prober(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its state in a word.
    pub fn state(&self, now: Instant) -> &'static str {
        match self.health() {
            _ if self.is_draining() => "draining",
            ServerHealth::Failing => "failing",
            _ if self.is_silent(now) => "silent",
            _ if self.is_outlier() => "outlier",
            ServerHealth::Unknown => "unknown",
            ServerHealth::Up => "up",
        }
    }
}
