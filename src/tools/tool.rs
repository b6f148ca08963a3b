//! An interactive tool: its server, and the connections to it.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::row::Entry;
use crate::{
    config::{UpstreamServer, UpstreamSettings},
    observe::Metrics,
    upstream::Upstream,
};

/// A running interactive tool. It stays the same one for as long as its entry does.
pub(crate) struct Tool {
    pub(super) entry: Entry,
    /// The tool as an upstream of one server, from the first request on.
    upstream: OnceLock<Arc<Upstream>>,
    connections: AtomicUsize,
}

impl Tool {
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, upstream: OnceLock::new(), connections: AtomicUsize::new(0) }
    }

    /// The tool as an upstream.
    pub(super) fn upstream(&self, settings: &UpstreamSettings, metrics: &Metrics) -> &Arc<Upstream> {
        self.upstream.get_or_init(|| {
            let servers = vec![UpstreamServer::at(self.entry.server.clone())];
            Upstream::start(&UpstreamSettings { servers, ..settings.clone() }, metrics)
        })
    }

    /// Counts one more connection; `None` where there are `most` already.
    pub(super) fn connect(
        self: &Arc<Self>,
        upstream: Arc<Upstream>,
        most: NonZeroUsize,
    ) -> Option<ToolConnection> {
        let count = |open: usize| (open < most.get()).then_some(open + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).ok()?;
        Some(ToolConnection { tool: Arc::clone(self), upstream })
    }

    /// Ends the tool: requests that wait for it are refused.
    pub(super) fn end(&self) {
        if let Some(upstream) = self.upstream.get() {
            upstream.end();
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.end();
    }
}

/// Guard for one connection to a tool: a request, or a WebSocket for as long as it is open.
pub(crate) struct ToolConnection {
    tool: Arc<Tool>,
    upstream: Arc<Upstream>,
}

impl ToolConnection {
    /// The tool as an upstream of one server.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether the tool wants its whole path.
    pub(crate) fn wants_whole_path(&self) -> bool {
        self.tool.entry.wants_whole_path
    }

    /// Header in which the tool wants the first part of its path.
    pub(crate) fn path_header(&self) -> Option<&http::HeaderName> {
        self.tool.entry.path_header.as_ref()
    }
}

impl Drop for ToolConnection {
    fn drop(&mut self) {
        self.tool.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
