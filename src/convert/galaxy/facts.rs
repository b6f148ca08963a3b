//! What the routes of a site say about a Galaxy.

use super::super::{
    output::{Route, Site},
    toml::Table,
};

/// A Galaxy, by the routes of a site.
pub struct Facts {
    /// Galaxy's directory.
    pub root: String,
    /// Path below which it is served; empty at the root of the site.
    pub prefix: String,
    /// Name of its upstream.
    pub upstream: String,
    /// Name of the upstream of resumable uploads.
    uploads: Option<String>,
    /// Name of the upstream of the reports application.
    reports: Option<String>,
    /// File of the welcome page.
    welcome: Option<String>,
}

/// Keys of `[site.galaxy]` beyond those that it always has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Optional {
    /// `uploads`
    Uploads,
    /// `reports`
    Reports,
    /// `welcome`
    Welcome,
}

/// What the routes of a site say. `None` for a site without the static files of a Galaxy.
pub fn of(site: &Site) -> Option<Facts> {
    let mut found: Vec<(&str, &str)> = site.routes.iter().filter_map(statics).collect();
    found.sort_by_key(|(prefix, _)| prefix.len());
    found.into_iter().find_map(|(prefix, root)| {
        let key = if prefix.is_empty() { "/" } else { prefix };
        let upstream = upstream(site, key)?;
        is_galaxy(site, prefix, root).then(|| Facts {
            root: root.to_owned(),
            prefix: prefix.to_owned(),
            uploads: upstream_of(site, &format!("{prefix}/api/upload/resumable_upload"), &upstream),
            reports: upstream_of(site, &format!("{prefix}/reports"), &upstream),
            welcome: only(site, &format!("= {prefix}/static/welcome.html"))
                .and_then(|table| fixed(table, "files").map(str::to_owned)),
            upstream,
        })
    })
}

/// Prefix and root, of a route for `/static` below the prefix from `static` below the root.
fn statics(route: &Route) -> Option<(&str, &str)> {
    let key = route.key.trim_start_matches("^~ ");
    let prefix = key.strip_suffix("/static").filter(|_| key.starts_with('/'))?;
    let [only] = route.alternatives.as_slice() else { return None };
    let root = fixed(only, "files")?.strip_suffix("/static")?;
    (root.starts_with('/') && only.get("internal").is_none()).then_some((prefix, root))
}

/// A value without `{names}`.
fn fixed<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.text(key).filter(|text| !text.contains('{'))
}

/// The only alternative of a route.
fn only<'s>(site: &'s Site, key: &str) -> Option<&'s Table> {
    match site.routes.iter().find(|route| route.key == key)?.alternatives.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

/// The upstream that all alternatives of a route have.
fn upstream(site: &Site, key: &str) -> Option<String> {
    let route = site.routes.iter().find(|route| route.key == key)?;
    let mut names = route.alternatives.iter().filter_map(|table| table.text("proxy"));
    let first = names.next()?;
    names.all(|name| name == first).then(|| first.to_owned())
}

/// An upstream beside Galaxy's.
fn upstream_of(site: &Site, key: &str, galaxy: &str) -> Option<String> {
    only(site, key)?.text("proxy").filter(|name| *name != galaxy).map(str::to_owned)
}

/// Whether a site has something that only a Galaxy has: its plugins, its downloads, paths of its API. Other applications
/// have static files and a server, too.
fn is_galaxy(site: &Site, prefix: &str, root: &str) -> bool {
    let plugins = format!("{root}/config/plugins");
    let own = ["/api/upload/resumable_upload", "/api/job_files", "/api/jobs", "/api/dataset_collections"];
    let has_trait = site.routes.iter().any(|route| {
        let key = route.key.trim_start_matches(['=', '^', '~', '*', ' ']).trim_start_matches('^');
        let has_plugins = route
            .alternatives
            .iter()
            .any(|one| one.text("files").is_some_and(|files| files.starts_with(&plugins)));
        let is_download = key.starts_with(prefix) && key.ends_with("/_x_accel_redirect");
        let is_api = own.iter().any(|path| key.starts_with(&format!("{prefix}{path}")));
        has_plugins || is_download || is_api
    });
    has_trait || root.ends_with("/galaxy") || root.ends_with("/galaxy/server")
}

impl Facts {
    /// Optional keys that the site may have.
    pub fn optional(&self) -> Vec<Optional> {
        let all = [
            (Optional::Uploads, self.uploads.is_some()),
            (Optional::Reports, self.reports.is_some()),
            (Optional::Welcome, self.welcome.is_some()),
        ];
        all.into_iter().filter(|(_, is_there)| *is_there).map(|(key, _)| key).collect()
    }

    /// The key of the route that an optional key stands for.
    pub fn key_of(&self, optional: Optional) -> String {
        let prefix = &self.prefix;
        match optional {
            Optional::Uploads => format!("{prefix}/api/upload/resumable_upload"),
            Optional::Reports => format!("{prefix}/reports"),
            Optional::Welcome => format!("= {prefix}/static/welcome.html"),
        }
    }

    /// The keys of `[site.galaxy]`.
    pub fn table(&self, optional: &[Optional]) -> Table {
        let has = |key: Optional| optional.contains(&key);
        let mut table = Table::of("root", self.root.as_str());
        table.set("upstream", self.upstream.as_str());
        if !self.prefix.is_empty() {
            table.set("prefix", self.prefix.as_str());
        }
        table.set_some("uploads", self.uploads.clone().filter(|_| has(Optional::Uploads)));
        table.set_some("reports", self.reports.clone().filter(|_| has(Optional::Reports)));
        table.set_some("welcome", self.welcome.clone().filter(|_| has(Optional::Welcome)));
        table
    }
}
