//! `[cors.NAME]`, and `cors` of a site or a route: pages of other origins that may read responses (the CORS protocol
//! of the Fetch standard).

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};
use regex::Regex;

use super::{
    diagnostic::{Problem, show},
    headers,
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{BOOLEAN, DURATION, Of, Shaped},
    },
    named::{Examples, NamedTables},
    print::{Out, Pairs, bare_or_quoted, quote, strings},
    read::Value,
    route::METHOD_LIST,
};

/// Origins whose pages may read the responses, and what they may ask for.
#[derive(Debug, Clone)]
pub struct Cors {
    /// Name, if it is a table of the file.
    name: Option<String>,
    /// Origins.
    origins: Vec<Origin>,
    /// Methods that are allowed to pages; `None` allows what is asked for.
    pub methods: Option<Vec<Method>>,
    /// Request headers that are allowed to pages; `None` allows what is asked for.
    pub headers: Option<Vec<HeaderName>>,
    /// Response headers that pages may read beside the safelisted ones.
    pub expose: Vec<HeaderName>,
    /// Whether pages may send cookies.
    pub credentials: bool,
    /// Time for which a browser may remember the response to a preflight request.
    pub max_age: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Origin {
    Any,
    Exact(String),
    Regex { written: String, regex: Regex },
}

impl Cors {
    /// The value of `Access-Control-Allow-Origin` for a request from `origin`; `None` where it is not allowed.
    pub fn allowed_origin(&self, origin: &str) -> Option<HeaderValue> {
        if self.origins.iter().any(|allowed| matches!(allowed, Origin::Any)) {
            return Some(HeaderValue::from_static("*"));
        }
        let fits = |allowed: &Origin| match allowed {
            Origin::Any => true,
            Origin::Exact(text) => text == origin,
            Origin::Regex { regex, .. } => regex.is_match(origin),
        };
        self.origins.iter().any(fits).then(|| HeaderValue::from_str(origin).ok()).flatten()
    }
}

/// The keys of `[cors.NAME]`.
pub static KEYS: Keys = Keys {
    title: "`[cors.NAME]`",
    place: "[cors.browsers]\n…",
    about: "Pages of other origins that may read responses (CORS). Preflight requests are answered by the proxy, and \
            the application's own Access-Control headers are replaced.",
    groups: &[&[&ORIGINS, &METHODS, &HEADERS, &EXPOSE, &CREDENTIALS, &MAX_AGE]],
    later: &[],
};

static ORIGINS: Required<Of<Vec<Origin>>> = Key {
    name: "origins",
    kind: Of {
        shape: || Shape::Text(ORIGIN).list(),
        read: origins,
        show: |origins| strings(origins.iter().map(written)),
    },
    default: Needed,
    about: "Origins whose pages may read the responses. `\"*\"` is every origin, without cookies.",
    example: "origins = [\"https://usegalaxy.org\", '~ ^https://[a-z]+\\.example\\.org$']",
};

static METHODS: Optional<Of<Vec<Method>>> = Key {
    name: "methods",
    kind: METHOD_LIST,
    default: Unset("the method that is asked for"),
    about: "Methods that are allowed to pages of these origins.",
    example: "methods = [\"GET\", \"POST\"]",
};

static HEADERS: Optional<Of<Vec<HeaderName>>> = Key {
    name: "headers",
    kind: headers::NAMES,
    default: Unset("those that are asked for"),
    about: "Request headers that pages may send.",
    example: "headers = [\"X-Api-Key\", \"Content-Type\"]",
};

static EXPOSE: Optional<Of<Vec<HeaderName>>> = Key {
    name: "expose",
    kind: headers::NAMES,
    default: Unset("the safelisted ones"),
    about: "Response headers that pages may read.",
    example: "expose = [\"Content-Length\", \"Content-Range\"]",
};

static CREDENTIALS: Defaulted<Of<bool>> = Key {
    name: "credentials",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Pages may send cookies and Authorization.",
    example: "credentials = true",
};

static MAX_AGE: Optional<Of<Duration>> = Key {
    name: "max_age",
    kind: DURATION,
    default: Unset("that of the browser: five seconds"),
    about: "Time for which a browser may remember what a preflight request has allowed.",
    example: "max_age = \"10m\"",
};

const ORIGIN: TextShape =
    TextShape { what: "origin such as `\"https://usegalaxy.org\"`, `\"~ REGEX\"`, or `\"*\"`", pattern: "" };

/// Key `cors` of sites and routes.
pub const fn key(default: Unset) -> Optional<Shaped> {
    Key {
        name: "cors",
        kind: Shaped(|| {
            let name = TextShape { what: "name of a `[cors.NAME]`, or `\"none\"`", pattern: "" };
            Shape::Either(vec![Shape::Text(name), Shape::Table(&KEYS)])
        }),
        default,
        about: "Pages of other origins that may read the responses: a `[cors.NAME]` or its keys in place. `\"none\"` \
                removes what the site has.",
        example: "cors = { origins = [\"*\"] }",
    }
}

/// The `[cors.NAME]` of a file.
pub type CorsTables = NamedTables<Arc<Cors>>;

const EXAMPLES: Examples = Examples {
    kind: "cors",
    key: "cors = { origins = [\"*\"] }",
    line: "origins = [\"https://usegalaxy.org\"]",
};

/// Reads `[cors]`.
pub fn tables(value: Value<'_>) -> CorsTables {
    NamedTables::read(value, |value, name| read(value, Some(name)))
}

/// Reads `cors` of a site or a route; `Some(None)` is none.
pub fn choose(value: Value<'_>, tables: &CorsTables) -> Option<Option<Arc<Cors>>> {
    tables.choose(value, &EXAMPLES, |value| read(value, None), Arc::clone)
}

/// Writes a `[cors.NAME]`.
pub fn show_table(out: &mut Out, name: &str, cors: &Cors) {
    out.table(&format!("[cors.{}]", bare_or_quoted(name)), &pairs(cors));
}

/// The value of `cors`.
pub fn show_value(cors: Option<&Arc<Cors>>) -> String {
    match cors {
        None => quote("none"),
        Some(cors) => cors.name.as_ref().map_or_else(|| pairs(cors).braces(), |name| quote(name)),
    }
}

fn pairs(cors: &Cors) -> Pairs {
    Pairs::default()
        .key(&ORIGINS, &cors.origins)
        .optional(&METHODS, cors.methods.as_ref())
        .optional(&HEADERS, cors.headers.as_ref())
        .optional(&EXPOSE, Some(&cors.expose).filter(|names| !names.is_empty()))
        .unless_default(&CREDENTIALS, &cors.credentials)
        .optional(&MAX_AGE, cors.max_age.as_ref())
}

fn read(value: Value<'_>, name: Option<&str>) -> Option<Arc<Cors>> {
    let mut table = value.table(&KEYS)?;
    let origins = table.required(&ORIGINS);
    let methods = table.optional(&METHODS);
    let headers = table.optional(&HEADERS);
    let expose = table.optional(&EXPOSE).unwrap_or_default();
    let credentials = table.place_of(&CREDENTIALS);
    let allows_credentials = table.read(&CREDENTIALS);
    let max_age = table.optional(&MAX_AGE);
    table.finish();
    let origins = origins?;
    if let Some(credentials) = credentials
        && allows_credentials
        && origins.iter().any(|origin| matches!(origin, Origin::Any))
    {
        let problem = Problem::new("cookies cannot be allowed to every origin", "not together with `\"*\"`");
        credentials
            .error(problem.help("list the origins; browsers refuse `*` with credentials (Fetch §3.2.5)"));
        return None;
    }
    let name = name.map(str::to_owned);
    Some(Arc::new(Cors { name, origins, methods, headers, expose, credentials: allows_credentials, max_age }))
}

fn origins(value: Value<'_>) -> Option<Vec<Origin>> {
    let items = value.list()?;
    if items.is_empty() {
        let problem = Problem::new("`origins` lists no origin", "empty");
        value.error(problem.help("write for example `origins = [\"https://usegalaxy.org\"]`"));
        return None;
    }
    let origin = |item: Value<'_>| {
        let text = item.string()?;
        let Some(source) = text.strip_prefix('~') else { return item.parse(text, origin) };
        let any_case = source.starts_with('*');
        let source = source.trim_start_matches('*').trim_start();
        let regex = item.parse(source, |source| item.context.regexes.compile(source, any_case))?;
        if !source.starts_with('^') || !source.ends_with('$') {
            let problem = Problem::new(
                format!("{} may match a part of an origin", show(text)),
                "not between `^` and `$`",
            );
            item.context.warn(
                item.span(),
                problem.help(
                    "other origins that have this in their name are allowed too: write `'~ ^https://…$'`",
                ),
            );
        }
        Some(Origin::Regex { written: text.into(), regex })
    };
    Some(items.into_iter().filter_map(origin).collect())
}

fn origin(text: &str) -> Result<Origin, Problem> {
    if text == "*" {
        return Ok(Origin::Any);
    }
    let problem = || {
        Problem::new(format!("{} is not an origin", show(text)), "a scheme, a host, and a port if need be")
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        let help = if text == "null" {
            "any page can have the origin `null`: list the origins that are meant".into()
        } else {
            format!("write `\"https://{text}\"`")
        };
        return Err(problem().help(help));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || rest.contains('*') {
        return Err(problem().help(
            "write for example `\"https://usegalaxy.org\"` or `'~ ^https://[a-z]+\\.example\\.org$'`",
        ));
    }
    if host != rest || text.chars().any(|letter| letter.is_ascii_uppercase() || letter.is_whitespace()) {
        let plain = format!("{scheme}://{host}").to_lowercase();
        return Err(problem().help(format!("write `{plain:?}`, as browsers send it: no path, in lower case")));
    }
    Ok(Origin::Exact(text.into()))
}

fn written(origin: &Origin) -> &str {
    match origin {
        Origin::Any => "*",
        Origin::Exact(text) => text,
        Origin::Regex { written, .. } => written,
    }
}
