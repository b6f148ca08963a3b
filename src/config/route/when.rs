//! `when` of a route: conditions on requests, by which one of several routes for the same path is chosen.

use std::path::PathBuf;

use http::{HeaderName, Method};
use regex::Regex;

use super::METHOD_LIST;
use crate::config::{
    diagnostic::{Problem, show},
    headers::any_name,
    keys::{
        Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{Of, Path},
    },
    limit::{NETWORKS, USER_AGENT_LIST, UserAgents},
    networks::Networks,
    print::{Pairs, quote},
    read::{FileKey, Value},
};

/// `when` of a route: conditions that all must hold.
#[derive(Debug, Clone, Default)]
pub struct When {
    /// Methods; `GET` includes `HEAD`.
    pub methods: Option<Vec<Method>>,
    /// Conditions on request headers.
    pub headers: Vec<(HeaderName, Test)>,
    /// Conditions on cookies.
    pub cookies: Vec<(String, Test)>,
    /// Conditions on query parameters, which are compared decoded.
    pub query: Vec<(String, Test)>,
    /// Networks that contain the client's address.
    pub networks: Option<Networks>,
    /// Patterns of `User-Agent`, one of which must match.
    pub user_agents: Option<UserAgents>,
    /// File that must exist.
    pub exists: Option<PathBuf>,
}

/// Condition on a value.
#[derive(Debug, Clone)]
pub enum Test {
    /// `true`: the value is there.
    Present,
    /// `false`: the value is not there.
    Absent,
    /// The value is this text.
    Is(String),
    /// The value matches an expression.
    Matches {
        /// The condition as written.
        written: String,
        /// The expression.
        regex: Regex,
    },
}

impl Test {
    /// Whether the condition holds for `values`, of which one that fits is enough.
    pub fn holds<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        match self {
            Self::Present => values.next().is_some(),
            Self::Absent => values.next().is_none(),
            Self::Is(text) => values.any(|value| value == text.as_bytes()),
            Self::Matches { regex, .. } => {
                values.any(|value| regex.is_match(&String::from_utf8_lossy(value)))
            }
        }
    }
}

/// The kind of `when`.
pub const KIND: Of<When> = Of { shape: || Shape::Table(&KEYS), read, show: |when| pairs(when).braces() };

/// The keys of `when`.
static KEYS: Keys = Keys {
    title: "`when` of a route",
    place: "[site.routes]\n\"/\" = [\n    { answer = 403, when = { … } },\n    { answer = 204 },\n]",
    about: "Conditions on a request, all of which must hold. A value is compared with an exact text, with a regular \
            expression (`\"~ REGEX\"`, or `\"~* REGEX\"` in any case), or is present (`true`) or absent (`false`).",
    groups: &[&[&METHODS, &HEADERS, &COOKIES, &QUERY, &NETWORKS, &USER_AGENTS, &EXISTS]],
    later: &[],
};

static METHODS: Optional<Of<Vec<Method>>> = Key {
    name: "methods",
    kind: METHOD_LIST,
    default: Unset("any"),
    about: "Methods of the request. `GET` includes `HEAD`.",
    example: "methods = [\"POST\"]",
};

static HEADERS: Optional<Of<Vec<(HeaderName, Test)>>> = Key {
    name: "headers",
    kind: Of { shape, read: |value| tests(value, any_name), show: |tests| show_tests(tests) },
    default: Unset("any"),
    about: "Conditions on headers of the request, by name.",
    example: "headers = { Accept = \"~ text/html\", X-Requested-With = false }",
};

static COOKIES: Optional<Of<Vec<(String, Test)>>> = Key {
    name: "cookies",
    kind: Of { shape, read: |value| tests(value, name), show: |tests| show_tests(tests) },
    default: Unset("any"),
    about: "Conditions on cookies, by name.",
    example: "cookies = { galaxysession = true }",
};

static QUERY: Optional<Of<Vec<(String, Test)>>> = Key {
    name: "query",
    kind: Of { shape, read: |value| tests(value, name), show: |tests| show_tests(tests) },
    default: Unset("any"),
    about: "Conditions on query parameters, by name. Values are compared decoded.",
    example: "query = { format = \"json\" }",
};

static USER_AGENTS: Optional<Of<UserAgents>> = Key {
    name: "user_agents",
    kind: USER_AGENT_LIST,
    default: Unset("any"),
    about: "Patterns of User-Agent, one of which must match: a word in any case, or a regular expression.",
    example: "user_agents = [\"~* bot|crawler\"]",
};

