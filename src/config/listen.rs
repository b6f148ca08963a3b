//! `[[listen]]` and `[admin]`: sockets, and who is believed on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::{
    address,
    diagnostic::{Problem, Span, show},
    host::host,
    model::{Address, Admin, HostPattern, Listen, ListenTls, Trust},
    paths,
    read::{ADMIN, Context, LISTEN, Table, Value, integer, text},
    tls,
};

const ADDRESS: &str = "\"[::]:8080\"";

/// Where operators look when the file does not say.
pub fn default_admin() -> Admin {
    let listen = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9180)));
    Admin { listen, mode: None, hosts: Vec::new() }
}

/// Where clients connect when the file does not say.
pub fn default_listen() -> Listen {
    let address = Address::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)));
    Listen::plain(address)
}

/// Those of a file without `[[listen]]` and with certificates.
pub fn default_listen_tls() -> Vec<Listen> {
    let address = |port| Address::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    let tls = Some(ListenTls { own: None });
    vec![Listen::plain(address(80)), Listen { tls, ..Listen::plain(address(443)) }]
}

/// The addresses taken so far, and where.
#[derive(Default)]
pub struct Taken(Vec<(Address, Span)>);

impl Taken {
    /// Takes an address, or notes that somebody has it. Port 0 is a new port every time.
    fn take(&mut self, value: Value<'_>, address: &Address) {
        if matches!(address, Address::Tcp(socket) if socket.port() == 0) {
            return;
        }
        match self.0.iter().find(|(taken, _)| taken == address || excludes(taken, address)) {
            Some((taken, first)) if taken == address => value.error(
                Problem::new(format!("`{address}` is listened on twice"), "again here")
                    .also(first.clone(), "first here")
                    .help("give one of them another port or path, or take it out"),
            ),
            Some((taken, first)) => value.error(
                Problem::new(
                    format!("`{address}` and `{taken}` cannot both be listened on"),
                    "one of them takes the clients of the other",
                )
                .also(first.clone(), "the other one")
                .help("give one of them another port, or take it out"),
            ),
            None => self.0.push((address.clone(), value.span())),
        }
    }

    /// Notes that a file takes the address where operators look when it does not say.
    pub fn check_default_admin(&self, context: &Context<'_>) {
        let Admin { listen, .. } = default_admin();
        if let Some((taken, span)) =
            self.0.iter().find(|(taken, _)| *taken == listen || excludes(taken, &listen))
        {
            let problem = Problem::new(
                format!("`{taken}` and `{listen}`, the default of `[admin]`, cannot both be listened on"),
                "operators look there",
            );
            context.error(
                span.clone(),
                problem.help("give `[admin]` another address: `listen = \"127.0.0.1:9181\"`"),
            );
        }
    }
}

/// Whether the kernel does not let both be bound: an address of all, and one of them, with the same port. `0.0.0.0` and
/// `[::]` go together, as IPv4 is left to the first then.
fn excludes(one: &Address, other: &Address) -> bool {
    let (Address::Tcp(one), Address::Tcp(other)) = (one, other) else { return false };
    let all = |address: &SocketAddr| address.ip().is_unspecified();
    let plain = |address: &SocketAddr| address.ip().to_canonical();
    let takes = |wide: &SocketAddr, narrow: &SocketAddr| {
        all(wide) && !all(narrow) && (wide.is_ipv6() || plain(narrow).is_ipv4())
    };
    one.port() == other.port() && (takes(one, other) || takes(other, one) || plain(one) == plain(other))
}

/// Reads `[admin]`.
pub fn read_admin(value: Value<'_>, taken: &mut Taken) -> Option<Admin> {
    let mut table = value.table(&ADMIN, "[admin]")?;
    let default = default_admin();
    let listen = table.optional("listen", |value| socket(value, taken)).unwrap_or(default.listen);
    let mode = mode(&mut table, matches!(listen, Address::Unix(_)));
    let hosts = table.optional("hosts", admin_hosts).unwrap_or_default();
    table.finish();
    Some(Admin { listen, mode, hosts })
}

/// Reads `admin.hosts`: names that a `Host` may have.
fn admin_hosts(value: Value<'_>) -> Option<Vec<String>> {
    const HOSTS: &str = "hosts = [\"bowshock.example.org\"]";
    let mut names = Vec::new();
    for item in value.list(HOSTS)? {
        let Some(text) = item.string(HOSTS) else { continue };
        match host(text, &item.context.regexes) {
            Ok(HostPattern::Exact(name)) => names.push(name),
            Ok(HostPattern::Suffix(_) | HostPattern::Regex(_)) => {
                let problem = Problem::new(
                    format!("{} is not a host name", show(text)),
                    "only whole names are taken here",
                );
                item.error(problem.help(format!("write for example `{HOSTS}`")));
            }
            Err(problem) => item.error(problem),
        }
    }
    Some(names)
}

