//! The routes of a Galaxy site, as they would be written by hand.

use std::path::Path;

use super::{
    Welcome,
    facts::{Galaxy, Uploads},
    tools::{Tools, ToolsBy, written},
};
use crate::config::{
    print::{Pairs, list, path, quote, strings},
    template::Template,
};

/// A route to be made.
pub struct Planned {
    /// Reason for the route.
    pub comment: String,
    /// The key; one by which no two patterns are the same.
    pub key: String,
    /// The table in braces.
    pub value: String,
    /// Directory in which all paths of an expression begin.
    pub below: Option<String>,
}

impl Planned {
    fn new(comment: &str, key: impl Into<String>, value: &Pairs) -> Self {
        Self { comment: comment.into(), key: key.into(), value: value.braces(), below: None }
    }

    fn below(self, directory: impl Into<String>) -> Self {
        Self { below: Some(directory.into()), ..self }
    }
}

/// The routes, in the order in which `print` shows them.
pub fn plan(galaxy: &Galaxy) -> Vec<Planned> {
    let mut routes = vec![Planned::new(
        "Galaxy itself. Some of its responses take minutes to begin.",
        if galaxy.prefix.is_empty() { "/" } else { &galaxy.prefix },
        &proxy(&galaxy.upstream).named("read_timeout", quote("10m")),
    )];
    if !galaxy.prefix.is_empty() {
        let target = Pairs::default().named("redirect", quote(&format!("{}/", galaxy.prefix)));
        routes.push(Planned::new(
            "Relative links start below the prefix.",
            format!("= {}", galaxy.prefix),
            &target,
        ));
    }
    statics(galaxy, &mut routes);
    plugins(galaxy, &mut routes);
    downloads(galaxy, &mut routes);
    long(galaxy, &mut routes);
    uploads(galaxy, &mut routes);
    if let Some((place, upstream)) = &galaxy.reports {
        let value = proxy(upstream).named("path", quote("{rest}")).named("rewrite_location", "false".into());
        routes.push(Planned::new(
            "The reports application, which knows the prefix that is taken off here.",
            place,
            &value,
        ));
    }
    if let Some(Tools { by: ToolsBy::Map(map), path, .. }) = &galaxy.tools {
        let comment = "Interactive tools that need no host name of their own.";
        routes.push(Planned::new(comment, path, &unbounded(by_map(&written(map)))));
    }
    if !galaxy.origins.is_empty() {
        let cors = Pairs::default()
            .named("origins", strings(&galaxy.origins))
            .named("methods", strings(["GET"]))
            .named("credentials", "true".into())
            .named("max_age", quote("1d"));
        let value = proxy(&galaxy.upstream).named("cors", cors.braces());
        let key = format!("~ ^{}/authnz/[^/]+/login$", regex::escape(&galaxy.prefix));
        let comment =
            "A login that pages of `allowed_origin_hostnames` may begin, with the cookies of their users.";
        routes.push(Planned::new(comment, key, &value).below(format!("{}/authnz", galaxy.prefix)));
    }
    routes
}

/// The route of a site for interactive tools.
pub fn tools(by: &ToolsBy) -> Planned {
    let upstream = match by {
        ToolsBy::Upstream(name) => name,
        ToolsBy::Map(map) => {
            let value = by_map(&written(map)).named("max_body", quote("none"));
            return Planned::new("Interactive tools, by Galaxy's map.", "/", &value);
        }
    };
    // gx-it-proxy may believe them about where a tool is.
    let removed = ["X-Interactive-Tool-Host", "X-Interactive-Tool-Port"];
    let headers = removed.into_iter().fold(Pairs::default(), |pairs, name| pairs.named(name, "false".into()));
    let value = proxy(upstream)
        .named("request_headers", headers.braces())
        .named("cache", quote("none"))
        .named("read_timeout", quote("1h"))
        .named("max_body", quote("none"));
    Planned::new("Interactive tools, by gx-it-proxy.", "/", &value)
}

