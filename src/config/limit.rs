//! `[limit.NAME]`: how much one client may ask for, and which clients that is about.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use http::{HeaderName, Method};
use regex::Regex;

use super::{
    diagnostic::{Problem, Span, show},
    headers,
    networks::{self, Networks},
    pattern::Regexes,
    read::{CLASS, Context, Key, LIMIT, Table, Value, closest, integer, text},
    route::methods,
    units::{self, Rate},
};

/// `[limit.NAME]`
#[derive(Debug, Clone)]
pub struct Limit {
    /// Its name in the file and in metrics.
    pub name: String,
    /// What tells clients apart: the first of these that a request has.
    pub key: Vec<LimitKey>,
    /// How many requests a client may send in a time.
    pub rate: Option<Rate>,
    /// How many more it may send at once.
    pub burst: u32,
    /// How many of its requests may be in progress at once.
    pub connections: Option<u32>,
    /// Which requests it is about; all when it says nothing.
    pub only: Class,
    /// Which of them it is not about.
    pub except: Class,
    /// Whether it is only counted what would be refused.
    pub dry_run: bool,
    /// How many clients are remembered at most.
    pub keys: usize,
}

/// A word of `limit.key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// A field.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
    /// The client's address; of IPv6 the /64, for nobody has fewer addresses.
    Address,
    /// The network that the address is in: /24 of IPv4, /48 of IPv6.
    Network,
    /// The same for all.
    All,
}

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

/// The names of limits, in the order in which they are asked.
pub type LimitNames = Arc<[String]>;

const KEY: &str = "key = [\"header:x-api-key\", \"cookie:galaxysession\", \"address\"]";
const USER_AGENTS: &str = "user_agents = [\"~* bot|crawler\"]";
const KEYS: usize = 100_000;

/// The limits of a file, and which of them sites and routes use.
#[derive(Default)]
pub struct Limits {
    /// Those without mistakes.
    pub read: BTreeMap<String, Limit>,
    /// All, so that a mistake inside of one does not make it unknown too.
    names: BTreeMap<String, (Span, Cell<bool>)>,
}

impl Limits {
    /// Reads `[limit]`, the table of all.
    pub fn read(value: Value<'_>) -> Self {
        let mut limits = Self::default();
        let Some(entries) = all(value) else { return limits };
        for (key, value) in entries {
            let name = key.read(name);
            // One that cannot have its name is told by that alone.
            let used = Cell::new(name.is_none());
            limits.names.insert(key.text.into(), (key.span(), used));
            if let Some(limit) = name.and_then(|name| limit(name, value)) {
                limits.read.insert(limit.name.clone(), limit);
            }
        }
        limits
    }

    /// Reads `limits` of a site or `limit` of a route: a list of names, one name, or `none`.
    pub fn named(&self, value: Value<'_>) -> Option<LimitNames> {
        let items = match value.as_str() {
            Some("none") => return Some(Arc::default()),
            Some(_) => vec![value],
            None => value.list(&format!("{} = [\"api\"]", value.name))?,
        };
        let mut names: Vec<String> = Vec::new();
        for item in items {
            let name = text("[\"api\"]", |name| self.known(name))(item);
            names.extend(name.filter(|name| !names.contains(name)));
        }
        Some(names.into())
    }

    fn known(&self, name: &str) -> Result<String, Problem> {
        if let Some((_, used)) = self.names.get(name) {
            used.set(true);
            return Ok(name.into());
        }
        let problem = Problem::new(format!("there is no limit {}", show(name)), "not known");
        Err(match closest(name, self.names.keys().map(String::as_str)) {
            Some(near) => {
                self.names[near].1.set(true);
                problem.help(format!("did you mean `{near}`?"))
            }
            None => problem.help("add it:\n[limit.NAME]\nkey  = \"address\"\nrate = \"8r/s\""),
        })
    }

    /// Notes the limits that hold nowhere.
    pub fn warn_unused(&self, context: &Context<'_>) {
        for (name, (span, _)) in self.names.iter().filter(|(_, (_, used))| !used.get()) {
            let problem = Problem::new(format!("nothing uses the limit {}", show(name)), "holds nowhere");
            let help = format!("use it in a site: `limits = [\"{name}\"]`, or take it out");
            context.warn(span.clone(), problem.help(help));
        }
    }
}

fn all(value: Value<'_>) -> Option<Vec<(Key<'_>, Value<'_>)>> {
    let entries = value.entries("[limit.NAME]")?;
    // Known keys right here: the name was left out.
    match entries.iter().find(|(key, value)| LIMIT.now.contains(&key.text) && value.as_table().is_none()) {
        Some((key, _)) => {
            key.error(
                Problem::new("a limit needs a name", "stands in `[limit]` itself")
                    .help("write `[limit.api]` above it, and `limits = [\"api\"]` in a site"),
            );
            None
        }
        None => Some(entries),
    }
}

fn name(text: &str) -> Result<String, Problem> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if text.is_empty() || text == "none" || !text.bytes().all(allowed) {
        let title = format!("{} cannot be the name of a limit", show(text));
        return Err(Problem::new(title, "letters, digits, `_`, `-` and `.`, and not `none`"));
    }
    Ok(text.into())
}

