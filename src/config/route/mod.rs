//! Routes: entries of `[site.routes]`, each with a key, one action, and modifiers.

mod action;
mod answer;
mod files;
mod proxy;
mod redirect;
mod tools;
mod when;

use std::{sync::Arc, time::Duration};

use http::Method;

use super::{
    access::{self, Access},
    auth::{self, Auth, AuthTables, Satisfy},
    cache::{self, CacheTables, RouteCache},
    compress::{self, Compress},
    cors::{self, Cors, CorsTables},
    diagnostic::{Problem, show},
    errors::{self, ErrorPages},
    headers::{self, Headers},
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{BOOLEAN, DURATION, Of, SIZE, Shaped, Words},
    },
    limit::{self, LimitNames, Limits},
    pattern::{self, PathPattern},
    print::{Pairs, strings},
    read::{FileKey, Table, Value},
    site::SiteSettings,
    upstream::UpstreamTable,
};

use action::ActionScope;

pub use action::Action;
pub use answer::status;
pub use files::{Files, Symlinks, Types};
pub use proxy::{ProxySettings, RouteRetry};
pub use tools::InteractiveTools;
pub use when::{Test, When};

/// Route: an entry of `[site.routes]`, with the settings inherited from its site.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// The key as written; the `route` label of metrics.
    pub key: String,
    /// Pattern of the paths that the route matches.
    pub pattern: PathPattern,
    /// Conditions on the request; another route of the same key is used where they do not hold.
    pub when: Option<When>,
    /// Action.
    pub action: Action,
    /// Settings of `proxy`.
    pub proxy: ProxySettings,
    /// Reachable through internal redirects only (`X-Accel-Redirect`); clients get 404.
    pub internal: bool,
    /// `Expires` and `Cache-Control: max-age` of the responses.
    pub expires: Option<Duration>,
    /// Changes to the headers of responses, the site's included.
    pub headers: Headers,
    /// Origins whose pages may read the responses.
    pub cors: Option<Arc<Cors>>,
    /// Error pages, the site's included.
    pub errors: ErrorPages,
    /// Compression of responses.
    pub compress: Option<Arc<Compress>>,
    /// Buffering of request bodies before an upstream server is selected.
    pub buffer: Buffering,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Access rules by client address.
    pub access: Access,
    /// Users who must log in.
    pub auth: Option<Arc<Auth>>,
    /// Responses that are stored.
    pub cache: Option<Arc<RouteCache>>,
    /// Whether both `allow` and `auth` are required, or either.
    pub satisfy: Satisfy,
    /// Limits that apply to the route.
    pub limits: LimitNames,
    /// Bytes per second of each response.
    pub limit_rate: Option<u64>,
    /// Bytes of a response that are sent before `limit_rate` applies.
    pub limit_rate_after: u64,
    /// The only methods allowed; `None` allows all. `GET` includes `HEAD`.
    pub methods: Option<Vec<Method>>,
}

/// `buffer` of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Buffering {
    /// No buffering: the body is forwarded as it arrives.
    #[default]
    Off,
    /// The whole body, or as much of it as is kept in memory.
    Memory,
    /// The whole body, in a temporary file when it is large.
    Disk,
}

/// The keys of a route.
pub static KEYS: Keys = Keys {
    title: "a route",
    place: "[site.routes]\n\"/\" = { … }",
    about: "Handling of the requests for a path: exactly one of `proxy`, `files`, `redirect`, `answer` and \
            `interactive_tools`, with modifiers. A list of such tables is searched for the first whose `when` holds; where none does, the \
            response is 404.",
    groups: &[
        proxy::KEYS,
        files::KEYS,
        redirect::KEYS,
        answer::KEYS,
        tools::KEYS,
        &[
            &WHEN,
            &INTERNAL,
            &EXPIRES,
            &HEADERS,
            &CORS,
            &ERRORS,
            &BUFFER,
            &COMPRESS,
            &MAX_BODY,
            &LIMIT_RATE,
            &LIMIT_RATE_AFTER,
        ],
        access::KEYS,
        &[&AUTH, &SATISFY, &LIMIT, &METHODS, &CACHE],
    ],
    later: &["upload_store"],
};

static INTERNAL: Defaulted<Of<bool>> = Key {
    name: "internal",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "The route is for X-Accel-Redirect, X-Sendfile and archives of the application; clients get 404 (nginx's \
            `internal`).",
    example: "files = \"/\", within = [\"/srv/galaxy/var\"], internal = true",
};

static EXPIRES: Optional<Of<Duration>> = Key {
    name: "expires",
    kind: DURATION,
    default: Unset("neither header"),
    about: "Expires and Cache-Control: max-age of the responses.",
    example: "files = \"/srv/galaxy/server/static\", expires = \"24h\"",
};

