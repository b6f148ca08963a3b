//! A request's place on a server, counted for as long as it is held.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{Server, Upstream};

/// The right to have one request on a server; gives the place back when dropped.
pub struct Lease {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
    answered: bool,
}

impl Lease {
    /// `server` counts the request already.
    pub(super) fn new(upstream: Arc<Upstream>, server: Arc<Server>) -> Self {
        Self { upstream, server, answered: false }
    }

    /// The server has begun its answer.
    pub fn answered(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.server.silence().answered(Instant::now());
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
        if !self.answered {
            self.server.silence().given_up();
        }
        self.upstream.free(&self.server);
    }
}
