//! `[upstream.NAME]`: groups of upstream servers.

mod balance;
mod health;
mod protocol;
pub mod retry;
mod server;
mod tls;
pub mod unsupported;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    ops::RangeInclusive,
    time::Duration,
};

use http::HeaderName;

use super::{
    address,
    diagnostic::{Problem, Span, show as shown},
    headers,
    keys::{
        Defaulted, Is, Key, Keys, Kind, Needed, Optional, Required, Shape, TextShape, Unset, closest,
        kind::{self, DURATION, Integer, Of, SHARE, Shaped, TIME, Words},
    },
    print::{Out, Pairs, bare_or_quoted, list, quote, word},
    read::{Context, FileKey, Table, Value},
    template::{NameScope, Template, template},
    units::show_size,
};

pub use balance::{Balance, HashKey};
pub use health::Health;
use protocol::{PROTOCOLS, Protocol};
pub use retry::Retry;
pub use server::{ServerAddress, UpstreamServer, servers, shape as servers_shape};
pub use tls::UpstreamTls;

/// `[upstream.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// Name in the file and in metrics.
    pub name: String,
    /// Name servers for the servers' host names ([`Server::resolver`]).
    pub resolver: Vec<SocketAddr>,
    /// Upstream servers; may be empty (requests then wait for a reload that adds some).
    pub servers: Vec<UpstreamServer>,
    /// Further variables of requests, where the servers speak uwsgi (`protocol = "uwsgi"`).
    pub uwsgi: Option<UwsgiParams>,
    /// Whether the servers speak HTTP/2 (`protocol = "h2"` and `"h2c"`).
    pub http2: bool,
    /// TLS to the servers (`protocol = "https"` and `"h2"`).
    pub tls: Option<UpstreamTls>,
    /// Load balancing policy.
    pub balance: Balance,
    /// Time over which a server that has recovered gets to its whole share; zero is at once.
    pub slow_start: Duration,
    /// Load of a request while only its response body is being sent, in percent of one request.
    pub streaming_share: u32,
    /// Response header in which a server reports its load.
    pub load_header: Option<HeaderName>,
    /// Time that a request waits for an available server; zero does not wait.
    pub hold: Duration,
    /// Most requests that wait at once.
    pub queue: usize,
    /// Order in which waiting requests are served.
    pub queue_order: QueueOrder,
    /// Retries of requests.
    pub retry: Retry,
    /// Active health check; `None` only checks that a connection can be made.
    pub health: Option<Health>,
    /// Time for connecting to one server.
    pub connect_timeout: Duration,
    /// Longest pause of a server before and within its response.
    pub read_timeout: Duration,
    /// Longest pause between two writes to a server.
    pub send_timeout: Duration,
    /// Time that an idle connection to a server is kept; zero keeps none.
    pub keepalive: Duration,
    /// Most bytes of a response head; a larger one is a failed response.
    pub max_response_head: usize,
}

/// `upstream.queue_order`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// The request that has waited longest goes first.
    #[default]
    Oldest,
    /// The request that came last goes first: under overload some requests are served fast, rather than all late.
    Newest,
}

/// The keys of `[upstream.NAME]`.
pub static KEYS: Keys = Keys {
    title: "`[upstream.NAME]`",
    place: "[upstream.galaxy]\n…",
    about: "Servers of one application, and how requests are distributed among them.",
    groups: &[&[
        &SERVERS,
        &BALANCE,
        &SLOW_START,
        &STREAMING_SHARE,
        &LOAD_HEADER,
        &PROTOCOL,
        &UWSGI_PARAMS,
        &TLS,
        &HOLD,
        &QUEUE,
        &QUEUE_ORDER,
        &RETRY,
        &MAX_REQUESTS,
        &HEALTH,
        &CONNECT_TIMEOUT,
        &READ_TIMEOUT,
        &SEND_TIMEOUT,
        &KEEPALIVE,
        &MAX_RESPONSE_HEAD,
    ]],
    later: &[],
};

