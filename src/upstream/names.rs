//! DNS: host names among the servers are resolved again whenever their records expire; each address is a server of
//! its own.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{self, RecordType},
    system_conf::read_system_conf,
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::Upstream;
use crate::config::{self, ServerAddress};

/// Shortest and longest time between two lookups, whatever the TTL.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(300);

/// Timeout of one DNS query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of the query for addresses of the other family.
const OTHER_QUERY_TIMEOUT: Duration = Duration::from_millis(500);

/// Host names of one upstream.
#[derive(Default)]
pub(super) struct ResolvedNames(Vec<Name>);

/// A host name and its addresses.
struct Name {
    /// Name and port, as in the configuration.
    text: String,
    /// Addresses of the first family, one for each server.
    first: Vec<IpAddr>,
    /// Addresses of the other family.
    other: Vec<IpAddr>,
    /// No server accepts connections at an address of the first family, so those of the other family are used too.
    use_other: bool,
    /// Reason why there is no address.
    error: Option<String>,
    /// Wakes the task that resolves the name.
    wake: Arc<Notify>,
    task: Option<AbortHandle>,
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A host name whose resolving task has not been started.
pub(super) struct NewName {
    text: String,
    host: String,
    wake: Arc<Notify>,
}

/// Result of a lookup.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Addresses of the first family (IPv4 where there is any: a host with both kinds of address is one server),
    /// those of the other family unless that query failed, and their TTL.
    Found(Vec<IpAddr>, Option<Vec<IpAddr>>, Duration),
    /// The name does not exist or has no addresses.
    NotFound(String),
    /// The query failed; the addresses known before remain in use.
    Failed(String),
}

impl ResolvedNames {
    /// Keeps the names of a new configuration, and returns those that are new.
    pub(super) fn keep(&mut self, settings: &config::UpstreamSettings) -> Vec<NewName> {
        let configured = settings.servers.iter().filter_map(|server| match &server.address {
            ServerAddress::Name(host, _) => Some((server.address.to_string(), host.clone())),
            ServerAddress::Tcp(_) | ServerAddress::Unix(_) => None,
        });
        let configured: Vec<_> = configured.collect();
        self.0.retain(|name| configured.iter().any(|(text, _)| *text == name.text));
        let mut new_names = Vec::new();
        for (text, host) in configured {
            if let Some(known) = self.find(&text) {
                // Other name servers may be configured now.
                known.wake.notify_one();
                continue;
            }
            let wake = Arc::new(Notify::new());
            let name = Name {
                text: text.clone(),
                first: Vec::new(),
                other: Vec::new(),
                use_other: false,
                error: Some("not looked up yet".into()),
                wake: Arc::clone(&wake),
                task: None,
            };
            self.0.push(name);
            new_names.push(NewName { text, host, wake });
        }
        new_names
    }

    /// Applies the result of a lookup. Returns whether anything has changed.
    pub(super) fn resolved(&mut self, name: &str, found: Lookup) -> bool {
        let Some(name) = self.0.iter_mut().find(|one| one.text == name) else { return false };
        let (first, other, error) = match found {
            Lookup::Found(first, other, _) => (first, other, None),
            Lookup::NotFound(why) => (Vec::new(), Some(Vec::new()), Some(why)),
            Lookup::Failed(why) => {
                name.error = Some(why);
                return false;
            }
        };
        name.error = error;
        let other = other.unwrap_or_else(|| name.other.clone());
        let first_changed = name.first != first;
        if first_changed {
            let list = first.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            tracing::info!(name = name.text, addresses = list, "addresses of a server name have changed");
            name.use_other = false;
        }
        let changes = first_changed || (name.use_other && name.other != other);
        (name.first, name.other) = (first, other);
        changes
    }

