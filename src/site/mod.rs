//! Sites and routes with everything a request needs of the configuration, in one immutable value that a reload
//! replaces.

mod alternatives;
mod auth;
mod flag;
mod https;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use tokio::sync::Mutex;

use crate::{
    config::{self, Action, Config, Maintenance, Name, Redirects},
    files,
    limits::{Limiter, Limiters},
    net::SharedRate,
    observe::RouteMetrics,
    route::{HostMap, PathMatch, Routes, alternative_readings},
    tools::{LiveMap, ToolMaps},
    upstream::{Upstream, Upstreams},
};

pub use alternatives::Alternatives;
pub(crate) use auth::{AuthService, Authenticator, RouteAuth};
pub(crate) use flag::FileFlag;
pub(crate) use https::HttpsPolicy;

use auth::Auths;

/// Sites and their routes, arranged for lookup.
#[derive(Default)]
pub struct SiteTable {
    hosts: HostMap,
    sites: Vec<Routing>,
    has_flags: bool,
    /// Cache of opened files; a new table begins with an empty one.
    pub files: Arc<files::Cache>,
}

/// A site and the lookup table of its routes.
struct Routing {
    site: Arc<Site>,
    routes: Routes,
    table: Vec<Alternatives>,
}

/// Settings shared by all routes of a site.
pub struct Site {
    /// Name in logs and metrics.
    pub name: String,
    /// Changes to the headers of responses to requests that have no route.
    pub headers: config::Headers,
    /// Origins whose pages may read those.
    pub cors: Option<Arc<config::Cors>>,
    /// Error pages for those.
    pub errors: config::ErrorPages,
    /// Files of error pages.
    pub pages: PageFiles,
    /// Redirects by path, which go before the routes.
    pub redirects: Option<Redirects>,
    /// Maintenance switch.
    pub(crate) maintenance: Option<(Maintenance, Arc<FileFlag>)>,
    /// Files whose existence requests of the site depend on.
    pub(crate) flags: Vec<Arc<FileFlag>>,
    /// Connection requirements.
    pub(crate) https: HttpsPolicy,
}

/// Opener of the error pages of a site.
pub struct PageFiles {
    /// Cache of opened files.
    pub files: Arc<files::Cache>,
    /// Held while a page is opened, so that a file system that hangs blocks one thread for ever, not all of them.
    pub turn: Arc<Mutex<()>>,
    /// Whether the last attempt to open a page failed.
    pub trouble: AtomicBool,
}

/// Route with its upstream, limits and metrics.
pub struct Route {
    /// The site of the route.
    pub site: Arc<Site>,
    /// Settings from the configuration.
    pub settings: config::RouteSettings,
    /// Upstream of a `proxy` route.
    pub upstream: Option<Arc<Upstream>>,
    /// Map of an `interactive_tools` route.
    pub(crate) tools: Option<Arc<LiveMap>>,
    /// Limits that apply to the route.
    pub limits: Vec<Arc<Limiter>>,
    /// Metrics, from the first request on.
    pub metrics: OnceLock<RouteMetrics>,
    /// Rate shared by all responses of the site.
    pub shared_rate: Option<Arc<SharedRate>>,
    /// Check of its users.
    pub(crate) auth: Option<Arc<RouteAuth>>,
    /// File of `when = { exists = … }`.
    pub(crate) exists: Option<Arc<FileFlag>>,
    /// Whether a template of the route needs what its pattern matched.
    pub(crate) uses_match: bool,
}

impl Route {
    /// Whether its requests go to a server: of an upstream, or an interactive tool.
    pub(crate) fn asks_server(&self) -> bool {
        self.upstream.is_some() || self.tools.is_some()
    }
}

/// Whether a template of the route has a capture or `{rest}` in it, or its `path` is mapped back.
fn uses_match(route: &config::RouteSettings) -> bool {
    let changes = route.headers.iter().chain(&route.proxy.request_headers);
    let templates = changes.filter_map(|(_, setting)| setting.template());
    let of_match = |name: &Name| matches!(name, Name::Capture(_) | Name::Rest);
    // Captures are at hand where a redirect is made.
    let redirects_to_rest = match &route.action {
        Action::Redirect { to, .. } => to.names().any(|name| *name == Name::Rest),
        _ => false,
    };
    let mut names = templates.flat_map(config::Template::names);
    route.proxy.path.is_some() || redirects_to_rest || names.any(of_match)
}