static SERVERS: Required<Shaped> = Key {
    name: "servers",
    kind: Shaped(server::shape),
    default: Needed,
    about: "The servers. With an empty list, requests wait until a reload adds some.",
    example: "servers = [\"unix:/run/galaxy/gunicorn.sock\"]",
};

static BALANCE: Defaulted<Of<Balance>> = Key {
    name: "balance",
    kind: balance::KIND,
    default: Is(|| Balance::LeastConn),
    about: "Load balancing: the server with the fewest requests in progress relative to its weight, each server in \
            turn, the less loaded of two random servers, or the same server for the same key. With a hash, only the \
            keys of a server that is removed move to others.",
    example: "balance = \"hash:cookie:galaxysession\"",
};

static SLOW_START: Defaulted<Of<Duration>> = Key {
    name: "slow_start",
    kind: DURATION,
    default: Is(Duration::default),
    about: "Time in which a server that has recovered reaches its full share of requests. `\"0s\"` is at once.",
    example: "slow_start = \"30s\"",
};

static STREAMING_SHARE: Defaulted<Of<u32>> = Key {
    name: "streaming_share",
    kind: SHARE,
    // Sending a body costs a server little: counted whole, a few downloads would make an idle server look busy.
    default: Is(|| 20),
    about: "Load of a request while only its response body is being sent, in percent of a request. Event streams and \
            tunnels count as nothing.",
    example: "streaming_share = \"50%\"",
};

static LOAD_HEADER: Optional<kind::Text<HeaderName>> = Key {
    name: "load_header",
    kind: kind::Text {
        form: TextShape { what: "name of a header", pattern: "^[^ :]+$" },
        parse: load_header,
        show: |name| name.as_str().to_owned(),
    },
    default: Unset("none"),
    about: "Response header in which a server reports its load: a number of requests, or ORCA's \
            `endpoint-load-metrics` in text form. The load is added to the number of requests in progress for 10 s. \
            The header is removed from responses to clients. Useful when several proxies share the servers.",
    example: "load_header = \"X-Load\"",
};

static PROTOCOL: Defaulted<Of<Protocol>> = Key {
    name: "protocol",
    kind: Of {
        shape: || Words(&PROTOCOLS).shape(),
        read: |value| value.unless(unsupported::protocol)?.choice(&PROTOCOLS, &[]),
        show: |protocol| word(&PROTOCOLS, protocol),
    },
    default: Is(|| Protocol::Http),
    about: "HTTP/1.1, without or with TLS; the uwsgi protocol (uWSGI, `gunicorn --protocol uwsgi`; nginx's \
            `uwsgi_pass`); or HTTP/2, with TLS (`\"h2\"`) or without (`\"h2c\"`, with prior knowledge), which gRPC needs \
            (nginx's `grpc_pass`). Requests share connections of HTTP/2. WebSockets do not go over it.",
    example: "protocol = \"https\"",
};

static UWSGI_PARAMS: Optional<Of<UwsgiParams>> = Key {
    name: "uwsgi_params",
    kind: Of {
        shape: || Shape::Text(TextShape { what: "value with `{names}`", pattern: "" }).by("NAME"),
        read: uwsgi_params,
        show: show_uwsgi_params,
    },
    default: Unset("those of nginx's `uwsgi_params`, and UWSGI_SCHEME"),
    about: "Further variables of requests, or others in place of the usual ones (nginx's `uwsgi_param`).",
    example: "protocol = \"uwsgi\"\nuwsgi_params = { SCRIPT_NAME = \"/galaxy\" }",
};

static TLS: Optional<Of<UpstreamTls>> = Key {
    name: "tls",
    kind: Of { shape: || Shape::Table(&tls::KEYS), read: tls::read, show: |tls| tls::pairs(tls).braces() },
    default: Unset("the defaults of its keys"),
    about: "Verification of servers with `protocol = \"https\"` or `\"h2\"`.",
    example: "protocol = \"https\"\ntls = { ca = \"/etc/ssl/galaxy/workers.pem\" }",
};

