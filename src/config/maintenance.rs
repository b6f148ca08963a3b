//! `maintenance` of a site: while a file exists, clients get 503.

use std::{path::PathBuf, time::Duration};

use super::{
    keys::{
        Key, Keys, Needed, Optional, Required, Shape, Unset,
        kind::{Of, Path, TIME},
    },
    networks::{NETWORK_LIST, Networks},
    paths,
    print::{Pairs, path},
    read::Value,
};

/// `maintenance` of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// While this file exists, the site is under maintenance.
    pub file: PathBuf,
    /// Page that clients get; `None` is the proxy's own.
    pub page: Option<PathBuf>,
    /// Time after which clients may ask again.
    pub retry_after: Option<Duration>,
    /// Networks whose clients are served as usual.
    pub except: Networks,
}

/// A maintenance switch.
pub const KIND: Of<Maintenance> =
    Of { shape: || Shape::Table(&KEYS), read, show: |maintenance| pairs(maintenance).braces() };

/// The keys of `maintenance`.
static KEYS: Keys = Keys {
    title: "`maintenance` of a site",
    place: "[[site]]\nmaintenance = { … }",
    about: "A switch by which every request of a site gets 503 with a page, before all routes.",
    groups: &[&[&FILE, &PAGE, &RETRY_AFTER, &EXCEPT]],
    later: &[],
};

static FILE: Required<Path> = Key {
    name: "file",
    kind: Path { home: "/srv/galaxy", check: paths::need_parent },
    default: Needed,
    about: "While this file exists, the site is under maintenance. A change is noticed within a second.",
    example: "file = \"/srv/galaxy/maintenance\"",
};

static PAGE: Optional<Path> = Key {
    name: "page",
    kind: Path { home: "/srv/galaxy/errors", check: paths::need_something },
    default: Unset("a short page of the proxy"),
    about: "File that is sent to browsers.",
    example: "page = \"/srv/galaxy/errors/maintenance.html\"",
};

static RETRY_AFTER: Optional<Of<Duration>> = Key {
    name: "retry_after",
    kind: TIME,
    default: Unset("not said"),
    about: "Retry-After: time after which clients may ask again.",
    example: "retry_after = \"30m\"",
};

static EXCEPT: Optional<Of<Networks>> = Key {
    name: "except",
    kind: NETWORK_LIST,
    default: Unset("nobody"),
    about: "Networks whose clients are served as usual.",
    example: "except = [\"192.0.2.0/24\"]",
};

fn read(value: Value<'_>) -> Option<Maintenance> {
    if let Some(file) = value.as_str() {
        return value.expected("a table", &format!("maintenance = {{ file = {file:?} }}"));
    }
    let mut table = value.table(&KEYS)?;
    let file = table.required(&FILE);
    let page = table.optional(&PAGE);
    let retry_after = table.optional(&RETRY_AFTER);
    let except = table.optional(&EXCEPT).unwrap_or_default();
    table.finish();
    Some(Maintenance { file: file?, page, retry_after, except })
}

fn pairs(maintenance: &Maintenance) -> Pairs {
    let except = &maintenance.except;
    Pairs::default()
        .written(&FILE, path(&maintenance.file))
        .written_if(&PAGE, maintenance.page.as_deref().map(path))
        .optional(&RETRY_AFTER, maintenance.retry_after.as_ref())
        .optional(&EXCEPT, Some(except).filter(|except| except.written().next().is_some()))
}
