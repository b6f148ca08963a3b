//! `[[site]]`: host names and routes.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    path::PathBuf,
};

use super::{
    access::{self, Access},
    acme::Acme,
    compress,
    diagnostic::{Problem, Span, show},
    headers,
    host::host,
    limit::Limits,
    model::{HostPattern, Route, Site},
    paths, pattern,
    read::{SITE, Value},
    route::{self, Inherited},
    tls,
    upstream::Upstreams,
};

const HOST: &str = "host = \"galaxy.example.org\"";
const ROUTES: &str = "[site.routes]\n\"/\" = { proxy = \"galaxy\" }";

/// Bytes; what most Galaxy servers allow for what is not a resumable upload.
const MAX_BODY: u64 = 1 << 30;

/// The host names taken so far, and where.
#[derive(Default)]
pub struct Hosts {
    names: HashMap<String, Span>,
    default: Option<Span>,
}

/// The names of one site as written, what they mean, and the places of all.
pub struct Names<'a> {
    /// Those of this site.
    pub read: Vec<(String, HostPattern)>,
    /// Where those of all sites stand.
    pub places: &'a HashMap<String, Span>,
}

/// Reads one `[[site]]`.
pub fn read(
    value: Value<'_>,
    hosts: &mut Hosts,
    upstreams: &Upstreams,
    limits: &Limits,
    authority: &Acme,
) -> Option<Site> {
    let mut table = value.table(&SITE, "[[site]]")?;
    let slip = table.unknown().next().is_some();
    let names = match table.take("host") {
        Some(value) => hosts.read(value)?,
        None => {
            hosts.take_default(value, slip);
            Vec::new()
        }
    };
    let inherited = Inherited {
        headers: table.optional("headers", headers::read).unwrap_or_default(),
        max_body: table.optional("max_body", Value::size).unwrap_or(Some(MAX_BODY)),
        compress: table.optional("compress", compress::read).flatten(),
        access: access::read(&mut table, &Access::default()),
        limits: table.optional("limits", |value| limits.named(value)).unwrap_or_default(),
    };
    let errors = table.optional("errors", errors).unwrap_or_default();
    let limit_rate = table.optional("limit_rate", Value::size).flatten();
    let names = Names { read: names, places: &hosts.names };
    let tls = table.optional("tls", |value| tls::read_site(value, &names, authority));
    let names = names.read;
    let redirect_https = table.optional("redirect_https", tls::read_redirect).flatten();
    let routes = match table.take("routes") {
        Some(value) => routes(value, &inherited, upstreams, limits),
        None if slip => Vec::new(),
        None => {
            let problem = Problem::new("a site without routes answers nothing", "needs `[site.routes]`");
            value.error(problem.help(format!("add below it:\n{ROUTES}")));
            Vec::new()
        }
    };
    table.finish();
    let name = names.first().map_or_else(|| "default".into(), |(name, _)| name.clone());
    let hosts = names.into_iter().map(|(_, host)| host).collect();
    Some(Site { name, hosts, errors, limit_rate, tls, redirect_https, routes })
}

impl Hosts {
    /// Reads `site.host`: names as written, and what they mean.
    fn read(&mut self, value: Value<'_>) -> Option<Vec<(String, HostPattern)>> {
        let items = match value.as_str() {
            Some(_) => vec![value],
            None => value.as_list().or_else(|| value.wanted("a string or a list of strings", HOST))?,
        };
        if items.is_empty() {
            let problem = Problem::new("`host` names no host", "empty");
            value.error(
                problem
                    .help(format!("write for example `{HOST}`, or take it out: the default site has none")),
            );
        }
        let mut names = Vec::new();
        for item in items {
            let Some(text) = item.string(HOST) else { continue };
            let host = |text: &str| host(text, &item.context.regexes);
            let Some(host) = item.parse(text, host) else { continue };
            let name = match &host {
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Suffix(suffix) => format!("*{suffix}"),
                HostPattern::Regex(_) => text.to_owned(),
            };
            match self.names.entry(name.clone()) {
                Entry::Occupied(first) => item.error(
                    Problem::new(format!("the host {} stands here twice", show(&name)), "again here")
                        .also(first.get().clone(), "first here")
                        .help("take one of them out, or put the routes of both into one site"),
                ),
                Entry::Vacant(free) => {
                    free.insert(item.span());
                }
            }
            names.push((name, host));
        }
        Some(names)
    }

    fn take_default(&mut self, site: Value<'_>, slip: bool) {
        match &self.default {
            // With a slip in a key, that may well have been `host`.
            _ if slip => {}
            Some(first) => site.error(
                Problem::new("two sites without `host`", "also for every name that no other site has")
                    .also(first.clone(), "the default site")
                    .help(format!("give one of them a name: `{HOST}`")),
            ),
            None => self.default = Some(site.span()),
        }
    }
}

/// Pages by the status of the error.
fn errors(value: Value<'_>) -> Option<BTreeMap<u16, PathBuf>> {
    let example = "errors = { 404 = \"/srv/galaxy/errors/404.html\" }";
    let status = |text: &str| match text.parse() {
        Ok(status @ 400..=599_u16) => Ok(status),
        _ => {
            let problem =
                Problem::new(format!("{} is not the status of an error", show(text)), "from 400 to 599");
            Err(problem.help(format!("write for example `{example}`")))
        }
    };
    let mut pages = BTreeMap::new();
    for (key, value) in value.entries(example)? {
        let page = value.string(example).and_then(|text| {
            let path = value.parse(text, |text| paths::absolute(text, "/srv/galaxy/errors"))?;
            paths::need_something(value, &path);
            Some(path)
        });
        pages.extend(key.read(status).zip(page));
    }
    Some(pages)
}

fn routes(value: Value<'_>, site: &Inherited, upstreams: &Upstreams, limits: &Limits) -> Vec<Route> {
    let Some(entries) = value.entries(ROUTES) else { return Vec::new() };
    if entries.is_empty() {
        let problem = Problem::new("a site without routes answers nothing", "empty");
        value.error(problem.help("write for example `\"/\" = { proxy = \"galaxy\" }`"));
    }
    let regexes = &value.context.regexes;
    let mut taken: HashMap<String, Span> = HashMap::new();
    let mut routes = Vec::new();
    for (key, value) in entries {
        let pattern = key.read(|text| pattern::path(text, regexes));
        if let Some(pattern) = &pattern {
            match taken.entry(pattern::identity(pattern, key.text)) {
                Entry::Occupied(first) => key.error(
                    Problem::new(
                        format!("two routes for the same paths: {}", show(first.key())),
                        "again here",
                    )
                    .also(first.get().clone(), "first here")
                    .help("take one of them out"),
                ),
                Entry::Vacant(free) => {
                    free.insert(key.span());
                }
            }
        }
        routes.extend(route::read(key, pattern, value, site, upstreams, limits));
    }
    routes
}
