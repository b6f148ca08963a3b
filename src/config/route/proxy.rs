//! `proxy = "NAME"` with its modifiers.

use std::time::Duration;

use http::StatusCode;

use super::action::{Action, ActionScope};
use crate::config::{
    keys::{
        Defaulted, Group, Is, Key, Keys, OneOf, Optional, Shape, TextShape, Unset,
        kind::{BOOLEAN, DURATION, Integer, Of, Shaped, TIME},
    },
    print::{Pairs, quote},
    read::{Table, Value, text},
    upstream::retry::{STATUSES, TRIES},
};

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
pub const KEYS: Group = &[&PROXY, &READ_TIMEOUT, &HOLD, &RETRY];

static PROXY: Key<Shaped, OneOf> = Key {
    name: "proxy",
    kind: Shaped(|| Shape::Text(UPSTREAM)),
    default: OneOf,
    about: "Upstream that requests are forwarded to: the NAME of an `[upstream.NAME]`.",
    example: "proxy = \"galaxy\"",
};

static READ_TIMEOUT: Optional<Of<Duration>> = Key {
    name: "read_timeout",
    kind: TIME,
    default: Unset("that of the upstream"),
    about: "Longest pause of a server before or within its response, in place of the upstream's. Raise it for \
            requests that take long.",
    example: "read_timeout = \"20m\"",
};

static HOLD: Optional<Of<Duration>> = Key {
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

const UPSTREAM: TextShape = TextShape { what: "name of an `[upstream.NAME]`", pattern: "" };

/// Reads the action.
pub fn read(_: &mut Table<'_>, value: Value<'_>, scope: &ActionScope<'_>) -> Option<Action> {
    text(|name| scope.upstreams.named(name))(value).map(Action::Proxy)
}

/// Settings of a route that override those of its upstream.
pub struct Modifiers {
    /// See [`READ_TIMEOUT`].
    pub read_timeout: Option<Duration>,
    /// See [`HOLD`].
    pub hold: Option<Duration>,
    /// See [`RETRY`].
    pub retry: RouteRetry,
}

/// Reads the modifiers.
pub fn modifiers(table: &mut Table<'_>) -> Modifiers {
    Modifiers {
        read_timeout: table.optional(&READ_TIMEOUT),
        hold: table.optional(&HOLD),
        retry: table.optional(&RETRY).unwrap_or_default(),
    }
}

/// The modifiers with their values.
pub fn modifier_pairs(read_timeout: Option<&Duration>, hold: Option<&Duration>, retry: &RouteRetry) -> Pairs {
    Pairs::default()
        .optional(&READ_TIMEOUT, read_timeout)
        .optional(&HOLD, hold)
        .optional(&RETRY, Some(retry).filter(|retry| **retry != RouteRetry::default()))
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
