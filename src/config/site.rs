//! `[[site]]`: host names and routes.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    path::PathBuf,
    sync::Arc,
};

use super::{
    access::{self, Access},
    acme::Acme,
    compress::{self, Compress},
    diagnostic::{self, Problem, Span},
    headers::{self, Headers},
    host::{self, HostPattern, host},
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{self, Of, SIZE, Shaped},
    },
    limit::{self, Limits},
    paths, pattern,
    print::{Out, Pairs, path, quote, strings},
    read::Value,
    route::{self, Inherited, RouteSettings},
    tls::{self, RedirectHttps, Tls},
    upstream::UpstreamTable,
};

/// `[[site]]`
#[derive(Debug, Clone)]
pub struct SiteSettings {
    /// The first host as written, or `default`; the `site` label of metrics.
    pub name: String,
    /// Host names of the site; empty for the default site.
    pub hosts: Vec<HostPattern>,
    /// Error pages that replace the proxy's own, by status.
    pub errors: BTreeMap<u16, PathBuf>,
    /// Bytes per second of all responses of the site together, shared evenly among them.
    pub limit_rate: Option<u64>,
    /// Certificate.
    pub tls: Option<Tls>,
    /// Redirects from HTTP to HTTPS.
    pub redirect_https: Option<RedirectHttps>,
    /// Routes, in the order of the file.
    pub routes: Vec<RouteSettings>,
}

/// The keys of `[[site]]`.
pub static KEYS: Keys = Keys {
    title: "`[[site]]`",
    place: "[[site]]\n…",
    about: "Host names and their routes. Settings of a site for headers, bodies, compression, clients and limits \
            apply to its routes, unless a route has its own.",
    groups: &[
        &[&HOST, &ROUTES, &HEADERS, &ERRORS, &MAX_BODY, &LIMIT_RATE],
        access::KEYS,
        &[&LIMITS, &TLS, &REDIRECT_HTTPS, &COMPRESS],
    ],
    later: &["galaxy"],
};

static HOST: Optional<Shaped> = Key {
    name: "host",
    kind: Shaped(|| Shape::one_or_more(|| Shape::Text(NAME))),
    default: Unset("every name that no other site has"),
    about: "Names in Host that the site serves. An exact name takes precedence over `*.`, and that over a regular \
            expression.",
    example: "host = [\"galaxy.example.org\", \"*.galaxy.example.org\"]",
};

static ROUTES: Required<Shaped> = Key {
    name: "routes",
    kind: Shaped(|| Shape::Table(&route::KEYS).by("PATH")),
    default: Needed,
    about: "Routes by path, in the syntax of nginx's `location` and with its precedence: `\"/prefix\"` (of whole \
            segments), `\"= /exact\"`, `\"^~ /prefix\"` (before regular expressions), `\"~ regex\"`, and `\"~* \
            regex\"` in any case.",
    example: "routes = { \"/\" = { answer = 204 } }",
};

static HEADERS: Optional<Of<Headers>> = Key {
    name: "headers",
    kind: headers::KIND,
    default: Unset("none"),
    about: "Headers that are set on every response, errors included. A route adds its own, and replaces those of the \
            same name.",
    example: "headers = { X-Frame-Options = \"SAMEORIGIN\" }",
};

static ERRORS: Optional<Of<BTreeMap<u16, PathBuf>>> = Key {
    name: "errors",
    kind: Of {
        shape: || Shape::Text(kind::FILE).by("STATUS"),
        read: errors,
        show: |pages| show_errors(pages),
    },
    default: Unset("short pages of the proxy"),
    about: "Files that are sent in place of the proxy's own error pages, by status from 400 to 599.",
    example: "errors = { 404 = \"/srv/galaxy/errors/404.html\" }",
};

static MAX_BODY: Defaulted<Of<Option<u64>>> = Key {
    name: "max_body",
    kind: SIZE,
    default: Is(|| Some(1 << 30)),
    about: "Largest request body in bytes (nginx's `client_max_body_size`). A larger one gets 413. Resumable uploads \
            arrive in pieces, and each piece is checked by itself.",
    example: "max_body = \"10g\"",
};

static LIMIT_RATE: Optional<Of<Option<u64>>> = Key {
    name: "limit_rate",
    kind: SIZE,
    default: Unset("no limit"),
    about: "Bytes per second of all responses of the site together, shared evenly among them.",
    example: "limit_rate = \"100m\"",
};