static HOLD: Defaulted<Of<Duration>> = Key {
    name: "hold",
    kind: DURATION,
    default: Is(|| Duration::from_secs(300)),
    about: "Time that a request waits while no server is available, as during a restart, before it gets 503. \
            `\"0s\"` does not wait. Make it longer than a restart of the application takes.",
    example: "hold = \"10m\"",
};

static QUEUE: Defaulted<Integer> = Key {
    name: "queue",
    kind: Integer(0, u32::MAX),
    default: Is(|| 10_000),
    about: "Most requests that wait at once. Further ones get 503.",
    example: "queue = 1000",
};

static QUEUE_ORDER: Defaulted<Words<QueueOrder>> = Key {
    name: "queue_order",
    kind: Words(&[("oldest", QueueOrder::Oldest), ("newest", QueueOrder::Newest)]),
    default: Is(QueueOrder::default),
    about: "Order of waiting requests. With `\"newest\"`, some requests are still served fast under overload, rather than \
            all of them late.",
    example: "queue_order = \"newest\"",
};

static RETRY: Optional<Of<Retry>> = Key {
    name: "retry",
    kind: Of {
        shape: || Shape::Table(&retry::KEYS),
        read: retry::read,
        show: |retry| retry::pairs(retry).braces(),
    },
    default: Unset("the defaults of its keys"),
    about: "Retries of requests on another server.",
    example: "retry = { tries = 2, budget = \"10%\" }",
};

static MAX_REQUESTS: Optional<Integer> = Key {
    name: "max_requests",
    kind: Integer(1, u32::MAX),
    default: Unset("no limit"),
    about: "Most requests in progress on each server (nginx's `max_conns`). Further ones wait in one queue for the \
            first free server. Set it to the number of threads of a server (gunicorn's gthread: workers times \
            threads). Async servers need no limit.",
    example: "max_requests = 4",
};

static HEALTH: Optional<Of<Health>> = Key {
    name: "health",
    kind: Of {
        shape: || Shape::Table(&health::KEYS),
        read: health::read,
        show: |health| health::pairs(health).braces(),
    },
    default: Unset("a server that accepts connections is healthy"),
    about: "Active health checks of each server.",
    example: "health = { path = \"/api/version\" }",
};

static CONNECT_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "connect_timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(5)),
    about: "Time for connecting to one server.",
    example: "connect_timeout = \"1s\"",
};

static READ_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "read_timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(180)),
    about: "Longest pause of a server before or within its response (nginx's `proxy_read_timeout`). Before the \
            response the client gets 504, within it the client's connection is closed. Raise it on routes with long \
            computations.",
    example: "read_timeout = \"10m\"",
};

static SEND_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "send_timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(60)),
    about: "Longest pause between two writes of a request to a server.",
    example: "send_timeout = \"2m\"",
};

static KEEPALIVE: Defaulted<Of<Duration>> = Key {
    name: "keepalive",
    kind: DURATION,
    default: Is(|| Duration::from_secs(1)),
    about: "Time that an idle connection to a server is kept open. `\"0s\"` keeps none. It must be shorter than the \
            server's own timeout (gunicorn's is 2 s).",
    example: "keepalive = \"30s\"",
};

static MAX_RESPONSE_HEAD: Defaulted<Of<usize>> = Key {
    name: "max_response_head",
    kind: Of {
        shape: || kind::Bytes(1 << 10, 1 << 18).shape(),
        read: head_size,
        show: |size| quote(&show_size(Some(*size as u64))),
    },
    default: Is(|| 64 << 10),
    about: "Largest head of a response in bytes, from `\"1k\"` to `\"256k\"`. A larger one gives 502.",
    example: "max_response_head = \"128k\"",
};

