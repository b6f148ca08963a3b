//! `[limit.NAME]`: limits of requests per client, and the requests they apply to.

mod class;

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use http::HeaderName;

use super::{
    diagnostic::{self, Problem, Span},
    headers,
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset, closest,
        kind::{BOOLEAN, Integer, Of},
    },
    print::{Out, Pairs, bare_or_quoted, quote, strings},
    read::{Context, FileKey, Value, text},
    units::{self, Rate},
};

pub use class::{Class, NETWORKS, USER_AGENT_LIST, UserAgents};

/// `[limit.NAME]`
#[derive(Debug, Clone)]
pub struct Limit {
    /// Name in the file and in metrics.
    pub name: String,
    /// Keys that tell clients apart; the first one that a request has is used.
    pub key: Vec<LimitKey>,
    /// Requests that a client may send in a period.
    pub rate: Option<Rate>,
    /// Requests above the rate that are served at once.
    pub burst: u32,
    /// Requests of one client in progress at once.
    pub connections: Option<u32>,
    /// Requests that the limit applies to; an empty class means all.
    pub only: Class,
    /// Requests that the limit does not apply to.
    pub except: Class,
    /// Counts and logs what would be refused, and refuses nothing.
    pub dry_run: bool,
    /// Most clients that are remembered.
    pub keys: usize,
}

/// An entry of `limit.key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// A header.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A cookie.
    Cookie(String),
    /// The client's address; of IPv6 the /64, because every client has at least that many addresses.
    Address,
    /// The network of the address: /24 of IPv4, /48 of IPv6.
    Network,
    /// A single count for all clients.
    All,
}

/// Names of limits, in the order in which they are applied.
pub type LimitNames = Arc<[String]>;

/// The keys of `[limit.NAME]`.
pub static KEYS: Keys = Keys {
    title: "`[limit.NAME]`",
    place: "[limit.api]\n…",
    about: "A limit on the requests of each client, used by name in `limits` of a site and `limit` of a route. \
            Requests above it get 429 with Retry-After before an upstream server is selected.",
    groups: &[&[&KEY, &RATE, &BURST, &CONNECTIONS, &ONLY, &EXCEPT, &DRY_RUN, &REMEMBERED]],
    later: &[],
};

static KEY: Required<Of<Vec<LimitKey>>> = Key {
    name: "key",
    kind: Of {
        shape: || Shape::one_or_more(|| Shape::Text(WORD)),
        read: keys,
        show: |keys| strings(keys.iter().map(key_word)),
    },
    default: Needed,
    about: "Key that tells clients apart: the first of these that a request has. `address` is a /64 in IPv6, \
            `network` a /24, in IPv6 a /48. `all` is one count for all clients. Values are not verified, so add a \
            second limit by `address` against clients that invent a key for each request.",
    example: "rate = \"8r/s\"\nkey = [\"header:x-api-key\", \"cookie:galaxysession\", \"address\"]",
};

static RATE: Optional<Of<Rate>> = Key {
    name: "rate",
    kind: Of { shape: || Shape::Text(RATE_FORM), read: rate, show: |rate| quote(&rate.to_string()) },
    default: Unset("no limit"),
    about: "Requests of one client in a second, minute or hour. A limit needs `rate` or `connections`.",
    example: "key = \"address\"\nrate = \"8r/s\"",
};

static BURST: Defaulted<Integer> = Key {
    name: "burst",
    kind: Integer(0, 1_000_000),
    default: Is(|| 0),
    about: "Requests above `rate` that are served at once, without a delay (nginx's `burst` with `nodelay`).",
    example: "key = \"address\"\nrate = \"8r/s\"\nburst = 50",
};

static CONNECTIONS: Optional<Integer> = Key {
    name: "connections",
    kind: Integer(1, u32::MAX),
    default: Unset("no limit"),
    about: "Requests of one client in progress at once. Event streams and WebSockets are not counted.",
    example: "key = \"address\"\nconnections = 20",
};

static ONLY: Optional<Of<Class>> = Key {
    name: "only",
    kind: class::KIND,
    default: Unset("all requests"),
    about: "Requests that the limit applies to: those that match every list.",
    example: "key = \"all\"\nrate = \"1r/s\"\nonly = { user_agents = [\"~* bot|crawl|spider\"] }",
};

