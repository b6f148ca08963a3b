//! `[upstream.NAME]`: groups of workers.

use std::{cell::Cell, collections::BTreeMap, net::SocketAddr, ops::RangeInclusive, time::Duration};

use http::{HeaderName, StatusCode, header, uri::Authority};

use super::{
    action, address,
    diagnostic::{Problem, Span, show},
    headers,
    model::{Balance, HashKey, Health, QueueOrder, Retry, Upstream, UpstreamServer},
    read::{Context, HEALTH, Key, RETRY, Table, UPSTREAM, UPSTREAM_SERVER, Value, closest, integer, text},
    tls,
};

const SERVERS: &str = "servers = [\"unix:/run/galaxy/gunicorn.sock\"]";
const ADDRESS: &str = "\"unix:/run/galaxy/gunicorn.sock\"";
/// Words of `protocol`: whether it is spoken under TLS.
pub const PROTOCOLS: [(&str, bool); 2] = [("http", false), ("https", true)];
/// Words of `queue_order`.
pub const QUEUE_ORDERS: [(&str, QueueOrder); 2] =
    [("oldest", QueueOrder::Oldest), ("newest", QueueOrder::Newest)];

/// What holds where `retry` says nothing.
const DEFAULT_RETRY: Retry = Retry { tries: 4, budget: 20, on: Vec::new() };

/// A body that is only being streamed costs a worker little, and an event stream is open for hours: counted whole, a
/// few of them would make an idle worker look busy.
const STREAMING_SHARE: u32 = 20;

const HEALTH_EXAMPLE: &str = "health = { path = \"/api/version\" }";

/// The upstreams of a file, and which of them routes use.
#[derive(Default)]
pub struct Upstreams {
    /// Those without mistakes.
    pub read: BTreeMap<String, Upstream>,
    /// All, so that a mistake inside of one does not make it unknown too.
    names: BTreeMap<String, Named>,
}

/// A name that routes may use.
struct Named {
    span: Span,
    used: Cell<bool>,
}

impl Upstreams {
    /// Reads `[upstream]`, the table of all.
    pub fn read(value: Value<'_>, resolver: &[SocketAddr]) -> Self {
        let mut upstreams = Self::default();
        let Some(entries) = all(value) else { return upstreams };
        for (key, value) in entries {
            upstreams.names.insert(key.text.into(), Named { span: key.span(), used: Cell::new(false) });
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
        let problem = Problem::new(format!("there is no upstream {}", show(text)), "not known");
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
                // Most likely meant, so it is no further mistake that nobody uses it.
                self.names[near].used.set(true);
                problem.help(format!("did you mean `{near}`?"))
            }
            None => problem.help(format!("add it:\n[upstream.{}]\n{SERVERS}", quoted(text))),
        })
    }

    /// Notes the upstreams that no route uses.
    pub fn warn_unused(&self, context: &Context<'_>) {
        for (name, Named { span, .. }) in self.names.iter().filter(|(_, named)| !named.used.get()) {
            let problem = Problem::new(format!("no route uses the upstream {}", show(name)), "never asked");
            let help = format!("use it in a route: `\"/\" = {{ proxy = \"{name}\" }}`, or take it out");
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

fn all(value: Value<'_>) -> Option<Vec<(Key<'_>, Value<'_>)>> {
    let entries = value.entries("[upstream.NAME]")?;
    // Known keys right here: the name was left out.
    match entries.iter().find(|(key, value)| UPSTREAM.now.contains(&key.text) && value.as_table().is_none()) {
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
            format!("{} cannot be the name of an upstream", show(text)),
            "letters, digits, `_`, `-` and `.`",
        ));
    }
    Ok(text.into())
}

