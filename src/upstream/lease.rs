//! A request's place on a server, counted for as long as it is held.

use std::{fmt, sync::Arc};

use super::{Server, Upstream};

/// The right to have one request on a server; gives the place back when dropped.
pub struct Lease {
    upstream: Arc<Upstream>,
    server: Arc<Server>,
}

impl Lease {
    /// `server` counts the request already.
    pub(super) fn new(upstream: Arc<Upstream>, server: Arc<Server>) -> Self {
        Self { upstream, server }
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
        self.upstream.free(&self.server);
    }
}
