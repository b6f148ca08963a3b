//! `[[site]]`: host names and routes.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use toml::Spanned;

use super::{
    access::{self, Access},
    acme::Acme,
    auth::{self, Auth},
    cache::{self, RouteCache},
    compress::{self, Compress},
    cors::{self, Cors},
    diagnostic::{self, Problem, Span},
    errors::{self, ErrorPages},
    galaxy,
    headers::{self, Headers},
    host::{self, HostPattern, host},
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{Of, SIZE, Shaped},
    },
    limit,
    maintenance::{self, Maintenance},
    pattern,
    print::{Out, Pairs, list, quote, strings},
    read::{Table, Value},
    redirects::{self, Redirects},
    route::{self, Inherited, RouteSettings, SiteScope, Tables},
    tls::{self, RedirectHttps, Tls},
};

/// `[[site]]`
#[derive(Debug, Clone)]
pub struct SiteSettings {
    /// The first host as written, or `default`; the `site` label of metrics.
    pub name: String,
    /// Host names of the site; empty for the default site.
    pub hosts: Vec<HostPattern>,
    /// Changes to the headers of responses.
    pub headers: Headers,
    /// Origins whose pages may read the responses.
    pub cors: Option<Arc<Cors>>,
    /// Users who must log in.
    pub auth: Option<Arc<Auth>>,
    /// Responses that are stored.
    pub cache: Option<Arc<RouteCache>>,
    /// Error pages that replace the proxy's own.
    pub errors: ErrorPages,
    /// Maintenance switch.
    pub maintenance: Option<Maintenance>,
    /// Redirects by path.
    pub redirects: Option<Redirects>,
    /// Bytes per second of all responses of the site together, shared evenly among them.
    pub limit_rate: Option<u64>,
    /// Certificate.
    pub tls: Option<Tls>,
    /// Redirects from HTTP to HTTPS.
    pub redirect_https: Option<RedirectHttps>,
    /// Routes, in the order of the file; those that `[site.galaxy]` makes come last.
    pub routes: Vec<RouteSettings>,
    /// Reasons for routes that the file does not have itself, by key.
    pub comments: BTreeMap<String, String>,
}

/// The keys of `[[site]]`.
pub static KEYS: Keys = Keys {
    title: "`[[site]]`",
    place: "[[site]]\n…",
    about: "Host names and their routes. Settings of a site for headers, bodies, compression, clients and limits \
            apply to its routes, unless a route has its own.",
    groups: &[
        &[
            &HOST,
            &ROUTES,
            &GALAXY,
            &HEADERS,
            &REQUEST_HEADERS,
            &CORS,
            &ERRORS,
            &MAINTENANCE,
            &REDIRECTS,
            &MAX_BODY,
            &LIMIT_RATE,
        ],
        access::KEYS,
        &[&AUTH, &CACHE, &LIMITS, &TLS, &REDIRECT_HTTPS, &COMPRESS],
    ],
    later: &[],
};

static HOST: Optional<Shaped> = Key {
    name: "host",
    kind: Shaped(|| Shape::one_or_more(|| Shape::Text(NAME))),
    default: Unset("every name that no other site has"),
    about: "Names in Host that the site serves. An exact name takes precedence over `*.`, and that over a regular \
            expression.",
    example: "host = [\"galaxy.example.org\", \"*.galaxy.example.org\"]",
};

static ROUTES: Optional<Shaped> = Key {
    name: "routes",
    kind: Shaped(|| Shape::one_or_more(|| Shape::Table(&route::KEYS)).by("PATH")),
    default: Unset("none, required without `galaxy`"),
    about: "Routes by path, in the syntax of nginx's `location` and with its precedence: `\"/prefix\"` (of whole \
            segments), `\"= /exact\"`, `\"^~ /prefix\"` (before regular expressions), `\"~ regex\"`, and `\"~* \
            regex\"` in any case.",
    example: "routes = { \"/\" = { answer = 204 } }",
};

