//! Limits by name: who may ask how often, and how many requests of a client may be in progress.
//!
//! What is remembered of clients outlives a reload wherever the limit still tells them apart by the same.

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

/// A limit tells in the log at most this often whom it refuses.
const TELL_EVERY: u64 = 10_000_000_000;

/// Seconds after which a client may ask again that has too many requests in progress: nobody knows how long they take.
const ASK_AGAIN: u32 = 1;

/// All limits of the process.
pub(crate) struct Limiters {
    by_name: Mutex<BTreeMap<String, Arc<Limiter>>>,
    hasher: RandomState,
    /// When its clock starts.
    epoch: Instant,
}

impl Default for Limiters {
    fn default() -> Self {
        Self { by_name: Mutex::default(), hasher: RandomState::new(), epoch: Instant::now() }
    }
}

/// One limit as a configuration has it.
pub(crate) struct Limiter {
    settings: config::Limit,
    terms: Terms,
    keys: Arc<KeyTable>,
    metrics: LimitMetrics,
    hasher: RandomState,
    epoch: Instant,
    /// When the log was last told, and how many were refused since.
    told: AtomicU64,
    untold: AtomicU64,
}

/// A request in progress, counted by a limit until this is dropped.
pub(crate) struct InProgress {
    limiter: Arc<Limiter>,
    key: u64,
    /// One that asks for an event stream or a tunnel counts only when its response turns out to be something else.
    is_counted: bool,
}

impl InProgress {
    /// Counts a request that was not counted, unless too many others are in progress.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(crate) fn count(&mut self, client: &Client, now: Instant) -> Result<(), Explanation> {
        if self.is_counted {
            return Ok(());
        }
        let limiter = &self.limiter;
        let clock = limiter.clock(now);
        match limiter.keys.enter(self.key, clock, &Terms { rate: None, ..limiter.terms }) {
            Ok(()) => self.is_counted = true,
            Err(refused) => {
                limiter.tell(refused, client, clock);
                if !limiter.settings.dry_run {
                    return Err(limiter.explain(refused));
                }
            }
        }
        Ok(())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if self.is_counted {
            self.limiter.keys.leave(self.key);
        }
    }
}

impl Limiters {
    /// Takes over a new configuration.
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
                told: AtomicU64::new(0),
                untold: AtomicU64::new(0),
                settings: settings.clone(),
            };
            by_name.insert(name.clone(), Arc::new(limiter));
        }
    }

    /// The limits of these names, as configured last.
    pub(crate) fn named(&self, names: &[String]) -> Vec<Arc<Limiter>> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter_map(|name| by_name.get(name).cloned()).collect()
    }

    /// All of them by name, and how many clients each remembers.
    pub(crate) fn list(&self) -> Vec<(String, usize)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().map(|(name, limiter)| (name.clone(), limiter.keys.len())).collect()
    }
}

/// Asks all `limits` whether a request may pass; what counts it where requests in progress are counted, unless it
/// `may_stream` and asks for that.
pub(crate) fn pass(
    limits: &[Arc<Limiter>],
    request: &RequestHead,
    client: &Client,
    now: Instant,
    may_stream: bool,
) -> Result<Vec<InProgress>, Explanation> {
    let mut passed: Vec<(&Limiter, u64)> = Vec::new();
    let mut counted = Vec::new();
    // What stays open for hours is no work in progress.
    let is_counted = !(may_stream && request.asks_for_stream());
    for limiter in limits.iter().filter(|limiter| limiter.is_about(request, client)) {
        let settings = &limiter.settings;
        let connections = limiter.terms.connections.filter(|_| is_counted);
        let Some(key) = key::of(&settings.key, request, client, &limiter.hasher) else { continue };
        let clock = limiter.clock(now);
        match limiter.keys.enter(key, clock, &Terms { connections, ..limiter.terms }) {
            Ok(()) => {
                passed.push((limiter, key));
                if limiter.terms.connections.is_some() {
                    counted.push(InProgress { limiter: Arc::clone(limiter), key, is_counted });
                }
            }
            Err(refused) => {
                limiter.tell(refused, client, clock);
                if !settings.dry_run {
                    // It is not served, so it costs the client nothing elsewhere.
                    passed.iter().for_each(|(limiter, key)| limiter.take_back(*key));
                    return Err(limiter.explain(refused));
                }
            }
        }
    }
    Ok(counted)
}

impl Limiter {
    fn is_about(&self, request: &RequestHead, client: &Client) -> bool {
        let config::Limit { only, except, .. } = &self.settings;
        fits(only, request, client).all(|fits| fits) && !fits(except, request, client).any(|fits| fits)
    }

    /// Nanoseconds since its clock started; never 0, at which nobody has asked for anything.
    fn clock(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    fn take_back(&self, key: u64) {
        if let Some(rate) = self.terms.rate {
            self.keys.take_back(key, rate);
        }
    }

    /// Counts a refusal, and has the log tell of it if it has not just done so.
    fn tell(&self, refused: KeyRefused, client: &Client, clock: u64) {
        let dry_run = self.settings.dry_run;
        self.metrics.refused(refused == KeyRefused::TooMany, dry_run);
        let refusals = self.untold.fetch_add(1, Ordering::Relaxed) + 1;
        let told = self.told.load(Ordering::Relaxed);
        let is_due = told == 0 || clock.saturating_sub(told) >= TELL_EVERY;
        if is_due && self.told.compare_exchange(told, clock, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.untold.fetch_sub(refusals, Ordering::Relaxed);
            let (limit, client) = (&self.settings.name, client.address);
            let what = if dry_run { "would refuse" } else { "refuses" };
            tracing::warn!(limit, %client, refusals, dry_run, "a limit {what} requests; told every 10 s at most");
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
                    "You have sent more requests than are taken in this time (limit {name}). Please try again in \
                     {seconds} {unit}."
                );
                (sentence, seconds)
            }
            KeyRefused::TooMany => {
                let sentence = format!(
                    "Too many of your requests are in progress (limit {name}). Please try again when one is over."
                );
                (sentence, ASK_AGAIN)
            }
        };
        Explanation::new(StatusCode::TOO_MANY_REQUESTS, sentence).retry_after(seconds)
    }
}

/// Whether a request fits each list that a class has.
fn fits(class: &Class, request: &RequestHead, client: &Client) -> impl Iterator<Item = bool> {
    let networks = class.networks.as_ref().map(|networks| networks.contains(client.address));
    let methods = class.methods.as_ref().map(|methods| methods.contains(&request.method));
    let user_agents = class.user_agents.as_ref().map(|agents| {
        let mut sent = request.headers.values(&header::USER_AGENT).peekable();
        if sent.peek().is_none() {
            return agents.regex.is_match("");
        }
        // Bytes that are no text are no way around it.
        sent.any(|agent| agents.regex.is_match(&String::from_utf8_lossy(agent)))
    });
    [networks, methods, user_agents].into_iter().flatten()
}
