//! Upstreams: groups of servers, the requests on them, and the requests that wait for them.
//!
//! Everything that changes together (the list of servers, counts, health, the queue) changes under one short
//! lock that is never held across an await. So the choice is exact however many threads choose, no wake-up is
//! lost, and the oldest waiting request gets the first free place.

mod balance;
mod group;
mod head;
mod health;
mod hold;
mod lease;
mod queue;
pub mod retry;
mod server;
mod silence;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{config, observe::Metrics};
pub use group::Upstream;
pub use hold::{NoServer, Turn};
pub use lease::Lease;
pub use server::{Endpoint, Server};
pub(crate) use {head::prepare, health::is_our_own_want};

/// All upstreams of the process, by name. Those that stay over a reload keep what they know.
#[derive(Default)]
pub struct Upstreams {
    by_name: Mutex<BTreeMap<String, Arc<Upstream>>>,
}

impl Upstreams {
    /// Takes over a new configuration: changes what stays, starts what is new.
    pub fn apply(&self, configured: &BTreeMap<String, config::Upstream>, metrics: &Metrics) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, settings) in configured {
            let upstream =
                by_name.entry(name.clone()).or_insert_with(|| Upstream::new(settings, metrics.hold(name)));
            upstream.change(settings);
        }
    }

    /// Retires what is no longer configured; those who wait there look for another route, which must be there by now.
    pub fn retire_others(&self, configured: &BTreeMap<String, config::Upstream>) {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, upstream| {
            let stays = configured.contains_key(name);
            if !stays {
                upstream.retire();
            }
            // One that comes back while requests of its are still in flight has its counts.
            stays || upstream.is_draining()
        });
    }

    /// The upstream of that name.
    pub fn find(&self, name: &str) -> Option<Arc<Upstream>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Upstream>> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.values().filter(|upstream| !upstream.is_gone()).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
