//! Metrics of the process: configuration, logs, memory and certificates.

use std::time::SystemTime;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

use super::registrar::Registrar;
use crate::observe::logging::DROPPED;

/// Metric families of the process.
pub(crate) struct ProcessFamilies {
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    reload_timestamp: IntGauge,
    /// Access log lines lost because the log could not keep up.
    pub(crate) access_log_dropped: IntCounter,
    pub(crate) max_memory: IntGauge,
    pub(crate) memory_full: IntGauge,
    pub(crate) tools: IntGauge,
    pub(crate) tool_map_failures: IntGauge,
    certificate_expiry: IntGaugeVec,
    acme_orders: IntCounterVec,
}

impl ProcessFamilies {
    pub(super) fn new(registrar: &Registrar) -> Self {
        register_build_info(registrar);
        register_process_collector(registrar);
        // Counted by the process log itself.
        registrar.register(Ok(DROPPED.clone()));
        Self {
            reloads: registrar.counters(
                "reloads_total",
                "Reloads of the configuration, by result.",
                &["result"],
            ),
            reload_successful: registrar.gauge(
                "config_last_reload_successful",
                "Whether the last reload of the configuration took effect.",
            ),
            reload_timestamp: registrar.gauge(
                "config_last_reload_success_timestamp_seconds",
                "Time when a configuration last took effect.",
            ),
            access_log_dropped: registrar.counter(
                "access_log_dropped_total",
                "Access log lines lost because the log could not keep up.",
            ),
            max_memory: registrar.gauge(
                "max_memory_bytes",
                "Resident memory above which requests are refused; 0 is no limit.",
            ),
            memory_full: registrar.gauge("memory_full", "Whether requests are refused for lack of memory."),
            tools: registrar.gauge("interactive_tools", "Interactive tools in the maps of all routes."),
            tool_map_failures: registrar.gauge(
                "interactive_tool_map_failures",
                "Maps of interactive tools that cannot be read now; the tools that are known stay.",
            ),
            certificate_expiry: registrar.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "Time when the certificate of a site, or of a listener, expires.",
                &["site"],
            ),
            acme_orders: registrar.counters(
                "acme_orders_total",
                "Certificates requested from a CA, by result.",
                &["site", "result"],
            ),
        }
    }

    pub(super) fn reloaded(&self, successful: bool) {
        self.reloads.with_label_values(&[result(successful)]).inc();
        self.reload_successful.set(successful.into());
        if successful {
            self.reload_timestamp.set(unix_seconds(SystemTime::now()));
        }
    }

    pub(super) fn certificates<'a>(&self, all: impl Iterator<Item = (&'a str, SystemTime)>) {
        self.certificate_expiry.reset();
        for (site, expires) in all {
            self.certificate_expiry.with_label_values(&[site]).set(unix_seconds(expires));
        }
    }

    pub(super) fn acme_ordered(&self, site: &str, successful: bool) {
        self.acme_orders.with_label_values(&[site, result(successful)]).inc();
    }
}

fn register_build_info(registrar: &Registrar) {
    let version = Opts::new("bowshock_build_info", "The running version.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    registrar.register(IntGauge::with_opts(version)).set(1);
}

fn register_process_collector(registrar: &Registrar) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    // Fails only without /proc.
    if let Err(error) = registrar.0.register(Box::new(process)) {
        tracing::warn!(%error, "no metrics of CPU, memory and file descriptors: is /proc mounted?");
    }
}

/// The label `result`.
fn result(successful: bool) -> &'static str {
    if successful { "success" } else { "failure" }
}

fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}