    /// Starts or stops using the other address family of a name too. Returns whether that changes its addresses.
    pub(super) fn fall_back(&mut self, name: &str, use_other: bool) -> bool {
        let Some(name) = self.0.iter_mut().find(|one| one.text == name) else { return false };
        let changes = name.use_other != use_other && !name.other.is_empty();
        name.use_other = use_other;
        if changes && use_other {
            let list = name.other.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
            tracing::info!(
                name = name.text,
                addresses = list,
                "no server is reachable at its first address family: trying these addresses too"
            );
        }
        changes
    }

    /// Current addresses of a name.
    pub(super) fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        let name = self.find(name);
        let first = name.into_iter().flat_map(|name| &name.first);
        let other = name.filter(|name| name.use_other).into_iter().flat_map(|name| &name.other);
        first.chain(other).copied()
    }

    /// Whether an address belongs to the first family of a name.
    pub(super) fn is_first(&self, name: &str, address: IpAddr) -> bool {
        self.find(name).is_some_and(|name| name.first.contains(&address))
    }

    /// Names without an address, and the reasons.
    pub(super) fn unresolved(&self) -> Vec<(String, String)> {
        let nowhere = self.0.iter().filter(|name| name.first.is_empty());
        nowhere.map(|name| (name.text.clone(), name.error.clone().unwrap_or_default())).collect()
    }

    /// Triggers another lookup of a name, because one of its servers has failed.
    pub(super) fn look_up_again(&self, name: Option<&str>) {
        if let Some(name) = name.and_then(|name| self.find(name)) {
            name.wake.notify_one();
        }
    }

    /// Removes all names and stops their tasks.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn find(&self, name: &str) -> Option<&Name> {
        self.0.iter().find(|one| one.text == name)
    }

    fn set_task(&mut self, name: &str, task: AbortHandle) {
        match self.0.iter_mut().find(|one| one.text == name) {
            Some(name) => name.task = Some(task),
            // The name was removed meanwhile.
            None => task.abort(),
        }
    }
}

impl NewName {
    /// Starts the task that resolves the name repeatedly for as long as the upstream has it.
    pub(super) fn start(self, upstream: &Arc<Upstream>) {
        let (name, weak) = (self.text.clone(), Arc::downgrade(upstream));
        let task = tokio::spawn(async move {
            while let Some(settings) = weak.upgrade().map(|upstream| upstream.settings()) {
                let began = Instant::now();
                let found = look_up(&self.host, settings.resolver.clone()).await;
                let pause = match &found {
                    Lookup::Found(.., ttl) => (*ttl).clamp(SHORTEST_TTL, LONGEST_TTL),
                    Lookup::NotFound(why) | Lookup::Failed(why) => {
                        tracing::debug!(name = self.text, why, "DNS: a server name does not resolve");
                        SHORTEST_TTL
                    }
                };
                let Some(upstream) = weak.upgrade() else { return };
                upstream.resolved(&self.text, found);
                drop(upstream);
                tokio::time::sleep_until(began + SHORTEST_TTL).await;
                tokio::select! {
                    () = sleep(pause.saturating_sub(SHORTEST_TTL)) => {}
                    () = self.wake.notified() => {}
                }
            }
        });
        upstream.lock().names.set_task(&name, task.abort_handle());
    }
}

/// Resolves a host name with the given name servers, or with those of the system.
async fn look_up(host: &str, name_servers: Vec<SocketAddr>) -> Lookup {
    let host = host.to_owned();
    // The system's files are read anew, so that changes take effect without a restart.
    let (resolver, names) =
        match tokio::task::spawn_blocking(move || resolver_and_names(&host, &name_servers)).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => return Lookup::Failed(error.to_string()),
            Err(panic) => return Lookup::Failed(panic.to_string()),
        };
    resolve(&resolver, names).await
}

