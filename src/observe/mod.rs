//! What an operator sees: metrics, the access log, request ids, status.

mod access_log;
mod admin;
mod logging;
mod metrics;
mod rarely;
mod request_id;
mod writer;

pub use access_log::{AccessLog, Entry, Line};
pub use logging::LogSettings;
pub use metrics::{HoldMetrics, How, LimitMetrics, ListenerMetrics, Metrics, RouteMetrics, ServerMetrics};
pub(crate) use {
    admin::{X_BOWSHOCK, answer as admin_answer},
    logging::start as start_logging,
    rarely::Rarely,
    request_id::{RequestId, X_REQUEST_ID},
};
