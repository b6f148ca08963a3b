//! `upstream` blocks, and addresses in `proxy_pass`, as `[upstream.NAME]`.

use std::collections::BTreeSet;

use super::{
    ledger::Ledger,
    output::Section,
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
    units,
};

/// Target of `proxy_pass` or `uwsgi_pass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Protocol: `http`, `https` or `uwsgi`.
    pub protocol: &'static str,
    /// Name of an `upstream` block, an address, or `unix:/path`.
    pub address: String,
    /// Path behind the address, as written.
    pub uri: Option<String>,
}

impl Target {
    /// Reads `http://HOST[:PORT][/URI]`, `https://…`, `http://unix:/PATH[:/URI]`, or the address of `uwsgi_pass`.
    pub fn read(text: &str, protocol: &'static str) -> Option<Self> {
        let (protocol, rest) = match text.split_once("://") {
            Some(("http", rest)) => ("http", rest),
            Some(("https", rest)) => ("https", rest),
            Some(("uwsgi", rest)) => ("uwsgi", rest),
            _ => (protocol, text),
        };
        let rest = rest.trim();
        let (address, uri) = match rest.strip_prefix("unix:") {
            Some(path) => match path.split_once(':') {
                Some((path, uri)) => (path, Some(uri)),
                None => (path, None),
            },
            None => match rest.find('/') {
                Some(at) => (&rest[..at], Some(&rest[at..])),
                None => (rest, None),
            },
        };
        let address = match rest.strip_prefix("unix:") {
            // `unix:///path` is `unix:/path`.
            Some(_) => format!("unix:/{}", address.trim_start_matches('/')),
            None => address.into(),
        };
        let uri = uri.filter(|uri| !uri.is_empty()).map(str::to_owned);
        (!address.is_empty() && address != "unix:/").then_some(Self { protocol, address, uri })
    }

    /// What nginx sends as Host by default (`$proxy_host`).
    pub fn host(&self) -> &str {
        if self.address.starts_with("unix:") { "localhost" } else { &self.address }
    }
}

/// Upstreams used so far.
#[derive(Debug, Default)]
pub struct Upstreams<'a> {
    blocks: Vec<&'a Directive>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    name: String,
    target: Target,
    tls: Table,
    section: Section,
}

impl<'a> Upstreams<'a> {
    /// The `upstream` blocks of the `http` block.
    pub fn new(http: &'a [Directive]) -> Self {
        let blocks = http.iter().filter(|one| one.name == "upstream").collect();
        Self { blocks, made: Vec::new() }
    }

    fn block(&self, name: &str) -> Option<&'a Directive> {
        self.blocks.iter().find(|block| block.first() == name).copied()
    }

    /// The name of the upstream for a target. `hint` names those that have only an address.
    pub fn named(&mut self, target: &Target, scope: &Scope<'a>, hint: &str, ledger: &Ledger) -> String {
        let tls = if target.protocol == "https" { tls(target, scope, ledger) } else { Table::default() };
        let same = |made: &&Made| {
            made.target.protocol == target.protocol
                && made.target.address == target.address
                && made.tls == tls
        };
        if let Some(made) = self.made.iter().find(same) {
            return made.name.clone();
        }
        let block = self.block(&target.address);
        let own = match block {
            Some(_) => Some(identifier(&target.address)),
            None => own_name(target),
        };
        let is_made_up = own.is_none();
        let wanted = own.unwrap_or_else(|| identifier(hint));
        let used: BTreeSet<&str> = self.made.iter().map(|made| made.name.as_str()).collect();
        let blocks: BTreeSet<String> = self.blocks.iter().map(|block| identifier(block.first())).collect();
        let is_free =
            |name: &String| !used.contains(name.as_str()) && (block.is_some() || !blocks.contains(name));
        let numbered = (2..).map(|number| format!("{wanted}{number}"));
        let name = std::iter::once(wanted.clone()).chain(numbered).find(is_free).unwrap_or_default();
        let mut section = match block {
            Some(block) => from_block(block, target, ledger),
            None => {
                let server = server_address(&target.address, target.protocol);
                Section { table: Table::of("servers", vec![server]), ..Section::default() }
            }
        };
        section.is_made_up = is_made_up;
        if target.protocol != "http" {
            section.table.set("protocol", target.protocol);
        }
        if !tls.is_empty() {
            section.table.set("tls", tls.clone());
        }
        self.made.push(Made { name: name.clone(), target: target.clone(), tls, section });
        name
    }

    /// The table of an upstream that is in use.
    pub fn table(&mut self, name: &str) -> Option<&mut Table> {
        self.made.iter_mut().find(|made| made.name == name).map(|made| &mut made.section.table)
    }

    /// All upstreams in use, in the order of their first use.
    pub fn finish(self, ledger: &Ledger) -> Vec<Section> {
        for block in self.blocks {
            if ledger.outcome(block).is_none() {
                ledger.all_unnecessary(block, "no location uses this upstream");
            }
        }
        let section = |made: Made| Section {
            header: format!("[upstream.{}]", super::toml::key(&made.name)),
            ..made.section
        };
        self.made.into_iter().map(section).collect()
    }
}

