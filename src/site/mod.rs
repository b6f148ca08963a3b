//! Sites and routes with everything a request needs of the configuration, in one immutable value that a reload
//! replaces.

mod https;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use http::StatusCode;
use tokio::sync::Mutex;

use crate::{
    config::{self, Action, Config},
    files,
    limits::{Limiter, Limiters},
    net::SharedRate,
    observe::RouteMetrics,
    route::{HostMap, PathMatch, Routes, alternative_readings},
    upstream::{Upstream, Upstreams},
};

pub(crate) use https::HttpsPolicy;

/// Sites and their routes, arranged for lookup.
#[derive(Default)]
pub struct SiteTable {
    hosts: HostMap,
    sites: Vec<Routing>,
    /// Cache of opened files; a new table begins with an empty one.
    pub files: Arc<files::Cache>,
}

/// A site and the lookup table of its routes.
struct Routing {
    site: Arc<Site>,
    routes: Routes,
    table: Vec<Arc<Route>>,
}

/// Settings shared by all routes of a site.
pub struct Site {
    /// Name in logs and metrics.
    pub name: String,
    /// Error pages of the site.
    pub errors: ErrorPages,
    /// Connection requirements.
    pub(crate) https: HttpsPolicy,
}

/// Error pages of a site.
pub struct ErrorPages {
    pages: BTreeMap<u16, PathBuf>,
    /// Cache of opened files.
    pub files: Arc<files::Cache>,
    /// Held while a page is opened, so that a file system that hangs blocks one thread for ever, not all of them.
    pub turn: Arc<Mutex<()>>,
    /// Whether the last attempt to open a page failed.
    pub trouble: AtomicBool,
}

impl ErrorPages {
    /// Path of the page for this status.
    pub fn page(&self, status: StatusCode) -> Option<&Path> {
        self.pages.get(&status.as_u16()).map(PathBuf::as_path)
    }
}

/// Route with its upstream, limits and metrics.
pub struct Route {
    /// The site of the route.
    pub site: Arc<Site>,
    /// Settings from the configuration.
    pub settings: config::RouteSettings,
    /// Upstream of a `proxy` route.
    pub upstream: Option<Arc<Upstream>>,
    /// Limits that apply to the route.
    pub limits: Vec<Arc<Limiter>>,
    /// Metrics, from the first request on.
    pub metrics: OnceLock<RouteMetrics>,
    /// Rate shared by all responses of the site.
    pub shared_rate: Option<Arc<SharedRate>>,
}

/// Result of a lookup.
pub struct Matched<'t, 'p> {
    /// The site.
    pub site: &'t Arc<Site>,
    /// The route, and how its pattern matched; `None` when the site has no route for the path.
    pub route: Option<(&'t Arc<Route>, PathMatch<'p>)>,
}

impl SiteTable {
    /// Arranges the sites of `config`. `upstreams` and `limits` must have applied the same configuration already.
    pub fn new(config: &Config, upstreams: &Upstreams, limits: &Limiters) -> Self {
        let files: Arc<files::Cache> = Arc::default();
        let encrypted = config.listen.iter().filter(|listen| listen.tls.is_some());
        let port = encrypted.filter_map(|listen| listen.address.port()).next();
        let sites = config.sites.iter().map(|site| {
            let (pages, turn) = (site.errors.clone(), Arc::default());
            let errors =
                ErrorPages { pages, files: Arc::clone(&files), turn, trouble: AtomicBool::new(false) };
            let https = HttpsPolicy::new(site, port);
            let common = Arc::new(Site { name: site.name.clone(), errors, https });
            let shared_rate = site.limit_rate.map(SharedRate::new);
            let route = |settings: &config::RouteSettings| {
                let upstream = match &settings.action {
                    Action::Proxy(upstream) => upstreams.find(upstream),
                    Action::Files(_) | Action::Redirect { .. } | Action::Answer { .. } => None,
                };
                Arc::new(Route {
                    site: Arc::clone(&common),
                    settings: settings.clone(),
                    upstream,
                    limits: limits.named(&settings.limits),
                    metrics: OnceLock::new(),
                    shared_rate: shared_rate.clone(),
                })
            };
            Routing {
                routes: Routes::new(site.routes.iter().map(|route| &route.pattern)),
                table: site.routes.iter().map(route).collect(),
                site: common,
            }
        });
        Self {
            hosts: HostMap::new(config.sites.iter().map(|site| site.hosts.as_slice())),
            sites: sites.collect(),
            files,
        }
    }

    /// Internal routes with files, of the site for a `Host`.
    pub fn internal_files(&self, host: &str) -> impl Iterator<Item = &config::Files> {
        let site = self.hosts.find(host).map(|place| &self.sites[place]);
        site.into_iter().flat_map(|site| &site.table).filter_map(|route| match &route.settings.action {
            Action::Files(files) if route.settings.internal => Some(files),
            _ => None,
        })
    }