/// Result of a lookup.
pub struct Matched<'t, 'p> {
    /// The site.
    pub site: &'t Arc<Site>,
    /// The routes, and how their pattern matched; `None` when the site has no route for the path.
    pub route: Option<(&'t Alternatives, PathMatch<'p>)>,
}

impl SiteTable {
    /// Arranges the sites of `config`. `upstreams`, `limits` and `tools` must have applied the same configuration already.
    pub fn new(config: &Config, upstreams: &Upstreams, limits: &Limiters, tools: &ToolMaps) -> Self {
        let files: Arc<files::Cache> = Arc::default();
        let encrypted = config.listen.iter().filter(|listen| listen.tls.is_some());
        let port = encrypted.filter_map(|listen| listen.address.port()).next();
        let mut auths = Auths::default();
        let mut flags: HashMap<PathBuf, Arc<FileFlag>> = HashMap::new();
        let sites = config.sites.iter().map(|site| {
            let mut flag = |path: &PathBuf| {
                Arc::clone(flags.entry(path.clone()).or_insert_with(|| FileFlag::new(path.clone())))
            };
            let exists = |route: &config::RouteSettings| route.when.as_ref()?.exists.clone();
            let used = site.routes.iter().filter_map(exists).map(|path| flag(&path)).collect::<Vec<_>>();
            let maintenance = site.maintenance.clone().map(|settings| {
                let flag = flag(&settings.file);
                (settings, flag)
            });
            let common = Arc::new(Site {
                name: site.name.clone(),
                headers: site.headers.clone(),
                cors: site.cors.clone(),
                errors: site.errors.clone(),
                pages: PageFiles {
                    files: Arc::clone(&files),
                    turn: Arc::default(),
                    trouble: AtomicBool::new(false),
                },
                redirects: site.redirects.clone(),
                flags: maintenance.iter().map(|(_, flag)| Arc::clone(flag)).chain(used).collect(),
                maintenance,
                https: HttpsPolicy::new(site, port),
            });
            let shared_rate = site.limit_rate.map(SharedRate::new);
            let mut route = |settings: &config::RouteSettings| {
                let upstream = match &settings.action {
                    Action::Proxy(upstream) => upstreams.find(upstream),
                    _ => None,
                };
                let tools = match &settings.action {
                    Action::InteractiveTools(action) => tools.find(&action.map),
                    _ => None,
                };
                Arc::new(Route {
                    site: Arc::clone(&common),
                    upstream,
                    tools,
                    limits: limits.named(&settings.limits),
                    metrics: OnceLock::new(),
                    shared_rate: shared_rate.clone(),
                    auth: settings.auth.as_ref().and_then(|auth| auths.find(auth, upstreams)),
                    exists: exists(settings).map(|path| flag(&path)),
                    uses_match: uses_match(settings),
                    settings: settings.clone(),
                })
            };
            let alternatives: Vec<_> = site.routes.chunk_by(|one, next| one.key == next.key).collect();
            Routing {
                routes: Routes::new(alternatives.iter().map(|routes| &routes[0].pattern)),
                table: alternatives
                    .iter()
                    .map(|routes| Alternatives(routes.iter().map(&mut route).collect()))
                    .collect(),
                site: common,
            }
        });
        let sites: Vec<Routing> = sites.collect();
        Self {
            hosts: HostMap::new(config.sites.iter().map(|site| site.hosts.as_slice())),
            has_flags: sites.iter().any(|routing| !routing.site.flags.is_empty()),
            sites,
            files,
        }
    }

    /// Internal routes with files, of the site for a `Host`.
    pub fn internal_files(&self, host: &str) -> impl Iterator<Item = &config::Files> {
        let site = self.hosts.find(host).map(|place| &self.sites[place]);
        let routes = site.into_iter().flat_map(|site| &site.table).flat_map(Alternatives::iter);
        routes.filter_map(|route| match &route.settings.action {
            Action::Files(files) if route.settings.internal => Some(files),
            _ => None,
        })
    }