static WHEN: Optional<Of<When>> = Key {
    name: "when",
    kind: when::KIND,
    default: Unset("every request"),
    about: "Conditions on the request, all of which must hold. A route may be a list of tables: the first whose `when` \
            holds is used.",
    example: "when = { methods = [\"POST\"] }",
};

static HEADERS: Optional<Shaped> = Key {
    name: "headers",
    kind: Shaped(headers::shape),
    default: Unset("those of the site"),
    about: "Headers that are set on the responses, errors included; `false` removes one that the server sent. Values may \
            have `{names}`. They are added to those of the site, and replace those of the same name.",
    example: "headers = { X-Frame-Options = \"DENY\", Server = false }",
};

static CORS: Optional<Shaped> = cors::key(Unset("that of the site"));

static ERRORS: Optional<Of<ErrorPages>> = errors::key(Unset("those of the site"));

static BUFFER: Defaulted<Words<Buffering>> = Key {
    name: "buffer",
    kind: Words(&[("off", Buffering::Off), ("memory", Buffering::Memory), ("disk", Buffering::Disk)]),
    default: Is(Buffering::default),
    about: "Buffering of request bodies before a server is selected: none, up to 1 MiB in memory, or the whole body, \
            in memory up to 256 KiB and then in a temporary file. With `\"disk\"` a slow client occupies no server \
            (nginx's `proxy_request_buffering`).",
    example: "buffer = \"disk\"",
};

static COMPRESS: Optional<Of<Option<Arc<Compress>>>> = compress::key(Unset("that of the site"));

static MAX_BODY: Optional<Of<Option<u64>>> = Key {
    name: "max_body",
    kind: SIZE,
    default: Unset("that of the site"),
    about: "Largest request body in bytes. A larger one gets 413.",
    example: "max_body = \"none\"",
};

static LIMIT_RATE: Optional<Of<Option<u64>>> = Key {
    name: "limit_rate",
    kind: SIZE,
    default: Unset("no limit"),
    about: "Bytes per second of each response. X-Accel-Limit-Rate of the application takes precedence.",
    example: "files = \"/data\", limit_rate = \"5m\"",
};

static LIMIT_RATE_AFTER: Optional<Of<Option<u64>>> = Key {
    name: "limit_rate_after",
    kind: SIZE,
    default: Unset("`limit_rate` applies from the first byte"),
    about: "Bytes of a response that are sent at full rate before `limit_rate` applies.",
    example: "files = \"/data\", limit_rate = \"5m\", limit_rate_after = \"100m\"",
};

static AUTH: Optional<Shaped> = auth::key(Unset("that of the site"));

static CACHE: Optional<Shaped> = cache::key(Unset("that of the site"));

static SATISFY: Defaulted<Words<Satisfy>> = Key {
    name: "satisfy",
    kind: Words(&[("all", Satisfy::All), ("any", Satisfy::Any)]),
    default: Is(Satisfy::default),
    about: "`\"any\"` admits clients of `allow` without a login, and others with one (nginx's `satisfy`); `deny` counts \
            in any case.",
    example: "allow = [\"10.0.0.0/8\"], auth = { htpasswd = \"/etc/bowshock/htpasswd\" }, satisfy = \"any\"",
};

static LIMIT: Optional<Shaped> = Key {
    name: "limit",
    kind: Shaped(limit::names_shape),
    default: Unset("`limits` of the site"),
    about: "Names of `[limit.NAME]` that apply to requests, in place of those of the site. `\"none\"` removes them.",
    example: "limit = [\"api\"]",
};

static METHODS: Optional<Of<Vec<Method>>> = Key {
    name: "methods",
    kind: METHOD_LIST,
    default: Unset("all"),
    about: "The only methods that are allowed; others get 405. `GET` includes `HEAD`.",
    example: "methods = [\"GET\", \"POST\"]",
};

/// A list of methods.
pub const METHOD_LIST: Of<Vec<Method>> = Of {
    shape: || Shape::Text(METHOD).list(),
    read: methods,
    show: |methods| strings(methods.iter().map(Method::as_str)),
};

const METHOD: TextShape = TextShape { what: "method in upper case", pattern: "^[^a-z]+$" };

/// Settings that routes inherit from their site.
pub struct Inherited {
    /// Changes to the headers of responses.
    pub headers: Headers,
    /// Changes to the headers of requests to upstream servers.
    pub request_headers: Headers,
    /// Origins whose pages may read the responses.
    pub cors: Option<Arc<Cors>>,
    /// Error pages.
    pub errors: ErrorPages,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Compression of responses.
    pub compress: Option<Arc<Compress>>,
    /// Access rules by client address.
    pub access: Access,
    /// Users who must log in.
    pub auth: Option<Arc<Auth>>,
    /// Responses that are stored.
    pub cache: Option<Arc<RouteCache>>,
    /// Limits.
    pub limits: LimitNames,
}