static GALAXY: Optional<Shaped> = Key {
    name: "galaxy",
    kind: Shaped(|| Shape::Table(&galaxy::KEYS)),
    default: Unset("no routes for a Galaxy"),
    about: "A Galaxy server behind the site: its routes and its upstream are made from galaxy.yml. Such a site also has \
            `compress = true` and `max_body = \"10g\"` unless it says otherwise.",
    example: "galaxy = { config = \"/srv/galaxy/config/galaxy.yml\" }",
};

static HEADERS: Optional<Shaped> = Key {
    name: "headers",
    kind: Shaped(headers::shape),
    default: Unset("none"),
    about: "Headers that are set on every response, errors included; `false` removes one that a server sent. Values may \
            have `{names}`. A route adds its own, and replaces those of the same name.",
    example: "headers = { X-Frame-Options = \"SAMEORIGIN\", Server = false }",
};

static REQUEST_HEADERS: Optional<Shaped> = Key {
    name: "request_headers",
    kind: Shaped(headers::shape),
    default: Unset("none"),
    about: "Headers that are set on every request to a server; `false` removes one. Values may have `{names}`; \
            `\"file:PATH\"` is the first line of a file. A route adds its own, and replaces those of the same name.",
    example: "request_headers = { GX-SECRET = \"file:/etc/bowshock/gx_secret\" }",
};

static CORS: Optional<Shaped> = cors::key(Unset("those of the application"));

static ERRORS: Optional<Of<ErrorPages>> = errors::key(Unset("short pages of the proxy"));

static MAINTENANCE: Optional<Of<Maintenance>> = Key {
    name: "maintenance",
    kind: maintenance::KIND,
    default: Unset("none"),
    about: "While a file exists, every request of the site gets 503 with a page.",
    example: "maintenance = { file = \"/srv/galaxy/maintenance\", retry_after = \"30m\" }",
};

static REDIRECTS: Optional<Of<Redirects>> = Key {
    name: "redirects",
    kind: redirects::KIND,
    default: Unset("none"),
    about: "File with redirects by path, which are looked up before the routes: a line is `PATH TARGET [STATUS]`, the \
            status 302 where none is given. The query is passed on unless the target has one. The file is read again \
            at each reload.",
    example: "redirects = \"/etc/bowshock/redirects.txt\"",
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

static AUTH: Optional<Shaped> = auth::key(Unset("everybody is admitted"));

static CACHE: Optional<Shaped> = cache::key(Unset("nothing is stored"));

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
    /// Names that sites of the file have, read or not.
    written: HashSet<String>,
}

/// Host names of one site as written, their patterns, and the places of the names of all sites.
pub struct Names<'a> {
    /// Names of this site, with their patterns.
    pub read: Vec<(String, HostPattern)>,
    /// Places of the names of all sites.
    pub places: &'a HashMap<String, Span>,
}

