//! Metrics of requests and routes.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::{
    by_code::{ByCode, method_label},
    registrar::Registrar,
};

/// Kind of response body, by the way in which it is produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySource {
    /// Forwarded from an upstream server.
    Proxy,
    /// Sent from a file by the kernel.
    Sendfile,
    /// Sent from memory.
    Memory,
    /// Archive of files.
    Archive,
}

impl BodySource {
    const ALL: [Self; 4] = [Self::Proxy, Self::Sendfile, Self::Memory, Self::Archive];

    fn label(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Sendfile => "sendfile",
            Self::Memory => "memory",
            Self::Archive => "archive",
        }
    }
}

/// Metrics of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    requests: ByCode,
    duration: Histogram,
    bytes: [IntCounter; BodySource::ALL.len()],
}

impl RouteMetrics {
    /// Counts a finished request.
    pub fn request(&self, method: &Method, code: StatusCode, took: Duration, how: BodySource, bytes: u64) {
        self.requests.inc(method_label(method), code);
        self.duration.observe(took.as_secs_f64());
        self.bytes[how as usize].inc_by(bytes);
    }
}

/// Metric families of requests.
pub(super) struct RequestFamilies {
    requests: IntCounterVec,
    duration: HistogramVec,
    response_bytes: IntCounterVec,
    refused: IntCounterVec,
    auth: IntCounterVec,
    cache: IntCounterVec,
    pub(super) cache_bytes: IntGaugeVec,
    file_system_refusals: IntCounter,
}

impl RequestFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        Self {
            requests: registrar.counters(
                "requests_total",
                "Finished requests, by method and status code of the response.",
                &["site", "route", "method", "code"],
            ),
            duration: registrar.seconds(
                "request_duration_seconds",
                "Time from the complete head of a request to the end of its response.",
                &["site", "route"],
            ),
            response_bytes: registrar.counters(
                "response_bytes_total",
                "Bytes of response bodies, by how they were produced.",
                &["site", "route", "how"],
            ),
            refused: registrar.counters(
                "refused_requests_total",
                "Requests refused before their route's action: denied by address, or for lack of memory.",
                &["reason"],
            ),
            auth: registrar.counters(
                "auth_requests_total",
                "Requests whose user was checked: admitted, refused, or failed to be checked.",
                &["auth", "result"],
            ),
            cache: registrar.counters(
                "cache_requests_total",
                "Requests of routes with a cache: hit, stale, miss, or bypass.",
                &["cache", "result"],
            ),
            cache_bytes: registrar.gauges(
                "cache_bytes",
                "Bytes of stored responses now, in memory and on disk.",
                &["cache", "where"],
            ),
            file_system_refusals: registrar.counter(
                "file_system_refusals_total",
                "Requests refused because the file system of the requested file did not respond.",
            ),
        }
    }

    pub(super) fn route(&self, site: &str, route: &str) -> RouteMetrics {
        let requests = self.requests.clone();
        let labels = [site.to_owned(), route.to_owned()];
        RouteMetrics {
            requests: ByCode::new(move |method, code| {
                requests.with_label_values(&[labels[0].as_str(), &labels[1], method, code])
            }),
            duration: self.duration.with_label_values(&[site, route]),
            bytes: BodySource::ALL
                .map(|how| self.response_bytes.with_label_values(&[site, route, how.label()])),
        }
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn auth(&self, name: &str, result: &str) {
        self.auth.with_label_values(&[name, result]).inc();
    }

    pub(super) fn cache(&self, name: &str, result: &str) {
        self.cache.with_label_values(&[name, result]).inc();
    }

    /// Raises the counter of file system refusals to `total`.
    pub(super) fn set_file_system_refusals(&self, total: u64) {
        self.file_system_refusals.inc_by(total.saturating_sub(self.file_system_refusals.get()));
    }
}