/// Tables of the file that sites and routes refer to.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// `[upstream.NAME]`
    pub upstreams: &'a UpstreamTable,
    /// `[limit.NAME]`
    pub limits: &'a Limits,
    /// `[cors.NAME]`
    pub cors: &'a CorsTables,
    /// `[auth.NAME]`
    pub auths: &'a AuthTables,
    /// `[cache.NAME]`
    pub caches: &'a CacheTables,
}

/// The site of a route.
pub struct SiteScope<'a> {
    /// Settings of the site.
    pub inherited: &'a Inherited,
    /// Capture groups of its host expressions.
    pub captures: &'a [String],
    /// Tables of the file.
    pub tables: Tables<'a>,
}

/// Reads a route. A missing `pattern` means that its key was invalid, which is noted already; the rest is still
/// checked.
pub fn read(
    key: FileKey<'_>,
    pattern: Option<&PathPattern>,
    value: Value<'_>,
    site: &SiteScope<'_>,
) -> Option<RouteSettings> {
    let SiteScope { inherited, tables, .. } = site;
    let mut table = table(key, value)?;
    let captures = pattern.map(|pattern| {
        let of_host = site.captures.iter().map(String::as_str);
        pattern::captures(pattern).into_iter().chain(of_host).collect::<Vec<_>>()
    });
    let captures = captures.as_deref();
    let when = table.optional(&WHEN);
    let scope = ActionScope { captures, pattern, upstreams: tables.upstreams };
    let action = action::read(&mut table, key, &scope);
    let is_tools = matches!(action, Some(Action::InteractiveTools(_)));
    // Secrets for the application are none of the tools' business.
    let no_headers = Headers::default();
    let of_site = if is_tools { &no_headers } else { &inherited.request_headers };
    let proxy = proxy::modifiers(&mut table, captures, of_site);
    let internal = table.read(&INTERNAL);
    let expires = table.optional(&EXPIRES);
    let own_headers = table.take(&HEADERS);
    let own_headers = own_headers.and_then(|value| headers::read(value, headers::Of::Response, captures?));
    let cors = table.take(&CORS).and_then(|value| cors::choose(value, tables.cors));
    let errors = table.optional(&ERRORS).unwrap_or_default();
    let buffer = table.read(&BUFFER);
    let compress = table.optional(&COMPRESS).unwrap_or_else(|| inherited.compress.clone());
    let max_body = table.optional(&MAX_BODY).unwrap_or(inherited.max_body);
    let access = access::read(&mut table, &inherited.access);
    let auth = table.take(&AUTH).and_then(|value| auth::choose(value, tables.auths, tables.upstreams));
    let satisfy = table.read(&SATISFY);
    let cache = table.take(&CACHE).and_then(|value| cache::choose(value, tables.caches, captures?));
    let limits = table.take(&LIMIT).and_then(|value| tables.limits.named(value));
    let limit_rate = table.optional(&LIMIT_RATE).flatten();
    let limit_rate_after = table.optional(&LIMIT_RATE_AFTER).flatten().unwrap_or_default();
    let methods = table.optional(&METHODS);
    table.finish();
    let (action, pattern) = (action?, pattern?.clone());
    if internal {
        warn_without_within(value, key, &action);
    }
    Some(RouteSettings {
        key: key.text.into(),
        pattern,
        when,
        action,
        proxy,
        internal,
        expires,
        headers: headers::merge(&inherited.headers, own_headers.unwrap_or_default()),
        cors: cors.unwrap_or_else(|| inherited.cors.clone()),
        errors: inherited.errors.clone().into_iter().chain(errors).collect(),
        buffer,
        compress,
        max_body,
        access,
        auth: auth.unwrap_or_else(|| inherited.auth.clone()),
        satisfy,
        cache: cache.unwrap_or_else(|| inherited.cache.clone().filter(|_| !is_tools)),
        limits: limits.unwrap_or_else(|| Arc::clone(&inherited.limits)),
        limit_rate,
        limit_rate_after,
        methods,
    })
}

