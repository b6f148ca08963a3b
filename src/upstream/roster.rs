//! Servers of an upstream: as listed in the configuration, with host names as they currently resolve.

use std::{net::IpAddr, sync::Arc};

use tokio::time::Instant;

use super::{
    Server, ServerHealth, Upstream,
    group::{GroupState, Slot},
    names::Lookup,
    outlier,
};
use crate::config::{self, Address, ServerAddress, UpstreamServer};

impl Upstream {
    /// Applies a new configuration, and offers the new list to waiting requests.
    pub(super) fn change(self: &Arc<Self>, settings: &config::UpstreamSettings) {
        let names = {
            let mut state = self.lock();
            // Under the lock: a lookup that ends at this moment must not bring the old list back.
            self.settings.store(Arc::new(settings.clone()));
            state.gone = false;
            let names = state.names.keep(settings);
            self.rebuild(&mut state, settings);
            names
        };
        for name in names {
            name.start(self);
        }
        self.serve_waiting();
    }

    /// Applies the result of a lookup.
    pub(super) fn resolved(self: &Arc<Self>, name: &str, found: Lookup) {
        {
            let mut state = self.lock();
            if state.gone || !state.names.resolved(name, found) {
                return;
            }
            self.rebuild(&mut state, &self.settings());
        }
        self.serve_waiting();
    }

    /// Records whether a prober could connect. If no server at the first address family of a host name is reachable,
    /// the other family is tried too (an application may listen on `[::1]` alone while `localhost` resolves to both).
    pub(super) fn probed(self: &Arc<Self>, server: &Arc<Server>, is_up: bool) {
        {
            let mut state = self.lock();
            let Address::Tcp(address) = &server.address else { return };
            let slot = state.slots.iter().find(|slot| Arc::ptr_eq(&slot.server, server));
            let Some(name) = slot.and_then(|slot| slot.name.clone()) else { return };
            if !state.names.is_first(&name, address.ip()) {
                return;
            }
            let mut namesakes = state.slots.iter().filter(|slot| slot.name.as_ref() == Some(&name));
            let is_out = !is_up && namesakes.all(|slot| slot.server.health() == ServerHealth::Failing);
            if (!is_up && !is_out) || !state.names.fall_back(&name, is_out) {
                return;
            }
            self.rebuild(&mut state, &self.settings());
        }
        self.serve_waiting();
    }

    /// Rebuilds the list and starts the probers of new servers: under the same lock, so that no other thread removes
    /// them in between.
    fn rebuild(self: &Arc<Self>, state: &mut GroupState, settings: &config::UpstreamSettings) {
        for server in state.rebuild(settings) {
            (self.watch)(self, &server);
        }
    }

    /// Retires an upstream that is no longer configured: waiting requests look for another route, requests in flight
    /// finish.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.names.clear();
        let servers = state.slots.drain(..).map(|slot| slot.server).collect();
        state.retire(servers);
        state.queue.clear();
        state.streams.clear();
    }

    /// Refuses waiting and new requests, because the process is stopping.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.queue.clear();
        state.streams.clear();
    }

    /// Whether the upstream is no longer configured.
    pub fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// Whether requests are in flight on servers that were removed from the list.
    pub(super) fn has_retired(&self) -> bool {
        !self.lock().retired.is_empty()
    }

    /// Configured host names without an address, and the reasons.
    pub fn unresolved(&self) -> Vec<(String, String)> {
        self.lock().names.unresolved()
    }
}

impl GroupState {
    /// Rebuilds the list. Returns the servers that have no prober yet.
    fn rebuild(&mut self, settings: &config::UpstreamSettings) -> Vec<Arc<Server>> {
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.slots);
        let others = !before.is_empty();
        let mut fresh = Vec::new();
        for configured in &settings.servers {
            let UpstreamServer { weight, backup, max_requests, .. } = *configured;
            for (address, name) in self.addresses(configured) {
                if self.slots.iter().any(|slot| slot.server.address == address) {
                    // Two names resolve to the same address.
                    continue;
                }
                let host = host(&configured.address, &address);
                // With TLS, another host name means another server: the state of the one does not hold for the other.
                let is_same = |server: &Server| {
                    server.address == address && (settings.tls.is_none() || server.host == host)
                };
                let known = before.iter().position(|slot| is_same(&slot.server));
                let known = known.map(|place| before.swap_remove(place));
                let slot = match known {
                    Some(slot) => Slot { name, weight, backup, max_requests, ..slot },
                    None => {
                        let server = self.take_retired(is_same);
                        let server = server.unwrap_or_else(|| Server::new(address, host));
                        let recovered_at = others.then_some(now);
                        // A random start keeps several proxies that start together from beginning at the same server.
                        let credit = fastrand::i64(0..i64::from(weight) * 1000);
                        Slot {
                            server,
                            name,
                            weight,
                            backup,
                            max_requests,
                            credit,
                            recovered_at,
                            share: None,
                            results: outlier::results(),
                            passed_over: 0,
                        }
                    }
                };
                if slot.server.is_watched() {
                    // The probe, or its interval, may have changed.
                    slot.server.wake_prober.notify_one();
                } else {
                    fresh.push(Arc::clone(&slot.server));
                }
                self.slots.push(slot);
            }
        }
        self.retire(before.into_iter().map(|slot| slot.server).collect());
        fresh
    }

    /// Addresses of a configured server, with its name if it is a host name.
    fn addresses(&self, configured: &UpstreamServer) -> Vec<(Address, Option<String>)> {
        match &configured.address {
            ServerAddress::Tcp(address) => vec![(Address::Tcp(*address), None)],
            ServerAddress::Unix(path) => vec![(Address::Unix(path.clone()), None)],
            ServerAddress::Name(_, port) => {
                let name = configured.address.to_string();
                let at = |ip: IpAddr| (Address::Tcp((ip, *port).into()), Some(name.clone()));
                self.names.addresses(&name).map(at).collect()
            }
        }
    }

    /// Takes a server that was removed while requests were in flight.
    fn take_retired(&mut self, is_same: impl Fn(&Server) -> bool) -> Option<Arc<Server>> {
        let place = self.retired.iter().position(|server| is_same(server))?;
        Some(self.retired.swap_remove(place))
    }

    /// Removes servers from use. Those with requests in flight are remembered until these end.
    fn retire(&mut self, servers: Vec<Arc<Server>>) {
        for server in servers {
            server.stop_prober();
            if !server.is_idle() {
                self.retired.push(server);
            }
        }
    }
}

/// Server name for TLS.
fn host(configured: &ServerAddress, address: &Address) -> String {
    match (configured, address) {
        (ServerAddress::Name(host, _), _) => host.trim_end_matches('.').to_owned(),
        (_, Address::Tcp(address)) => address.ip().to_string(),
        (_, Address::Unix(_)) => "localhost".into(),
    }
}