fn by_map(map: &str) -> Pairs {
    Pairs::default().named("interactive_tools", quote(map))
}

fn proxy(upstream: &str) -> Pairs {
    Pairs::default().named("proxy", quote(upstream))
}

/// Files that clients keep for a day, and that no limit counts.
fn files(place: &Path) -> Pairs {
    lasting(Pairs::default().named("files", quote(&fixed(place))))
}

/// A path in a text that may have `{names}`.
fn fixed(place: &Path) -> String {
    Template::text(&place.to_string_lossy()).to_string()
}

fn lasting(pairs: Pairs) -> Pairs {
    pairs.named("expires", quote("24h")).named("limit", quote("none"))
}

fn statics(galaxy: &Galaxy, routes: &mut Vec<Planned>) {
    let prefix = &galaxy.prefix;
    let statics = &galaxy.statics;
    let mut add = |comment: &str, key: String, value: &Pairs| routes.push(Planned::new(comment, key, value));
    let precompressed = |pairs: Pairs| pairs.named("precompressed", "true".into());
    if let Some(directory) = &statics.directory {
        add("The web client.", format!("{prefix}/static"), &precompressed(files(directory)));
        if !statics.has_dist {
            let value = proxy(&galaxy.upstream).named("limit", quote("none"));
            add(
                "The built client, of a package that Galaxy has installed.",
                format!("{prefix}/static/dist"),
                &value,
            );
        }
    }
    for (at, directory) in &statics.elsewhere {
        add(
            "A part of the web client that is elsewhere.",
            format!("{prefix}{at}"),
            &precompressed(files(directory)),
        );
    }
    if let Some(file) = &statics.favicon {
        add("The icon of the site.", format!("= {prefix}/favicon.ico"), &files(file));
    }
    if let Some(file) = &statics.robots {
        add(
            "What crawlers may read; they ask at the root of the site.",
            "= /robots.txt".into(),
            &files(file),
        );
    }
    if let Some(value) = welcome(galaxy) {
        let key = format!("= {prefix}/static/welcome.html");
        routes.push(Planned {
            value,
            ..Planned::new("The page in the middle of the start page.", key, &Pairs::default())
        });
    }
}

fn welcome(galaxy: &Galaxy) -> Option<String> {
    let usual = galaxy.statics.welcome.as_deref();
    match &galaxy.welcome {
        None => usual.map(|file| page(file).braces()),
        Some(Welcome::All(file)) => Some(page(file).braces()),
        Some(Welcome::ByHost(pages)) => {
            let when = |host: &str| {
                let test = quote(&format!("~* ^{}(:[0-9]+)?$", regex::escape(host)));
                let headers = Pairs::default().named("host", test);
                Pairs::default().named("headers", headers.braces()).braces()
            };
            let of_host = pages.iter().map(|(host, file)| page(file).named("when", when(host)).braces());
            let other = usual.map_or_else(|| proxy(&galaxy.upstream), page);
            Some(list(of_host.chain([other.braces()])))
        }
    }
}

/// A page that an admin may change at any time.
fn page(file: &Path) -> Pairs {
    let types = Pairs::default().named("sample", quote("text/html"));
    let pairs = Pairs::default().named("files", quote(&fixed(file)));
    match file.extension().is_some_and(|end| end == "sample") {
        true => pairs.named("types", types.braces()),
        false => pairs,
    }
    .named("limit", quote("none"))
}