static EXCEPT: Optional<Of<Class>> = Key {
    name: "except",
    kind: class::KIND,
    default: Unset("none"),
    about: "Requests that the limit does not apply to: those that match any list.",
    example: "key = \"address\"\nrate = \"8r/s\"\nexcept = { networks = [\"10.0.0.0/8\"] }",
};

static DRY_RUN: Defaulted<Of<bool>> = Key {
    name: "dry_run",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Counts and logs the requests that would be refused, and refuses none. Start with it, and look at \
            `bowshock_limited_requests_dry_run_total`.",
    example: "key = \"address\"\nrate = \"8r/s\"\ndry_run = true",
};

static REMEMBERED: Defaulted<Integer> = Key {
    name: "keys",
    kind: Integer(100, 10_000_000),
    default: Is(|| 100_000),
    about: "Most clients that are remembered, each in about 64 bytes. Beyond that the least active are forgotten.",
    example: "key = \"address\"\nrate = \"8r/s\"\nkeys = 1000000",
};

const RATE_FORM: TextShape =
    TextShape { what: "rate: `\"8r/s\"`, `\"100r/m\"`, `\"500r/h\"`", pattern: "^[0-9]{1,7}r/[smh]$" };

const WORD: TextShape = TextShape {
    what: "`\"header:NAME\"`, `\"query:NAME\"`, `\"cookie:NAME\"`, `\"address\"`, `\"network\"` or `\"all\"`",
    pattern: "^(address|network|all|(header|query|cookie):.+)$",
};

/// The form of `limits` and `limit`: one name or several.
pub fn names_shape() -> Shape {
    Shape::one_or_more(|| Shape::Text(LIMIT_NAME))
}

const LIMIT_NAME: TextShape =
    TextShape { what: "name of a `[limit.NAME]`, or `\"none\"`", pattern: "^[A-Za-z0-9_.-]+$" };

/// The limits of a file, and which of them sites and routes use.
#[derive(Default)]
pub struct Limits {
    /// Limits without errors.
    pub read: BTreeMap<String, Limit>,
    /// Names of all limits, so that an error inside one does not also make its name unknown.
    names: BTreeMap<String, (Span, Cell<bool>)>,
}

impl Limits {
    /// Reads `[limit]`, the table of all limits.
    pub fn read(value: Value<'_>) -> Self {
        let mut limits = Self::default();
        let Some(entries) = all(value) else { return limits };
        for (key, value) in entries {
            let name = key.read(name);
            // A limit with an invalid name is reported for that alone, not also as unused.
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
            None => value.list()?,
        };
        let mut names: Vec<String> = Vec::new();
        for item in items {
            let name = text(|name| self.known(name))(item);
            names.extend(name.filter(|name| !names.contains(name)));
        }
        Some(names.into())
    }

    fn known(&self, name: &str) -> Result<String, Problem> {
        if let Some((_, used)) = self.names.get(name) {
            used.set(true);
            return Ok(name.into());
        }
        let problem = Problem::new(format!("there is no limit {}", diagnostic::show(name)), "unknown");
        Err(match closest(name, self.names.keys().map(String::as_str)) {
            Some(near) => {
                self.names[near].1.set(true);
                problem.help(format!("did you mean `{near}`?"))
            }
            None => problem.help("add it:\n[limit.NAME]\nkey  = \"address\"\nrate = \"8r/s\""),
        })
    }

    /// Warns of limits that no site or route uses.
    pub fn warn_unused(&self, context: &Context<'_>) {
        for (name, (span, _)) in self.names.iter().filter(|(_, (_, used))| !used.get()) {
            let problem =
                Problem::new(format!("nothing uses the limit {}", diagnostic::show(name)), "not used");
            let help = format!("use it in a site: `limits = [\"{name}\"]`, or remove it");
            context.warn(span.clone(), problem.help(help));
        }
    }
}

