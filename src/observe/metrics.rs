//! Counters and histograms for Prometheus: base units, bounded labels.
//!
//! What can be read off the state of the process (connections, requests in flight, who is up) is read when
//! somebody asks, and costs requests nothing.

use std::{
    fmt,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::{Collector, MetricVec, MetricVecBuilder},
};

use super::logging::DROPPED;
use crate::bulkhead::Bulkhead;

/// Seconds; Galaxy's requests take from a millisecond to minutes.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    response_bytes: IntCounterVec,
    upstream_requests: IntCounterVec,
    upstream_response: HistogramVec,
    upstream_connect_failures: IntCounterVec,
    upstream_retries: IntCounterVec,
    hold_seconds: HistogramVec,
    hold_outcomes: IntCounterVec,
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    reload_timestamp: IntGauge,
    /// Access log lines lost because the log could not keep up.
    pub access_log_dropped: IntCounter,
    /// Counted where messages are written.
    _log_dropped: IntCounter,
    file_system_refusals: IntCounter,
    pub(crate) connections: IntGaugeVec,
    connections_total: IntCounterVec,
    refused_heads: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    acme_orders: IntCounterVec,
    refused_requests: IntCounterVec,
    rejected_connections: IntCounterVec,
    accept_pauses: IntCounterVec,
    limited_requests: IntCounterVec,
    limited_dry_run: IntCounterVec,
    pub(crate) limit_keys: IntGaugeVec,
    pub(crate) max_memory: IntGauge,
    pub(crate) memory_full: IntGauge,
    pub(crate) upstream_inflight: IntGaugeVec,
    pub(crate) upstream_streaming: IntGaugeVec,
    pub(crate) upstream_streams: IntGaugeVec,
    pub(crate) upstream_outlier: IntGaugeVec,
    pub(crate) upstream_up: IntGaugeVec,
    pub(crate) upstream_draining: IntGaugeVec,
    pub(crate) held: IntGaugeVec,
    /// Gauges are read off the state one scrape at a time.
    pub(crate) scraping: Mutex<()>,
}

/// How the body of an answer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By an upstream.
    Proxy,
    /// By the kernel, from a file.
    Sendfile,
    /// From memory.
    Memory,
    /// As an archive of files.
    Archive,
}

impl How {
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

/// What waiting in one upstream's queue comes to.
pub struct HoldMetrics {
    pub(crate) served: IntCounter,
    pub(crate) expired: IntCounter,
    pub(crate) left: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) seconds: Histogram,
}

/// Finds a counter by method and status code.
type MakeCounter = Box<dyn Fn(&str, &str) -> IntCounter + Send + Sync>;

/// Counters of one name by method and status code. Those in use are few, and each is looked up by its labels once.
struct ByCode {
    make: MakeCounter,
    made: ArcSwap<Vec<(&'static str, StatusCode, IntCounter)>>,
}

impl ByCode {
    fn new(make: impl Fn(&str, &str) -> IntCounter + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), made: ArcSwap::default() }
    }

    fn inc(&self, method: &'static str, code: StatusCode) {
        // Labels are constants: the same one is at the same place.
        let is_it = |(its_method, its_code, _): &&(&str, StatusCode, IntCounter)| {
            *its_code == code && std::ptr::eq(*its_method, method)
        };
        if let Some((.., counter)) = self.made.load().iter().find(is_it) {
            return counter.inc();
        }
        let counter = (self.make)(method, code.as_str());
        counter.inc();
        self.made
            .rcu(|made| made.iter().cloned().chain([(method, code, counter.clone())]).collect::<Vec<_>>());
    }
}

impl fmt::Debug for ByCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.made.load().iter()).finish()
    }
}

/// What one route counts.
#[derive(Debug)]
pub struct RouteMetrics {
    requests: ByCode,
    duration: Histogram,
    bytes: [IntCounter; How::ALL.len()],
}

impl RouteMetrics {
    /// Counts a request that is over.
    pub fn request(&self, method: &Method, code: StatusCode, took: Duration, how: How, bytes: u64) {
        self.requests.inc(method_label(method), code);
        self.duration.observe(took.as_secs_f64());
        self.bytes[how as usize].inc_by(bytes);
    }
}

/// What is counted of one server's answers.
#[derive(Debug)]
pub struct ServerMetrics {
    answers: ByCode,
    response: Histogram,
}

