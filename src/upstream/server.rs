//! Server of an upstream. Its state outlives reloads for as long as the address remains.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
};

use arc_swap::ArcSwapOption;
use http::Version;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{balance, health::OUT_OF_REACH, report::LoadReport, silence::Silence};
use crate::{config::Address, observe::ServerMetrics};

/// A server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Address of the server; each address of a host name is a server of its own.
    pub address: Address,
    /// Text of [`address`](Self::address), formatted once: the server's name in metrics and commands.
    pub label: String,
    /// Server name for TLS: the configured host name without its port, or the address.
    pub(crate) host: String,
    /// Metrics of the server, created on first use.
    pub(crate) metrics: OnceLock<ServerMetrics>,
    /// Hash of the label.
    pub(super) id: u64,
    /// Requests in flight, without streams. Changed only under the lock of the upstream.
    pub(super) inflight: AtomicUsize,
    /// Requests in flight whose responses have begun. Changed only under the lock of the upstream.
    pub(super) streaming: AtomicUsize,
    /// Event streams and tunnels, open or requested. Changed only under the lock of the upstream.
    pub(super) streams: AtomicUsize,
    /// Whether the server fails far more often than its peers. Changed only under the lock of the upstream.
    pub(super) outlier: AtomicBool,
    /// The last response came in HTTP/1.0.
    speaks_http_1_0: AtomicBool,
    /// Since it was last up, the server was unreachable or failed its health check.
    pub(super) was_away: AtomicBool,
    health: AtomicU8,
    /// Reason why the server is down, for operators.
    reason: ArcSwapOption<String>,
    /// Whether an operator drains the server. Changed only under the lock of the upstream.
    pub(super) draining: AtomicBool,
    /// Notifies event streams when draining begins.
    pub(super) drain_begins: Notify,
    /// Wakes the prober.
    pub(super) wake_prober: Notify,
    silence: Mutex<Silence>,
    report: Mutex<Option<LoadReport>>,
    /// Task of the prober.
    prober: Mutex<Option<AbortHandle>>,
}

/// Health of a server, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ServerHealth {
    /// Not probed yet: may be tried when no other server is known to be up.
    Unknown,
    /// Up.
    Up,
    /// Down, and probed until it recovers.
    Failing,
}

impl Server {
    /// Creates a server in state unknown.
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
            speaks_http_1_0: AtomicBool::new(false),
            was_away: AtomicBool::new(false),
            health: AtomicU8::new(ServerHealth::Unknown as u8),
            reason: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
            drain_begins: Notify::new(),
            wake_prober: Notify::new(),
            silence: Mutex::default(),
            report: Mutex::default(),
            prober: Mutex::default(),
        })
    }

    /// Requests in flight.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Requests in flight whose responses have begun, so that only a body is still being transferred.
    pub fn streaming(&self) -> usize {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Event streams and tunnels (WebSocket), open or requested. They stay open for hours at almost no cost, so they
    /// count neither as load nor for `max_requests`.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Whether nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.inflight() + self.streams() == 0
    }

    /// Whether the server fails far more often than its peers, and therefore gets fewer requests.
    pub fn is_outlier(&self) -> bool {
        self.outlier.load(Ordering::Relaxed)
    }

    /// Whether the server is known to speak HTTP/1.0, by the version of its last response: it does not understand chunks
    /// (RFC 9112 §6.1).
    pub(crate) fn speaks_http_1_0(&self) -> bool {
        self.speaks_http_1_0.load(Ordering::Relaxed)
    }

    /// Notes the version of a response.
    pub(super) fn responded_in(&self, version: Version) {
        let is_old = version == Version::HTTP_10;
        // Written only when it changes: other threads read it.
        if self.speaks_http_1_0() != is_old {
            self.speaks_http_1_0.store(is_old, Ordering::Relaxed);
        }
    }

    /// Load in hundredths of a request. A request that only transfers its body counts `streaming_share` percent.
    pub(super) fn load(&self, streaming_share: u32) -> u64 {
        let streaming = self.streaming();
        let busy = self.inflight().saturating_sub(streaming);
        busy as u64 * 100 + streaming as u64 * u64::from(streaming_share)
    }

    /// Current health.
    pub fn health(&self) -> ServerHealth {
        match self.health.load(Ordering::Relaxed) {
            up if up == ServerHealth::Up as u8 => ServerHealth::Up,
            failing if failing == ServerHealth::Failing as u8 => ServerHealth::Failing,
            _ => ServerHealth::Unknown,
        }
    }

    /// Sets the health and returns the previous one. Called only under the lock of the upstream.
    pub(super) fn set_health(&self, health: ServerHealth, reason: Option<String>) -> ServerHealth {
        let before = self.health();
        self.health.store(health as u8, Ordering::Relaxed);
        self.reason.store(reason.map(Arc::new));
        before
    }

    /// Reason why the server is down, for operators.
    pub fn reason(&self) -> Option<Arc<String>> {
        self.reason.load_full()
    }

    /// Whether the server may get requests: up, as far as is known, and not draining. With health checks, a
    /// server that has not passed one yet may still be loading.
    pub fn is_usable(&self, health_checks: bool) -> bool {
        let well = match self.health() {
            ServerHealth::Up => true,
            ServerHealth::Unknown => !health_checks,
            ServerHealth::Failing => false,
        };
        well && !self.is_draining()
    }

    /// Whether the server may have recovered although it is marked as down. With health checks, only if it
    /// was unreachable: otherwise it failed the check itself.
    pub(super) fn may_have_recovered(&self, health_checks: bool) -> bool {
        let was_out_of_reach = || self.reason().is_some_and(|reason| OUT_OF_REACH.contains(&reason.as_str()));
        !self.is_draining() && (!health_checks || was_out_of_reach())
    }

    /// Waits until an operator drains the server.
    pub(crate) async fn drained(&self) {
        // What is notified from here on is not missed.
        let begins = self.drain_begins.notified();
        if !self.is_draining() {
            begins.await;
        }
    }

    /// Whether an operator drains the server.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Passive health check: whether the server has responses outstanding and has begun none for a while, so that
    /// others are preferred.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silence().is_silent(now)
    }

    pub(super) fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a load report.
    pub(super) fn set_report(&self, report: LoadReport) {
        *self.report() = Some(report);
    }

    /// Reported load in hundredths of a request; 0 without a recent report.
    pub fn reported_load(&self, now: Instant, max_requests: Option<usize>) -> u64 {
        self.report().map_or(0, |report| report.load(now, max_requests))
    }

    fn report(&self) -> MutexGuard<'_, Option<LoadReport>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server has a prober.
    pub(super) fn is_watched(&self) -> bool {
        self.prober().is_some()
    }

    /// Sets the prober, and stops the previous one.
    pub(super) fn set_prober(&self, prober: AbortHandle) {
        if let Some(before) = self.prober().replace(prober) {
            before.abort();
        }
    }

    /// Stops the prober.
    pub(super) fn stop_prober(&self) {
        if let Some(prober) = self.prober().take() {
            prober.abort();
        }
    }

    fn prober(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// State in a word, for operators.
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