/// Resolves the first of `names` that has addresses. The result is `NotFound` only when every query was answered with
/// that: a query that fails must not remove the servers that are known.
async fn resolve(resolver: &TokioResolver, names: Vec<rr::Name>) -> Lookup {
    let mut failed = None;
    for name in names {
        let v4 = query(resolver, name.clone(), RecordType::A, QUERY_TIMEOUT).await;
        // With IPv4 addresses at hand, do not wait long for the other family, which is rarely needed: some name
        // servers drop the query.
        let within = if matches!(v4, Ok(Some(_))) { OTHER_QUERY_TIMEOUT } else { QUERY_TIMEOUT };
        let v6 = query(resolver, name, RecordType::AAAA, within).await;
        match (v4, v6) {
            (Ok(None), Ok(None)) => {}
            (Ok(Some((first, ttl))), other) => {
                let other = other.ok().map(|other| other.map_or_else(Vec::new, |(other, _)| other));
                return Lookup::Found(first, other, ttl);
            }
            (Ok(None), Ok(Some((first, ttl)))) => return Lookup::Found(first, Some(Vec::new()), ttl),
            (Err(error), _) | (Ok(None), Err(error)) => {
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or_else(|| Lookup::NotFound("the name does not resolve".into()), Lookup::Failed)
}

/// Addresses of one kind and their TTL; `None` if the name has none.
///
/// # Errors
///
/// The reason why the query failed.
async fn query(
    resolver: &TokioResolver,
    name: rr::Name,
    kind: RecordType,
    within: Duration,
) -> Result<Option<(Vec<IpAddr>, Duration)>, String> {
    let found = match timeout(within, resolver.lookup(name, kind)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => return Ok(None),
        Ok(Err(error)) => return Err(format!("DNS query failed: {error}")),
        Err(_) => return Err("DNS query timed out".into()),
    };
    let mut addresses: Vec<_> = found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
    // Name servers rotate the addresses; their order means nothing here.
    addresses.sort_unstable();
    addresses.dedup();
    let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
    Ok((!addresses.is_empty()).then_some((addresses, ttl)))
}

/// Resolver to use, and the names to try in order.
fn resolver_and_names(
    host: &str,
    name_servers: &[SocketAddr],
) -> Result<(TokioResolver, Vec<rr::Name>), NetError> {
    let (config, mut options) = if name_servers.is_empty() {
        read_system_conf()?
    } else {
        let servers = name_servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = address.port());
            server
        });
        (ResolverConfig::from_parts(None, Vec::new(), servers.collect()), ResolverOpts::default())
    };
    options.cache_size = 0;
    options.timeout = Duration::from_secs(1);
    options.attempts = 2;
    let names = names(&rr::Name::from_utf8(host)?, &config, options.ndots);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    Ok((builder.with_options(options).build()?, names))
}

/// The name itself, and the names that the system's search list derives from it (resolv.conf(5)).
fn names(host: &rr::Name, config: &ResolverConfig, ndots: usize) -> Vec<rr::Name> {
    let mut whole = host.clone();
    whole.set_fqdn(true);
    if host.is_fqdn() {
        return vec![whole];
    }
    let suffixes = config.domain().into_iter().chain(config.search());
    let mut names: Vec<_> = suffixes.filter_map(|suffix| host.clone().append_domain(suffix).ok()).collect();
    let first = usize::from(host.num_labels()) > ndots || host.is_localhost();
    names.insert(if first { 0 } else { names.len() }, whole);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_is_followed_as_the_system_does() {
        let name = |text| rr::Name::from_utf8(text).unwrap();
        let config = ResolverConfig::from_parts(None, vec![name("a.test."), name("b.test.")], Vec::new());
        let names = |host, ndots| {
            let names = names(&name(host), &config, ndots);
            names.iter().map(rr::Name::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("worker", 1), "worker.a.test. worker.b.test. worker.");
        assert_eq!(
            names("worker.example", 1),
            "worker.example. worker.example.a.test. worker.example.b.test."
        );
        assert_eq!(
            names("worker.example", 5),
            "worker.example.a.test. worker.example.b.test. worker.example."
        );
        assert_eq!(names("worker.example.", 5), "worker.example.");
    }
}
