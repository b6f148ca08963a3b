//! Named limits on the rate and the concurrency of each client's requests.
//!
//! The state of clients outlives a reload for as long as the limit uses the same keys.

use std::{
    collections::BTreeMap,
    hash::RandomState,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{StatusCode, header};
use tokio::time::Instant;

use crate::{
    client::Client,
    config::{self, Class},
    limits::{
        key,
        keys::{KeyRefused, KeyTable, Terms},
        rate::RateLimit,
    },
    message::RequestHead,
    observe::{LimitMetrics, Metrics},
    response::Explanation,
};

/// Shortest time between two log messages of one limit, in nanoseconds.
const LOG_EVERY: u64 = 10_000_000_000;

/// `Retry-After` in seconds for a client with too many requests in progress: their duration is unknown.
const RETRY_AFTER: u32 = 1;

/// Limits of the process.
pub(crate) struct Limiters {
    by_name: Mutex<BTreeMap<String, Arc<Limiter>>>,
    hasher: RandomState,
    /// Start of the clock.
    epoch: Instant,
}

impl Default for Limiters {
    fn default() -> Self {
        Self { by_name: Mutex::default(), hasher: RandomState::new(), epoch: Instant::now() }
    }
}

/// A limit with its configuration.
pub(crate) struct Limiter {
    settings: config::Limit,
    terms: Terms,
    keys: Arc<KeyTable>,
    metrics: LimitMetrics,
    hasher: RandomState,
    epoch: Instant,
    /// Time of the last log message, and refusals since then.
    last_logged: AtomicU64,
    unlogged: AtomicU64,
}

/// Guard of a request in progress: counted by a limit until dropped.
pub(crate) struct InProgressGuard {
    limiter: Arc<Limiter>,
    key: u64,
    /// Whether the request counts already. One for an event stream or a tunnel counts only when its response turns
    /// out to be something else.
    is_counted: bool,
}

impl InProgressGuard {
    /// Counts a request that does not count yet, unless too many others are in progress.
    ///
    /// # Errors
    ///
    /// Explanation for the client.
    pub(crate) fn count(&mut self, client: &Client, now: Instant) -> Result<(), Explanation> {
        if self.is_counted {
            return Ok(());
        }
        let limiter = &self.limiter;
        let clock = limiter.clock(now);
        match limiter.keys.enter(self.key, clock, &Terms { rate: None, ..limiter.terms }) {
            Ok(()) => self.is_counted = true,
            Err(refused) => {
                limiter.log_refusal(refused, client, clock);
                if !limiter.settings.dry_run {
                    return Err(limiter.explain(refused));
                }
            }
        }
        Ok(())
    }
}

impl Drop for InProgressGuard {
    fn drop(&mut self) {
        if self.is_counted {
            self.limiter.keys.leave(self.key);
        }
    }
}

impl Limiters {
    /// Applies a new configuration.
    pub(crate) fn apply(&self, configured: &BTreeMap<String, config::Limit>, metrics: &Metrics) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut *by_name);
        for (name, settings) in configured {
            let known = old.get(name).filter(|old| old.settings.key == settings.key);
            let keys = known.map(|known| Arc::clone(&known.keys)).unwrap_or_default();
            keys.hold(settings.keys);
            let limiter = Limiter {
                terms: Terms {
                    rate: settings.rate.map(|rate| RateLimit::new(rate.interval(), settings.burst)),
                    connections: settings.connections,
                },
                keys,
                metrics: metrics.limit(name),
                hasher: self.hasher.clone(),
                epoch: self.epoch,
                last_logged: AtomicU64::new(0),
                unlogged: AtomicU64::new(0),
                settings: settings.clone(),
            };
            by_name.insert(name.clone(), Arc::new(limiter));
        }
    }

    /// Limits of these names, as last configured.
    pub(crate) fn named(&self, names: &[String]) -> Vec<Arc<Limiter>> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter_map(|name| by_name.get(name).cloned()).collect()
    }

    /// Names of the limits, each with the number of clients in its table.
    pub(crate) fn list(&self) -> Vec<(String, usize)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().map(|(name, limiter)| (name.clone(), limiter.keys.len())).collect()
    }
}