impl ServerMetrics {
    /// Counts an answer.
    pub fn answer(&self, code: StatusCode, took: Duration) {
        self.answers.inc("", code);
        self.response.observe(took.as_secs_f64());
    }
}

/// What one listener counts.
#[derive(Debug)]
pub struct ListenerMetrics {
    pub(crate) accepted: IntCounter,
    /// Times that no connection could be accepted for want of something.
    pub(crate) pauses: IntCounter,
    /// Connections closed at once because there were too many of their address.
    pub(crate) too_many: IntCounter,
    /// Connections of HTTP/2 that were closed for what they sent.
    pub(crate) flooded: IntCounter,
    refused: IntCounterVec,
    label: String,
}

impl ListenerMetrics {
    /// Counts a head that was refused.
    pub(crate) fn refused(&self, code: StatusCode) {
        self.refused.with_label_values(&[self.label.as_str(), code.as_str()]).inc();
    }
}

/// What one limit counts.
pub struct LimitMetrics {
    too_soon: IntCounter,
    too_many: IntCounter,
    dry_too_soon: IntCounter,
    dry_too_many: IntCounter,
}

impl LimitMetrics {
    /// Counts a request that is refused, or would be but for the dry run: there are too many of its client in progress,
    /// else it has come too soon.
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

/// Registers what it makes. The names below are constants: a mistake in one shows in every test.
struct Maker(Registry);

impl Maker {
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        #[expect(clippy::expect_used, reason = "constant names; any mistake fails the first start")]
        let collector = made.expect("a valid metric");
        #[expect(clippy::expect_used, reason = "constant names; any mistake fails the first start")]
        self.0.register(Box::new(collector.clone())).expect("a new metric");
        collector
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(format!("bowshock_{name}"), help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(format!("bowshock_{name}"), help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(format!("bowshock_{name}"), help))
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(format!("bowshock_{name}"), help).buckets(SECONDS.into());
        self.register(HistogramVec::new(options, labels))
    }
}

/// Removes the series of servers that are not there; `names` are those of the labels, in their order.
fn forget<B: MetricVecBuilder>(
    vector: &MetricVec<B>,
    names: &[&str],
    is_there: &impl Fn(&str, &str) -> bool,
) {
    for family in vector.collect() {
        for metric in family.get_metric() {
            let value = |name: &str| {
                let label = metric.get_label().iter().find(|label| label.name() == name);
                label.map(|label| label.value()).unwrap_or_default()
            };
            if !is_there(value("upstream"), value("server")) {
                let values: Vec<_> = names.iter().map(|name| value(name)).collect();
                // Gone already is as good.
                let _ = vector.remove_label_values(&values);
            }
        }
    }
}

impl Metrics {
    /// Makes and registers all of them.
    pub fn new() -> Self {
        let make = Maker(Registry::new());
        let route = &["site", "route"];
        let server = &["upstream", "server"];
        let metrics = Self {
            requests: make.counters(
                "requests_total",
                "Requests answered.",
                &["site", "route", "method", "code"],
            ),
            request_duration: make.seconds(
                "request_duration_seconds",
                "From the whole head of a request to the end of its answer.",
                route,
            ),
            response_bytes: make.counters(
                "response_bytes_total",
                "Bytes of answers' bodies, by how they were made.",
                &["site", "route", "how"],
            ),
            upstream_requests: make.counters(
                "upstream_requests_total",
                "Answers of servers, by status code.",
                &["upstream", "server", "code"],
            ),
            upstream_response: make.seconds(
                "upstream_response_seconds",
                "From choosing a server to the head of its answer.",
                server,
            ),
            upstream_connect_failures: make.counters(
                "upstream_connect_failures_total",
                "Connections to servers that failed.",
                &["upstream", "server", "reason"],
            ),
            upstream_retries: make.counters(
                "upstream_retries_total",
                "Requests sent again to another server.",
                &["upstream", "reason"],
            ),
            hold_seconds: make.seconds(
                "hold_seconds",
                "How long requests waited for a server, of those that had to wait.",
                &["upstream"],
            ),
            hold_outcomes: make.counters(
                "hold_outcomes_total",
                "What became of requests that waited for a server.",
                &["upstream", "outcome"],
            ),
            reloads: make.counters("reloads_total", "Reloads of the configuration, by result.", &["result"]),
            reload_successful: make.gauge(
                "config_last_reload_successful",
                "Whether the last reload of the configuration took effect.",
            ),
            reload_timestamp: make.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When a configuration last took effect.",
            ),
            access_log_dropped: make.register(IntCounter::new(
                "bowshock_access_log_dropped_total",
                "Access log lines lost because the log could not keep up.",
            )),
            _log_dropped: make.register(Ok(DROPPED.clone())),
            file_system_refusals: make.register(IntCounter::new(
                "bowshock_file_system_refusals_total",
                "Requests refused because the file system of what they asked for did not answer.",
            )),
            connections: make.gauges(
                "connections",
                "Client connections open now: active with a request in hand, or idle.",
                &["listener", "state"],
            ),
            connections_total: make.counters(
                "connections_total",
                "Client connections accepted.",
                &["listener"],
            ),
            refused_heads: make.counters(
                "refused_heads_total",
                "Requests refused because their heads could not be read, by status code.",
                &["listener", "code"],
            ),
            certificate_expiry: make.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate of a site, or of a listener, expires.",
                &["site"],
            ),
            acme_orders: make.counters(
                "acme_orders_total",
                "Certificates that a CA was asked for, by result.",
                &["site", "result"],
            ),
            refused_requests: make.counters(
                "refused_requests_total",
                "Requests refused before their route's action: denied by address, or for want of memory.",
                &["reason"],
            ),
            rejected_connections: make.counters(
                "rejected_connections_total",
                "Client connections closed: one too many of an address, or a flood of frames of HTTP/2.",
                &["listener", "reason"],
            ),
            accept_pauses: make.counters(
                "accept_pauses_total",
                "Times that connections could not be accepted for want of file descriptors or memory.",
                &["listener"],
            ),
            limited_requests: make.counters(
                "limited_requests_total",
                "Requests refused by a limit: by its rate, or by its connections.",
                &["limit", "by"],
            ),
            limited_dry_run: make.counters(
                "limited_requests_dry_run_total",
                "Requests that a limit would have refused but for its dry run.",
                &["limit", "by"],
            ),
            limit_keys: make.gauges("limit_keys", "Clients that a limit remembers now.", &["limit"]),
            max_memory: make.gauge("max_memory_bytes", "Memory past which requests are refused; 0 is none."),
            memory_full: make.gauge("memory_full", "Whether requests are refused for want of memory."),
            upstream_inflight: make.gauges("upstream_inflight", "Requests in flight on a server.", server),
            upstream_streaming: make.gauges(
                "upstream_streaming",
                "Requests in flight on a server whose answers have begun.",
                server,
            ),
            upstream_streams: make.gauges(
                "upstream_streams",
                "Event streams and tunnels on a server, open or asked for; they are not among its requests in flight.",
                server,
            ),
            upstream_outlier: make.gauges(
                "upstream_outlier",
                "Whether a server fails far more than its peers and gets less than they.",
                server,
            ),
            upstream_draining: make.gauges(
                "upstream_draining",
                "Whether an operator wants no new requests on a server.",
                server,
            ),
            upstream_up: make.gauges("upstream_up", "Whether a server can be used.", server),
            held: make.gauges("held_requests", "Requests that wait for a server now.", &["upstream"]),
            scraping: Mutex::default(),
            registry: make.0.clone(),
        };
        let version = Opts::new("bowshock_build_info", "The running version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        make.register(IntGauge::with_opts(version)).set(1);
        // Fails only where there is no /proc.
        let process = prometheus::process_collector::ProcessCollector::for_self();
        if let Err(error) = metrics.registry.register(Box::new(process)) {
            tracing::warn!(%error, "no process metrics");
        }
        metrics
    }