/// `tls` of an upstream.
fn tls<'a>(target: &Target, scope: &Scope<'a>, ledger: &Ledger) -> Table {
    let mut table = Table::default();
    if let Some(name) = scope.one("proxy_ssl_name")
        && !name.first().contains('$')
    {
        ledger.carried(name);
        table.set("server_name", name.first());
    }
    if let Some(file) = scope.one("proxy_ssl_trusted_certificate") {
        ledger.carried(file);
        table.set("ca", file.first());
    }
    match scope.one("proxy_ssl_verify") {
        Some(verify) => {
            ledger.carried(verify);
            if verify.first() == "off" {
                table.set("verify", false);
            }
        }
        None => {
            if let Some(pass) = scope.one("proxy_pass") {
                let text = format!(
                    "nginx does not verify the certificate of {}; the result does. With a private CA, set `tls = {{ ca = \
                     \"FILE\" }}` of the upstream",
                    target.address
                );
                ledger.note(pass, text);
            }
        }
    }
    table
}

fn from_block(block: &Directive, target: &Target, ledger: &Ledger) -> Section {
    ledger.carried(block);
    let mut table = Table::default();
    let mut servers: Vec<Value> = Vec::new();
    for directive in block.children() {
        match directive.name.as_str() {
            "server" => servers.extend(server(directive, target.protocol, ledger)),
            "least_conn" => ledger.unnecessary(directive, "`balance = \"least_conn\"` is the default"),
            "ip_hash" => {
                ledger.carried(directive);
                table.set("balance", "hash:address");
            }
            "random" => {
                ledger.carried(directive);
                table.set("balance", "random");
            }
            "hash" => balance_by_hash(directive, &mut table, ledger),
            _ => {}
        }
    }
    let mut whole = Table::of("servers", servers);
    whole.0.extend(table.0);
    Section { comments: super::comments::of(block), table: whole, ..Section::default() }
}

fn balance_by_hash(directive: &Directive, table: &mut Table, ledger: &Ledger) {
    let key = directive.first();
    let family = |prefix: &str| key.strip_prefix(prefix).map(str::to_owned);
    let value = match key {
        "$remote_addr" | "$binary_remote_addr" => Some("hash:address".to_owned()),
        _ => family("$cookie_").map(|name| format!("hash:cookie:{name}")).or_else(|| {
            family("$http_").map(|name| format!("hash:header:{}", super::expr::header_name(&name)))
        }),
    };
    match value {
        Some(value) => {
            ledger.carried(directive);
            table.set("balance", value);
        }
        None => ledger.reported(
            directive,
            "a hash is one of the address, a cookie or a header",
            "the least loaded server is chosen; for caches set `balance = \"hash:header:NAME\"`",
        ),
    }
}

/// An entry of `servers`.
fn server(directive: &Directive, protocol: &str, ledger: &Ledger) -> Option<Value> {
    let address = server_address(directive.first(), protocol);
    let mut table = Table::of("address", address.clone());
    for arg in directive.args.iter().skip(1) {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("weight", weight) => {
                table.set_some("weight", weight.parse::<i64>().ok().filter(|weight| *weight != 1));
            }
            ("backup", _) => table.set("backup", true),
            ("max_conns", most) => {
                table.set_some("max_requests", most.parse::<i64>().ok().filter(|most| *most > 0));
            }
            ("down", _) => {
                ledger.unnecessary(directive, "the server is `down`: add it to `servers` when it is back");
                return None;
            }
            // Passive health checks need no numbers: a server that cannot be connected to is asked again at once.
            _ => {}
        }
    }
    ledger.carried(directive);
    Some(if table.0.len() == 1 { address.into() } else { table.into() })
}

