//! Observability: metrics, the access log, and the process log.

mod access_log;
mod logging;
mod metrics;
mod rarely;
mod writer;

pub use access_log::{AccessLogEntry, AccessLogWriter, RequestLine};
pub use logging::LogSettings;
pub(crate) use logging::start as start_logging;
pub use metrics::{
    BodySource, HoldMetrics, LimitMetrics, ListenerMetrics, Metrics, RouteMetrics, ServerMetrics,
};
pub(crate) use rarely::Rarely;