fn upstream(name: &str, value: Value<'_>) -> Option<Upstream> {
    let mut table = value.table(&UPSTREAM, &format!("[upstream.{name}]\n{SERVERS}"))?;
    let max_requests = table.optional("max_requests", integer(1..=u32::MAX)).map(|most| most as usize);
    let servers = table
        .required("servers", SERVERS.trim_start_matches("servers = "), |value| servers(value, max_requests))
        .unwrap_or_default();
    let balance = table.optional("balance", balance).unwrap_or(Balance::LeastConn);
    let https = table.optional("protocol", |value| value.choice(&PROTOCOLS, &["uwsgi"])).unwrap_or(false);
    let tls_value = table.take("tls");
    let tls = tls_value.and_then(tls::read_upstream);
    if let Some(value) = tls_value.filter(|_| !https) {
        let problem = Problem::new("`tls` of servers that are spoken to in plain HTTP", "means nothing");
        value.error(problem.help("write `protocol = \"https\"` beside it, or take it out"));
    }
    let tls = https.then(|| tls.unwrap_or(tls::UPSTREAM));
    let time = |table: &mut Table<'_>, key, default| table.optional(key, Value::time).unwrap_or(default);
    let upstream = Upstream {
        name: name.into(),
        resolver: Vec::new(),
        servers,
        tls,
        balance,
        slow_start: table.optional("slow_start", Value::duration).unwrap_or_default(),
        streaming_share: table.optional("streaming_share", Value::share).unwrap_or(STREAMING_SHARE),
        load_header: table.optional("load_header", text("\"X-Load\"", load_header)),
        hold: table.optional("hold", Value::duration).unwrap_or(Duration::from_secs(300)),
        queue: table.optional("queue", integer(0..=u32::MAX)).map_or(10_000, |most| most as usize),
        queue_order: table
            .optional("queue_order", |value| value.choice(&QUEUE_ORDERS, &[]))
            .unwrap_or_default(),
        retry: table.optional("retry", retry).unwrap_or(DEFAULT_RETRY),
        health: table.optional("health", health),
        connect_timeout: time(&mut table, "connect_timeout", Duration::from_secs(5)),
        read_timeout: time(&mut table, "read_timeout", Duration::from_secs(180)),
        send_timeout: time(&mut table, "send_timeout", Duration::from_secs(60)),
        keepalive: table.optional("keepalive", Value::duration).unwrap_or(Duration::from_secs(1)),
        max_response_head: table.optional("max_response_head", head_size).unwrap_or(64 * 1024),
    };
    table.finish();
    Some(upstream)
}

fn servers(value: Value<'_>, max_requests: Option<usize>) -> Option<Vec<UpstreamServer>> {
    let items = value.list(SERVERS)?;
    if items.is_empty() {
        let problem = Problem::new("an upstream without servers", "every request waits here");
        value.context.warn(value.span(), problem.help(format!("write for example `{SERVERS}`")));
    }
    let mut servers: Vec<(UpstreamServer, Span)> = Vec::new();
    let mut whole = true;
    for item in items {
        let Some(server) = server(item, max_requests) else {
            whole = false;
            continue;
        };
        match servers.iter().find(|(other, _)| other.address == server.address) {
            Some((_, first)) => item.error(
                Problem::new(format!("the server `{}` stands here twice", server.address), "again here")
                    .also(first.clone(), "first here")
                    .help(format!(
                        "for a larger share write `{{ address = \"{}\", weight = 2 }}`",
                        server.address
                    )),
            ),
            None => servers.push((server, item.span())),
        }
    }
    if whole && !servers.is_empty() && servers.iter().all(|(server, _)| server.backup) {
        value.error(
            Problem::new("every server is a backup", "there is nothing they could stand in for")
                .help("take `backup = true` from at least one of them"),
        );
    }
    Some(servers.into_iter().map(|(server, _)| server).collect())
}

fn server(value: Value<'_>, max_requests: Option<usize>) -> Option<UpstreamServer> {
    let address = text(ADDRESS, address::server);
    if value.as_str().is_some() {
        return Some(UpstreamServer { address: address(value)?, weight: 1, backup: false, max_requests });
    }
    let mut table = value.table(&UPSTREAM_SERVER, SERVERS)?;
    let address = table.required("address", ADDRESS, address);
    let weight = table.optional("weight", integer(1..=1000)).unwrap_or(1);
    let backup = table.optional("backup", Value::boolean).unwrap_or(false);
    let own = table.optional("max_requests", integer(1..=u32::MAX)).map(|most| most as usize);
    table.finish();
    Some(UpstreamServer { address: address?, weight, backup, max_requests: own.or(max_requests) })
}

fn health(value: Value<'_>) -> Option<Health> {
    if let Some(path) = value.as_str() {
        return value.wanted("a table", &format!("health = {{ path = {path:?} }}"));
    }
    let mut table = value.table(&HEALTH, HEALTH_EXAMPLE)?;
    let path = table.required("path", "\"/api/version\"", text("\"/api/version\"", health_path));
    let host = table.optional("host", text("\"galaxy.example.org\"", health_host));
    let headers = table.optional("headers", health_headers).unwrap_or_default();
    let every = table.optional("every", Value::time).unwrap_or(Duration::from_secs(5));
    let timeout = table.optional("timeout", Value::time).unwrap_or(Duration::from_secs(2));
    let expect = table.optional("expect", expect).unwrap_or_default();
    table.finish();
    Some(Health { path: path?, host, headers, expect, every, timeout })
}

fn health_host(text: &str) -> Result<String, Problem> {
    let is_host = text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    if is_host {
        Ok(text.into())
    } else {
        Err(Problem::new(
            format!("{} cannot be a `Host`", show(text)),
            "a name or address, and a port if need be",
        )
        .help("write for example `host = \"galaxy.example.org\"`"))
    }
}

