//! `only` and `except` of a limit: classes of requests by their sender and method.

use http::Method;
use regex::Regex;

use crate::config::{
    diagnostic::Problem,
    keys::{Key, Keys, Optional, Shape, TextShape, Unset, kind::Of},
    networks::{NETWORK_LIST, Networks},
    pattern::Regexes,
    print::{Pairs, strings},
    read::Value,
    route::METHOD_LIST,
};

/// `only` or `except` of a limit: a class of requests by sender and method.
#[derive(Debug, Clone, Default)]
pub struct Class {
    /// Networks that contain the client's address.
    pub networks: Option<Networks>,
    /// Patterns of `User-Agent`, one of which must match.
    pub user_agents: Option<UserAgents>,
    /// Methods.
    pub methods: Option<Vec<Method>>,
}

/// Patterns of `User-Agent`.
#[derive(Debug, Clone)]
pub struct UserAgents {
    /// The entries as written in the configuration.
    pub written: Vec<String>,
    /// Alternation of all entries.
    pub regex: Regex,
}

impl UserAgents {
    /// Whether one of these values of `User-Agent` matches, or the pattern of a request without any. Invalid UTF-8 does
    /// not bypass the patterns.
    pub fn holds<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> bool {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return self.regex.is_match("");
        }
        values.any(|agent| self.regex.is_match(&String::from_utf8_lossy(agent)))
    }
}

/// The kind of `only` and `except`.
pub const KIND: Of<Class> =
    Of { shape: || Shape::Table(&KEYS), read: class, show: |class| pairs(class).braces() };

/// The keys of `only` and `except`.
static KEYS: Keys = Keys {
    title: "`only` or `except` of `[limit.NAME]`",
    place: "[limit.api]\nkey = \"address\"\nrate = \"8r/s\"\nonly = { … }",
    about: "Requests by client address, User-Agent and method.",
    groups: &[&[&NETWORKS, &USER_AGENTS, &METHODS]],
    later: &[],
};

/// Key `networks` of conditions on a request.
pub static NETWORKS: Optional<Of<Networks>> = Key {
    name: "networks",
    kind: NETWORK_LIST,
    default: Unset("any"),
    about: "Networks that contain the address of the client.",
    example: "networks = [\"10.0.0.0/8\"]",
};

static USER_AGENTS: Optional<Of<UserAgents>> = Key {
    name: "user_agents",
    kind: USER_AGENT_LIST,
    default: Unset("any"),
    about: "Patterns of User-Agent, one of which must match. `\"~ ^$\"` is a request without the header.",
    example: "user_agents = [\"~* bot|crawler\"]",
};

static METHODS: Optional<Of<Vec<Method>>> = Key {
    name: "methods",
    kind: METHOD_LIST,
    default: Unset("any"),
    about: "Methods of requests.",
    example: "methods = [\"POST\"]",
};

/// A list of patterns of `User-Agent`.
pub const USER_AGENT_LIST: Of<UserAgents> = Of {
    shape: || Shape::Text(USER_AGENT).list(),
    read: user_agents,
    show: |agents| strings(&agents.written),
};

const USER_AGENT: TextShape =
    TextShape { what: "word in any case, `\"~ REGEX\"`, or `\"~* REGEX\"` in any case", pattern: "" };

/// The keys with their values.
pub fn pairs(class: &Class) -> Pairs {
    Pairs::default()
        .optional(&NETWORKS, class.networks.as_ref())
        .optional(&USER_AGENTS, class.user_agents.as_ref())
        .optional(&METHODS, class.methods.as_ref())
}

fn class(value: Value<'_>) -> Option<Class> {
    let mut table = value.table(&KEYS)?;
    if KEYS.iter().all(|key| !table.has(key)) && table.unknown().next().is_none() {
        let problem = Problem::new(format!("`{}` has no conditions", value.name), "empty");
        value.error(
            problem.help(format!("write for example `{} = {{ {} }}`", value.name, USER_AGENTS.example)),
        );
    }
    let class = Class {
        networks: table.optional(&NETWORKS),
        user_agents: table.optional(&USER_AGENTS),
        methods: table.optional(&METHODS),
    };
    table.finish();
    Some(class)
}

fn user_agents(value: Value<'_>) -> Option<UserAgents> {
    let items = value.list()?;
    if items.is_empty() {
        let problem = Problem::new("`user_agents` lists no pattern", "empty");
        value.error(problem.help(format!("write for example `{}`", value.example())));
        return None;
    }
    let regexes = &value.context.regexes;
    let (mut written, mut sources) = (Vec::new(), Vec::new());
    for item in items {
        let Some(text) = item.string() else { continue };
        if let Some(source) = item.parse(text, |text| user_agent(text, regexes)) {
            written.push(text.to_owned());
            sources.push(source);
        }
    }
    let regex = value.parse(&sources.join("|"), |source| regexes.compile(source, false))?;
    Some(UserAgents { written, regex })
}

/// Reads a `"~ regex"`, a `"~* regex"`, or a word that is searched for case-insensitively, into an expression.
fn user_agent(text: &str, regexes: &Regexes) -> Result<String, Problem> {
    // Compiled one by one, so that an error is reported at its own entry.
    let regex = |source: &str, any_case| regexes.compile(source.trim_start(), any_case);
    Ok(match (text.strip_prefix("~*"), text.strip_prefix('~')) {
        (Some(source), _) => format!("(?i:{})", regex(source, true)?),
        (None, Some(source)) => format!("(?:{})", regex(source, false)?),
        (None, None) if text.trim().is_empty() => {
            let problem = Problem::new("an empty word matches every `User-Agent`", "matches everything");
            return Err(problem.help("for requests that send none write `\"~ ^$\"`"));
        }
        (None, None) => format!("(?i:{})", regex::escape(text)),
    })
}
