//! From `[site.galaxy]` to routes, upstreams and a site for interactive tools.

use std::collections::{BTreeMap, btree_map::Entry};

use toml::de::DeTable;

use super::{
    facts::{self, Galaxy},
    file::place_of,
    routes::{self, Planned},
    written,
};
use crate::config::{
    diagnostic::{Diagnostic, Problem},
    host::{self, HostPattern},
    pattern::{self, PathPattern},
    print::quote,
    read::Value,
    route::{Action, RouteSettings, SiteScope},
    site::{self, Hosts, SiteSettings},
    upstream::UpstreamTable,
};

/// What `[site.galaxy]` makes.
pub struct Expansion<'a> {
    value: Value<'a>,
    galaxy: Galaxy,
}

/// Routes, and the reason for each by its key.
#[derive(Default)]
struct Made {
    routes: Vec<RouteSettings>,
    comments: BTreeMap<String, String>,
}

/// Reads `[site.galaxy]` and the files that it names. The upstreams that it makes can then be used by all routes.
pub fn read<'a>(value: Value<'a>, upstreams: &UpstreamTable) -> Option<Expansion<'a>> {
    let galaxy = written(value).and_then(|written| facts::read(&written, upstreams));
    if galaxy.is_none() {
        // What is wrong is noted. That routes use its upstream is not wrong as well.
        upstreams.make(value.context, "galaxy", Vec::new());
    }
    galaxy.map(|galaxy| Expansion { value, galaxy })
}

impl Expansion<'_> {
    /// Adds routes to the site, except those that it has by hand, and a site for interactive tools.
    pub fn extend(
        &self,
        mut site: SiteSettings,
        taken: &mut Hosts,
        scope: &SiteScope<'_>,
    ) -> Vec<SiteSettings> {
        let tools = self.tools(&site, taken, scope).map(|(hosts, made)| SiteSettings {
            name: hosts.first().map(host::written).unwrap_or_default(),
            hosts,
            routes: made.routes,
            comments: made.comments,
            ..site.clone()
        });
        let is_free = |one: &Planned| !site.routes.iter().any(|route| replaces(route, one));
        let planned = routes::plan(&self.galaxy).into_iter().filter(is_free).collect();
        let Made { routes, comments } = self.made(planned, scope);
        self.warn_of_open_routes(&site.routes, &routes);
        site.routes.extend(routes);
        site.comments = comments;
        [Some(site), tools].into_iter().flatten().collect()
    }

    /// Hosts and routes of a site for interactive tools, if there are any: `*.ep.PREFIX.HOST` for each exact host that no
    /// site of the file has.
    fn tools(
        &self,
        site: &SiteSettings,
        taken: &mut Hosts,
        scope: &SiteScope<'_>,
    ) -> Option<(Vec<HostPattern>, Made)> {
        let tools = self.galaxy.tools.as_ref()?;
        let exact = site.hosts.iter().filter_map(|host| match host {
            HostPattern::Exact(host) => Some(host),
            HostPattern::Suffix(_) | HostPattern::Regex(_) => None,
        });
        let names: Vec<&String> = exact.chain(tools.host.iter().filter(|_| site.hosts.is_empty())).collect();
        if names.is_empty() {
            let problem = Problem::new(
                "interactive tools need the name of the site",
                "no host name to put theirs below",
            );
            self.warn(problem.help("add `host = \"galaxy.example.org\"` to the site"));
        }
        let hosts = names.iter().filter_map(|name| {
            let suffix = format!(".ep.{}.{name}", tools.prefix);
            taken.take(&format!("*{suffix}"), self.value.span()).then_some(HostPattern::Suffix(suffix))
        });
        let hosts: Vec<HostPattern> = hosts.collect();
        let first = host::written(hosts.first()?);
        if site.tls.as_ref().is_some_and(|tls| tls.acme.is_some()) {
            let problem = Problem::new(
                "interactive tools need a certificate for a wildcard",
                "the CA of `tls` gives none",
            );
            self.warn(problem.help(format!(
                "write a site for them by hand, with `tls = {{ cert = …, key = … }}`:\n[[site]]\nhost = {first:?}"
            )));
            return None;
        }
        Some((hosts, self.made(vec![routes::tools(&tools.by)], scope)))
    }

    /// Warns where `/` asks for a login and a route that is made here does not: it takes precedence over `/`.
    fn warn_of_open_routes(&self, by_hand: &[RouteSettings], made: &[RouteSettings]) {
        let is_root = |route: &&RouteSettings| {
            matches!(&route.pattern, PathPattern::Prefix { path, .. } if path == "/") && route.auth.is_some()
        };
        let is_open =
            |route: &&RouteSettings| matches!(route.action, Action::Proxy(_)) && route.auth.is_none();
        let (Some(root), Some(open)) = (by_hand.iter().find(is_root), made.iter().find(is_open)) else {
            return;
        };
        let title = format!("`auth` of {} does not hold for the routes that are made here", quote(&root.key));
        let problem = Problem::new(title, format!("{} is open to everybody", quote(&open.key)));
        self.warn(
            problem.help("write `auth` on the site, and `auth = \"none\"` on routes that are to be open"),
        );
    }

    fn warn(&self, problem: Problem) {
        self.value.context.warn(self.value.span(), problem);
    }

    /// Reads routes as any others. They were made of values that are checked, so an error here is about a value that no
    /// route can have, such as a brace in the name of a directory.
    fn made(&self, planned: Vec<Planned>, scope: &SiteScope<'_>) -> Made {
        let mut comments = BTreeMap::new();
        let mut text = "[routes]\n".to_owned();
        for one in planned {
            // Two directories of datasets may have one name; the first is the more general.
            if let Entry::Vacant(free) = comments.entry(one.key) {
                text += &format!("{} = {}\n", quote(free.key()), one.value);
                free.insert(one.comment);
            }
        }
        let nested = self.value.context.nested(&text);
        let table = DeTable::parse(&text);
        let Some(value) = table.as_ref().ok().and_then(|table| table.get_ref().get("routes")) else {
            let problem = Problem::new("the routes of `[site.galaxy]` cannot be written in TOML", "here");
            self.value.error(problem);
            return Made::default();
        };
        let routes = site::routes(Value::new(&nested, "routes", "", value), scope);
        // One value may be part of many routes.
        let mut titles: Vec<String> = Vec::new();
        for found in nested.into_found() {
            if !titles.contains(&found.problem.title) {
                titles.push(found.problem.title.clone());
                self.note(&text, found);
            }
        }
        Made { routes, comments }
    }

    /// Notes a problem of a route that was made, with that route.
    fn note(&self, text: &str, found: Diagnostic) {
        let start = found.span.map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = text.lines().nth(before.matches('\n').count()).unwrap_or_default();
        let place = place_of(self.value);
        let title = format!("a route of `[site.galaxy]` is not valid: {}", found.problem.title);
        let problem = Problem::new(title, "makes the route");
        let help = found.problem.help.map(|help| format!("\n{help}")).unwrap_or_default();
        let problem = problem.help(format!("the route is: {line}{help}"));
        self.value.context.note_at(found.severity, &place, problem);
    }
}

/// Whether a route of the file stands in place of one that would be made: it has the same key, or is for a directory in
/// which the expression of the other one begins, as an expression would take precedence over it.
fn replaces(route: &RouteSettings, planned: &Planned) -> bool {
    match (&route.pattern, &planned.below) {
        (PathPattern::Prefix { path, .. }, Some(below)) => path == below,
        _ => pattern::identity(&route.pattern, &route.key) == planned.key,
    }
}