/// Address in bowshock's spelling, with a port.
fn server_address(text: &str, protocol: &str) -> String {
    if let Some(path) = text.strip_prefix("unix:") {
        return format!("unix:/{}", path.split(':').next().unwrap_or_default().trim_start_matches('/'));
    }
    let port = if protocol == "https" { 443 } else { 80 };
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        (!host.contains(':') || host.ends_with(']'))
            && !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_digit())
    });
    // Whoever connects to "any address" connects to this machine.
    let text = text.replacen("0.0.0.0:", "127.0.0.1:", usize::from(text.starts_with("0.0.0.0:")));
    if has_port { text } else { format!("{text}:{port}") }
}

/// Name of an upstream that its address gives: a host or socket with a telling name.
fn own_name(target: &Target) -> Option<String> {
    if let Some(path) = target.address.strip_prefix("unix:") {
        let file = path.rsplit('/').next()?;
        let stem = file.split('.').next()?;
        return Some(identifier(stem)).filter(|name| !name.is_empty());
    }
    let host = target.address.split(':').next()?;
    if host == "localhost" || host.parse::<std::net::IpAddr>().is_ok() || target.address.starts_with('[') {
        return None;
    }
    let first = host.split('.').next()?;
    Some(identifier(first)).filter(|name| !name.is_empty() && name != "www")
}

/// A text with only letters, digits, `-` and `_`.
pub fn identifier(text: &str) -> String {
    let letters = text.chars().map(|letter| match letter {
        _ if letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' => letter,
        _ => '-',
    });
    let name: String = letters.collect();
    name.trim_matches('-').to_owned()
}

/// Settings of connections that belong to the upstream.
pub fn connection_settings<'a>(table: &mut Table, family: &str, scope: &Scope<'a>, ledger: &Ledger) {
    if let Some(directive) = scope.one(&format!("{family}_connect_timeout"))
        && let Some(time) = units::duration(directive.first())
    {
        ledger.carried(directive);
        table.set("connect_timeout", time);
    }
    if let Some(directive) = scope.one(&format!("{family}_buffer_size"))
        && let Some(bytes) = units::bytes(directive.first())
    {
        if bytes > 64 << 10 {
            ledger.carried(directive);
            table.set_some("max_response_head", units::size(directive.first()));
        } else {
            ledger.unnecessary(directive, "the head of a response may have 64k");
        }
    }
    let retries = scope.one(&format!("{family}_next_upstream"));
    if let Some(directive) = retries {
        let status = |word: &String| word.strip_prefix("http_").and_then(|status| status.parse::<i64>().ok());
        let on: Vec<i64> = directive.args.iter().filter_map(status).filter(|status| *status != 404).collect();
        if on.is_empty() {
            ledger.unnecessary(
                directive,
                "requests that are safe to repeat go to another server by themselves",
            );
        } else {
            ledger.carried(directive);
            table.set("retry", Table::of("on", on));
        }
    }
    if let Some(directive) = scope.one(&format!("{family}_next_upstream_tries"))
        && let Ok(tries @ 1..) = directive.first().parse::<i64>()
    {
        ledger.carried(directive);
        let mut retry = match table.get("retry") {
            Some(Value::Table(retry)) => retry.clone(),
            _ => Table::default(),
        };
        retry.set("tries", tries);
        table.set("retry", retry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, protocol, address, uri) in [
            ("http://galaxy", "http", "galaxy", None),
            ("https://a.org/b/", "https", "a.org", Some("/b/")),
            ("http://127.0.0.1:80/", "http", "127.0.0.1:80", Some("/")),
            ("http://unix:/run/x.sock", "http", "unix:/run/x.sock", None),
            ("http://unix:/run/x.sock:/", "http", "unix:/run/x.sock", Some("/")),
            ("unix:///srv/uwsgi.sock", "uwsgi", "unix:/srv/uwsgi.sock", None),
            ("127.0.0.1:8080", "uwsgi", "127.0.0.1:8080", None),
        ] {
            let target = Target::read(text, "uwsgi").unwrap();
            assert_eq!(
                (target.protocol, target.address.as_str(), target.uri.as_deref()),
                (protocol, address, uri)
            );
        }
        assert_eq!(Target::read("http://", "http"), None);
    }

    #[test]
    fn addresses_have_ports() {
        for (text, protocol, address) in [
            ("a.org", "http", "a.org:80"),
            ("a.org", "https", "a.org:443"),
            ("a.org:8080", "http", "a.org:8080"),
            ("[::1]", "http", "[::1]:80"),
            ("[::1]:8080", "http", "[::1]:8080"),
            ("0.0.0.0:8888", "http", "127.0.0.1:8888"),
            ("unix:/run/x.sock", "http", "unix:/run/x.sock"),
        ] {
            assert_eq!(server_address(text, protocol), address);
        }
    }
}