fn health_headers(value: Value<'_>) -> Option<headers::Headers> {
    let headers = headers::read(value)?;
    if headers.iter().any(|(name, _)| *name == header::HOST) {
        let problem = Problem::new("`Host` has a key of its own", "not here");
        value.error(problem.help("write `host = \"galaxy.example.org\"` beside `headers`"));
        return None;
    }
    Some(headers)
}

fn load_header(text: &str) -> Result<HeaderName, Problem> {
    headers::name(text).map_err(|problem| problem.help("write for example `load_header = \"X-Load\"`"))
}

/// A head is read into one buffer, and one of less than this no server keeps to.
fn head_size(value: Value<'_>) -> Option<usize> {
    const SIZES: RangeInclusive<u64> = 1024..=256 * 1024;
    let size = value.size()?;
    let fits = size.filter(|size| SIZES.contains(size)).and_then(|size| usize::try_from(size).ok());
    if fits.is_none() {
        let problem = Problem::new("no head of an answer has this size", "from \"1k\" to \"256k\"");
        value.error(problem.help("write for example `max_response_head = \"64k\"`"));
    }
    fits
}

/// One status or a list of them.
fn expect(value: Value<'_>) -> Option<Vec<StatusCode>> {
    let items = value.as_list().unwrap_or_else(|| vec![value]);
    if items.is_empty() {
        let problem = Problem::new("`expect` names no status", "no worker would ever be well");
        value.error(problem.help("write for example `expect = [200, 204]`, or take it out for any 2xx"));
    }
    Some(items.into_iter().filter_map(action::status).collect())
}

fn retry(value: Value<'_>) -> Option<Retry> {
    let mut table = value.table(&RETRY, "retry = { tries = 4, budget = \"20%\" }")?;
    let tries = table.optional("tries", tries()).unwrap_or(DEFAULT_RETRY.tries);
    let budget = table.optional("budget", Value::share).unwrap_or(DEFAULT_RETRY.budget);
    let on = table.optional("on", retry_on).unwrap_or_default();
    table.finish();
    Some(Retry { tries, budget, on })
}

/// Reads the statuses for which another server is asked.
pub fn retry_on(value: Value<'_>) -> Option<Vec<StatusCode>> {
    let error = |item: Value<'_>| {
        let status = action::status(item)?;
        let is_error = status.is_client_error() || status.is_server_error();
        if !is_error {
            let problem = Problem::new(format!("{} is no error", status.as_u16()), "must be from 400 to 599");
            item.error(problem.help("write for example `on = [502, 503, 504]`"));
        }
        is_error.then_some(status)
    };
    let statuses = value.list("on = [502, 503, 504]")?.into_iter().filter_map(error).collect();
    Some(statuses)
}

/// Reads how often a request is tried in all.
pub fn tries<'a>() -> impl Fn(Value<'a>) -> Option<u32> {
    integer(1..=100)
}

const BALANCES: [(&str, Balance); 3] =
    [("least_conn", Balance::LeastConn), ("round_robin", Balance::RoundRobin), ("random", Balance::Random)];

/// How a way of balancing is written.
pub fn balance_word(balance: &Balance) -> String {
    match balance {
        Balance::Hash(HashKey::Address) => "hash:address".into(),
        Balance::Hash(HashKey::Cookie(name)) => format!("hash:cookie:{name}"),
        Balance::Hash(HashKey::Header(name)) => format!("hash:header:{name}"),
        plain => {
            BALANCES.iter().find(|(_, one)| one == plain).map_or_else(String::new, |(word, _)| (*word).into())
        }
    }
}

fn balance(value: Value<'_>) -> Option<Balance> {
    let hash = value.as_str().and_then(|text| text.strip_prefix("hash:"));
    match hash {
        Some(key) => value.parse(key, hash_key).map(Balance::Hash),
        None => value.choice(&BALANCES, &[]),
    }
}

fn hash_key(text: &str) -> Result<HashKey, Problem> {
    let unknown = |label: &str| {
        Problem::new(format!("{} is nothing that a request could be told by", show(text)), label)
            .help("write `hash:address`, `hash:cookie:NAME` or `hash:header:NAME`")
    };
    match text.split_once(':') {
        None if text == "address" => Ok(HashKey::Address),
        Some(("cookie", name)) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(HashKey::Cookie(name.into())),
            Err(_) => Err(unknown("not the name of a cookie")),
        },
        Some(("header", name)) => headers::name(name).map(HashKey::Header),
        _ => Err(unknown("not known")),
    }
}

/// The path goes into a request line as it is.
fn health_path(text: &str) -> Result<String, Problem> {
    if !text.starts_with('/') {
        return Err(Problem::new(
            format!("the path {} does not start with `/`", show(text)),
            "must start with `/`",
        )
        .help("write for example `path = \"/api/version\"`"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::new(format!("the path {} cannot be sent", show(text)), "no spaces, only ASCII")
            .help("percent-encode what is not ASCII: a space is `%20`"));
    }
    Ok(text.into())
}
