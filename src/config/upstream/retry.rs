//! `upstream.retry`: retries of requests.

use http::StatusCode;

use crate::config::{
    diagnostic::Problem,
    keys::{
        Defaulted, Is, Key, Keys, Shape,
        kind::{Integer, Of, SHARE},
    },
    print::{Pairs, list},
    read::{Context, Table, Value},
    route::status,
};

/// `upstream.retry`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all once any bytes of a request were sent; at least 1.
    pub tries: u32,
    /// Retries per hundred requests, at most.
    pub budget: u32,
    /// Statuses that are retried on another server.
    pub on: Vec<StatusCode>,
}

/// The keys of `retry` of an upstream.
pub static KEYS: Keys = Keys {
    title: "`retry` of `[upstream.NAME]`",
    place: "[upstream.galaxy]\nservers = [\"unix:/run/galaxy/gunicorn.sock\"]\nretry = { … }",
    about: "Retries of requests on another server: of all methods when a server cannot be connected to, and of \
            idempotent methods when a server fails before the first byte of its response.",
    groups: &[&[&TRIES_KEY, &BUDGET, &ON]],
    later: &[],
};

static TRIES_KEY: Defaulted<Integer> = Key {
    name: "tries",
    kind: TRIES,
    default: Is(|| 4),
    about: "Attempts in all for a request of which any bytes were sent.",
    example: "tries = 2",
};

static BUDGET: Defaulted<Of<u32>> = Key {
    name: "budget",
    kind: SHARE,
    default: Is(|| 20),
    about: "Most retries in percent of requests. A hundred in five to ten seconds are always allowed. It keeps \
            retries from adding to an overload.",
    example: "budget = \"10%\"",
};

static ON: Defaulted<Of<Vec<StatusCode>>> = Key {
    name: "on",
    kind: STATUSES,
    default: Is(Vec::new),
    about: "Statuses from 400 to 599 that are retried on another server, if one is free. Only for GET, HEAD and \
            OPTIONS, unless a route has `retry = { unsafe = true }`.",
    example: "on = [502, 503, 504]",
};

/// Attempts for a request in all.
pub const TRIES: Integer = Integer(1, 100);

/// Statuses that are retried on another server.
pub const STATUSES: Of<Vec<StatusCode>> = Of {
    shape: || Shape::Integer(400, 599).list(),
    read: statuses,
    show: |statuses| list(statuses.iter().map(|status| status.as_u16().to_string())),
};

/// Reads `retry`.
pub fn read(value: Value<'_>) -> Option<Retry> {
    value.table(&KEYS).map(read_table)
}

/// The settings of an upstream without `retry`.
pub fn absent(context: &Context<'_>) -> Retry {
    read_table(Table::absent(context, &KEYS))
}

fn read_table(mut table: Table<'_>) -> Retry {
    let retry = Retry { tries: table.read(&TRIES_KEY), budget: table.read(&BUDGET), on: table.read(&ON) };
    table.finish();
    retry
}

/// The keys with their values.
pub fn pairs(retry: &Retry) -> Pairs {
    Pairs::default().key(&TRIES_KEY, &retry.tries).key(&BUDGET, &retry.budget).unless_default(&ON, &retry.on)
}

fn statuses(value: Value<'_>) -> Option<Vec<StatusCode>> {
    let error = |item: Value<'_>| {
        let status = status(item)?;
        let is_error = status.is_client_error() || status.is_server_error();
        if !is_error {
            let problem = Problem::new(
                format!("{} is not an error status", status.as_u16()),
                "must be from 400 to 599",
            );
            item.error(problem.help("write for example `on = [502, 503, 504]`"));
        }
        is_error.then_some(status)
    };
    let statuses = value.list()?.into_iter().filter_map(error).collect();
    Some(statuses)
}
