//! Lease: a request's place on a server, counted while it is held.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};
use tokio::time::Instant;

use super::{Server, ServerHealth, Upstream, outlier, report::LoadReport};
use crate::{clock, config};

/// Guard for one request on a server; releases the place on drop.
pub struct Lease {
    upstream: Arc<Upstream>,
    settings: Arc<config::UpstreamSettings>,
    server: Arc<Server>,
    stage: Stage,
    /// Time at which the server was chosen.
    chosen: Instant,
    /// Whether the whole request has arrived: once connected, the server owes a response.
    whole: bool,
    /// Whether the lease counts as an event stream or tunnel instead of a request in flight.
    pub(super) is_stream: bool,
}

/// Outcome according to the head of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseOutcome {
    /// The request succeeded.
    Success,
    /// The server failed (5xx).
    Failure,
    /// The response is an event stream or starts a tunnel. From now on it does not count as load.
    Stream,
}

impl ResponseOutcome {
    /// The outcome that a status tells.
    pub(crate) fn of(status: StatusCode) -> Self {
        if outlier::is_failure(status) { Self::Failure } else { Self::Success }
    }
}

/// Kind of place that a lease occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// A request whose response has not begun.
    Busy,
    /// A request whose response has begun.
    Streaming,
    /// An event stream or a tunnel.
    Stream,
}

/// Progress of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Sending,
    Sent,
    Answered,
}

impl Lease {
    /// Creates a lease for a request that `server` counts already.
    pub(super) fn new(
        upstream: Arc<Upstream>,
        settings: Arc<config::UpstreamSettings>,
        server: Arc<Server>,
        now: Instant,
        is_stream: bool,
    ) -> Self {
        server.silence().chosen(now);
        Self { chosen: now, upstream, settings, server, stage: Stage::Connecting, whole: false, is_stream }
    }

    /// Records that the connection to the server is open.
    pub fn connected(&mut self) {
        if self.stage == Stage::Connecting {
            let now = clock::now();
            self.server.silence().connected(now);
            if self.server.health() != ServerHealth::Up && self.settings.health.is_none() {
                // The prober could find out nothing more than this.
                self.upstream.recovered(&self.server);
            }
            self.stage = Stage::Sending;
            if self.whole {
                self.stage = Stage::Sent;
                self.server.silence().sent(now);
            }
        }
    }

    /// Records that the whole request is sent, or will be once connected: from now on the server owes a response.
    pub fn sent(&mut self) {
        self.whole = true;
        if self.stage == Stage::Sending {
            self.stage = Stage::Sent;
            self.server.silence().sent(clock::now());
        }
    }

    /// Records the head of the response; `report` is the server's load report in it. Returns the time since the
    /// server was chosen.
    pub fn response_begun(&mut self, result: ResponseOutcome, report: Option<&HeaderValue>) -> Duration {
        let now = clock::now();
        let took = now.saturating_duration_since(self.chosen);
        if self.stage == Stage::Answered {
            return took;
        }
        self.connected();
        match self.stage {
            Stage::Sent => self.server.silence().answered(now),
            _ => self.server.silence().progressed(now),
        }
        self.stage = Stage::Answered;
        if let (Some(value), Some(name)) = (report, &self.settings.load_header)
            && let Some(report) = LoadReport::read(name, value, now)
        {
            self.server.set_report(report);
        }
        self.upstream.answered(&self.server, self.is_stream, result);
        self.is_stream = result == ResponseOutcome::Stream;
        took
    }

    /// Records a request that failed without a complete response through the server's fault. A stream that ends with
    /// its server is not a failure.
    pub fn broke(&self) {
        if !self.is_stream {
            self.upstream.broke(&self.server);
        }
    }

    /// Records that the read timeout has passed without a response.
    pub fn timed_out(&self) {
        self.server.silence().timed_out(clock::now());
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Configuration of the upstream at the time of the choice.
    pub fn settings(&self) -> &Arc<config::UpstreamSettings> {
        &self.settings
    }

    /// The upstream of the server.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a place on {} of {}", self.server.label, self.upstream.name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.stage {
            Stage::Connecting => self.server.silence().not_connected(),
            Stage::Sent => self.server.silence().given_up(),
            Stage::Sending | Stage::Answered => {}
        }
        let held = match self.stage {
            _ if self.is_stream => Held::Stream,
            Stage::Answered => Held::Streaming,
            _ => Held::Busy,
        };
        self.upstream.free(&self.server, held);
    }
}