    /// The certificates in effect, by site, and when each expires.
    pub(crate) fn certificates<'a>(&self, all: impl Iterator<Item = (&'a str, SystemTime)>) {
        self.certificate_expiry.reset();
        for (site, expires) in all {
            let seconds = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            self.certificate_expiry.with_label_values(&[site]).set(seconds.cast_signed());
        }
    }

    /// A CA was asked for a certificate.
    pub(crate) fn acme_ordered(&self, site: &str, successful: bool) {
        self.acme_orders.with_label_values(&[site, if successful { "success" } else { "failure" }]).inc();
    }

    /// The metrics of one route.
    pub fn route(&self, site: &str, route: &str) -> RouteMetrics {
        let requests = self.requests.clone();
        let labels = [site.to_owned(), route.to_owned()];
        RouteMetrics {
            requests: ByCode::new(move |method, code| {
                requests.with_label_values(&[labels[0].as_str(), &labels[1], method, code])
            }),
            duration: self.request_duration.with_label_values(&[site, route]),
            bytes: How::ALL.map(|how| self.response_bytes.with_label_values(&[site, route, how.label()])),
        }
    }

    /// The metrics of one server.
    pub fn server(&self, upstream: &str, server: &str) -> ServerMetrics {
        let answers = self.upstream_requests.clone();
        let labels = [upstream.to_owned(), server.to_owned()];
        ServerMetrics {
            answers: ByCode::new(move |_, code| {
                answers.with_label_values(&[labels[0].as_str(), &labels[1], code])
            }),
            response: self.upstream_response.with_label_values(&[upstream, server]),
        }
    }

    /// Counts a connection to a server that failed.
    pub fn connect_failure(&self, upstream: &str, server: &str, reason: &str) {
        self.upstream_connect_failures.with_label_values(&[upstream, server, reason]).inc();
    }

    /// Counts a request that is sent again.
    pub fn retry(&self, upstream: &str, reason: &str) {
        self.upstream_retries.with_label_values(&[upstream, reason]).inc();
    }

    /// The metrics of one upstream's queue.
    pub fn hold(&self, upstream: &str) -> HoldMetrics {
        let outcome = |outcome| self.hold_outcomes.with_label_values(&[upstream, outcome]);
        HoldMetrics {
            served: outcome("served"),
            expired: outcome("expired"),
            left: outcome("left"),
            refused: outcome("refused"),
            seconds: self.hold_seconds.with_label_values(&[upstream]),
        }
    }

    /// The metrics of one listener.
    pub fn listener(&self, label: &str) -> ListenerMetrics {
        ListenerMetrics {
            accepted: self.connections_total.with_label_values(&[label]),
            pauses: self.accept_pauses.with_label_values(&[label]),
            too_many: self.rejected_connections.with_label_values(&[label, "address"]),
            flooded: self.rejected_connections.with_label_values(&[label, "flood"]),
            refused: self.refused_heads.clone(),
            label: label.to_owned(),
        }
    }

    /// The metrics of one limit.
    pub fn limit(&self, name: &str) -> LimitMetrics {
        LimitMetrics {
            too_soon: self.limited_requests.with_label_values(&[name, "rate"]),
            too_many: self.limited_requests.with_label_values(&[name, "connections"]),
            dry_too_soon: self.limited_dry_run.with_label_values(&[name, "rate"]),
            dry_too_many: self.limited_dry_run.with_label_values(&[name, "connections"]),
        }
    }

    /// Counts a request that was refused before its route's action.
    pub fn refused_request(&self, reason: &str) {
        self.refused_requests.with_label_values(&[reason]).inc();
    }

    /// Forgets what was counted for servers that are gone: their names would add up over the months.
    pub(crate) fn keep_servers(&self, is_there: impl Fn(&str, &str) -> bool) {
        forget(&self.upstream_requests, &["upstream", "server", "code"], &is_there);
        forget(&self.upstream_response, &["upstream", "server"], &is_there);
        forget(&self.upstream_connect_failures, &["upstream", "server", "reason"], &is_there);
    }

    /// Counts a reload, and remembers whether it took effect.
    pub fn reloaded(&self, successful: bool) {
        self.reloads.with_label_values(&[if successful { "success" } else { "failure" }]).inc();
        self.reload_successful.set(successful.into());
        if successful {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.reload_timestamp.set(now.as_secs().cast_signed());
        }
    }

    /// Reads what is counted elsewhere, while [`scraping`](Self::scraping) is held.
    pub(crate) fn read_process(&self) {
        let read = |counter: &IntCounter, now: u64| counter.inc_by(now.saturating_sub(counter.get()));
        read(&self.file_system_refusals, Bulkhead::refused());
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self) -> String {
        let families = self.registry.gather();
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot write metrics");
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
    /// Metrics that nobody reads.
    #[cfg(test)]
    pub(crate) fn unregistered() -> Self {
        Metrics::new().hold("test")
    }
}

/// Methods of RFC 9110 and PATCH as they are; clients invent others, and labels must stay few.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 7] = [
        (Method::GET, "GET"),
        (Method::HEAD, "HEAD"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::OPTIONS, "OPTIONS"),
        (Method::PATCH, "PATCH"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("other", |(_, label)| label)
}