/// Checks a request against all `limits`. Returns guards for the limits on requests in progress; a request that
/// `may_stream` and asks for a stream does not count yet.
pub(crate) fn pass(
    limits: &[Arc<Limiter>],
    request: &RequestHead,
    client: &Client,
    now: Instant,
    may_stream: bool,
) -> Result<Vec<InProgressGuard>, Explanation> {
    let mut passed: Vec<(&Limiter, u64)> = Vec::new();
    let mut counted = Vec::new();
    // Streams stay open for hours, and are not work in progress.
    let is_counted = !(may_stream && request.asks_for_stream());
    for limiter in limits.iter().filter(|limiter| limiter.applies_to(request, client)) {
        let settings = &limiter.settings;
        let connections = limiter.terms.connections.filter(|_| is_counted);
        let Some(key) = key::of(&settings.key, request, client, &limiter.hasher) else { continue };
        let clock = limiter.clock(now);
        match limiter.keys.enter(key, clock, &Terms { connections, ..limiter.terms }) {
            Ok(()) => {
                passed.push((limiter, key));
                if limiter.terms.connections.is_some() {
                    counted.push(InProgressGuard { limiter: Arc::clone(limiter), key, is_counted });
                }
            }
            Err(refused) => {
                limiter.log_refusal(refused, client, clock);
                if !settings.dry_run {
                    // The request is refused, so it must not count against the limits that admitted it.
                    passed.iter().for_each(|(limiter, key)| limiter.undo(*key));
                    return Err(limiter.explain(refused));
                }
            }
        }
    }
    Ok(counted)
}

impl Limiter {
    fn applies_to(&self, request: &RequestHead, client: &Client) -> bool {
        let config::Limit { only, except, .. } = &self.settings;
        conditions(only, request, client).all(|matches| matches)
            && !conditions(except, request, client).any(|matches| matches)
    }

    /// Nanoseconds since the start of the clock; never 0, which means that there was no request.
    fn clock(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    fn undo(&self, key: u64) {
        if let Some(rate) = self.terms.rate {
            self.keys.undo(key, rate);
        }
    }

    /// Counts a refusal, and logs it unless one was logged recently.
    fn log_refusal(&self, refused: KeyRefused, client: &Client, clock: u64) {
        let dry_run = self.settings.dry_run;
        self.metrics.refused(refused == KeyRefused::TooMany, dry_run);
        let refusals = self.unlogged.fetch_add(1, Ordering::Relaxed) + 1;
        let last_logged = self.last_logged.load(Ordering::Relaxed);
        let is_due = last_logged == 0 || clock.saturating_sub(last_logged) >= LOG_EVERY;
        if is_due
            && self
                .last_logged
                .compare_exchange(last_logged, clock, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.unlogged.fetch_sub(refusals, Ordering::Relaxed);
            let (limit, client) = (&self.settings.name, client.address);
            let what = if dry_run { "would refuse" } else { "refuses" };
            tracing::warn!(limit, %client, refusals, dry_run, "a limit {what} requests (logged at most every 10 s)");
        }
    }

    fn explain(&self, refused: KeyRefused) -> Explanation {
        let name = &self.settings.name;
        let (sentence, seconds) = match refused {
            KeyRefused::TooSoon(wait) => {
                let seconds = Duration::from_nanos(wait).as_nanos().div_ceil(1_000_000_000);
                let seconds = u32::try_from(seconds).unwrap_or(u32::MAX).max(1);
                let unit = if seconds == 1 { "second" } else { "seconds" };
                let sentence = format!(
                    "You have sent too many requests in a short time (limit {name}). Please try again in \
                     {seconds} {unit}."
                );
                (sentence, seconds)
            }
            KeyRefused::TooMany => {
                let sentence = format!(
                    "Too many of your requests are in progress (limit {name}). Please try again when one is over."
                );
                (sentence, RETRY_AFTER)
            }
        };
        Explanation::new(StatusCode::TOO_MANY_REQUESTS, sentence).retry_after(seconds)
    }
}

/// Whether a request matches each of a class's conditions.
fn conditions(class: &Class, request: &RequestHead, client: &Client) -> impl Iterator<Item = bool> {
    let networks = class.networks.as_ref().map(|networks| networks.contains(client.address));
    let methods = class.methods.as_ref().map(|methods| methods.contains(&request.method));
    let agents = || request.headers.values(&header::USER_AGENT);
    let user_agents = class.user_agents.as_ref().map(|patterns| patterns.holds(agents()));
    [networks, methods, user_agents].into_iter().flatten()
}