/// The keys with their values; headers and error pages of the site are not repeated.
pub fn pairs(route: &RouteSettings, site: &SiteSettings) -> Pairs {
    let limit_rate = route.limit_rate.map(Some);
    let after = limit_rate.map(|_| Some(route.limit_rate_after));
    let compress = route.compress.as_ref().map(|_| &route.compress);
    let limits = (!route.limits.is_empty()).then(|| strings(route.limits.iter()));
    let own = route.headers.iter().filter(|header| !site.headers.contains(header)).cloned();
    let headers = headers::pairs(&own.collect()).braces_if_any();
    let own = route.errors.iter().filter(|(status, page)| site.errors.get(status) != Some(page));
    let errors: ErrorPages = own.map(|(status, page)| (*status, page.clone())).collect();
    let pairs = action::pairs(&route.action).optional(&WHEN, route.when.as_ref());
    let pairs = match route.action {
        Action::Proxy(_) | Action::InteractiveTools(_) => pairs.and(proxy::modifier_pairs(&route.proxy)),
        _ => pairs,
    };
    pairs
        .unless_default(&INTERNAL, &route.internal)
        .optional(&EXPIRES, route.expires.as_ref())
        .written_if(&HEADERS, headers)
        .written_if(
            &CORS,
            (site.cors.is_some() || route.cors.is_some()).then(|| cors::show_value(route.cors.as_ref())),
        )
        .optional(&ERRORS, Some(&errors).filter(|pages| !pages.is_empty()))
        .unless_default(&BUFFER, &route.buffer)
        .optional(&COMPRESS, compress)
        .key(&MAX_BODY, &route.max_body)
        .and(access::pairs(&route.access))
        .written_if(
            &AUTH,
            (site.auth.is_some() || route.auth.is_some()).then(|| auth::show_value(route.auth.as_ref())),
        )
        .unless_default(&SATISFY, &route.satisfy)
        .written_if(&LIMIT, limits)
        .optional(&LIMIT_RATE, limit_rate.as_ref())
        .optional(&LIMIT_RATE_AFTER, after.as_ref())
        .optional(&METHODS, route.methods.as_ref())
        .written_if(
            &CACHE,
            (site.cache.is_some() || route.cache.is_some()).then(|| cache::show_value(route.cache.as_ref())),
        )
}

fn table<'a>(key: FileKey<'a>, value: Value<'a>) -> Option<Table<'a>> {
    match value.as_table() {
        Some(table) => Some(Table::new(value.context, table, value.span(), &KEYS)),
        None => value.expected("a table", &example(key, value)),
    }
}

/// Example for a value that is not a table, made of that value.
fn example(key: FileKey<'_>, value: Value<'_>) -> String {
    let example = |action: &str| format!("{:?} = {{ {action} }}", key.text);
    match (value.as_str(), value.as_integer()) {
        (Some(path), _) if path.starts_with('/') => example(&format!("files = {path:?}")),
        (Some(url), _) if url.contains("://") => example(&format!("redirect = {url:?}")),
        (Some(name), _) => example(&format!("proxy = {name:?}")),
        (_, Some((status, _))) => example(&format!("answer = {status}")),
        _ => example("proxy = \"galaxy\""),
    }
}

fn warn_without_within(value: Value<'_>, key: FileKey<'_>, action: &Action) {
    let Action::Files(files) = action else { return };
    if !files.within.is_empty() {
        return;
    }
    let title = format!("the internal route {} has no `within`", show(key.text));
    let (label, directories) = match files.root.literal() {
        Some("/") => ("the application may send every file of this machine".into(), "/srv/galaxy/var".into()),
        Some(root) => (format!("the application may send every file below {root}"), root.to_owned()),
        None => ("the application may send every file that fits".into(), "/srv/galaxy/var".into()),
    };
    let problem = Problem::new(title, label);
    value.context.warn(
        key.span(),
        problem.help(format!("list the directories that downloads come from: `within = [{directories:?}]`")),
    );
}

/// Reads a list of methods.
fn methods(value: Value<'_>) -> Option<Vec<Method>> {
    let items = value.list()?;
    if items.is_empty() {
        let problem = Problem::new("`methods` allows none", "empty");
        value.error(
            problem.help(format!("write for example `{}`, or remove it to allow all", value.example())),
        );
    }
    let mut methods = Vec::new();
    for item in items {
        let method = item.string().and_then(|text| item.parse(text, method));
        methods.extend(method.filter(|method| !methods.contains(method)));
    }
    Some(methods)
}

fn method(text: &str) -> Result<Method, Problem> {
    let upper = text.to_ascii_uppercase();
    let problem = || Problem::new(format!("{} is not a method", show(text)), "a word in upper case");
    match Method::from_bytes(upper.as_bytes()) {
        Ok(method) if upper == text => Ok(method),
        Ok(method) => Err(problem().help(format!("write `\"{method}\"`"))),
        Err(_) => Err(problem().help("write for example `\"GET\"`")),
    }
}
