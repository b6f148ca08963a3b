//! `[[listen]]`: sockets, and the peers that are trusted on them.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

use super::{
    address,
    admin::{self, Admin},
    diagnostic::{self, Problem, Span},
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{BOOLEAN, Of, Shaped},
    },
    paths,
    print::{Out, Pairs, list, quote},
    read::{Context, Value, integer, text},
    tls::{self, ListenTls},
};

/// `[[listen]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// The socket.
    pub address: Address,
    /// Peers whose forwarded headers are trusted.
    pub trust: Trust,
    /// Permission bits of a unix socket; `None` leaves them to the umask.
    pub mode: Option<u32>,
    /// TLS on this socket.
    pub tls: Option<ListenTls>,
    /// Connections begin with a PROXY header, sent by trusted peers.
    pub proxy_protocol: bool,
    /// On the admin listener: [`Admin::hosts`].
    pub hosts: Vec<String>,
}

impl From<&Admin> for Listen {
    fn from(admin: &Admin) -> Self {
        Self { mode: admin.mode, hosts: admin.hosts.clone(), ..Self::plain(admin.listen.clone()) }
    }
}

impl Listen {
    /// A listener with an address and defaults otherwise.
    pub fn plain(address: Address) -> Self {
        let (trust, hosts) = (Trust::default(), Vec::new());
        Self { address, trust, mode: None, tls: None, proxy_protocol: false, hosts }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The port of a TCP address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Peers whose forwarded headers are trusted. The default trusts nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Every peer of this (unix) socket.
    pub all: bool,
    /// Peers from these networks, which are also skipped as proxies in `X-Forwarded-For`.
    pub networks: Vec<IpNet>,
    /// Peers of a unix socket that run as these users.
    pub uids: Vec<u32>,
}

/// The keys of `[[listen]]`.
pub static KEYS: Keys = Keys {
    title: "`[[listen]]`",
    place: "[[listen]]\n…",
    about: "A socket that clients connect to. Without `[[listen]]` the proxy listens on `[::]:8080`, or when a site \
            has `tls`, on `[::]:80` and `[::]:443`. `[::]` includes IPv4.",
    groups: &[&[&ADDRESS, &TRUST, &MODE, &TLS, &PROXY_PROTOCOL]],
    later: &[],
};

static ADDRESS: Required<Shaped> = Key {
    name: "address",
    kind: Shaped(|| Shape::Text(SOCKET)),
    default: Needed,
    about: "IP address with port, or unix socket. Port 0 is any free port.",
    example: "address = \"[::]:8080\"",
};

static TRUST: Optional<Shaped> = Key {
    name: "trust",
    kind: Shaped(|| {
        Shape::Either(vec![
            Shape::Words(vec!["all"]),
            Shape::Either(vec![Shape::Text(NETWORK), Shape::Integer(0, u32::MAX)]).list(),
        ])
    }),
    default: Unset("nobody"),
    about: "Peers whose X-Forwarded-*, Forwarded, REMOTE_USER and PROXY headers are trusted. From other peers these \
            headers are removed. On a unix socket also user ids, or `\"all\"` for every process that may connect.",
    example: "address = \"[::]:8080\"\ntrust = [\"10.0.0.0/8\"]",
};

static MODE: Optional<Shaped> = mode_key("address = \"unix:/run/bowshock/http.sock\"\nmode = \"0660\"");

/// `mode` as a key of `[[listen]]` and `[admin]`.
pub const fn mode_key(example: &'static str) -> Optional<Shaped> {
    Key {
        name: "mode",
        kind: Shaped(|| Shape::Either(vec![Shape::Text(PERMISSIONS), Shape::Integer(0, 0o777)])),
        default: Unset("left to the umask"),
        about: "Permissions of a unix socket, in octal.",
        example,
    }
}

static TLS: Defaulted<Of<Option<ListenTls>>> = Key {
    name: "tls",
    kind: Of {
        shape: || Shape::Either(vec![Shape::Boolean, Shape::Table(&tls::KEYS)]),
        read: tls::read_listen,
        show: tls::show_listen,
    },
    default: Is(|| None),
    about: "TLS with the certificates of the sites. A table gives the certificate for names without one of their \
            own.",
    example: "address = \"[::]:443\"\ntls = true",
};

static PROXY_PROTOCOL: Defaulted<Of<bool>> = Key {
    name: "proxy_protocol",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Connections begin with a PROXY header (version 1 or 2), as a TCP load balancer sends it. Only peers in `trust` \
            may connect.",
    example: "address = \"[::]:8080\"\ntrust = [\"10.0.0.0/8\"]\nproxy_protocol = true",
};

/// The form of an address to listen on.
pub const SOCKET: TextShape = TextShape {
    what: "IP address with port (`\"[::]:443\"`), or unix socket (`\"unix:/run/bowshock/http.sock\"`)",
    pattern: "^(unix:/.+|[0-9a-fA-F.:\\[\\]%]+:[0-9]+)$",
};
const NETWORK: TextShape =
    TextShape { what: "IP address or network (`\"10.0.0.0/8\"`)", pattern: "^[0-9a-fA-F.:]+(/[0-9]{1,3})?$" };
const PERMISSIONS: TextShape = TextShape { what: "octal number in quotes", pattern: "^(0o)?[0-7]+$" };

/// The listener of a file without `[[listen]]`.
pub fn default_listen() -> Listen {
    let address = Address::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)));
    Listen::plain(address)
}

