//! Metrics of limits.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;

/// Metrics of one limit.
pub struct LimitMetrics {
    too_soon: IntCounter,
    too_many: IntCounter,
    dry_too_soon: IntCounter,
    dry_too_many: IntCounter,
}

impl LimitMetrics {
    /// Counts a request that is refused, or with `dry_run` would be: by `connections` of the limit when `too_many`,
    /// else by its `rate`.
    pub fn refused(&self, too_many: bool, dry_run: bool) {
        match (dry_run, too_many) {
            (false, false) => &self.too_soon,
            (false, true) => &self.too_many,
            (true, false) => &self.dry_too_soon,
            (true, true) => &self.dry_too_many,
        }
        .inc();
    }
}

/// Metric families of limits.
pub(crate) struct LimitFamilies {
    refused: IntCounterVec,
    dry_run: IntCounterVec,
    pub(crate) keys: IntGaugeVec,
}

impl LimitFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        Self {
            refused: registrar.counters(
                "limited_requests_total",
                "Requests refused by a limit: by its rate, or by its connections.",
                &["limit", "by"],
            ),
            dry_run: registrar.counters(
                "limited_requests_dry_run_total",
                "Requests that a limit would have refused without dry_run.",
                &["limit", "by"],
            ),
            keys: registrar.gauges("limit_keys", "Clients that a limit remembers now.", &["limit"]),
        }
    }

    pub(super) fn limit(&self, name: &str) -> LimitMetrics {
        LimitMetrics {
            too_soon: self.refused.with_label_values(&[name, "rate"]),
            too_many: self.refused.with_label_values(&[name, "connections"]),
            dry_too_soon: self.dry_run.with_label_values(&[name, "rate"]),
            dry_too_many: self.dry_run.with_label_values(&[name, "connections"]),
        }
    }
}
