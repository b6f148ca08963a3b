//! `[upstream.NAME]`: groups of workers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    address,
    diagnostic::{Problem, Span, show},
    model::{Health, Upstream, UpstreamServer},
    read::{Context, HEALTH, Key, Table, UPSTREAM, UPSTREAM_SERVER, Value, closest, integer, text},
};

const SERVERS: &str = "servers = [\"unix:/run/galaxy/gunicorn.sock\"]";
const ADDRESS: &str = "\"unix:/run/galaxy/gunicorn.sock\"";
const HEALTH_EXAMPLE: &str = "health = { path = \"/api/version\" }";

/// The upstreams of a file, and which of them routes use.
#[derive(Default)]
pub struct Upstreams {
    /// Those without mistakes.
    pub read: BTreeMap<String, Upstream>,
    /// All, so that a mistake inside of one does not make it unknown too.
    names: Vec<(String, Span)>,
    used: RefCell<BTreeSet<String>>,
}

impl Upstreams {
    /// Reads `[upstream]`, the table of all.
    pub fn read(value: Value<'_>) -> Self {
        let mut upstreams = Self::default();
        let Some(entries) = all(value) else { return upstreams };
        for (key, value) in entries {
            upstreams.names.push((key.text.into(), key.span()));
            let name = key.read(name);
            if let Some(upstream) = name.and_then(|name| upstream(&name, value)) {
                upstreams.read.insert(upstream.name.clone(), upstream);
            }
        }
        upstreams
    }

    /// Reads the name that a route uses.
    pub fn named(&self, text: &str) -> Result<String, Problem> {
        if self.names.iter().any(|(name, _)| name == text) {
            self.used.borrow_mut().insert(text.into());
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
        Err(match closest(text, self.names.iter().map(|(name, _)| name.as_str())) {
            Some(near) => {
                // Most likely meant, so it is no further mistake that nobody uses it.
                self.used.borrow_mut().insert(near.into());
                problem.help(format!("did you mean `{near}`?"))
            }
            None => problem.help(format!("add it:\n[upstream.{}]\n{SERVERS}", quoted(text))),
        })
    }

    /// Notes the upstreams that no route uses.
    pub fn warn_unused(&self, context: &Context<'_>) {
        for (name, span) in self.names.iter().filter(|(name, _)| !self.used.borrow().contains(name)) {
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
    table.optional("balance", |value| {
        value.choice(&[("least_conn", ())], &["round_robin", "random", "hash:"])
    });
    table.optional("protocol", |value| value.choice(&[("http", ())], &["uwsgi", "https"]));
    let time = |table: &mut Table<'_>, key, default| table.optional(key, Value::time).unwrap_or(default);
    let upstream = Upstream {
        name: name.into(),
        servers,
        hold: table.optional("hold", Value::duration).unwrap_or(Duration::from_secs(300)),
        queue: table.optional("queue", integer(0..=u32::MAX)).map_or(10_000, |most| most as usize),
        health: table.optional("health", health),
        connect_timeout: time(&mut table, "connect_timeout", Duration::from_secs(5)),
        read_timeout: time(&mut table, "read_timeout", Duration::from_secs(180)),
        send_timeout: time(&mut table, "send_timeout", Duration::from_secs(60)),
        keepalive: table.optional("keepalive", Value::duration).unwrap_or(Duration::from_secs(1)),
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
    let every = table.optional("every", Value::time).unwrap_or(Duration::from_secs(5));
    let timeout = table.optional("timeout", Value::time).unwrap_or(Duration::from_secs(2));
    table.finish();
    Some(Health { path: path?, every, timeout })
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