/// Reads one `[[site]]`. With `[site.galaxy]` there may be two: one for interactive tools comes behind.
pub fn read(value: Value<'_>, hosts: &mut Hosts, tables: Tables<'_>, authority: &Acme) -> Vec<SiteSettings> {
    let Some(mut table) = value.table(&KEYS) else { return Vec::new() };
    let has_unknown_key = table.unknown().next().is_some();
    let names = match table.take(&HOST) {
        Some(value) => hosts.read(value),
        None => {
            hosts.take_default(value, has_unknown_key);
            Some(Vec::new())
        }
    };
    let Some(names) = names else { return Vec::new() };
    let captures = captures(&names);
    let galaxy_value = table.take(&GALAXY);
    // First, because all routes may use the upstreams that it makes.
    let galaxy = galaxy_value.and_then(|value| galaxy::read(value, tables.upstreams));
    let inherited = inherited(&mut table, &captures, tables, galaxy_value.is_some());
    let maintenance = table.optional(&MAINTENANCE);
    let redirects = table.optional(&REDIRECTS);
    let limit_rate = table.optional(&LIMIT_RATE).flatten();
    let names = Names { read: names, places: &hosts.names };
    let tls = table.take(&TLS).and_then(|value| tls::read_site(value, &names, authority));
    let names = names.read;
    let redirect_https = table.read(&REDIRECT_HTTPS);
    let scope = SiteScope { inherited: &inherited, captures: &captures, tables };
    let routes = match table.take(&ROUTES) {
        Some(value) => routes(value, &scope),
        None if has_unknown_key || galaxy_value.is_some() => Vec::new(),
        None => {
            let problem = Problem::new("a site without routes serves nothing", "needs `[site.routes]`");
            value.error(problem.help("add below it:\n[site.routes]\n\"/\" = { proxy = \"galaxy\" }"));
            Vec::new()
        }
    };
    table.finish();
    let name = names.first().map_or_else(|| "default".into(), |(name, _)| name.clone());
    let site = SiteSettings {
        name,
        hosts: names.into_iter().map(|(_, host)| host).collect(),
        headers: inherited.headers.clone(),
        cors: inherited.cors.clone(),
        auth: inherited.auth.clone(),
        cache: inherited.cache.clone(),
        errors: inherited.errors.clone(),
        maintenance,
        redirects,
        limit_rate,
        tls,
        redirect_https,
        routes,
        comments: BTreeMap::new(),
    };
    match galaxy {
        Some(galaxy) => galaxy.extend(site, hosts, &scope),
        None => vec![site],
    }
}

/// Reads the settings that routes inherit.
fn inherited(table: &mut Table<'_>, captures: &[String], tables: Tables<'_>, is_galaxy: bool) -> Inherited {
    let known: Vec<&str> = captures.iter().map(String::as_str).collect();
    let changes = |value: Option<Value<'_>>, of| value.and_then(|value| headers::read(value, of, &known));
    // What Galaxy's documentation asks of a proxy.
    let max_body = if is_galaxy && !table.has(&MAX_BODY) { Some(10 << 30) } else { table.read(&MAX_BODY) };
    let compress =
        if is_galaxy && !table.has(&COMPRESS) { Some(Arc::default()) } else { table.read(&COMPRESS) };
    Inherited {
        headers: changes(table.take(&HEADERS), headers::Of::Response).unwrap_or_default(),
        request_headers: changes(table.take(&REQUEST_HEADERS), headers::Of::Request).unwrap_or_default(),
        cors: table.take(&CORS).and_then(|value| cors::choose(value, tables.cors)).flatten(),
        errors: table.optional(&ERRORS).unwrap_or_default(),
        max_body,
        compress,
        access: access::read(table, &Access::default()),
        auth: table
            .take(&AUTH)
            .and_then(|value| auth::choose(value, tables.auths, tables.upstreams))
            .flatten(),
        cache: table.take(&CACHE).and_then(|value| cache::choose(value, tables.caches, &known)).flatten(),
        limits: table.take(&LIMITS).and_then(|value| tables.limits.named(value)).unwrap_or_default(),
    }
}

