//! The routes of a site as bowshock reads them, found by path.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::super::{
    output::{Output, Section, Site},
    sample::samples_of,
};
use crate::{
    config::{self, PathPattern, RouteSettings},
    route::{PathMatch, Routes},
};

/// Routes of a site, with the settings that they inherit.
pub struct View {
    routes: Vec<RouteSettings>,
    lookup: Routes,
    /// Routes as `bowshock print` shows them, by key.
    printed: Table,
}

/// A route that was found for a path.
pub struct Found<'v> {
    /// The key.
    pub key: &'v str,
    /// Settings of its first alternative.
    pub settings: &'v RouteSettings,
    /// The route as printed: a table, or a list of alternatives.
    pub printed: &'v Value,
    /// Names of the values that the path gives, with their values.
    pub names: Vec<(String, String)>,
}

impl View {
    /// Reads a site, with every file that it names taken to be there. The other sites of `output` are left out. `None` if it
    /// cannot be read.
    pub fn read(output: &Output, site: &Site) -> Option<Self> {
        let has_tls = site.table.get("tls").is_some();
        let is_of_site = |section: &&Section| has_tls || section.table.get("tls").is_none();
        let alone = Output {
            sections: output.sections.iter().filter(is_of_site).cloned().collect(),
            sites: vec![site.clone()],
            upstreams: output.upstreams.clone(),
            ..Output::default()
        };
        let config = config::parse("bowshock.toml", &alone.text()).ok()?.config;
        let mut printed: Table = config::print(&config).parse().ok()?;
        let routes = config.sites.into_iter().next()?.routes;
        let first = printed.get_mut("site").and_then(Value::as_array_mut)?.first_mut()?.as_table_mut()?;
        let Some(Value::Table(printed)) = first.remove("routes") else { return None };
        Some(Self { lookup: Routes::new(routes.iter().map(|route| &route.pattern)), routes, printed })
    }

    /// Keys of the routes.
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|route| route.key.as_str())
    }

    /// The route for a path.
    pub fn find(&self, path: &str) -> Option<Found<'_>> {
        let found = self.lookup.find(path)?;
        let settings = self.routes.get(found.route)?;
        let mut names = vec![("path".to_owned(), path.to_owned())];
        match &found.by {
            PathMatch::Exact => {}
            PathMatch::Prefix(rest) => names.push(("rest".into(), (*rest).to_owned())),
            PathMatch::Regex(captures) => {
                let PathPattern::Regex(regex) = &settings.pattern else { return None };
                let value = |name: &str| captures.name(name).map_or("", |found| found.as_str()).to_owned();
                names.extend(regex.capture_names().flatten().map(|name| (name.to_owned(), value(name))));
            }
        }
        // Alternatives stand one behind the other.
        let first = self.routes.iter().find(|route| route.key == settings.key)?;
        Some(Found { key: &first.key, settings: first, printed: self.printed.get(&first.key)?, names })
    }
}

impl Found<'_> {
    /// Text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.printed.get(key).and_then(Value::as_str)
    }

    /// Whether the route serves files.
    pub fn is_files(&self) -> bool {
        self.printed.get("files").is_some()
    }

    /// Whether the route answers as if there were none.
    pub fn is_missing(&self) -> bool {
        self.printed.get("answer").and_then(Value::as_integer) == Some(404)
            && self.printed.get("body").is_none()
    }

    /// Files that are looked for, in order.
    pub fn files(&self) -> Vec<String> {
        let more = self.printed.get("try").and_then(Value::as_array).into_iter().flatten();
        let places = self.text("files").into_iter().chain(more.filter_map(Value::as_str));
        places.map(|place| self.filled(place) + self.rest()).collect()
    }

    /// Path that a server is asked for.
    pub fn path(&self) -> String {
        self.filled(self.text("path").unwrap_or("{path}"))
    }

    /// What a prefix leaves of the path, which is appended to directories.
    fn rest(&self) -> &str {
        self.names.iter().find(|(name, _)| name == "rest").map_or("", |(_, rest)| rest.trim_end_matches('/'))
    }

    fn filled(&self, text: &str) -> String {
        let fill =
            |text: String, (name, value): &(String, String)| text.replace(&format!("{{{name}}}"), value);
        self.names.iter().fold(text.to_owned(), fill)
    }
}

/// Paths of all routes of both, of plugins, and where routes that `ours` adds meet the others.
pub fn samples(plain: &View, ours: &View, prefix: &str) -> Vec<String> {
    let keys: BTreeSet<&str> = plain.keys().chain(ours.keys()).collect();
    let known: BTreeSet<&str> = plain.keys().collect();
    let mut paths: BTreeSet<String> = keys.iter().flat_map(|key| samples_of(key)).collect();
    for kind in ["visualizations", "interactive_environments", "webhooks"] {
        for name in ["charts", "jqplot_bar", "cytoscape"] {
            let files = ["script.js", "dist/a.css"];
            paths.extend(files.map(|file| format!("{prefix}/plugins/{kind}/{name}/static/{file}")));
        }
    }
    let added = keys.iter().filter(|key| key.starts_with('~') && !known.contains(*key));
    let added: Vec<String> = added.flat_map(|key| samples_of(key)).collect();
    let directories =
        known.iter().map(|key| key.trim_start_matches("^~ ")).filter(|key| key.starts_with('/'));
    for directory in directories.map(|path| path.trim_end_matches('/')) {
        let depth = directory.matches('/').count();
        for path in &added {
            // The path with its beginning replaced by the directory.
            let ends = path.match_indices('/').map(|(at, _)| at).skip(depth).take(2);
            paths.extend(ends.map(|at| format!("{directory}{}", &path[at..])));
        }
    }
    paths.into_iter().collect()
}

/// Whether expressions are not searched for paths of `old`, and are for those of `new` below it.
pub fn is_unsearched(old: &str, new: &str) -> bool {
    old.starts_with("^~ ") && new.starts_with('/')
}
