//! `only` and `except` of a limit: requests by who sends them.

use http::Method;
use regex::Regex;

use crate::config::{
    diagnostic::Problem,
    keys::{Key, Keys, Optional, Shape, TextShape, Unset, kind::Of},
    networks::{self, Networks},
    pattern::Regexes,
    print::{Pairs, strings},
    read::Value,
    route::METHOD_LIST,
};

/// `only` or `except` of a limit: requests by who sends them.
#[derive(Debug, Clone, Default)]
pub struct Class {
    /// From these networks.
    pub networks: Option<Networks>,
    /// With a `User-Agent` that fits one of these.
    pub user_agents: Option<UserAgents>,
    /// With these methods.
    pub methods: Option<Vec<Method>>,
}

/// What a `User-Agent` may be like.
#[derive(Debug, Clone)]
pub struct UserAgents {
    /// As it stands in the configuration.
    pub written: Vec<String>,
    /// All in one.
    pub regex: Regex,
}

/// The kind of `only` and `except`.
pub const KIND: Of<Class> =
    Of { shape: || Shape::Table(&KEYS), read: class, show: |class| pairs(class).braces() };

/// The keys of `only` and `except`.
static KEYS: Keys = Keys {
    title: "`only` or `except` of `[limit.NAME]`",
    place: "[limit.api]\nkey = \"address\"\nrate = \"8r/s\"\nonly = { … }",
    about: "Requests by who sends them.",
    groups: &[&[&NETWORKS, &USER_AGENTS, &METHODS]],
    later: &[],
};

static NETWORKS: Optional<Of<Networks>> = Key {
    name: "networks",
    kind: Of { shape: networks::shape, read: networks::read, show: |networks| strings(networks.written()) },
    default: Unset("any"),
    about: "Networks that the client's address is in.",
    example: "networks = [\"10.0.0.0/8\"]",
};

static USER_AGENTS: Optional<Of<UserAgents>> = Key {
    name: "user_agents",
    kind: Of {
        shape: || Shape::Text(USER_AGENT).list(),
        read: user_agents,
        show: |agents| strings(&agents.written),
    },
    default: Unset("any"),
    about: "User-Agent headers, one of which must fit. `\"~ ^$\"` is a request without the header.",
    example: "user_agents = [\"~* bot|crawler\"]",
};

static METHODS: Optional<Of<Vec<Method>>> = Key {
    name: "methods",
    kind: METHOD_LIST,
    default: Unset("any"),
    about: "Methods of requests.",
    example: "methods = [\"POST\"]",
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
        let problem = Problem::new(format!("`{}` says nothing", value.name), "empty");
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
        let problem = Problem::new("`user_agents` names none", "empty");
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

/// A `"~ regex"`, a `"~* regex"`, or a word that is looked for in any case; as an expression.
fn user_agent(text: &str, regexes: &Regexes) -> Result<String, Problem> {
    // Each for itself, so that a mistake is told where it is.
    let regex = |source: &str, any_case| regexes.compile(source.trim_start(), any_case);
    Ok(match (text.strip_prefix("~*"), text.strip_prefix('~')) {
        (Some(source), _) => format!("(?i:{})", regex(source, true)?),
        (None, Some(source)) => format!("(?:{})", regex(source, false)?),
        (None, None) if text.trim().is_empty() => {
            let problem = Problem::new("an empty word is in every `User-Agent`", "says nothing");
            return Err(problem.help("for requests that send none write `\"~ ^$\"`"));
        }
        (None, None) => format!("(?i:{})", regex::escape(text)),
    })
}