/// The listeners of a file without `[[listen]]` and with certificates.
pub fn default_listen_tls() -> Vec<Listen> {
    let address = |port| Address::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    let tls = Some(ListenTls { own: None });
    vec![Listen::plain(address(80)), Listen { tls, ..Listen::plain(address(443)) }]
}

/// Addresses in use so far, with their places in the file.
#[derive(Default)]
pub struct Taken(Vec<(Address, Span)>);

impl Taken {
    /// Records an address, or notes that another listener has it. Port 0 is a new port every time.
    fn take(&mut self, value: Value<'_>, address: &Address) {
        if matches!(address, Address::Tcp(socket) if socket.port() == 0) {
            return;
        }
        match self.0.iter().find(|(taken, _)| taken == address || conflicts_with(taken, address)) {
            Some((taken, first)) if taken == address => value.error(
                Problem::new(format!("`{address}` is used by two listeners"), "again here")
                    .also(first.clone(), "first here")
                    .help("give one of them another port or path, or remove it"),
            ),
            Some((taken, first)) => value.error(
                Problem::new(
                    format!("`{address}` and `{taken}` cannot both be listened on"),
                    "the addresses overlap",
                )
                .also(first.clone(), "the other one")
                .help("give one of them another port, or remove it"),
            ),
            None => self.0.push((address.clone(), value.span())),
        }
    }

    /// Notes a `[[listen]]` that has the default address of `[admin]`.
    pub fn check_default_admin(&self, context: &Context<'_>) {
        let Admin { listen, .. } = admin::default();
        if let Some((taken, span)) =
            self.0.iter().find(|(taken, _)| *taken == listen || conflicts_with(taken, &listen))
        {
            let problem = Problem::new(
                format!("`{taken}` and `{listen}`, the default of `[admin]`, cannot both be listened on"),
                "the default of `[admin]`",
            );
            context.error(
                span.clone(),
                problem.help("give `[admin]` another address: `listen = \"127.0.0.1:9181\"`"),
            );
        }
    }
}

/// Whether the kernel refuses to bind both: a wildcard address and one that it includes, with the same port.
/// `0.0.0.0` and `[::]` are compatible, because `[::]` then leaves IPv4 to `0.0.0.0`.
fn conflicts_with(one: &Address, other: &Address) -> bool {
    let (Address::Tcp(one), Address::Tcp(other)) = (one, other) else { return false };
    let all = |address: &SocketAddr| address.ip().is_unspecified();
    let plain = |address: &SocketAddr| address.ip().to_canonical();
    let takes = |wide: &SocketAddr, narrow: &SocketAddr| {
        all(wide) && !all(narrow) && (wide.is_ipv6() || plain(narrow).is_ipv4())
    };
    one.port() == other.port() && (takes(one, other) || takes(other, one) || plain(one) == plain(other))
}