static LIMITS: Optional<Shaped> = Key {
    name: "limits",
    kind: Shaped(limit::names_shape),
    default: Unset("none"),
    about: "Names of `[limit.NAME]` that apply to requests, all of them.",
    example: "limits = [\"api\"]",
};

static TLS: Optional<Shaped> = Key {
    name: "tls",
    kind: Shaped(|| Shape::Table(&tls::KEYS)),
    default: Unset("HTTP only"),
    about: "The certificate of the site.",
    example: "host = \"galaxy.example.org\"\ntls = { acme = \"admin@example.org\" }",
};

static REDIRECT_HTTPS: Defaulted<Of<Option<RedirectHttps>>> = Key {
    name: "redirect_https",
    kind: Of {
        shape: || Shape::Either(vec![Shape::Boolean, Shape::Table(&tls::REDIRECT_KEYS)]),
        read: tls::read_redirect,
        show: tls::show_redirect,
    },
    default: Is(|| None),
    about: "Requests over HTTP are redirected to HTTPS; a table adds HSTS. Behind another proxy that is listed in \
            `trust`, its X-Forwarded-Proto says what the client used.",
    example: "host = \"galaxy.example.org\"\ntls = { acme = \"admin@example.org\" }\nredirect_https = { hsts = \"365d\" }",
};

static COMPRESS: Defaulted<Of<Option<Arc<Compress>>>> = compress::key(Is(|| None));

const HOST_EXAMPLE: &str = "host = \"galaxy.example.org\"";

const NAME: TextShape =
    TextShape { what: "host name, `\"*.example.org\"` for all below it, or `\"~REGEX\"`", pattern: "" };

/// Host names in use so far, with their places in the file.
#[derive(Default)]
pub struct Hosts {
    names: HashMap<String, Span>,
    default: Option<Span>,
}

/// Host names of one site as written, their patterns, and the places of the names of all sites.
pub struct Names<'a> {
    /// Names of this site, with their patterns.
    pub read: Vec<(String, HostPattern)>,
    /// Places of the names of all sites.
    pub places: &'a HashMap<String, Span>,
}

/// Reads one `[[site]]`.
pub fn read(
    value: Value<'_>,
    hosts: &mut Hosts,
    upstreams: &UpstreamTable,
    limits: &Limits,
    authority: &Acme,
) -> Option<SiteSettings> {
    let mut table = value.table(&KEYS)?;
    let has_unknown_key = table.unknown().next().is_some();
    let names = match table.take(&HOST) {
        Some(value) => hosts.read(value)?,
        None => {
            hosts.take_default(value, has_unknown_key);
            Vec::new()
        }
    };
    let inherited = Inherited {
        headers: table.optional(&HEADERS).unwrap_or_default(),
        max_body: table.read(&MAX_BODY),
        compress: table.read(&COMPRESS),
        access: access::read(&mut table, &Access::default()),
        limits: table.take(&LIMITS).and_then(|value| limits.named(value)).unwrap_or_default(),
    };
    let errors = table.optional(&ERRORS).unwrap_or_default();
    let limit_rate = table.optional(&LIMIT_RATE).flatten();
    let names = Names { read: names, places: &hosts.names };
    let tls = table.take(&TLS).and_then(|value| tls::read_site(value, &names, authority));
    let names = names.read;
    let redirect_https = table.read(&REDIRECT_HTTPS);
    let routes = match table.take(&ROUTES) {
        Some(value) => routes(value, &inherited, upstreams, limits),
        None if has_unknown_key => Vec::new(),
        None => {
            let problem = Problem::new("a site without routes serves nothing", "needs `[site.routes]`");
            value.error(problem.help("add below it:\n[site.routes]\n\"/\" = { proxy = \"galaxy\" }"));
            Vec::new()
        }
    };
    table.finish();
    let name = names.first().map_or_else(|| "default".into(), |(name, _)| name.clone());
    let hosts = names.into_iter().map(|(_, host)| host).collect();
    Some(SiteSettings { name, hosts, errors, limit_rate, tls, redirect_https, routes })
}