fn plugins(galaxy: &Galaxy, routes: &mut Vec<Planned>) {
    let prefix = &galaxy.prefix;
    let start = regex::escape(prefix);
    // A plugin may stand in a directory of its group, whose name is the start of its own: `jqplot/jqplot_bar`.
    let name = "(?<name>(?<group>[^/_]+)[^/]*)/static/(?<file>.+)$";
    let places = |directory: &str| {
        let place = |end: &str| format!("{directory}/{end}/static/{{file}}");
        [place("{name}"), place("{group}/{name}"), place("{group}")]
    };
    let mut add = |comment: &str, kind: &str, tried: &[String]| {
        let Some((first, rest)) = tried.split_first() else { return };
        let value = Pairs::default().named("files", quote(first)).named("try", strings(rest));
        let key = format!("~ ^{start}/plugins/{kind}/{name}");
        routes.push(Planned::new(comment, key, &lasting(value)).below(format!("{prefix}/plugins")));
    };
    if !galaxy.plugins.visualizations.is_empty() {
        let mut tried: Vec<String> = Vec::new();
        let own = galaxy.plugins.all.iter().map(|all| all.join("visualizations"));
        for directory in galaxy.plugins.visualizations.iter().cloned().chain(own) {
            tried.extend(places(&fixed(&directory)));
        }
        add("Files of visualizations, the site's own before Galaxy's.", "visualizations", &tried);
    }
    if let Some(all) = &galaxy.plugins.all {
        let tried = places(&format!("{}/{{kind}}", fixed(all)));
        add("Files of plugins.", "(?<kind>[^/]+)", &tried);
    }
}

fn downloads(galaxy: &Galaxy, routes: &mut Vec<Planned>) {
    let internal = |root: String, within: String| {
        Pairs::default().named("files", root).named("internal", "true".into()).named("within", within)
    };
    if let Some(base) = &galaxy.accel {
        let within = list(galaxy.data.iter().map(|directory| path(directory)));
        routes.push(Planned::new(
            "Downloads: Galaxy names the file (X-Accel-Redirect), which is sent from here. Nothing outside of `within` is.",
            base,
            &internal(quote("/"), within),
        ));
    }
    for directory in &galaxy.archived {
        routes.push(Planned::new(
            "Archives: Galaxy lists their members by path, and they are packed here.",
            directory.to_string_lossy(),
            &internal(quote(&fixed(directory)), list([path(directory)])),
        ));
    }
}

fn long(galaxy: &Galaxy, routes: &mut Vec<Planned>) {
    let prefix = &galaxy.prefix;
    let start = regex::escape(prefix);
    let lasting = |time: &str| proxy(&galaxy.upstream).named("read_timeout", quote(time));
    routes.push(Planned::new(
        "One event stream for each open tab, silent for minutes.",
        format!("{prefix}/api/events/stream"),
        &lasting("1h").named("compress", "false".into()),
    ));
    routes.push(
        Planned::new(
            "Collections, histories and libraries as archives, if Galaxy packs them itself.",
            format!(
                "~ ^{start}/api/(dataset_collections/[^/]+/download|histories/[^/]+/(contents/archive|contents/dataset_collections/[^/]+/download|exports/)|libraries/datasets/download/)"
            ),
            &lasting("20m"),
        ),
    );
    routes.push(
        Planned::new(
            "Files of remote jobs (Pulsar), of any size.",
            format!("~ ^{start}/api/jobs/[^/]+/files"),
            &unbounded(lasting("20m")),
        )
        .below(format!("{prefix}/api/jobs")),
    );
}

/// Bodies of any size, and as many as come.
fn unbounded(pairs: Pairs) -> Pairs {
    pairs.named("max_body", quote("none")).named("limit", quote("none"))
}

fn uploads(galaxy: &Galaxy, routes: &mut Vec<Planned>) {
    let mut add = |place: &str, comment: &str, tusd: &Option<Uploads>| {
        let value = match tusd {
            None => proxy(&galaxy.upstream),
            Some(tusd) => proxy(&tusd.upstream)
                .named("path", quote(&format!("{}{{rest}}", fixed(Path::new(&tusd.base))))),
        };
        let value = unbounded(value.named("read_timeout", quote("10m")));
        routes.push(Planned::new(comment, format!("{}{place}", galaxy.prefix), &value));
    };
    add(
        "/api/upload/resumable_upload",
        "Resumable uploads (tus), in pieces; the whole has no limit.",
        &galaxy.uploads,
    );
    add("/api/job_files/resumable_upload", "The same for results of remote jobs.", &galaxy.job_uploads);
}