/// Variables of uwsgi requests, with the templates of their values.
pub type UwsgiParams = Vec<(String, Template)>;

/// The upstreams of a file, and which of them routes use.
#[derive(Default)]
pub struct UpstreamTable {
    /// Upstreams without errors.
    read: BTreeMap<String, UpstreamSettings>,
    /// Names of all upstreams, so that an error inside one does not also make its name unknown.
    names: BTreeMap<String, Named>,
    /// Upstreams that `[site.galaxy]` has made, which are not in the file.
    made: RefCell<BTreeMap<String, UpstreamSettings>>,
    resolver: Vec<SocketAddr>,
}

/// A name that routes may use.
struct Named {
    span: Span,
    used: Cell<bool>,
}

impl UpstreamTable {
    /// Reads `[upstream]`, the table of all upstreams; `None` if the file has none.
    pub fn read(value: Option<Value<'_>>, resolver: &[SocketAddr]) -> Self {
        let mut upstreams = Self { resolver: resolver.to_vec(), ..Self::default() };
        let Some(entries) = value.and_then(all) else { return upstreams };
        for (key, value) in entries {
            let named = Named { span: key.span(), used: Cell::new(false) };
            upstreams.names.insert(key.text.into(), named);
            let name = key.read(name);
            if let Some(mut upstream) = name.and_then(|name| upstream(&name, value)) {
                upstream.resolver = resolver.to_vec();
                upstreams.read.insert(upstream.name.clone(), upstream);
            }
        }
        upstreams
    }

    /// Reads the name that a route uses.
    pub fn named(&self, text: &str) -> Result<String, Problem> {
        if let Some(named) = self.names.get(text) {
            named.used.set(true);
            return Ok(text.into());
        }
        if self.made.borrow().contains_key(text) {
            return Ok(text.into());
        }
        let problem = Problem::new(format!("there is no upstream {}", shown(text)), "unknown");
        if let Some(host) = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) {
            return Err(Problem { label: "the name of an upstream, not a URL".into(), ..problem }.help(
                format!("write `proxy = \"NAME\"`, and in `[upstream.NAME]` `servers = [\"{host}\"]`"),
            ));
        }
        if address::server(text).is_ok() {
            return Err(Problem { label: "the name of an upstream, not an address".into(), ..problem }.help(
                format!("write `proxy = \"NAME\"`, and in `[upstream.NAME]` `servers = [\"{text}\"]`"),
            ));
        }
        Err(match closest(text, self.names.keys().map(String::as_str)) {
            Some(near) => {
                // The name that was most likely meant, which must not be reported as unused as well.
                self.names[near].used.set(true);
                problem.help(format!("did you mean `{near}`?"))
            }
            None => problem.help(format!("add it:\n[upstream.{}]\n{}", quoted(text), SERVERS.example)),
        })
    }

    /// Adds an upstream with these servers, and returns its name: `name`, or with a number behind it if another site has made
    /// one with other servers. An upstream of the file with this name is used as it is.
    pub fn make(&self, context: &Context<'_>, name: &str, servers: Vec<UpstreamServer>) -> String {
        if let Some(named) = self.names.get(name) {
            named.used.set(true);
            return name.into();
        }
        let mut made = self.made.borrow_mut();
        let mut free = name.to_owned();
        for number in 2.. {
            match made.get(&free) {
                Some(other) if other.servers == servers => return free,
                None if !self.names.contains_key(&free) => break,
                _ => free = format!("{name}{number}"),
            }
        }
        made.insert(free.clone(), UpstreamSettings { servers, ..self.unlisted(context, &free) });
        free
    }

    /// Settings of an upstream that has no table: the defaults.
    pub fn unlisted(&self, context: &Context<'_>, name: &str) -> UpstreamSettings {
        let resolver = self.resolver.clone();
        UpstreamSettings { resolver, ..settings(name, Table::absent(context, &KEYS), None) }
    }

    /// All upstreams by name.
    pub fn into_read(self) -> BTreeMap<String, UpstreamSettings> {
        let mut all = self.read;
        all.extend(self.made.into_inner());
        all
    }

    /// Whether the file has an upstream of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Warns of upstreams that no route uses.
    pub fn warn_unused(&self, context: &Context<'_>) {
        for (name, Named { span, .. }) in self.names.iter().filter(|(_, named)| !named.used.get()) {
            let problem = Problem::new(format!("no route uses the upstream {}", shown(name)), "not used");
            let help = format!("use it in a route: `\"/\" = {{ proxy = \"{name}\" }}`, or remove it");
            context.warn(span.clone(), problem.help(help));
        }
    }
}