/// Writes a `[[site]]` and its routes. Settings that a route inherits are written in the route.
pub fn show(out: &mut Out, site: &SiteSettings) {
    let hosts = (!site.hosts.is_empty()).then(|| strings(site.hosts.iter().map(host::written)));
    let pairs = Pairs::default()
        .written_if(&HOST, hosts)
        .optional(&ERRORS, Some(&site.errors).filter(|pages| !pages.is_empty()))
        .optional(&LIMIT_RATE, site.limit_rate.map(Some).as_ref())
        .written_if(&TLS, site.tls.as_ref().map(|tls| tls::pairs(tls).braces()));
    let pairs = match &site.redirect_https {
        Some(_) => pairs.key(&REDIRECT_HTTPS, &site.redirect_https),
        None => pairs,
    };
    out.table("[[site]]", &pairs);
    let routes = site
        .routes
        .iter()
        .fold(Pairs::default(), |pairs, route| pairs.named(quote(&route.key), route::pairs(route).braces()));
    out.table("[site.routes]", &routes);
}

fn show_errors(pages: &BTreeMap<u16, PathBuf>) -> String {
    pages
        .iter()
        .fold(Pairs::default(), |pairs, (status, page)| pairs.named(status.to_string(), path(page)))
        .braces()
}

impl Hosts {
    /// Reads `site.host`: names as written, and their patterns.
    fn read(&mut self, value: Value<'_>) -> Option<Vec<(String, HostPattern)>> {
        let items = match value.as_str() {
            Some(_) => vec![value],
            None => {
                value.as_list().or_else(|| value.expected("a string or a list of strings", HOST_EXAMPLE))?
            }
        };
        if items.is_empty() {
            let problem = Problem::new("`host` lists no name", "empty");
            value.error(problem.help(format!(
                "write for example `{HOST_EXAMPLE}`, or remove it: the default site has none"
            )));
        }
        let mut names = Vec::new();
        for item in items {
            let Some(text) = item.string_like(HOST_EXAMPLE) else { continue };
            let host = |text: &str| host(text, &item.context.regexes);
            let Some(host) = item.parse(text, host) else { continue };
            let name = match &host {
                HostPattern::Exact(name) => name.clone(),
                HostPattern::Suffix(suffix) => format!("*{suffix}"),
                HostPattern::Regex(_) => text.to_owned(),
            };
            match self.names.entry(name.clone()) {
                Entry::Occupied(first) => item.error(
                    Problem::new(
                        format!("the host {} is listed twice", diagnostic::show(&name)),
                        "again here",
                    )
                    .also(first.get().clone(), "first here")
                    .help("remove one of them, or put the routes of both into one site"),
                ),
                Entry::Vacant(free) => {
                    free.insert(item.span());
                }
            }
            names.push((name, host));
        }
        Some(names)
    }

    fn take_default(&mut self, site: Value<'_>, has_unknown_key: bool) {
        match &self.default {
            // The misspelt key may have been `host`.
            _ if has_unknown_key => {}
            Some(first) => site.error(
                Problem::new("two sites without `host`", "also for every name that no other site has")
                    .also(first.clone(), "the default site")
                    .help(format!("give one of them a name: `{HOST_EXAMPLE}`")),
            ),
            None => self.default = Some(site.span()),
        }
    }
}

/// Reads `errors`: pages by status.
fn errors(value: Value<'_>) -> Option<BTreeMap<u16, PathBuf>> {
    let status = |text: &str| match text.parse() {
        Ok(status @ 400..=599_u16) => Ok(status),
        _ => {
            let problem = Problem::new(
                format!("{} is not the status of an error", diagnostic::show(text)),
                "from 400 to 599",
            );
            Err(problem.help(format!("write for example `{}`", ERRORS.example)))
        }
    };
    let mut pages = BTreeMap::new();
    for (key, value) in value.entries()? {
        let page = value.string_like(ERRORS.example).and_then(|text| {
            let path = value.parse(text, |text| paths::absolute(text, "/srv/galaxy/errors"))?;
            paths::need_something(value, &path);
            Some(path)
        });
        pages.extend(key.read(status).zip(page));
    }
    Some(pages)
}

fn routes(
    value: Value<'_>,
    site: &Inherited,
    upstreams: &UpstreamTable,
    limits: &Limits,
) -> Vec<RouteSettings> {
    let Some(entries) = value.entries() else { return Vec::new() };
    if entries.is_empty() {
        let problem = Problem::new("a site without routes serves nothing", "empty");
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
                        format!("two routes for the same paths: {}", diagnostic::show(first.key())),
                        "again here",
                    )
                    .also(first.get().clone(), "first here")
                    .help("remove one of them"),
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
