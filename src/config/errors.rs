//! `errors` of a site or a route: files that are sent in place of error responses.

use std::{collections::BTreeMap, path::PathBuf};

use http::StatusCode;

use super::{
    diagnostic::{self, Problem},
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, Unset,
        kind::{self, BOOLEAN, Of, Path, Reads},
    },
    paths,
    print::{Pairs, path},
    read::Value,
    route::status,
};

/// Error pages by status.
pub type ErrorPages = BTreeMap<u16, ErrorPage>;

/// Page that is sent in place of an error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// The file.
    pub page: PathBuf,
    /// Status that is sent; `None` keeps that of the error.
    pub status: Option<StatusCode>,
    /// Whether responses of upstream servers with the status are replaced too.
    pub upstream: bool,
}

/// A table of error pages.
pub const KIND: Of<ErrorPages> = Of {
    shape: || Shape::Either(vec![Shape::Text(kind::FILE), Shape::Table(&KEYS)]).by("STATUS"),
    read,
    show: |pages| show(pages),
};

/// Key `errors` of sites and routes.
pub const fn key(default: Unset) -> Optional<Of<ErrorPages>> {
    Key {
        name: "errors",
        kind: KIND,
        default,
        about: "Files that are sent in place of the proxy's own error pages, by status from 400 to 599. The table of a \
                route is added to that of its site (nginx's `error_page`).",
        example: "errors = { 404 = \"/srv/galaxy/errors/404.html\" }",
    }
}

/// The keys of an error page.
static KEYS: Keys = Keys {
    title: "an error page",
    place: "[[site]]\nerrors = { 502 = { … } }",
    about: "A file that is sent in place of an error response.",
    groups: &[&[&PAGE, &STATUS, &UPSTREAM]],
    later: &[],
};

static PAGE: Required<Path> = Key {
    name: "page",
    kind: Path { home: "/srv/galaxy/errors", check: paths::need_something },
    default: Needed,
    about: "The file. What the page refers to is served by ordinary routes.",
    example: "page = \"/srv/galaxy/errors/502.html\"",
};

static STATUS: Optional<Of<StatusCode>> = Key {
    name: "status",
    kind: Of { shape: || Shape::Integer(200, 599), read: status, show: |status| status.as_u16().to_string() },
    default: Unset("that of the error"),
    about: "Status of the response in place of that of the error.",
    example: "status = 503",
};

static UPSTREAM: Defaulted<Of<bool>> = Key {
    name: "upstream",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Responses of upstream servers with this status are replaced too (nginx's `proxy_intercept_errors`), but for \
            clients that prefer JSON: programs read the application's own errors.",
    example: "upstream = true",
};

fn read(value: Value<'_>) -> Option<ErrorPages> {
    const EXAMPLE: &str = "errors = { 404 = \"/srv/galaxy/errors/404.html\" }";
    let status = |text: &str| match text.parse() {
        Ok(status @ 400..=599_u16) => Ok(status),
        _ => {
            let problem = Problem::new(
                format!("{} is not the status of an error", diagnostic::show(text)),
                "from 400 to 599",
            );
            Err(problem.help(format!("write for example `{EXAMPLE}`")))
        }
    };
    let mut pages = ErrorPages::new();
    for (key, value) in value.entries()? {
        let page = if value.as_table().is_some() {
            table(value)
        } else {
            let page = value.string_like(EXAMPLE).and_then(|_| PAGE.kind.read(value));
            page.map(|page| ErrorPage { page, status: None, upstream: false })
        };
        pages.extend(key.read(status).zip(page));
    }
    Some(pages)
}

fn table(value: Value<'_>) -> Option<ErrorPage> {
    let mut table = value.table(&KEYS)?;
    let page = table.required(&PAGE);
    let status = table.optional(&STATUS);
    let upstream = table.read(&UPSTREAM);
    table.finish();
    Some(ErrorPage { page: page?, status, upstream })
}

fn show(pages: &ErrorPages) -> String {
    let shown = |page: &ErrorPage| match page {
        ErrorPage { page, status: None, upstream: false } => path(page),
        page => Pairs::default()
            .written(&PAGE, path(&page.page))
            .optional(&STATUS, page.status.as_ref())
            .unless_default(&UPSTREAM, &page.upstream)
            .braces(),
    };
    let add = |pairs: Pairs, (status, page): (&u16, &ErrorPage)| pairs.named(status.to_string(), shown(page));
    pages.iter().fold(Pairs::default(), add).braces()
}
