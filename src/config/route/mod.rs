//! Routes: entries of `[site.routes]`, each with a key, one action, and modifiers.

mod action;
mod answer;
mod files;
mod proxy;
mod redirect;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    access::{self, Access},
    compress::{self, Compress},
    diagnostic::{Problem, show},
    headers::{self, Headers},
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{BOOLEAN, DURATION, Of, SIZE, Shaped, Words},
    },
    limit::{self, LimitNames, Limits},
    pattern::{self, PathPattern},
    print::{Pairs, strings},
    read::{FileKey, Table, Value},
    upstream::UpstreamTable,
};

use action::ActionScope;
use proxy::Modifiers;

pub use action::Action;
pub use answer::status;
pub use files::{Files, Symlinks, Types};
pub use proxy::RouteRetry;

/// Route: an entry of `[site.routes]`, with the settings inherited from its site.
#[derive(Debug, Clone)]
pub struct RouteSettings {
    /// The key as written; the `route` label of metrics.
    pub key: String,
    /// Pattern of the paths that the route matches.
    pub pattern: PathPattern,
    /// Action.
    pub action: Action,
    /// Reachable through internal redirects only (`X-Accel-Redirect`); clients get 404.
    pub internal: bool,
    /// `Expires` and `Cache-Control: max-age` of the responses.
    pub expires: Option<Duration>,
    /// Headers set on the responses, the site's included; one value per name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest pause between two reads from the upstream server; `None` is the upstream's setting.
    pub read_timeout: Option<Duration>,
    /// Time that a request waits for an available upstream server; `None` is the upstream's setting.
    pub hold: Option<Duration>,
    /// Retries of requests.
    pub retry: RouteRetry,
    /// Compression of responses.
    pub compress: Option<Arc<Compress>>,
    /// Buffering of request bodies before an upstream server is selected.
    pub buffer: Buffering,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Access rules by client address.
    pub access: Access,
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
    about: "Handling of the requests for a path: exactly one of `proxy`, `files`, `redirect` and `answer`, with \
            modifiers.",
    groups: &[
        proxy::KEYS,
        files::KEYS,
        redirect::KEYS,
        answer::KEYS,
        &[&INTERNAL, &EXPIRES, &HEADERS, &BUFFER, &COMPRESS, &MAX_BODY, &LIMIT_RATE, &LIMIT_RATE_AFTER],
        access::KEYS,
        &[&LIMIT, &METHODS],
    ],
    later: &["request_headers", "cors", "path", "send_timeout", "auth", "cache", "errors"],
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

static HEADERS: Optional<Of<Headers>> = Key {
    name: "headers",
    kind: headers::KIND,
    default: Unset("those of the site"),
    about: "Headers that are set on the responses, errors included. They are added to those of the site, and replace \
            those of the same name.",
    example: "headers = { X-Frame-Options = \"DENY\" }",
};

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
    /// Headers set on responses.
    pub headers: Headers,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Compression of responses.
    pub compress: Option<Arc<Compress>>,
    /// Access rules by client address.
    pub access: Access,
    /// Limits.
    pub limits: LimitNames,
}

/// Reads a route. A missing `pattern` means that its key was invalid, which is noted already; the rest is still
/// checked.
pub fn read(
    key: FileKey<'_>,
    pattern: Option<PathPattern>,
    value: Value<'_>,
    site: &Inherited,
    upstreams: &UpstreamTable,
    limits: &Limits,
) -> Option<RouteSettings> {
    let mut table = table(key, value)?;
    let captures = pattern.as_ref().map(pattern::captures);
    let action = action::read(&mut table, key, &ActionScope { captures: captures.as_deref(), upstreams });
    let internal = table.read(&INTERNAL);
    let expires = table.optional(&EXPIRES);
    let own_headers = table.optional(&HEADERS).unwrap_or_default();
    let Modifiers { read_timeout, hold, retry } = proxy::modifiers(&mut table);
    let buffer = table.read(&BUFFER);
    let compress = table.optional(&COMPRESS).unwrap_or_else(|| site.compress.clone());
    let max_body = table.optional(&MAX_BODY).unwrap_or(site.max_body);
    let access = access::read(&mut table, &site.access);
    let limits =
        table.take(&LIMIT).and_then(|value| limits.named(value)).unwrap_or_else(|| Arc::clone(&site.limits));
    let limit_rate = table.optional(&LIMIT_RATE).flatten();
    let limit_rate_after = table.optional(&LIMIT_RATE_AFTER).flatten().unwrap_or_default();
    let methods = table.optional(&METHODS);
    table.finish();
    let (action, pattern) = (action?, pattern?);
    if internal {
        warn_without_within(value, key, &action);
    }
    Some(RouteSettings {
        key: key.text.into(),
        pattern,
        action,
        internal,
        expires,
        headers: headers::merge(&site.headers, own_headers),
        read_timeout,
        hold,
        retry,
        buffer,
        compress,
        max_body,
        access,
        limits,
        limit_rate,
        limit_rate_after,
        methods,
    })
}

/// The keys with their values.
pub fn pairs(route: &RouteSettings) -> Pairs {
    let limit_rate = route.limit_rate.map(Some);
    let after = limit_rate.map(|_| Some(route.limit_rate_after));
    let compress = route.compress.as_ref().map(|_| &route.compress);
    let limits = (!route.limits.is_empty()).then(|| strings(route.limits.iter()));
    action::pairs(&route.action)
        .unless_default(&INTERNAL, &route.internal)
        .optional(&EXPIRES, route.expires.as_ref())
        .optional(&HEADERS, Some(&route.headers).filter(|headers| !headers.is_empty()))
        .and(proxy::modifier_pairs(route.read_timeout.as_ref(), route.hold.as_ref(), &route.retry))
        .unless_default(&BUFFER, &route.buffer)
        .optional(&COMPRESS, compress)
        .key(&MAX_BODY, &route.max_body)
        .and(access::pairs(&route.access))
        .written_if(&LIMIT, limits)
        .optional(&LIMIT_RATE, limit_rate.as_ref())
        .optional(&LIMIT_RATE_AFTER, after.as_ref())
        .optional(&METHODS, route.methods.as_ref())
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
