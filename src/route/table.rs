//! Everything a request needs of the configuration, in one immutable value that a reload replaces.

use std::sync::Arc;

use super::{By, Hosts, Routes};
use crate::{
    config::{self, Action, Config},
    files,
    listen::SharedRate,
    upstream::{Upstream, Upstreams},
};

/// All sites and their routes, ready for lookup.
#[derive(Default)]
pub struct Table {
    hosts: Hosts,
    sites: Vec<Site>,
    /// Files that were asked for a moment ago; a new table begins with none.
    pub files: Arc<files::Cache>,
}

struct Site {
    name: Arc<str>,
    routes: Routes,
    table: Vec<Arc<Route>>,
}

/// A route with the upstream it names.
pub struct Route {
    /// What the configuration says.
    pub settings: config::Route,
    /// For `proxy`: where to.
    pub upstream: Option<Arc<Upstream>>,
    /// The rate that all answers of its site share.
    pub shared_rate: Option<Arc<SharedRate>>,
}

/// What was found for a request.
pub struct Matched<'t, 'p> {
    /// The name of the site.
    pub site: &'t Arc<str>,
    /// The route, and how its pattern matched; `None` when the site has no route for the path.
    pub route: Option<(Arc<Route>, By<'p>)>,
}

impl Table {
    /// Arranges the sites of `config`; `upstreams` has taken over the same configuration already.
    pub fn new(config: &Config, upstreams: &Upstreams) -> Self {
        let sites = config.sites.iter().map(|site| {
            let name: Arc<str> = site.name.as_str().into();
            let shared_rate = site.limit_rate.map(SharedRate::new);
            let route = |settings: &config::Route| {
                let upstream = match &settings.action {
                    Action::Proxy(upstream) => upstreams.find(upstream),
                    Action::Files(_) | Action::Redirect { .. } | Action::Answer { .. } => None,
                };
                Arc::new(Route { settings: settings.clone(), upstream, shared_rate: shared_rate.clone() })
            };
            Site {
                routes: Routes::new(site.routes.iter().map(|route| &route.pattern)),
                table: site.routes.iter().map(route).collect(),
                name,
            }
        });
        Self {
            hosts: Hosts::new(config.sites.iter().map(|site| site.hosts.as_slice())),
            sites: sites.collect(),
            files: Arc::default(),
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
        Some(Matched {
            site: &site.name,
            route: found.map(|found| (Arc::clone(&site.table[found.route]), found.by)),
        })
    }
}
