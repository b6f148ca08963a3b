//! Everything a request needs of the configuration, in one immutable value that a reload replaces.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use http::StatusCode;
use tokio::sync::Mutex;

use super::{By, Hosts, Routes};
use crate::{
    config::{self, Action, Config},
    files,
    gate::{Https, Limiter, Limits},
    listen::SharedRate,
    observe::RouteMetrics,
    upstream::{Upstream, Upstreams},
};

/// All sites and their routes, ready for lookup.
#[derive(Default)]
pub struct Table {
    hosts: Hosts,
    sites: Vec<Routing>,
    /// Files that were asked for a moment ago; a new table begins with none.
    pub files: Arc<files::Cache>,
}

/// A site, and its routes by their numbers.
struct Routing {
    site: Arc<Site>,
    routes: Routes,
    table: Vec<Arc<Route>>,
}

/// What all routes of a site have in common.
pub struct Site {
    /// Its name in logs and metrics.
    pub name: String,
    /// Its pages for errors.
    pub errors: ErrorPages,
    /// What it asks of connections.
    pub(crate) https: Https,
}

/// A site's own pages for errors.
pub struct ErrorPages {
    pages: BTreeMap<u16, PathBuf>,
    /// Where files are found open.
    pub files: Arc<files::Cache>,
    /// Whoever opens one has it: a file system that hangs keeps one thread for ever, and not all of them.
    pub turn: Arc<Mutex<()>>,
    /// The last try to open one came to nothing.
    pub trouble: AtomicBool,
}

impl ErrorPages {
    /// The page for this status.
    pub fn page(&self, status: StatusCode) -> Option<&Path> {
        self.pages.get(&status.as_u16()).map(PathBuf::as_path)
    }
}

/// A route with the upstream it names.
pub struct Route {
    /// The site that it is one of.
    pub site: Arc<Site>,
    /// What the configuration says.
    pub settings: config::Route,
    /// For `proxy`: where to.
    pub upstream: Option<Arc<Upstream>>,
    /// The limits that hold for it.
    pub limits: Vec<Arc<Limiter>>,
    /// What it counts, from the first request on.
    pub metrics: OnceLock<RouteMetrics>,
    /// The rate that all answers of its site share.
    pub shared_rate: Option<Arc<SharedRate>>,
}

/// What was found for a request.
pub struct Matched<'t, 'p> {
    /// The site.
    pub site: &'t Arc<Site>,
    /// The route, and how its pattern matched; `None` when the site has no route for the path.
    pub route: Option<(&'t Arc<Route>, By<'p>)>,
}

impl Table {
    /// Arranges the sites of `config`; `upstreams` and `limits` have taken over the same configuration already.
    pub fn new(config: &Config, upstreams: &Upstreams, limits: &Limits) -> Self {
        let files: Arc<files::Cache> = Arc::default();
        let encrypted = config.listen.iter().filter(|listen| listen.tls.is_some());
        let port = encrypted.filter_map(|listen| listen.address.port()).next();
        let sites = config.sites.iter().map(|site| {
            let (pages, turn) = (site.errors.clone(), Arc::default());
            let errors =
                ErrorPages { pages, files: Arc::clone(&files), turn, trouble: AtomicBool::new(false) };
            let https = Https::new(site, port);
            let common = Arc::new(Site { name: site.name.clone(), errors, https });
            let shared_rate = site.limit_rate.map(SharedRate::new);
            let route = |settings: &config::Route| {
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
            hosts: Hosts::new(config.sites.iter().map(|site| site.hosts.as_slice())),
            sites: sites.collect(),
            files,
        }
    }

    /// The routes with files that only the application can use, of the site for a `Host`.
    pub fn internal_files(&self, host: &str) -> impl Iterator<Item = &config::Files> {
        let site = self.hosts.find(host).map(|place| &self.sites[place]);
        site.into_iter().flat_map(|site| &site.table).filter_map(|route| match &route.settings.action {
            Action::Files(files) if route.settings.internal => Some(files),
            _ => None,
        })
    }

    /// The site for a `Host`, and its route for a normalized path; `None` when no site answers for the host.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Option<Matched<'_, 'p>> {
        let site = &self.sites[self.hosts.find(host)?];
        let found = site.routes.find(path);
        Some(Matched { site: &site.site, route: found.map(|found| (&site.table[found.route], found.by)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        benching::large::{self, Sample},
        route::normalize,
    };

    #[test]
    fn among_very_many_sites_and_routes_each_is_found() {
        const SITES: usize = 1000;
        const ROUTES: usize = 20;
        let config = config::parse("large.toml", &large::text(SITES, ROUTES)).unwrap().config;
        let table = Table::new(&config, &Upstreams::default(), &Limits::default());
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
        let table = Table::new(&config, &Upstreams::default(), &Limits::default());
        for sample in (0..ROUTES).step_by(999).map(|number| Sample::new(0, number)) {
            let matched = table.find("WWW.galaxy0.example.org:8080", &sample.path).unwrap();
            assert_eq!(matched.route.unwrap().0.settings.key, sample.key);
        }
    }
}