    /// The site for a `Host`, and its route for a normalized path; `None` when no site has the host.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Option<Matched<'_, 'p>> {
        let site = &self.sites[self.hosts.find(host)?];
        let found = site.routes.find(path);
        Some(Matched { site: &site.site, route: found.map(|found| (&site.table[found.route], found.by)) })
    }

    /// Whether the servers of `route`, found for the normalized `path`, may read the path as sent as that of another
    /// route, and so bypass that route's `allow`, `limit` or `methods`.
    pub fn is_ambiguous<P: AsRef<[u8]> + ?Sized>(
        &self,
        host: &str,
        raw: &P,
        path: &str,
        route: &Arc<Route>,
    ) -> bool {
        let leads_here = |other: &String| {
            let found = self.find(host, other).and_then(|matched| matched.route);
            found.is_some_and(|(found, _)| Arc::ptr_eq(found, route))
        };
        route.upstream.is_some() && !alternative_readings(raw.as_ref(), path).iter().all(leads_here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        benching::large::{self, Sample},
        observe::Metrics,
        route::normalize,
    };

    #[test]
    fn among_very_many_sites_and_routes_each_is_found() {
        const SITES: usize = 1000;
        const ROUTES: usize = 20;
        let config = config::parse("large.toml", &large::text(SITES, ROUTES)).unwrap().config;
        let table = SiteTable::new(&config, &Upstreams::default(), &Limiters::default());
        for (site, number) in (0..SITES).flat_map(|site| (0..ROUTES).map(move |number| (site, number))) {
            let (host, sample) = (large::host(site), Sample::new(site, number));
            let path = normalize(&sample.path).unwrap();
            let matched = table.find(&host, &path).unwrap();
            assert_eq!(
                (&*matched.site.name, &*matched.route.unwrap().0.settings.key),
                (&*host, &*sample.key)
            );
        }
        assert!(table.find("elsewhere.example.org", "/").is_none());
    }

    #[test]
    fn a_site_may_have_very_many_routes_and_regexes() {
        const ROUTES: usize = 20_000;
        let config = config::parse("large.toml", &large::text(1, ROUTES)).unwrap().config;
        let table = SiteTable::new(&config, &Upstreams::default(), &Limiters::default());
        for sample in (0..ROUTES).step_by(999).map(|number| Sample::new(0, number)) {
            let matched = table.find("WWW.galaxy0.example.org:8080", &sample.path).unwrap();
            assert_eq!(matched.route.unwrap().0.settings.key, sample.key);
        }
    }

    /// Two open routes and two closed ones, one of them below an open one.
    const GUARDED: &str = r#"
[[site]]
[site.routes]
"/"              = { proxy = "a" }
"/admin"         = { proxy = "a", allow = ["192.0.2.1"] }
"/open"          = { proxy = "a" }
"/open/closed"   = { proxy = "a", methods = ["GET"] }
"~ ^/by/[^/]+/x" = { proxy = "a" }
[upstream.a]
servers = ["127.0.0.1:1"]
"#;

    /// Key of the route for a path; `None` when the request is refused.
    fn routed(table: &SiteTable, raw: &str) -> Option<String> {
        let path = normalize(raw).ok()?;
        let (route, _) = table.find("", &path)?.route?;
        (!table.is_ambiguous("", raw, &path, route)).then(|| route.settings.key.clone())
    }

    fn guarded() -> SiteTable {
        let config = config::parse("guarded.toml", GUARDED).unwrap().config;
        let upstreams = Upstreams::default();
        upstreams.apply(&config.upstreams, &Default::default(), &Metrics::new());
        SiteTable::new(&config, &upstreams, &Limiters::default())
    }

    #[tokio::test]
    async fn a_path_that_servers_may_take_for_one_of_another_route_is_refused() {
        let table = guarded();
        for (raw, key) in [
            ("/api/tools/toolshed%2Frepos%2Fx", "/"),
            ("/a/../b//c/%2e", "/"),
            ("/open/a%2Fb/../c//d", "/open"),
            ("/%61dmin/x", "/admin"),
            ("/admin/a//b/%2e/c", "/admin"),
            ("/by/a/x//y", "~ ^/by/[^/]+/x"),
        ] {
            assert_eq!(routed(&table, raw).as_deref(), Some(key), "{raw}");
        }
        for raw in [
            "/admin/x/../../y",
            "/admin/%2e%2e/y",
            "/admin%2F..%2Fy",
            "/admin%2Fx",
            "//admin/x",
            "/./admin",
            "/open/a%2Fb/../../admin",
            "/open/../admin/%2e%2e/open",
            "/open//closed",
            "/open/closed/..",
            "/open/closed%2f..%2fx",
            "/by/a%2fb/x",
        ] {
            assert_eq!(routed(&table, raw), None, "{raw}");
        }
    }

    proptest::proptest! {
        /// A path that is forwarded leads to the matched route in every way of reading it.
        #[test]
        fn no_reading_of_a_path_leads_around_a_route(
            raw in "(/|//|%2[fF]|/\\.|/\\.\\.|/%2[eE]%2e|/\\.%2e|/admin|/open|/closed|/by|/a|/x|%61){1,9}"
        ) {
            let table = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { guarded() });
            if let Some(key) = routed(&table, &raw) {
                let path = normalize(&raw).unwrap();
                for reading in alternative_readings(raw.as_bytes(), &path) {
                    let (route, _) = table.find("", &reading).unwrap().route.unwrap();
                    proptest::prop_assert_eq!(&route.settings.key, &key, "{} as {}", raw, reading);
                }
            }
        }
    }
}