/// Writes a `[[listen]]`.
pub fn show(out: &mut Out, listen: &Listen) {
    let Trust { all, networks, uids } = &listen.trust;
    let networks = networks.iter().map(|network| quote(&network.to_string()));
    let trust = if *all { quote("all") } else { list(networks.chain(uids.iter().map(u32::to_string))) };
    let pairs = Pairs::default()
        .written(&ADDRESS, quote(&listen.address.to_string()))
        .written(&TRUST, trust)
        .written_if(&MODE, listen.mode.map(show_mode));
    let pairs = if listen.tls.is_some() { pairs.key(&TLS, &listen.tls) } else { pairs };
    let pairs = pairs.written_if(&PROXY_PROTOCOL, listen.proxy_protocol.then_some(true));
    out.table("[[listen]]", &pairs);
}

/// Writes `mode`.
pub fn show_mode(mode: u32) -> String {
    quote(&format!("{mode:04o}"))
}

/// Reads one `[[listen]]`.
pub fn read(value: Value<'_>, taken: &mut Taken) -> Option<Listen> {
    let mut table = value.table(&KEYS)?;
    let address = table.take_required(&ADDRESS).and_then(|value| socket(value, taken));
    let unix = address.as_ref().is_none_or(|address| matches!(address, Address::Unix(_)));
    let trust = table.take(&TRUST).and_then(|value| trust(value, unix)).unwrap_or_default();
    let mode = mode(table.take(&MODE), unix);
    let tls = table.read(&TLS);
    let announced = table.take(&PROXY_PROTOCOL);
    let proxy_protocol = announced.and_then(Value::boolean).unwrap_or_else(PROXY_PROTOCOL.default.0);
    if let Some(value) = announced.filter(|_| proxy_protocol && trust == Trust::default()) {
        let problem = Problem::new("`proxy_protocol` without `trust`", "no peer is trusted here");
        value.error(problem.help("list the load balancers in front: `trust = [\"10.0.0.0/8\"]`"));
    }
    table.finish();
    let hosts = Vec::new();
    Some(Listen { address: address?, trust, mode, tls, proxy_protocol, hosts })
}

/// Reads an address to listen on, and records it as in use.
pub fn socket(value: Value<'_>, taken: &mut Taken) -> Option<Address> {
    if let Some((port, 10)) = value.as_integer() {
        return value
            .expected("an IP address with a port, in quotes", &format!("{} = \"[::]:{port}\"", value.name));
    }
    let address = address_only(value)?;
    taken.take(value, &address);
    Some(address)
}

/// Reads an address to listen on.
pub fn address_only(value: Value<'_>) -> Option<Address> {
    let address = text(address::listen)(value)?;
    if let Address::Unix(path) = &address {
        paths::need_parent(value, path);
    }
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
    for item in value.list()? {
        if item.as_integer().is_none() {
            trust.networks.extend(network(item));
        } else if unix {
            trust.uids.extend(integer(0..=u32::MAX)(item));
        } else {
            let problem = Problem::new(
                "user ids can only be trusted on a unix socket",
                "the user of a TCP peer is unknown",
            );
            item.error(problem.help("list the networks of the proxies in front: `trust = [\"10.0.0.0/8\"]`"));
        }
    }
    Some(trust)
}

fn network(value: Value<'_>) -> Option<IpNet> {
    let text = value.string()?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = parsed else {
        let problem = Problem::new(
            format!("{} is not a network", diagnostic::show(text)),
            "needs an IP address or a CIDR",
        );
        value.error(problem.help(
            "write for example `\"10.0.0.0/8\"`, `\"192.0.2.7\"` or `\"2001:db8::/32\"`; \
             a user id stands without quotes",
        ));
        return None;
    };
    if network.trunc() != network {
        let problem = Problem::new(
            format!("`{network}` has bits set beyond its prefix"),
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

/// Reads `mode` of a socket.
pub fn mode(value: Option<Value<'_>>, unix: bool) -> Option<u32> {
    let value = value?;
    if !unix {
        let problem =
            Problem::new("`mode` is only possible on a unix socket", "a TCP port has no permissions");
        value.error(problem.help("remove it"));
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
        _ => return value.expected("an octal number in quotes", "mode = \"0660\""),
    };
    let octal = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
    if mode.is_none() {
        let problem =
            Problem::new(format!("{} is not a mode", diagnostic::show(digits)), "needs three octal digits");
        value.error(problem.help("write for example `mode = \"0660\"`: the owner and the group may connect"));
    }
    mode
}
