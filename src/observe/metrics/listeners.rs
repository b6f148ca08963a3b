//! Metrics of listeners and their connections.

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use super::registrar::Registrar;

/// Metrics of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub(crate) accepted: IntCounter,
    /// Pauses of `accept` for lack of file descriptors or memory.
    pub(crate) pauses: IntCounter,
    /// Connections closed at once because their address had too many.
    pub(crate) too_many: IntCounter,
    /// HTTP/2 connections closed for a flood of frames.
    pub(crate) flooded: IntCounter,
    refused: IntCounterVec,
    label: String,
}

impl ListenerMetrics {
    /// Counts a refused head of a request.
    pub(crate) fn refused(&self, code: StatusCode) {
        self.refused.with_label_values(&[self.label.as_str(), code.as_str()]).inc();
    }
}

/// Metric families of listeners and their connections.
pub(crate) struct ListenerFamilies {
    pub(crate) connections: IntGaugeVec,
    accepted: IntCounterVec,
    rejected: IntCounterVec,
    accept_pauses: IntCounterVec,
    refused_heads: IntCounterVec,
}

impl ListenerFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        Self {
            connections: registrar.gauges(
                "connections",
                "Open client connections: active with a request in progress, or idle.",
                &["listener", "state"],
            ),
            accepted: registrar.counters("connections_total", "Client connections accepted.", &["listener"]),
            rejected: registrar.counters(
                "rejected_connections_total",
                "Client connections closed: one too many of an address, or a flood of HTTP/2 frames.",
                &["listener", "reason"],
            ),
            accept_pauses: registrar.counters(
                "accept_pauses_total",
                "Times that connections could not be accepted for lack of file descriptors or memory.",
                &["listener"],
            ),
            refused_heads: registrar.counters(
                "refused_heads_total",
                "Requests refused because their heads could not be parsed, by status code.",
                &["listener", "code"],
            ),
        }
    }

    pub(super) fn listener(&self, label: &str) -> ListenerMetrics {
        ListenerMetrics {
            accepted: self.accepted.with_label_values(&[label]),
            pauses: self.accept_pauses.with_label_values(&[label]),
            too_many: self.rejected.with_label_values(&[label, "address"]),
            flooded: self.rejected.with_label_values(&[label, "flood"]),
            refused: self.refused_heads.clone(),
            label: label.to_owned(),
        }
    }
}
