//! Upstreams: groups of servers, the requests in flight on them, and the requests that wait for them.
//!
//! State that changes together (the list of servers, counts, health, the queue) changes under one short lock that is
//! never held across an await. The choice is therefore exact with any number of threads, no wake-up is lost, and the
//! oldest waiting request gets the first free place.

mod balance;
mod budget;
mod connect;
mod connection;
mod fetch;
mod group;
mod head;
mod health;
mod hold;
mod http2;
mod key;
mod lease;
mod names;
mod outlier;
mod queue;
mod report;
pub mod retry;
mod roster;
mod server;
mod silence;
mod subrequest;
pub(crate) mod uwsgi;
mod window;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config,
    observe::Metrics,
    tls::{self, TlsClient},
};
pub(crate) use connect::connect;
pub(crate) use connection::CannotTranslate;
pub(crate) use fetch::Fetch;
pub use group::{Standing, Upstream, WaitingFor};
pub(crate) use head::prepare;
pub(crate) use health::{error_label, is_local_shortage};
pub use hold::{NoServer, Selection};
pub(crate) use http2::StreamError;
pub(crate) use key::of as key_of;
pub use lease::{Lease, ResponseOutcome};
pub use server::{Server, ServerHealth};
pub(crate) use subrequest::{SubrequestFailed, Subresponse, ask};

/// TLS connectors by name of upstream, for upstreams that have `tls`.
pub(crate) type Connectors = BTreeMap<String, Arc<TlsClient>>;

/// Creates the TLS connectors of a configuration. Reads the configured CA files, and the system's roots if an
/// upstream uses them. Blocks.
pub(crate) fn connectors(configured: &BTreeMap<String, config::UpstreamSettings>) -> Connectors {
    let under_tls = || configured.iter().filter_map(|(name, settings)| Some((name, settings.tls.as_ref()?)));
    if under_tls().any(|(_, tls)| tls.verify && tls.ca.is_none()) {
        // The system's certificates may have been updated.
        tls::read_system_roots();
    }
    let client = |name: &String, tls| match configured[name].http2 {
        true => TlsClient::for_servers(b"h2", tls),
        false => TlsClient::new(tls),
    };
    under_tls().map(|(name, tls)| (name.clone(), Arc::new(client(name, tls)))).collect()
}

/// Upstreams of the process, by name. An upstream that remains after a reload keeps its state.
#[derive(Default)]
pub struct Upstreams {
    by_name: Mutex<BTreeMap<String, Arc<Upstream>>>,
}

impl Upstreams {
    /// Applies a new configuration and its TLS connectors: updates existing upstreams and starts new ones.
    pub(crate) fn apply(
        &self,
        configured: &BTreeMap<String, config::UpstreamSettings>,
        connectors: &Connectors,
        metrics: &Metrics,
    ) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, settings) in configured {
            let upstream = by_name
                .entry(name.clone())
                .or_insert_with(|| Upstream::new(settings, metrics.hold(name), Box::new(health::watch)));
            upstream.change_tls(connectors.get(name).cloned());
            upstream.change(settings);
        }
    }

    /// Retires upstreams that are no longer configured. Requests that wait there look for another route, so the new
    /// routes must be in place.
    pub fn retire_others(&self, configured: &BTreeMap<String, config::UpstreamSettings>) {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, upstream| {
            let stays = configured.contains_key(name);
            if !stays {
                upstream.retire();
            }
            // An upstream that is configured again while requests are in flight keeps its counts.
            stays || upstream.has_retired()
        });
    }

    /// Refuses all waiting requests, because the process is stopping.
    pub fn stop(&self) {
        self.by_name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .for_each(|upstream| upstream.stop());
    }

    /// Finds an upstream by name.
    pub fn find(&self, name: &str) -> Option<Arc<Upstream>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Lists the upstreams, by name.
    pub fn list(&self) -> Vec<Arc<Upstream>> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.values().filter(|upstream| !upstream.is_gone()).cloned().collect()
    }

    /// Drains or resumes a server, or all servers of a host name, in one upstream or in every upstream that has it.
    ///
    /// # Errors
    ///
    /// No server has that name; the error lists those that exist.
    pub fn drain(
        &self,
        wanted: &str,
        within: Option<&str>,
        draining: bool,
    ) -> Result<Vec<Drained>, Vec<String>> {
        let (mut drained, mut known) = (Vec::new(), Vec::new());
        for upstream in self.list() {
            for Standing { server, name, .. } in upstream.servers() {
                known.push(format!("{} of {}", server.label, upstream.name));
                let named = server.label == wanted || name.as_deref() == Some(wanted);
                if named && within.is_none_or(|name| upstream.name == name) {
                    upstream.drain(&server, draining);
                    drained.push(Drained { upstream: Arc::clone(&upstream), server });
                }
            }
        }
        if drained.is_empty() { Err(known) } else { Ok(drained) }
    }
}

impl Upstream {
    /// Starts an upstream that is not of the configuration. [`end`](Self::end) must end it.
    pub(crate) fn start(settings: &config::UpstreamSettings, metrics: &Metrics) -> Arc<Self> {
        let upstream = Self::new(settings, metrics.hold(&settings.name), Box::new(health::watch));
        upstream.change(settings);
        upstream
    }

    /// Ends it: waiting and new requests are refused, those in flight finish.
    pub(crate) fn end(&self) {
        self.retire();
    }
}

/// A server that was drained or resumed.
pub struct Drained {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The server.
    pub server: Arc<Server>,
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
pub(crate) use crate::upstream::connection::ServerConnection;
