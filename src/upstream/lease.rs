//! A request's place on a server, counted for as long as it is held.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use tokio::time::Instant;

use super::{Server, ServerHealth, Upstream, report::LoadReport};
use crate::{clock, config};

/// The right to have one request on a server; gives the place back when dropped.
pub struct Lease {
    upstream: Arc<Upstream>,
    settings: Arc<config::UpstreamSettings>,
    server: Arc<Server>,
    stage: Stage,
    /// When the server was chosen.
    chosen: Instant,
    /// All of the request has arrived: when it is connected, an answer is due.
    whole: bool,
    /// Counted as an event stream or a tunnel, not as a request in flight.
    pub(super) is_stream: bool,
}

/// What the head of a response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The server has done what it was asked.
    Well,
    /// The server has failed (5xx).
    Failed,
    /// An event stream, or a connection that becomes a tunnel: from now on the request is no load.
    Stream,
}

/// What a lease counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// A request whose response has not begun.
    Busy,
    /// A request whose response has begun.
    Streaming,
    /// An event stream or a tunnel.
    Stream,
}

/// How far the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Sending,
    Sent,
    Answered,
}

impl Lease {
    /// `server` counts the request already.
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

    /// There is a connection to the server.
    pub fn connected(&mut self) {
        if self.stage == Stage::Connecting {
            let now = clock::now();
            self.server.silence().connected(now);
            if self.server.health() != ServerHealth::Up && self.settings.health.is_none() {
                // There is nothing more that its prober could find out.
                self.upstream.recovered(&self.server);
            }
            self.stage = Stage::Sending;
            if self.whole {
                self.stage = Stage::Sent;
                self.server.silence().sent(now);
            }
        }
    }

    /// All of the request is on its way, or will be once there is a connection: the server owes an answer.
    pub fn sent(&mut self) {
        self.whole = true;
        if self.stage == Stage::Sending {
            self.stage = Stage::Sent;
            self.server.silence().sent(clock::now());
        }
    }

    /// Counts the head of the response: `report` is what the server says of its load in it. Gives how long it took from
    /// the choice on.
    pub fn answered(&mut self, result: Answered, report: Option<&HeaderValue>) -> Duration {
        let now = clock::now();
        let took = now.saturating_duration_since(self.chosen);
        if self.stage == Stage::Answered {
            return took;
        }
        self.connected();
        match self.stage {
            Stage::Sent => self.server.silence().answered(now),
            _ => self.server.silence().spoke(now),
        }
        self.stage = Stage::Answered;
        if let (Some(value), Some(name)) = (report, &self.settings.load_header)
            && let Some(report) = LoadReport::read(name, value, now)
        {
            self.server.reports(report);
        }
        self.upstream.answered(&self.server, self.is_stream, result);
        self.is_stream = result == Answered::Stream;
        took
    }

    /// Counts a request that failed without a whole response, for which its server is to blame. That a stream ends with
    /// its server is no failure.
    pub fn broke(&self) {
        if !self.is_stream {
            self.upstream.broke(&self.server);
        }
    }

    /// The server has kept the request waiting for as long as it may.
    pub fn timed_out(&self) {
        self.server.silence().timed_out(clock::now());
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// What the configuration said of the upstream when the server was chosen.
    pub fn settings(&self) -> &Arc<config::UpstreamSettings> {
        &self.settings
    }

    /// The upstream that it belongs to.
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
