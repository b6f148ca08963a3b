//! `upstream.health`: active health checks.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode, header, uri::Authority};

use crate::config::{
    diagnostic::{Problem, show},
    headers,
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{self, Of, TIME},
    },
    print::{Pairs, list},
    read::Value,
    route::status,
};

/// `upstream.health`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Path of the health check request.
    pub path: String,
    /// `Host` of the request; `None` is `localhost`.
    pub host: Option<String>,
    /// Further headers of the request, which replace those of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Statuses of a healthy server; empty means any 2xx.
    pub expect: Vec<StatusCode>,
    /// Pause between two checks of a healthy server.
    pub every: Duration,
    /// Time for the response.
    pub timeout: Duration,
}

/// The keys of `health`.
pub static KEYS: Keys = Keys {
    title: "`health` of `[upstream.NAME]`",
    place: "[upstream.galaxy]\nservers = [\"unix:/run/galaxy/gunicorn.sock\"]\nhealth = { … }",
    about: "Active health checks: a request that is sent to each server at intervals. A server without the expected \
            response gets no requests.",
    groups: &[&[&PATH, &HOST, &HEADERS, &EVERY, &TIMEOUT, &EXPECT]],
    later: &[],
};

static PATH: Required<kind::Text<String>> = Key {
    name: "path",
    kind: kind::Text {
        form: TextShape { what: "path, perhaps with a query", pattern: "^/" },
        parse: health_path,
        show: String::clone,
    },
    default: Needed,
    about: "Path of the request. It should be cheap for the application.",
    example: "path = \"/api/version\"",
};

static HOST: Optional<kind::Text<String>> = Key {
    name: "host",
    kind: kind::Text {
        form: TextShape { what: "host name", pattern: "" },
        parse: health_host,
        show: String::clone,
    },
    default: Unset("`localhost`"),
    about: "Host header of the request.",
    example: "path = \"/\", host = \"galaxy.example.org\"",
};

static HEADERS: Optional<Of<headers::FixedHeaders>> = Key {
    name: "headers",
    kind: Of { read: health_headers, ..headers::FIXED },
    default: Unset("none"),
    about: "Further headers of the request.",
    example: "path = \"/\", headers = { X-Forwarded-Proto = \"https\" }",
};

static EVERY: Defaulted<Of<Duration>> = Key {
    name: "every",
    kind: TIME,
    default: Is(|| Duration::from_secs(5)),
    about: "Pause between two checks of a healthy server. A failed server is checked ten times a second.",
    example: "path = \"/\", every = \"10s\"",
};

static TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(2)),
    about: "Time for the response.",
    example: "path = \"/\", timeout = \"5s\"",
};

static EXPECT: Optional<Of<Vec<StatusCode>>> = Key {
    name: "expect",
    kind: Of {
        shape: || Shape::one_or_more(|| Shape::Integer(200, 599)),
        read: expect,
        show: |statuses| list(statuses.iter().map(|status| status.as_u16().to_string())),
    },
    default: Unset("any 2xx"),
    about: "Statuses of a healthy server.",
    example: "path = \"/\", expect = [200, 204]",
};

/// Reads `health`.
pub fn read(value: Value<'_>) -> Option<Health> {
    if let Some(path) = value.as_str() {
        return value.expected("a table", &format!("health = {{ path = {path:?} }}"));
    }
    let mut table = value.table(&KEYS)?;
    let path = table.required(&PATH);
    let host = table.optional(&HOST);
    let headers = table.optional(&HEADERS).unwrap_or_default();
    let every = table.read(&EVERY);
    let timeout = table.read(&TIMEOUT);
    let expect = table.optional(&EXPECT).unwrap_or_default();
    table.finish();
    Some(Health { path: path?, host, headers, expect, every, timeout })
}

/// The keys with their values.
pub fn pairs(health: &Health) -> Pairs {
    Pairs::default()
        .key(&PATH, &health.path)
        .optional(&HOST, health.host.as_ref())
        .optional(&HEADERS, Some(&health.headers).filter(|headers| !headers.is_empty()))
        .key(&EVERY, &health.every)
        .key(&TIMEOUT, &health.timeout)
        .optional(&EXPECT, Some(&health.expect).filter(|statuses| !statuses.is_empty()))
}

fn health_host(text: &str) -> Result<String, Problem> {
    let is_host = text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    if is_host {
        Ok(text.into())
    } else {
        Err(Problem::new(
            format!("{} cannot be a `Host`", show(text)),
            "a name or address, and a port if need be",
        )
        .help("write for example `host = \"galaxy.example.org\"`"))
    }
}

fn health_headers(value: Value<'_>) -> Option<headers::FixedHeaders> {
    let headers = (headers::FIXED.read)(value)?;
    if headers.iter().any(|(name, _)| *name == header::HOST) {
        let problem = Problem::new("`Host` has a key of its own", "not here");
        value.error(problem.help("write `host = \"galaxy.example.org\"` beside `headers`"));
        return None;
    }
    Some(headers)
}

/// Reads `expect`: one status or a list.
fn expect(value: Value<'_>) -> Option<Vec<StatusCode>> {
    let items = value.as_list().unwrap_or_else(|| vec![value]);
    if items.is_empty() {
        let problem = Problem::new("`expect` lists no status", "no server would ever be healthy");
        value.error(problem.help("write for example `expect = [200, 204]`, or remove it for any 2xx"));
    }
    Some(items.into_iter().filter_map(status).collect())
}

/// Reads `path`. It becomes part of a request line unchanged.
fn health_path(text: &str) -> Result<String, Problem> {
    if !text.starts_with('/') {
        return Err(Problem::new(
            format!("the path {} does not start with `/`", show(text)),
            "must start with `/`",
        )
        .help("write for example `path = \"/api/version\"`"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::new(format!("the path {} cannot be sent", show(text)), "no spaces, only ASCII")
            .help("percent-encode what is not ASCII: a space is `%20`"));
    }
    Ok(text.into())
}