fn quoted(name: &str) -> &str {
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        name
    } else {
        "NAME"
    }
}

fn all(value: Value<'_>) -> Option<Vec<(FileKey<'_>, Value<'_>)>> {
    if value.as_table().is_none() {
        return value.expected("a table", "[upstream.NAME]");
    }
    let entries = value.entries()?;
    // Known keys at this level mean that the name was left out.
    match entries.iter().find(|(key, value)| KEYS.find(key.text).is_some() && value.as_table().is_none()) {
        Some((key, _)) => {
            key.error(
                Problem::new("an upstream needs a name", "stands in `[upstream]` itself")
                    .help("write `[upstream.galaxy]` above it, and `proxy = \"galaxy\"` in a route"),
            );
            None
        }
        None => Some(entries),
    }
}

fn name(text: &str) -> Result<String, Problem> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err(Problem::new(
            format!("{} cannot be the name of an upstream", shown(text)),
            "letters, digits, `_`, `-` and `.`",
        ));
    }
    Ok(text.into())
}

fn upstream(name: &str, value: Value<'_>) -> Option<UpstreamSettings> {
    let mut table = value.table(&KEYS)?;
    let max_requests = table.optional(&MAX_REQUESTS).map(|most| most as usize);
    let servers = table.take_required(&SERVERS).and_then(|value| servers(value, max_requests));
    Some(settings(name, table, servers))
}

fn settings(name: &str, mut table: Table<'_>, servers: Option<Vec<UpstreamServer>>) -> UpstreamSettings {
    let context = table.context;
    let balance = table.read(&BALANCE);
    let protocol = table.read(&PROTOCOL);
    let params = table.place_of(&UWSGI_PARAMS);
    let uwsgi_params = table.optional(&UWSGI_PARAMS).unwrap_or_default();
    if let Some(key) = params.filter(|_| protocol != Protocol::Uwsgi) {
        let problem = Problem::new("`uwsgi_params` needs `protocol = \"uwsgi\"`", "no effect on HTTP");
        key.error(problem.help("write `protocol = \"uwsgi\"` beside it, or `request_headers` in the route"));
    }
    let tls_value = table.take(&TLS);
    let tls = tls_value.and_then(tls::read);
    if let Some(value) = tls_value.filter(|_| !protocol.is_encrypted()) {
        let with_tls = if protocol == Protocol::H2c { "h2" } else { "https" };
        let problem =
            Problem::new(format!("`tls` needs `protocol = \"{with_tls}\"`"), "no effect on plain HTTP");
        value.error(problem.help(format!("write `protocol = \"{with_tls}\"` beside it, or remove it")));
    }
    let upstream = UpstreamSettings {
        name: name.into(),
        resolver: Vec::new(),
        servers: servers.unwrap_or_default(),
        uwsgi: (protocol == Protocol::Uwsgi).then_some(uwsgi_params),
        http2: protocol.is_http2(),
        tls: protocol.is_encrypted().then(|| tls.unwrap_or_else(|| tls::absent(context))),
        balance,
        slow_start: table.read(&SLOW_START),
        streaming_share: table.read(&STREAMING_SHARE),
        load_header: table.optional(&LOAD_HEADER),
        hold: table.read(&HOLD),
        queue: table.read(&QUEUE) as usize,
        queue_order: table.read(&QUEUE_ORDER),
        retry: table.optional(&RETRY).unwrap_or_else(|| retry::absent(context)),
        health: table.optional(&HEALTH),
        connect_timeout: table.read(&CONNECT_TIMEOUT),
        read_timeout: table.read(&READ_TIMEOUT),
        send_timeout: table.read(&SEND_TIMEOUT),
        keepalive: table.read(&KEEPALIVE),
        max_response_head: table.read(&MAX_RESPONSE_HEAD),
    };
    table.finish();
    upstream
}