fn all(value: Value<'_>) -> Option<Vec<(FileKey<'_>, Value<'_>)>> {
    if value.as_table().is_none() {
        return value.expected("a table", "[limit.NAME]");
    }
    let entries = value.entries()?;
    // Known keys at this level mean that the name was left out.
    match entries.iter().find(|(key, value)| KEYS.find(key.text).is_some() && value.as_table().is_none()) {
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
        let title = format!("{} cannot be the name of a limit", diagnostic::show(text));
        return Err(Problem::new(title, "letters, digits, `_`, `-` and `.`, and not `none`"));
    }
    Ok(text.into())
}

fn limit(name: String, value: Value<'_>) -> Option<Limit> {
    let mut table = value.table(&KEYS)?;
    let key = table.required(&KEY);
    let has_rate = table.has(&RATE);
    if !has_rate && !table.has(&CONNECTIONS) && table.unknown().next().is_none() {
        let problem = Problem::new("a limit without `rate` or `connections` limits nothing", "needs one");
        value.error(problem.help("add for example `rate = \"8r/s\"`, or `connections = 20`"));
    }
    if let (Some(burst), false) = (table.place_of(&BURST), has_rate) {
        let problem = Problem::new("`burst` needs `rate`", "no effect without `rate`");
        burst.error(problem.help("add for example `rate = \"8r/s\"`, or remove it"));
    }
    let limit = Limit {
        name,
        key: Vec::new(),
        rate: table.optional(&RATE),
        burst: table.read(&BURST),
        connections: table.optional(&CONNECTIONS),
        only: table.optional(&ONLY).unwrap_or_default(),
        except: table.optional(&EXCEPT).unwrap_or_default(),
        dry_run: table.read(&DRY_RUN),
        keys: table.read(&REMEMBERED) as usize,
    };
    table.finish();
    Some(Limit { key: key?, ..limit })
}

/// Writes `[limit.NAME]`.
pub fn show(out: &mut Out, limit: &Limit) {
    let pairs = Pairs::default()
        .key(&KEY, &limit.key)
        .optional(&RATE, limit.rate.as_ref())
        .written_if(&BURST, limit.rate.map(|_| limit.burst))
        .optional(&CONNECTIONS, limit.connections.as_ref())
        .written_if(&ONLY, class::pairs(&limit.only).braces_if_any())
        .written_if(&EXCEPT, class::pairs(&limit.except).braces_if_any())
        .key(&DRY_RUN, &limit.dry_run)
        .written(&REMEMBERED, limit.keys);
    out.table(&format!("[limit.{}]", bare_or_quoted(&limit.name)), &pairs);
}

fn rate(value: Value<'_>) -> Option<Rate> {
    if let Some((number, 10)) = value.as_integer() {
        return value.expected("a string with a unit", &format!("rate = \"{number}r/s\""));
    }
    text(units::rate)(value)
}

/// Reads `key`: one entry or a list.
fn keys(value: Value<'_>) -> Option<Vec<LimitKey>> {
    let items = match value.as_str() {
        Some(_) => vec![value],
        None => value.list()?,
    };
    if items.is_empty() {
        let problem = Problem::new("`key` lists nothing", "empty");
        value.error(problem.help(format!(
            "write for example `{}`, or `key = \"all\"` for one count of all clients",
            value.example()
        )));
    }
    let mut keys: Vec<LimitKey> = Vec::new();
    for item in items {
        let Some(key) = item.string().and_then(|text| item.parse(text, key)) else { continue };
        let last =
            keys.last().filter(|last| matches!(last, LimitKey::Address | LimitKey::Network | LimitKey::All));
        if let Some(last) = last {
            let problem = Problem::new(
                format!("`{}` is never used", key_word(&key)),
                format!("every request has `{}`", key_word(last)),
            );
            item.error(problem.help(
                "remove it, or put it first; for one limit beside another write a second `[limit.NAME]`",
            ));
        }
        keys.push(key);
    }
    Some(keys)
}

fn key(text: &str) -> Result<LimitKey, Problem> {
    let unknown = |label: &str| {
        Problem::new(format!("{} is not a key of clients", diagnostic::show(text)), label)
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
        _ => Err(unknown("unknown")),
    }
}

/// An entry of `key` as written in a file.
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