static EXISTS: Optional<Path> = Key {
    name: "exists",
    kind: Path { home: "/srv/galaxy", check: |_, _| {} },
    default: Unset("nothing"),
    about: "File or directory that must exist. A change is noticed within a second.",
    example: "exists = \"/srv/galaxy/maintenance\"",
};

fn shape() -> Shape {
    const TEST: TextShape =
        TextShape { what: "text, `\"~ REGEX\"`, or `\"~* REGEX\"` in any case", pattern: "" };
    Shape::Either(vec![Shape::Text(TEST), Shape::Boolean]).by("NAME")
}

fn read(value: Value<'_>) -> Option<When> {
    let mut table = value.table(&KEYS)?;
    if KEYS.iter().all(|key| !table.has(key)) && table.unknown().next().is_none() {
        let problem = Problem::new("`when` has no conditions", "empty");
        value.error(problem.help("write for example `when = { methods = [\"POST\"] }`, or remove it"));
    }
    let when = When {
        methods: table.optional(&METHODS),
        headers: table.optional(&HEADERS).unwrap_or_default(),
        cookies: table.optional(&COOKIES).unwrap_or_default(),
        query: table.optional(&QUERY).unwrap_or_default(),
        networks: table.optional(&NETWORKS),
        user_agents: table.optional(&USER_AGENTS),
        exists: table.optional(&EXISTS),
    };
    table.finish();
    Some(when)
}

/// The keys with their values.
fn pairs(when: &When) -> Pairs {
    Pairs::default()
        .optional(&METHODS, when.methods.as_ref())
        .optional(&HEADERS, Some(&when.headers).filter(|tests| !tests.is_empty()))
        .optional(&COOKIES, Some(&when.cookies).filter(|tests| !tests.is_empty()))
        .optional(&QUERY, Some(&when.query).filter(|tests| !tests.is_empty()))
        .optional(&NETWORKS, when.networks.as_ref())
        .optional(&USER_AGENTS, when.user_agents.as_ref())
        .optional(&EXISTS, when.exists.as_ref())
}

fn tests<N>(value: Value<'_>, name: impl Fn(&str) -> Result<N, Problem>) -> Option<Vec<(N, Test)>> {
    let entry = |(key, value): (FileKey<'_>, Value<'_>)| Some((key.read(&name)?, test(value)?));
    Some(value.entries()?.into_iter().filter_map(entry).collect())
}

fn name(text: &str) -> Result<String, Problem> {
    match text.is_empty() || text.contains(['=', ';', '&']) {
        true => Err(Problem::new(format!("{} is not a name", show(text)), "no `=`, `;` or `&`")),
        false => Ok(text.into()),
    }
}

fn test(value: Value<'_>) -> Option<Test> {
    match value.as_bool() {
        Some(true) => return Some(Test::Present),
        Some(false) => return Some(Test::Absent),
        None => {}
    }
    let text = value.string_like("cookies = { galaxysession = true }")?;
    let any_case = text.starts_with("~*");
    let Some(source) = text.strip_prefix("~*").or_else(|| text.strip_prefix('~')) else {
        return Some(Test::Is(text.into()));
    };
    let regexes = &value.context.regexes;
    let regex = value.parse(source.trim_start(), |source| regexes.compile(source, any_case))?;
    Some(Test::Matches { written: text.into(), regex })
}

fn show_tests<N: AsRef<str>>(tests: &[(N, Test)]) -> String {
    let shown = |test: &Test| match test {
        Test::Present => "true".into(),
        Test::Absent => "false".into(),
        Test::Is(text) => quote(text),
        Test::Matches { written, .. } => quote(written),
    };
    let add = |pairs: Pairs, (name, test): &(N, Test)| pairs.named(quote(name.as_ref()), shown(test));
    tests.iter().fold(Pairs::default(), add).braces()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_exact_texts_expressions_and_presence() {
        let matches = Test::Matches { written: "~ ^a".into(), regex: Regex::new("^a").unwrap() };
        for (test, values, holds) in [
            (&Test::Present, &["x"][..], true),
            (&Test::Present, &[], false),
            (&Test::Absent, &[], true),
            (&Test::Absent, &[""], false),
            (&Test::Is("a".into()), &["b", "a"], true),
            (&Test::Is("a".into()), &["A"], false),
            (&matches, &["b", "ab"], true),
            (&matches, &["ba"], false),
            (&matches, &[], false),
        ] {
            assert_eq!(test.holds(values.iter().map(|value| value.as_bytes())), holds, "{test:?} {values:?}");
        }
    }
}
