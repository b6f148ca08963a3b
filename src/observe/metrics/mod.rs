//! Metrics for Prometheus: base units, bounded labels.
//!
//! Gauges that mirror the state of the process (connections, requests in progress, available servers) are read at each
//! scrape, and cost requests nothing.

mod by_code;
mod limits;
mod listeners;
mod process;
mod registrar;
mod requests;
mod upstreams;

use std::{sync::Mutex, time::SystemTime};

use prometheus::Registry;

use self::{
    limits::LimitFamilies, listeners::ListenerFamilies, process::ProcessFamilies, registrar::Registrar,
    requests::RequestFamilies, upstreams::UpstreamFamilies,
};
use crate::bulkhead::Bulkhead;

pub use self::{
    limits::LimitMetrics,
    listeners::ListenerMetrics,
    requests::{BodySource, RouteMetrics},
    upstreams::{HoldMetrics, ServerMetrics},
};

/// Metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: RequestFamilies,
    pub(crate) upstreams: UpstreamFamilies,
    pub(crate) listeners: ListenerFamilies,
    pub(crate) limits: LimitFamilies,
    pub(crate) process: ProcessFamilies,
    /// Held during a scrape, as each one resets the gauges and sets them from the state.
    pub(crate) scraping: Mutex<()>,
}

impl Metrics {
    /// Creates and registers the metrics.
    pub fn new() -> Self {
        let registrar = Registrar(Registry::new());
        Self {
            requests: RequestFamilies::new(&registrar),
            upstreams: UpstreamFamilies::new(&registrar),
            listeners: ListenerFamilies::new(&registrar),
            limits: LimitFamilies::new(&registrar),
            process: ProcessFamilies::new(&registrar),
            scraping: Mutex::default(),
            registry: registrar.0,
        }
    }

    /// The metrics of one route.
    pub fn route(&self, site: &str, route: &str) -> RouteMetrics {
        self.requests.route(site, route)
    }

    /// Counts a request that was refused before its route's action.
    pub fn refused_request(&self, reason: &str) {
        self.requests.refused(reason);
    }

    /// Counts a request whose user was checked.
    pub fn auth_request(&self, auth: &str, result: &str) {
        self.requests.auth(auth, result);
    }

    /// Counts a request of a route with a cache.
    pub fn cache_request(&self, cache: &str, result: &str) {
        self.requests.cache(cache, result);
    }

    /// Sets the bytes that a cache has in memory or on disk.
    pub(crate) fn cache_bytes(&self, cache: &str, place: &str, bytes: u64) {
        self.requests.cache_bytes.with_label_values(&[cache, place]).set(bytes.cast_signed());
    }

    /// The metrics of one server.
    pub fn server(&self, upstream: &str, server: &str) -> ServerMetrics {
        self.upstreams.server(upstream, server)
    }

    /// The metrics of one upstream's queue.
    pub fn hold(&self, upstream: &str) -> HoldMetrics {
        self.upstreams.hold(upstream)
    }

    /// Counts a failed connection to a server.
    pub fn connect_failure(&self, upstream: &str, server: &str, reason: &str) {
        self.upstreams.connect_failure(upstream, server, reason);
    }

    /// Counts a request that is sent again.
    pub fn retry(&self, upstream: &str, reason: &str) {
        self.upstreams.retry(upstream, reason);
    }

    /// Removes the counters of servers that are not present.
    pub(crate) fn retain_servers(&self, is_present: impl Fn(&str, &str) -> bool) {
        self.upstreams.retain_servers(is_present);
    }

    /// The metrics of one listener.
    pub fn listener(&self, label: &str) -> ListenerMetrics {
        self.listeners.listener(label)
    }

    /// The metrics of one limit.
    pub fn limit(&self, name: &str) -> LimitMetrics {
        self.limits.limit(name)
    }

    /// Counts a reload, and records whether it took effect.
    pub fn reloaded(&self, successful: bool) {
        self.process.reloaded(successful);
    }

    /// Sets the expiry of the certificates in effect, by site.
    pub(crate) fn certificates<'a>(&self, all: impl Iterator<Item = (&'a str, SystemTime)>) {
        self.process.certificates(all);
    }

    /// Counts a certificate that was requested from a CA.
    pub(crate) fn acme_ordered(&self, site: &str, successful: bool) {
        self.process.acme_ordered(site, successful);
    }

    /// Removes the series of the gauges that a scrape sets, so that servers and listeners that are gone disappear.
    pub(crate) fn reset_gauges(&self) {
        self.listeners.connections.reset();
        self.limits.keys.reset();
        self.upstreams.reset_gauges();
    }

    /// Reads counters that other modules keep, while [`scraping`](Self::scraping) is held.
    pub(crate) fn read_process(&self) {
        self.requests.set_file_system_refusals(Bulkhead::refused());
    }

    /// Encodes the metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        let families = self.registry.gather();
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot encode the metrics");
            String::new()
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl HoldMetrics {
    /// Metrics that are not exported.
    #[cfg(test)]
    pub(crate) fn unregistered() -> Self {
        Metrics::new().hold("test")
    }
}