/// Writes `[upstream.NAME]`. `max_requests` is shown with each server.
pub fn show(out: &mut Out, upstream: &UpstreamSettings) {
    let pairs = Pairs::default()
        .written(&SERVERS, list(upstream.servers.iter().map(server::show)))
        .key(&BALANCE, &upstream.balance)
        .key(&SLOW_START, &upstream.slow_start)
        .key(&STREAMING_SHARE, &upstream.streaming_share)
        .optional(&LOAD_HEADER, upstream.load_header.as_ref())
        .key(&PROTOCOL, &Protocol::of(upstream))
        .optional(&UWSGI_PARAMS, upstream.uwsgi.as_ref().filter(|params| !params.is_empty()))
        .optional(&TLS, upstream.tls.as_ref())
        .key(&HOLD, &upstream.hold)
        .written(&QUEUE, upstream.queue)
        .key(&QUEUE_ORDER, &upstream.queue_order)
        .key(&RETRY, &upstream.retry)
        .optional(&HEALTH, upstream.health.as_ref())
        .key(&CONNECT_TIMEOUT, &upstream.connect_timeout)
        .key(&READ_TIMEOUT, &upstream.read_timeout)
        .key(&SEND_TIMEOUT, &upstream.send_timeout)
        .key(&KEEPALIVE, &upstream.keepalive)
        .key(&MAX_RESPONSE_HEAD, &upstream.max_response_head);
    out.table(&format!("[upstream.{}]", bare_or_quoted(&upstream.name)), &pairs);
}

fn uwsgi_params(value: Value<'_>) -> Option<UwsgiParams> {
    let name = |text: &str| match text
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    {
        true => Ok(text.to_owned()),
        false => Err(Problem::new(
            format!("{} is not the name of a variable", shown(text)),
            "capitals, digits and `_`",
        )),
    };
    let read = |(key, value): (FileKey<'_>, Value<'_>)| {
        let text = value.string_like(UWSGI_PARAMS.example)?;
        Some((key.read(name)?, value.parse(text, |text| template(text, NameScope::default()))?))
    };
    Some(value.entries()?.into_iter().filter_map(read).collect())
}

fn show_uwsgi_params(params: &UwsgiParams) -> String {
    let add = |pairs: Pairs, (name, value): &(String, Template)| {
        pairs.named(name.clone(), quote(&value.to_string()))
    };
    params.iter().fold(Pairs::default(), add).braces()
}

fn load_header(text: &str) -> Result<HeaderName, Problem> {
    headers::name(text).map_err(|problem| problem.help("write for example `load_header = \"X-Load\"`"))
}

/// Reads `max_response_head`. A head is read into one buffer, and no server keeps to less than the lower bound.
fn head_size(value: Value<'_>) -> Option<usize> {
    const SIZES: RangeInclusive<u64> = 1024..=256 * 1024;
    let size = value.size()?;
    let fits = size.filter(|size| SIZES.contains(size)).and_then(|size| usize::try_from(size).ok());
    if fits.is_none() {
        let problem = Problem::new("`max_response_head` is out of range", "from \"1k\" to \"256k\"");
        value.error(problem.help("write for example `max_response_head = \"64k\"`"));
    }
    fits
}