    /// Whether a site has files whose existence its requests depend on.
    pub fn has_flags(&self) -> bool {
        self.has_flags
    }

    /// Looks at the files whose existence requests for a `Host` depend on.
    pub async fn refresh_flags(&self, host: &str) {
        let site = self.hosts.find(host).map(|place| &self.sites[place].site);
        for flag in site.into_iter().flat_map(|site| &site.flags) {
            flag.refresh().await;
        }
    }

    /// Captures of the host expression that a `Host` matches.
    pub fn host_captures(&self, host: &str) -> Vec<(Box<str>, Box<str>)> {
        self.hosts.captures(host)
    }

    /// The site for a `Host`, and its route for a normalized path; `None` when no site has the host.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Option<Matched<'_, 'p>> {
        let site = &self.sites[self.hosts.find(host)?];
        let found = site.routes.find(path);
        Some(Matched { site: &site.site, route: found.map(|found| (&site.table[found.route], found.by)) })
    }

    /// Whether the servers of `routes`, found for the normalized `path`, may read the path as sent as that of other
    /// routes, and so bypass their `allow`, `limit` or `methods`.
    pub fn is_ambiguous<P: AsRef<[u8]> + ?Sized>(
        &self,
        host: &str,
        raw: &P,
        path: &str,
        routes: &Alternatives,
    ) -> bool {
        let leads_here = |other: &String| {
            let found = self.find(host, other).and_then(|matched| matched.route);
            found.is_some_and(|(found, _)| std::ptr::eq(found, routes))
        };
        routes.iter().any(|route| route.asks_server())
            && !alternative_readings(raw.as_ref(), path).iter().all(leads_here)
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

    fn key<'t>(found: Option<(&'t Alternatives, PathMatch<'_>)>) -> &'t str {
        &found.unwrap().0.iter().next().unwrap().settings.key
    }

    #[test]
    fn among_very_many_sites_and_routes_each_is_found() {
        const SITES: usize = 1000;
        const ROUTES: usize = 20;
        let config = config::parse("large.toml", &large::text(SITES, ROUTES)).unwrap().config;
        let table =
            SiteTable::new(&config, &Upstreams::default(), &Limiters::default(), &ToolMaps::default());
        for (site, number) in (0..SITES).flat_map(|site| (0..ROUTES).map(move |number| (site, number))) {
            let (host, sample) = (large::host(site), Sample::new(site, number));
            let path = normalize(&sample.path).unwrap();
            let matched = table.find(&host, &path).unwrap();
            assert_eq!((&*matched.site.name, key(matched.route)), (&*host, &*sample.key));
        }
        assert!(table.find("elsewhere.example.org", "/").is_none());
    }

    #[test]
    fn a_site_may_have_very_many_routes_and_regexes() {
        const ROUTES: usize = 20_000;
        let config = config::parse("large.toml", &large::text(1, ROUTES)).unwrap().config;
        let table =
            SiteTable::new(&config, &Upstreams::default(), &Limiters::default(), &ToolMaps::default());
        for sample in (0..ROUTES).step_by(999).map(|number| Sample::new(0, number)) {
            let matched = table.find("WWW.galaxy0.example.org:8080", &sample.path).unwrap();
            assert_eq!(key(matched.route), sample.key);
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
        let (routes, by) = table.find("", &path)?.route?;
        (!table.is_ambiguous("", raw, &path, routes)).then(|| key(Some((routes, by))).to_owned())
    }

    fn guarded() -> SiteTable {
        let config = config::parse("guarded.toml", GUARDED).unwrap().config;
        let upstreams = Upstreams::default();
        upstreams.apply(&config.upstreams, &Default::default(), &Metrics::new());
        SiteTable::new(&config, &upstreams, &Limiters::default(), &ToolMaps::default())
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
                    let found = table.find("", &reading).unwrap().route;
                    proptest::prop_assert_eq!(self::key(found), &key, "{} as {}", raw, reading);
                }
            }
        }
    }
}
