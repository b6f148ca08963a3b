//! Metrics of upstreams and their servers.

use std::time::Duration;

use http::StatusCode;
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec,
    core::{Collector, MetricVec, MetricVecBuilder},
};

use super::{by_code::ByCode, registrar::Registrar};

/// Metrics of one server's responses.
#[derive(Debug)]
pub struct ServerMetrics {
    responses: ByCode,
    response_time: Histogram,
}

impl ServerMetrics {
    /// Counts a response.
    pub fn answer(&self, code: StatusCode, took: Duration) {
        self.responses.inc("", code);
        self.response_time.observe(took.as_secs_f64());
    }
}

/// Metrics of one upstream's queue.
pub struct HoldMetrics {
    pub(crate) served: IntCounter,
    pub(crate) expired: IntCounter,
    pub(crate) left: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) seconds: Histogram,
}

/// Metric families of upstreams and their servers.
pub(crate) struct UpstreamFamilies {
    responses: IntCounterVec,
    response_time: HistogramVec,
    connect_failures: IntCounterVec,
    retries: IntCounterVec,
    hold_seconds: HistogramVec,
    hold_outcomes: IntCounterVec,
    pub(crate) held: IntGaugeVec,
    pub(crate) in_flight: IntGaugeVec,
    pub(crate) streaming: IntGaugeVec,
    pub(crate) streams: IntGaugeVec,
    pub(crate) outlier: IntGaugeVec,
    pub(crate) up: IntGaugeVec,
    pub(crate) draining: IntGaugeVec,
}

impl UpstreamFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        let server = &["upstream", "server"];
        let gauges = |name, help| registrar.gauges(name, help, server);
        Self {
            responses: registrar.counters(
                "upstream_requests_total",
                "Responses of upstream servers, by status code.",
                &["upstream", "server", "code"],
            ),
            response_time: registrar.seconds(
                "upstream_response_seconds",
                "Time from the selection of a server to the head of its response.",
                server,
            ),
            connect_failures: registrar.counters(
                "upstream_connect_failures_total",
                "Failed connections to upstream servers.",
                &["upstream", "server", "reason"],
            ),
            retries: registrar.counters(
                "upstream_retries_total",
                "Requests sent again to another server.",
                &["upstream", "reason"],
            ),
            hold_seconds: registrar.seconds(
                "hold_seconds",
                "Time that requests waited for a server, of those that had to wait.",
                &["upstream"],
            ),
            hold_outcomes: registrar.counters(
                "hold_outcomes_total",
                "Requests that had to wait for a server, by outcome.",
                &["upstream", "outcome"],
            ),
            held: registrar.gauges("held_requests", "Requests that wait for a server now.", &["upstream"]),
            in_flight: gauges("upstream_inflight", "Requests in progress on a server."),
            streaming: gauges(
                "upstream_streaming",
                "Requests in progress on a server whose responses have begun.",
            ),
            streams: gauges(
                "upstream_streams",
                "Event streams and tunnels on a server, open or requested; not counted as requests in progress.",
            ),
            outlier: gauges(
                "upstream_outlier",
                "Whether a server fails far more often than its peers and gets fewer requests.",
            ),
            draining: gauges("upstream_draining", "Whether a server is drained: it gets no new requests."),
            up: gauges("upstream_up", "Whether a server is available."),
        }
    }

    pub(super) fn server(&self, upstream: &str, server: &str) -> ServerMetrics {
        let responses = self.responses.clone();
        let labels = [upstream.to_owned(), server.to_owned()];
        ServerMetrics {
            responses: ByCode::new(move |_, code| {
                responses.with_label_values(&[labels[0].as_str(), &labels[1], code])
            }),
            response_time: self.response_time.with_label_values(&[upstream, server]),
        }
    }

    pub(super) fn hold(&self, upstream: &str) -> HoldMetrics {
        let outcome = |outcome| self.hold_outcomes.with_label_values(&[upstream, outcome]);
        HoldMetrics {
            served: outcome("served"),
            expired: outcome("expired"),
            left: outcome("left"),
            refused: outcome("refused"),
            seconds: self.hold_seconds.with_label_values(&[upstream]),
        }
    }

    pub(super) fn connect_failure(&self, upstream: &str, server: &str, reason: &str) {
        self.connect_failures.with_label_values(&[upstream, server, reason]).inc();
    }

    pub(super) fn retry(&self, upstream: &str, reason: &str) {
        self.retries.with_label_values(&[upstream, reason]).inc();
    }

    pub(super) fn reset_gauges(&self) {
        for gauges in [
            &self.held,
            &self.in_flight,
            &self.streaming,
            &self.streams,
            &self.outlier,
            &self.up,
            &self.draining,
        ] {
            gauges.reset();
        }
    }

    /// Removes the series of servers that are not present: they would accumulate over the months.
    pub(super) fn retain_servers(&self, is_present: impl Fn(&str, &str) -> bool) {
        retain(&self.responses, &["upstream", "server", "code"], &is_present);
        retain(&self.response_time, &["upstream", "server"], &is_present);
        retain(&self.connect_failures, &["upstream", "server", "reason"], &is_present);
    }
}

/// Removes the series of servers that are not present; `names` are the names of the labels, in their order.
fn retain<B: MetricVecBuilder>(
    vector: &MetricVec<B>,
    names: &[&str],
    is_present: &impl Fn(&str, &str) -> bool,
) {
    for family in vector.collect() {
        for metric in family.get_metric() {
            let value = |name: &str| {
                let label = metric.get_label().iter().find(|label| label.name() == name);
                label.map(|label| label.value()).unwrap_or_default()
            };
            if !is_present(value("upstream"), value("server")) {
                let values: Vec<_> = names.iter().map(|name| value(name)).collect();
                // Fails only if the series has been removed already.
                let _ = vector.remove_label_values(&values);
            }
        }
    }
}
