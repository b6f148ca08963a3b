//! `proxy = "NAME"` with its modifiers.

use std::time::Duration;

use http::StatusCode;

use super::action::{Action, ActionScope};
use crate::config::{
    diagnostic::{Problem, show},
    headers::{self, Headers},
    keys::{
        Defaulted, Group, Is, Key, Keys, OneOf, Optional, Shape, TextShape, Unset,
        kind::{BOOLEAN, DURATION, Integer, Of, Shaped, TIME},
    },
    print::{Pairs, quote},
    read::{Table, Value, text},
    template::{Name, NameScope, Part, Template, template},
    upstream::retry::{STATUSES, TRIES},
};

/// Settings of a route that forwards requests to an upstream.
#[derive(Debug, Clone, Default)]
pub struct ProxySettings {
    /// Path that the server is asked for in place of the client's.
    pub path: Option<Template>,
    /// Whether `path` is mapped back in the response: redirects, and the paths of cookies.
    pub keeps_location: bool,
    /// Changes to the headers of requests, the site's included.
    pub request_headers: Headers,
    /// Longest pause between two reads from the upstream server; `None` is the upstream's setting.
    pub read_timeout: Option<Duration>,
    /// Longest pause between two writes to the upstream server; `None` is the upstream's setting.
    pub send_timeout: Option<Duration>,
    /// Longest silence of both sides of a WebSocket; `None` is no limit.
    pub tunnel_idle: Option<Duration>,
    /// Time that a request waits for an available upstream server; `None` is the upstream's setting.
    pub hold: Option<Duration>,
    /// Retries of requests.
    pub retry: RouteRetry,
}

/// `retry` of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteRetry {
    /// Attempts in all; `None` is the upstream's setting.
    pub tries: Option<u32>,
    /// Statuses that are retried on another server; `None` is the upstream's setting.
    pub on: Option<Vec<StatusCode>>,
    /// Whether methods that are not idempotent are retried too; request bodies are kept in a replay buffer for it.
    pub any_method: bool,
}

/// Keys of the action.
pub const KEYS: Group = &[
    &PROXY,
    &PATH,
    &REWRITE_LOCATION,
    &REQUEST_HEADERS,
    &READ_TIMEOUT,
    &SEND_TIMEOUT,
    &TUNNEL_IDLE,
    &HOLD,
    &RETRY,
];

static PROXY: Key<Shaped, OneOf> = Key {
    name: "proxy",
    kind: Shaped(|| Shape::Text(UPSTREAM)),
    default: OneOf,
    about: "Upstream that requests are forwarded to: the NAME of an `[upstream.NAME]`.",
    example: "proxy = \"galaxy\"",
};

static PATH: Optional<Shaped> = Key {
    name: "path",
    kind: Shaped(|| Shape::Text(TARGET)),
    default: Unset("the path of the request, byte for byte"),
    about: "Path that the server is asked for in place of the client's; the query stays (nginx's URI in `proxy_pass`). \
            `{rest}` is what follows the prefix of the route. Redirects and cookie paths in the response are mapped \
            back by the same rule.",
    example: "path = \"/files{rest}\"",
};

static REWRITE_LOCATION: Defaulted<Of<bool>> = Key {
    name: "rewrite_location",
    kind: BOOLEAN,
    default: Is(|| true),
    about: "Maps `path` back in Location, Content-Location, Refresh and the paths of cookies. `false` leaves them as \
            the server sent them (nginx's `proxy_redirect off`).",
    example: "path = \"{rest}\", rewrite_location = false",
};

/// See the description.
pub static REQUEST_HEADERS: Optional<Shaped> = Key {
    name: "request_headers",
    kind: Shaped(headers::shape),
    default: Unset("those of the site"),
    about: "Headers that are set on the request to the server (nginx's `proxy_set_header`); `false` removes one. \
            Values may have `{names}`; `\"file:PATH\"` is the first line of a file. They are added to those of the \
            site, and replace those of the same name.",
    example: "request_headers = { X-Remote-Port = \"{port}\", Authorization = false }",
};

