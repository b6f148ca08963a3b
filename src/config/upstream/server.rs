//! `upstream.servers`: upstream servers.

use std::{fmt, net::SocketAddr, path::PathBuf};

use crate::config::{
    address,
    diagnostic::{Problem, Span},
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{self, BOOLEAN, Integer, Of},
    },
    print::{Pairs, quote},
    read::{Value, text},
};

/// An entry of `upstream.servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Address.
    pub address: ServerAddress,
    /// Share of the load; at least 1.
    pub weight: u32,
    /// Whether the server is used only while no other can be connected to.
    pub backup: bool,
    /// Most requests in progress on the server; the rest wait.
    pub max_requests: Option<usize>,
}

impl UpstreamServer {
    /// A server with the defaults of its settings.
    pub fn at(address: ServerAddress) -> Self {
        Self { address, weight: 1, backup: false, max_requests: None }
    }
}

/// Address of an upstream server. Its [`Display`](fmt::Display) form is its name in metrics and commands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerAddress {
    /// An address and port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
    /// A host name, resolved while running, and a port.
    Name(String, u16),
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// The keys of an entry of `servers`.
static KEYS: Keys = Keys {
    title: "an entry of `servers`",
    place: "[upstream.galaxy]\nservers = [{ … }]",
    about: "A server with settings of its own.",
    groups: &[&[&ADDRESS, &WEIGHT, &BACKUP, &MAX_REQUESTS]],
    later: &[],
};

static ADDRESS: Required<kind::Text<ServerAddress>> = Key {
    name: "address",
    kind: kind::Text { form: SERVER, parse: address::server, show: ToString::to_string },
    default: Needed,
    about: "Address of the server. A host name is resolved again when its DNS records expire. Each of its addresses \
            is a server.",
    example: "address = \"unix:/run/galaxy/gunicorn.sock\"",
};

static WEIGHT: Defaulted<Integer> = Key {
    name: "weight",
    kind: Integer(1, 1000),
    default: Is(|| 1),
    about: "Share of the requests, in proportion to the weights of the other servers.",
    example: "address = \"worker1:8080\", weight = 2",
};

static BACKUP: Defaulted<Of<bool>> = Key {
    name: "backup",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "The server gets requests only while no other server can be connected to. At least one server must not be \
            a backup.",
    example: "address = \"worker1:8080\" }, { address = \"worker2:8080\", backup = true",
};

/// Limit of one server, which overrides that of the upstream.
static MAX_REQUESTS: Optional<Integer> = Key {
    name: "max_requests",
    kind: Integer(1, u32::MAX),
    default: Unset("`max_requests` of the upstream"),
    about: "Most requests in progress on this server.",
    example: "address = \"worker1:8080\", max_requests = 4",
};

const SERVER: TextShape = TextShape {
    what: "`\"IP:PORT\"`, `\"HOST:PORT\"` or `\"unix:/PATH\"`",
    pattern: "^(unix:/.+|.+:[0-9]+)$",
};

/// The form of `servers`.
pub fn shape() -> Shape {
    Shape::Either(vec![Shape::Text(SERVER), Shape::Table(&KEYS)]).list()
}

/// Reads `servers`; `max_requests` is the default of servers without one.
pub fn servers(value: Value<'_>, max_requests: Option<usize>) -> Option<Vec<UpstreamServer>> {
    let items = value.list()?;
    if items.is_empty() {
        let problem =
            Problem::new("an upstream without servers", "requests wait until a reload adds servers");
        value.context.warn(value.span(), problem.help(format!("write for example `{}`", value.example())));
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
                Problem::new(format!("the server `{}` is listed twice", server.address), "again here")
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
            Problem::new("every server is a backup", "no server that they could replace")
                .help("remove `backup = true` from at least one of them"),
        );
    }
    Some(servers.into_iter().map(|(server, _)| server).collect())
}

fn server(value: Value<'_>, max_requests: Option<usize>) -> Option<UpstreamServer> {
    let address = text(address::server);
    if value.as_str().is_some() {
        return Some(UpstreamServer { address: address(value)?, weight: 1, backup: false, max_requests });
    }
    let mut table = value.table(&KEYS)?;
    let address = table.required(&ADDRESS);
    let weight = table.read(&WEIGHT);
    let backup = table.read(&BACKUP);
    let own = table.optional(&MAX_REQUESTS).map(|most| most as usize);
    table.finish();
    Some(UpstreamServer { address: address?, weight, backup, max_requests: own.or(max_requests) })
}

/// Writes an entry: an address, or a table when it has other settings.
pub fn show(server: &UpstreamServer) -> String {
    let only_address = server.weight == 1 && !server.backup && server.max_requests.is_none();
    if only_address {
        return quote(&server.address.to_string());
    }
    Pairs::default()
        .key(&ADDRESS, &server.address)
        .unless_default(&WEIGHT, &server.weight)
        .unless_default(&BACKUP, &server.backup)
        .written_if(&MAX_REQUESTS, server.max_requests)
        .braces()
}