/// Capture groups of the host expressions of a site. One is empty for a host that another name of the site matches.
fn captures(names: &[(String, HostPattern)]) -> Vec<String> {
    let groups = |pattern: &HostPattern| match pattern {
        HostPattern::Regex(regex) => regex.capture_names().flatten().map(str::to_owned).collect(),
        HostPattern::Exact(_) | HostPattern::Suffix(_) => Vec::new(),
    };
    let mut all: Vec<String> = names.iter().flat_map(|(_, pattern)| groups(pattern)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Writes a `[[site]]` and its routes. Settings that a route inherits are written in the route.
pub fn show(out: &mut Out, site: &SiteSettings) {
    let hosts = (!site.hosts.is_empty()).then(|| strings(site.hosts.iter().map(host::written)));
    let pairs = Pairs::default()
        .written_if(&HOST, hosts)
        .written_if(&HEADERS, (!site.headers.is_empty()).then(|| headers::pairs(&site.headers).braces()))
        .written_if(&CORS, site.cors.as_ref().map(|cors| cors::show_value(Some(cors))))
        .written_if(&AUTH, site.auth.as_ref().map(|auth| auth::show_value(Some(auth))))
        .written_if(&CACHE, site.cache.as_ref().map(|cache| cache::show_value(Some(cache))))
        .optional(&ERRORS, Some(&site.errors).filter(|pages| !pages.is_empty()))
        .optional(&MAINTENANCE, site.maintenance.as_ref())
        .optional(&REDIRECTS, site.redirects.as_ref())
        .optional(&LIMIT_RATE, site.limit_rate.map(Some).as_ref())
        .written_if(&TLS, site.tls.as_ref().map(|tls| tls::pairs(tls).braces()));
    let pairs = match &site.redirect_https {
        Some(_) => pairs.key(&REDIRECT_HTTPS, &site.redirect_https),
        None => pairs,
    };
    out.table("[[site]]", &pairs);
    let alternatives = site.routes.chunk_by(|one, next| one.key == next.key);
    let routes = alternatives.fold(Pairs::default(), |pairs, routes| {
        let mut tables = routes.iter().map(|route| route::pairs(route, site).braces());
        let value = match routes {
            [_] => tables.next().unwrap_or_default(),
            _ => list(tables),
        };
        let key = &routes[0].key;
        pairs.commented(site.comments.get(key), quote(key), value)
    });
    out.table("[site.routes]", &routes);
}

impl Hosts {
    /// The names of these sites, none of which is read yet.
    pub fn of(sites: &[Value<'_>]) -> Self {
        let hosts = sites.iter().filter_map(|site| site.as_table()?.get("host")).map(Spanned::get_ref);
        let names = hosts.flat_map(|host| match host.as_array() {
            Some(names) => names.iter().filter_map(|name| name.get_ref().as_str()).collect(),
            None => Vec::from_iter(host.as_str()),
        });
        Self { written: names.map(str::to_ascii_lowercase).collect(), ..Self::default() }
    }

    /// Takes a name for a site that the file does not have itself; `false` if a site has it.
    pub fn take(&mut self, name: &str, place: Span) -> bool {
        let is_free = !self.written.contains(name) && !self.names.contains_key(name);
        if is_free {
            self.names.insert(name.to_owned(), place);
        }
        is_free
    }

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

/// Reads `routes`.
pub fn routes(value: Value<'_>, site: &SiteScope<'_>) -> Vec<RouteSettings> {
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
        match value.as_list() {
            Some(alternatives) if alternatives.is_empty() => {
                let title = format!("the route {} has no alternative", diagnostic::show(key.text));
                let help = format!("write for example `{:?} = [{{ proxy = \"galaxy\" }}]`", key.text);
                value.error(Problem::new(title, "empty").help(help));
            }
            Some(alternatives) => {
                check_reach(&alternatives);
                let read = |value| route::read(key, pattern.as_ref(), value, site);
                routes.extend(alternatives.into_iter().filter_map(read));
            }
            None => routes.extend(route::read(key, pattern.as_ref(), value, site)),
        }
    }
    routes
}

/// Notes errors of alternatives that no request can reach, because the one before takes all.
fn check_reach(alternatives: &[Value<'_>]) {
    let has_when = |value: &Value<'_>| {
        value.as_table().is_none_or(|table| table.iter().any(|(key, _)| key.get_ref() == "when"))
    };
    if let Some(all) = alternatives.iter().position(|value| !has_when(value))
        && let Some(next) = alternatives.get(all + 1)
    {
        next.error(
            Problem::new("no request can reach this route", "never used")
                .also(alternatives[all].span(), "takes every request")
                .help("give the route before it a `when`, or put it last"),
        );
    }
}