/// See the description.
pub static READ_TIMEOUT: Optional<Of<Duration>> = Key {
    name: "read_timeout",
    kind: TIME,
    default: Unset("that of the upstream"),
    about: "Longest pause of a server before or within its response, in place of the upstream's. Raise it for \
            requests that take long.",
    example: "read_timeout = \"20m\"",
};

/// See the description.
pub static SEND_TIMEOUT: Optional<Of<Duration>> = Key {
    name: "send_timeout",
    kind: TIME,
    default: Unset("that of the upstream"),
    about: "Longest pause of a server in taking a request, in place of the upstream's.",
    example: "send_timeout = \"5m\"",
};

static TUNNEL_IDLE: Optional<Of<Duration>> = Key {
    name: "tunnel_idle",
    kind: TIME,
    default: Unset("no limit"),
    about: "Longest silence of both sides of an open WebSocket, after which it is closed. Without it silence closes none; \
            one whose other machine has gone ends within minutes all the same.",
    example: "tunnel_idle = \"10m\"",
};

/// See the description.
pub static HOLD: Optional<Of<Duration>> = Key {
    name: "hold",
    kind: DURATION,
    default: Unset("that of the upstream"),
    about: "Time that a request waits for a server, in place of the upstream's. `\"0s\"` does not wait: 503 at once.",
    example: "hold = \"10s\"",
};

static RETRY: Optional<Of<RouteRetry>> = Key {
    name: "retry",
    kind: Of { shape: || Shape::Table(&RETRY_KEYS), read: retry, show: |retry| retry_pairs(retry).braces() },
    default: Unset("that of the upstream"),
    about: "Retries of requests, in place of the upstream's.",
    example: "retry = { unsafe = true }",
};

/// The keys of `retry` of a route.
static RETRY_KEYS: Keys = Keys {
    title: "`retry` of a route",
    place: "[site.routes]\n\"/\" = { proxy = \"galaxy\", retry = { … } }",
    about: "Retries of the requests of a route.",
    groups: &[&[&RETRY_TRIES, &UNSAFE, &ON]],
    later: &[],
};

static RETRY_TRIES: Optional<Integer> = Key {
    name: "tries",
    kind: TRIES,
    default: Unset("that of the upstream"),
    about: "Attempts in all for a request of which any bytes were sent.",
    example: "tries = 2",
};

static UNSAFE: Defaulted<Of<bool>> = Key {
    name: "unsafe",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Retries requests of every method, POST too. Bodies are kept for it, in memory up to 256 KiB, then in a \
            file. Use it only when the application tolerates receiving a request twice.",
    example: "unsafe = true",
};

static ON: Optional<Of<Vec<StatusCode>>> = Key {
    name: "on",
    kind: STATUSES,
    default: Unset("those of the upstream"),
    about: "Statuses from 400 to 599 that are retried on another server, if one is free: for GET, HEAD and OPTIONS, \
            and with `unsafe` for other methods.",
    example: "on = [502, 503, 504]",
};

const TARGET: TextShape = TextShape { what: "path, with `{names}`", pattern: "^(/|[{])" };
const UPSTREAM: TextShape = TextShape { what: "name of an `[upstream.NAME]`", pattern: "" };

/// Reads the action.
pub fn read(_: &mut Table<'_>, value: Value<'_>, scope: &ActionScope<'_>) -> Option<Action> {
    text(|name| scope.upstreams.named(name))(value).map(Action::Proxy)
}