/// Reads one `[[listen]]`.
pub fn read(value: Value<'_>, taken: &mut Taken) -> Option<Listen> {
    let mut table = value.table(&LISTEN, "[[listen]]")?;
    let address = table.required("address", ADDRESS, |value| socket(value, taken));
    let unix = address.as_ref().is_none_or(|address| matches!(address, Address::Unix(_)));
    let trust = table.optional("trust", |value| trust(value, unix)).unwrap_or_default();
    let mode = mode(&mut table, unix);
    let tls = table.optional("tls", tls::read_listen).flatten();
    let proxy_protocol = table.take("proxy_protocol");
    let announced = proxy_protocol.and_then(Value::boolean).unwrap_or(false);
    if let Some(value) = proxy_protocol.filter(|_| announced && trust == Trust::default()) {
        let problem = Problem::new("`proxy_protocol` without `trust`", "nobody is believed here");
        value.error(problem.help("list the balancers in front: `trust = [\"10.0.0.0/8\"]`"));
    }
    table.finish();
    let hosts = Vec::new();
    Some(Listen { address: address?, trust, mode, tls, proxy_protocol: announced, hosts })
}

fn socket(value: Value<'_>, taken: &mut Taken) -> Option<Address> {
    if let Some((port, 10)) = value.as_integer() {
        return value
            .wanted("an IP address with a port, in quotes", &format!("{} = \"[::]:{port}\"", value.name));
    }
    let address = text(ADDRESS, address::listen)(value)?;
    if let Address::Unix(path) = &address {
        paths::need_parent(value, path);
    }
    taken.take(value, &address);
    Some(address)
}

fn trust(value: Value<'_>, unix: bool) -> Option<Trust> {
    match value.as_str() {
        Some("all") if unix => return Some(Trust { all: true, ..Trust::default() }),
        Some("all") => {
            let problem = Problem::new(
                "`trust = \"all\"` is only possible on a unix socket",
                "anybody can connect to a TCP port",
            );
            value.error(problem.help(
                "list the networks of the proxies in front: `trust = [\"10.0.0.0/8\", \"2001:db8::/32\"]`",
            ));
            return None;
        }
        _ => {}
    }
    let mut trust = Trust::default();
    for item in value.list("trust = [\"10.0.0.0/8\"]")? {
        if item.as_integer().is_none() {
            trust.networks.extend(network(item));
        } else if unix {
            trust.uids.extend(integer(0..=u32::MAX)(item));
        } else {
            let problem = Problem::new(
                "user ids can only be trusted on a unix socket",
                "who connects over TCP is not known",
            );
            item.error(problem.help("list the networks of the proxies in front: `trust = [\"10.0.0.0/8\"]`"));
        }
    }
    Some(trust)
}

fn network(value: Value<'_>) -> Option<IpNet> {
    let text = value.string("trust = [\"10.0.0.0/8\"]")?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        let problem =
            Problem::new(format!("{} is not a network", show(text)), "needs an IP address or a CIDR");
        value.error(problem.help(
            "write for example `\"10.0.0.0/8\"`, `\"192.0.2.7\"` or `\"2001:db8::/32\"`; \
             a user id stands without quotes",
        ));
        return None;
    };
    if network.trunc() != network {
        let problem = Problem::new(
            format!("`{network}` has bits set past its prefix"),
            format!("read as `{}`", network.trunc()),
        );
        value.context.warn(
            value.span(),
            problem.help(format!(
                "write `\"{}\"` for the network, or `\"{}\"` for the one address",
                network.trunc(),
                network.addr()
            )),
        );
    }
    Some(network.trunc())
}

fn mode(table: &mut Table<'_>, unix: bool) -> Option<u32> {
    let value = table.take("mode")?;
    if !unix {
        let problem =
            Problem::new("`mode` is only possible on a unix socket", "a TCP port has no permissions");
        value.error(problem.help("take it out"));
        return None;
    }
    let digits = match (value.as_str(), value.as_integer()) {
        (Some(text), _) => text.strip_prefix("0o").unwrap_or(text),
        (_, Some((digits, 8))) => digits,
        (_, Some((digits, 10))) => {
            let problem = Problem::new("`mode` is written in octal", "this is a decimal number");
            value.error(problem.help(format!("write `mode = \"0{}\"`", digits.trim_start_matches('0'))));
            return None;
        }
        _ => return value.wanted("an octal number in quotes", "mode = \"0660\""),
    };
    let octal = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
    if mode.is_none() {
        let problem = Problem::new(format!("{} is not a mode", show(digits)), "needs three octal digits");
        value.error(problem.help("write for example `mode = \"0660\"`: the owner and the group may connect"));
    }
    mode
}