fn limit(name: String, value: Value<'_>) -> Option<Limit> {
    let example = format!("[limit.{name}]\n{KEY}\nrate = \"8r/s\"");
    let mut table = value.table(&LIMIT, &example)?;
    let key = table.required("key", KEY.trim_start_matches("key = "), keys);
    let has_rate = !table.which(&["rate"]).is_empty();
    if !has_rate && table.which(&["connections"]).is_empty() && table.unknown().next().is_none() {
        let problem = Problem::new("a limit without `rate` or `connections` limits nothing", "needs one");
        value.error(problem.help("add for example `rate = \"8r/s\"`, or `connections = 20`"));
    }
    if let (Some(burst), false) = (table.which(&["burst"]).first().copied(), has_rate) {
        let problem = Problem::new("`burst` is what may come above `rate`, and there is none", "of nothing");
        burst.error(problem.help("add for example `rate = \"8r/s\"`, or take it out"));
    }
    let limit = Limit {
        name,
        key: Vec::new(),
        rate: table.optional("rate", rate),
        burst: table.optional("burst", integer(0..=1_000_000)).unwrap_or_default(),
        connections: table.optional("connections", integer(1..=u32::MAX)),
        only: table.optional("only", class).unwrap_or_default(),
        except: table.optional("except", class).unwrap_or_default(),
        dry_run: table.optional("dry_run", Value::boolean).unwrap_or(false),
        keys: table.optional("keys", integer(100..=10_000_000)).map_or(KEYS, |keys| keys as usize),
    };
    table.finish();
    Some(Limit { key: key?, ..limit })
}

fn rate(value: Value<'_>) -> Option<Rate> {
    if let Some((number, 10)) = value.as_integer() {
        return value.wanted("a string with a unit", &format!("rate = \"{number}r/s\""));
    }
    text("\"8r/s\"", units::rate)(value)
}

/// One word or a list of them.
fn keys(value: Value<'_>) -> Option<Vec<LimitKey>> {
    let items = match value.as_str() {
        Some(_) => vec![value],
        None => value.list(KEY)?,
    };
    if items.is_empty() {
        let problem = Problem::new("`key` has nothing that tells clients apart", "empty");
        value.error(
            problem.help(format!("write for example `{KEY}`, or `key = \"all\"` for one count of all")),
        );
    }
    let mut keys: Vec<LimitKey> = Vec::new();
    for item in items {
        let Some(key) = item.string(KEY).and_then(|text| item.parse(text, key)) else { continue };
        let last =
            keys.last().filter(|last| matches!(last, LimitKey::Address | LimitKey::Network | LimitKey::All));
        if let Some(last) = last {
            let problem = Problem::new(
                format!("`{}` is never looked at", key_word(&key)),
                format!("every request has `{}`", key_word(last)),
            );
            item.error(problem.help(
                "take it out, or put it first; for one limit beside another write a second `[limit.NAME]`",
            ));
        }
        keys.push(key);
    }
    Some(keys)
}

fn key(text: &str) -> Result<LimitKey, Problem> {
    let unknown = |label: &str| {
        Problem::new(format!("{} is nothing that clients could be told by", show(text)), label)
            .help("write `header:NAME`, `query:NAME`, `cookie:NAME`, `address`, `network` or `all`")
    };
    match text.split_once(':') {
        None if text == "address" => Ok(LimitKey::Address),
        None if text == "network" => Ok(LimitKey::Network),
        None if text == "all" => Ok(LimitKey::All),
        Some(("header", name)) => headers::name(name).map(LimitKey::Header),
        Some(("query", "")) => Err(unknown("not the name of a parameter")),
        Some(("query", name)) => Ok(LimitKey::Query(name.into())),
        Some(("cookie", name)) if HeaderName::from_bytes(name.as_bytes()).is_ok() => {
            Ok(LimitKey::Cookie(name.into()))
        }
        Some(("cookie", _)) => Err(unknown("not the name of a cookie")),
        _ => Err(unknown("not known")),
    }
}

/// How a word of `key` is written.
pub fn key_word(key: &LimitKey) -> String {
    match key {
        LimitKey::Header(name) => format!("header:{name}"),
        LimitKey::Query(name) => format!("query:{name}"),
        LimitKey::Cookie(name) => format!("cookie:{name}"),
        LimitKey::Address => "address".into(),
        LimitKey::Network => "network".into(),
        LimitKey::All => "all".into(),
    }
}

fn class(value: Value<'_>) -> Option<Class> {
    let mut table: Table<'_> = value.table(&CLASS, &format!("{} = {{ {USER_AGENTS} }}", value.name))?;
    if table.which(CLASS.now).is_empty() && table.unknown().next().is_none() {
        let problem = Problem::new(format!("`{}` says nothing", value.name), "empty");
        value.error(problem.help(format!("write for example `{} = {{ {USER_AGENTS} }}`", value.name)));
    }
    let class = Class {
        networks: table.optional("networks", networks::read),
        user_agents: table.optional("user_agents", user_agents),
        methods: table.optional("methods", methods),
    };
    table.finish();
    Some(class)
}

fn user_agents(value: Value<'_>) -> Option<UserAgents> {
    let items = value.list(USER_AGENTS)?;
    if items.is_empty() {
        let problem = Problem::new("`user_agents` names none", "empty");
        value.error(problem.help(format!("write for example `{USER_AGENTS}`")));
        return None;
    }
    let regexes = &value.context.regexes;
    let (mut written, mut sources) = (Vec::new(), Vec::new());
    for item in items {
        let Some(text) = item.string(USER_AGENTS) else { continue };
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