/// Reads the modifiers. `captures` is `None` where the key of the route is invalid.
pub fn modifiers(table: &mut Table<'_>, captures: Option<&[&str]>, site: &Headers) -> ProxySettings {
    let target = |value: Value<'_>| {
        let (text, captures) = (value.string()?, captures?);
        value.parse(text, |text| target(text, captures))
    };
    let own = table.take(&REQUEST_HEADERS);
    let own = own.and_then(|value| headers::read(value, headers::Of::Request, captures?));
    ProxySettings {
        path: table.take(&PATH).and_then(target),
        keeps_location: !table.read(&REWRITE_LOCATION),
        request_headers: headers::merge(site, own.unwrap_or_default()),
        read_timeout: table.optional(&READ_TIMEOUT),
        send_timeout: table.optional(&SEND_TIMEOUT),
        tunnel_idle: table.optional(&TUNNEL_IDLE),
        hold: table.optional(&HOLD),
        retry: table.optional(&RETRY).unwrap_or_default(),
    }
}

/// The modifiers with their values.
pub fn modifier_pairs(proxy: &ProxySettings) -> Pairs {
    let changes =
        (!proxy.request_headers.is_empty()).then(|| headers::pairs(&proxy.request_headers).braces());
    Pairs::default()
        .written_if(&PATH, proxy.path.as_ref().map(|path| quote(&path.to_string())))
        .unless_default(&REWRITE_LOCATION, &!proxy.keeps_location)
        .written_if(&REQUEST_HEADERS, changes)
        .optional(&READ_TIMEOUT, proxy.read_timeout.as_ref())
        .optional(&SEND_TIMEOUT, proxy.send_timeout.as_ref())
        .optional(&TUNNEL_IDLE, proxy.tunnel_idle.as_ref())
        .optional(&HOLD, proxy.hold.as_ref())
        .optional(&RETRY, Some(&proxy.retry).filter(|retry| **retry != RouteRetry::default()))
}

/// Reads the path that a server is asked for.
fn target(text: &str, captures: &[&str]) -> Result<Template, Problem> {
    if let Some(at) = text.find('$') {
        return Err(Problem::new(
            format!("{} has a variable of nginx in it", show(text)),
            "names stand in braces here",
        )
        .at(at..text.len())
        .help("write for example `\"/files{rest}\"`"));
    }
    let read = template(text, NameScope { captures, response: false })?;
    let begins = match read.0.first() {
        Some(Part::Text(text)) => text.starts_with('/'),
        Some(Part::Name(name)) => matches!(name, Name::Rest | Name::Path | Name::Uri),
        None => false,
    };
    let literals = read.0.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Name(_) => None,
    });
    if !begins {
        let help = match text.split_once("://") {
            Some((_, rest)) => format!(
                "write the path alone, `{:?}`; the servers are in `[upstream.NAME]`",
                rest.find('/').map_or("{rest}", |at| &rest[at..])
            ),
            None => format!("write for example `\"/{}\"`", text.trim_start_matches('/')),
        };
        return Err(Problem::new(format!("{} is not a path", show(text)), "must start with `/` or `{rest}`")
            .help(help));
    }
    if literals.flat_map(str::bytes).any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(Problem::new(format!("{} cannot be sent", show(text)), "no spaces, no `#`, only ASCII")
            .help("percent-encode what is not ASCII: a space is `%20`"));
    }
    Ok(read)
}

/// The key with its value.
pub fn pairs(name: &str) -> Pairs {
    Pairs::default().written(&PROXY, quote(name))
}

fn retry(value: Value<'_>) -> Option<RouteRetry> {
    let mut table = value.table(&RETRY_KEYS)?;
    let retry = RouteRetry {
        tries: table.optional(&RETRY_TRIES),
        any_method: table.read(&UNSAFE),
        on: table.optional(&ON),
    };
    table.finish();
    Some(retry)
}

fn retry_pairs(retry: &RouteRetry) -> Pairs {
    Pairs::default()
        .optional(&RETRY_TRIES, retry.tries.as_ref())
        .optional(&ON, retry.on.as_ref())
        .unless_default(&UNSAFE, &retry.any_method)
}
