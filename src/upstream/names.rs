//! Host names among the servers: looked up again whenever their records are due, each address a server of its own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::Upstream;
use crate::config::{self, ServerAddress};

/// The least and the longest time between two lookups, whatever the records say.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(300);

/// How long a name service may take for one name.
const WITHIN: Duration = Duration::from_secs(3);

/// The host names of one upstream.
#[derive(Default)]
pub(super) struct Names(Vec<Name>);

/// A host name, and where it leads.
struct Name {
    /// As in the file, with its port.
    text: String,
    addresses: Vec<IpAddr>,
    /// Why there is no address.
    error: Option<String>,
    /// Has it looked up again soon.
    look: Arc<Notify>,
    task: Option<AbortHandle>,
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A host name that nobody follows yet.
pub(super) struct Unfollowed {
    text: String,
    host: String,
    look: Arc<Notify>,
}

/// What became of a lookup.
#[derive(Debug)]
pub(super) enum Lookup {
    /// There it leads, for so long.
    Found(Vec<IpAddr>, Duration),
    /// There is no such name, or it has no addresses.
    Nowhere(String),
    /// The name service could not be asked; what was known before holds.
    Failed(String),
}

impl Names {
    /// Keeps the names that a new configuration has, and gives those that are new.
    pub(super) fn keep(&mut self, settings: &config::Upstream) -> Vec<Unfollowed> {
        let configured = settings.servers.iter().filter_map(|server| match &server.address {
            ServerAddress::Name(host, _) => Some((server.address.to_string(), host.clone())),
            ServerAddress::Tcp(_) | ServerAddress::Unix(_) => None,
        });
        let configured: Vec<_> = configured.collect();
        self.0.retain(|name| configured.iter().any(|(text, _)| *text == name.text));
        let mut unfollowed = Vec::new();
        for (text, host) in configured {
            if let Some(known) = self.find(&text) {
                // Other name servers may be configured now.
                known.look.notify_one();
                continue;
            }
            let look = Arc::new(Notify::new());
            let name = Name {
                text: text.clone(),
                addresses: Vec::new(),
                error: Some("not looked up yet".into()),
                look: Arc::clone(&look),
                task: None,
            };
            self.0.push(name);
            unfollowed.push(Unfollowed { text, host, look });
        }
        unfollowed
    }

    /// Takes over what was found; whether anything has changed.
    pub(super) fn resolved(&mut self, name: &str, found: Lookup) -> bool {
        let Some(name) = self.0.iter_mut().find(|one| one.text == name) else { return false };
        let (addresses, error) = match found {
            Lookup::Found(addresses, _) => (addresses, None),
            Lookup::Nowhere(why) => (Vec::new(), Some(why)),
            Lookup::Failed(why) => {
                name.error = Some(why);
                return false;
            }
        };
        name.error = error;
        if name.addresses == addresses {
            return false;
        }
        let list = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        tracing::info!(name = name.text, addresses = list, "a name of servers leads elsewhere");
        name.addresses = addresses;
        true
    }

    /// Where a name leads, as far as is known.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.find(name).map(|name| name.addresses.as_slice()).unwrap_or_default()
    }

    /// Names that lead nowhere, and why.
    pub(super) fn unresolved(&self) -> Vec<(String, String)> {
        let nowhere = self.0.iter().filter(|name| name.addresses.is_empty());
        nowhere.map(|name| (name.text.clone(), name.error.clone().unwrap_or_default())).collect()
    }

    /// Has a name looked up again: a server of it has failed.
    pub(super) fn look(&self, name: Option<&str>) {
        if let Some(name) = name.and_then(|name| self.find(name)) {
            name.look.notify_one();
        }
    }

    /// Follows none any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn find(&self, name: &str) -> Option<&Name> {
        self.0.iter().find(|one| one.text == name)
    }

    fn followed_by(&mut self, name: &str, task: AbortHandle) {
        match self.0.iter_mut().find(|one| one.text == name) {
            Some(name) => name.task = Some(task),
            // It has left the list meanwhile.
            None => task.abort(),
        }
    }
}

impl Unfollowed {
    /// Looks the name up, again and again, for as long as the upstream has it.
    pub(super) fn follow(self, upstream: &Arc<Upstream>) {
        let (name, weak) = (self.text.clone(), Arc::downgrade(upstream));
        let task = tokio::spawn(async move {
            while let Some(settings) = weak.upgrade().map(|upstream| upstream.settings()) {
                let began = Instant::now();
                let found = look_up(&self.host, settings.resolver.clone()).await;
                let pause = match &found {
                    Lookup::Found(_, ttl) => (*ttl).clamp(SOONEST, LATEST),
                    Lookup::Nowhere(why) | Lookup::Failed(why) => {
                        tracing::debug!(name = self.text, why, "a name of servers does not resolve");
                        SOONEST
                    }
                };
                let Some(upstream) = weak.upgrade() else { return };
                upstream.resolved(&self.text, found);
                drop(upstream);
                tokio::time::sleep_until(began + SOONEST).await;
                tokio::select! {
                    () = sleep(pause.saturating_sub(SOONEST)) => {}
                    () = self.look.notified() => {}
                }
            }
        });
        upstream.lock().names.followed_by(&name, task.abort_handle());
    }
}

/// Asks the name servers, or those of the system.
async fn look_up(host: &str, name_servers: Vec<SocketAddr>) -> Lookup {
    // The system's files are read anew, so that a change of theirs needs no restart.
    let resolver = match tokio::task::spawn_blocking(move || resolver(&name_servers)).await {
        Ok(Ok(resolver)) => resolver,
        Ok(Err(error)) => return Lookup::Failed(error.to_string()),
        Err(panic) => return Lookup::Failed(panic.to_string()),
    };
    let now = std::time::Instant::now();
    match timeout(WITHIN, resolver.lookup_ip(host)).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<_> = found.iter().collect();
            // Name servers rotate them; here their order means nothing.
            addresses.sort_unstable();
            addresses.dedup();
            Lookup::Found(addresses, found.valid_until().saturating_duration_since(now))
        }
        Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
            Lookup::Nowhere("the name does not resolve".into())
        }
        Ok(Err(error)) => Lookup::Failed(format!("the name service fails: {error}")),
        Err(_) => Lookup::Failed("the name service does not answer".into()),
    }
}

fn resolver(name_servers: &[SocketAddr]) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder: ResolverBuilder<_> = if name_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = name_servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = address.port());
            server
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    // A host with both kinds of address is one server.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.cache_size = 0;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    builder.build()
}
