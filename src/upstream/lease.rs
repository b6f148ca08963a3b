//! A request's place on a server, counted for as long as it is held.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{Server, Upstream};

/// The right to have one request on a server; gives the place back when dropped.
pub struct Lease {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
    stage: Stage,
}

/// How far the request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Sending,
    Sent,
    Answered,
}

impl Lease {
    /// `server` counts the request already.
    pub(super) fn new(upstream: Arc<Upstream>, server: Arc<Server>) -> Self {
        server.silence().chosen(Instant::now());
        Self { upstream, server, stage: Stage::Sending }
    }

    /// All of the request is on its way: the server owes an answer.
    pub fn sent(&mut self) {
        if self.stage == Stage::Sending {
            self.stage = Stage::Sent;
            self.server.silence().sent(Instant::now());
        }
    }

    /// The server has begun its answer.
    pub fn answered(&mut self) {
        if self.stage != Stage::Answered {
            self.server.silence().answered(Instant::now(), self.stage == Stage::Sent);
            self.stage = Stage::Answered;
        }
    }

    /// The server has kept the request waiting for as long as it may.
    pub fn timed_out(&self) {
        self.server.silence().timed_out(Instant::now());
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
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
        if self.stage == Stage::Sent {
            self.server.silence().given_up();
        }
        self.upstream.free(&self.server);
    }
}
