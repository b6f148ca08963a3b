//! `[server]`: settings of the process.

mod http2;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    address,
    diagnostic::Problem,
    keys::{
        Defaulted, Is, Key, Keys, Kind, Optional, Shape, TextShape, Unset,
        kind::{self, DURATION, Integer, Of, SIZE, TIME},
    },
    paths,
    print::{Out, Pairs, quote, strings},
    read::{Context, Table, Value, text},
    units::show_size,
};

pub use http2::Http2;

/// `[server]`
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// Worker threads; never 0 (`0` in the file means one per core and is resolved here).
    pub threads: usize,
    /// Time that shutdown waits for requests in progress.
    pub grace: Duration,
    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Total time for the head of a request.
    pub client_header_timeout: Duration,
    /// Longest pause between two reads of a request body.
    pub client_body_timeout: Duration,
    /// Longest pause between two successful writes to a client.
    pub send_timeout: Duration,
    /// Bytes per second that a client must send or take on average while the proxy waits for it; 0 is no limit.
    pub min_rate: u64,
    /// Time that an idle connection is kept open for its next request.
    pub keepalive_timeout: Duration,
    /// Most concurrent client connections; further ones wait in the listen queue.
    pub max_connections: usize,
    /// Most concurrent connections from one address (of IPv6 one /64); `None` is no limit.
    pub max_connections_per_address: Option<usize>,
    /// Bytes of resident memory above which new requests are refused; `None` is no limit.
    pub max_memory: Option<u64>,
    /// Name servers for host names of upstream servers; empty means those of the system.
    pub resolver: Vec<SocketAddr>,
    /// `[server.http2]`
    pub http2: Http2,
}

/// The keys of `[server]`.
pub static KEYS: Keys = Keys {
    title: "`[server]`",
    place: "[server]\n…",
    about: "Settings of the process and of client connections.",
    groups: &[&[
        &THREADS,
        &GRACE,
        &PID_FILE,
        &CLIENT_HEADER_TIMEOUT,
        &CLIENT_BODY_TIMEOUT,
        &SEND_TIMEOUT,
        &MIN_RATE,
        &KEEPALIVE_TIMEOUT,
        &MAX_CONNECTIONS,
        &MAX_CONNECTIONS_PER_ADDRESS,
        &MAX_MEMORY,
        &RESOLVER,
        &HTTP2,
    ]],
    later: &["user", "group"],
};

static THREADS: Optional<Integer> = Key {
    name: "threads",
    kind: Integer(0, 1024),
    default: Unset("one per core"),
    about: "Threads that serve requests. `0` is one per core. A change takes effect at a restart.",
    example: "threads = 4",
};

static GRACE: Defaulted<Of<Duration>> = Key {
    name: "grace",
    kind: DURATION,
    default: Is(|| Duration::from_secs(30)),
    about: "Time that a shutdown waits for requests in progress and for tunnels. Connections that are still open \
            then are closed. Raise it to let long downloads finish when the proxy is restarted.",
    example: "grace = \"5m\"",
};

static PID_FILE: Optional<kind::Path> = Key {
    name: "pid_file",
    kind: kind::Path { home: "/run/bowshock", check: paths::need_parent },
    default: Unset("no file"),
    about: "File for the process id. systemd does not need it. A change takes effect at a restart.",
    example: "pid_file = \"/run/bowshock/bowshock.pid\"",
};

static CLIENT_HEADER_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "client_header_timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(10)),
    about: "Time for the whole head of a request, from its first byte. A client that takes longer gets 408.",
    example: "client_header_timeout = \"20s\"",
};

static CLIENT_BODY_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "client_body_timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(60)),
    about: "Longest pause between two reads of a request body, not the time for all of it.",
    example: "client_body_timeout = \"2m\"",
};

static SEND_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "send_timeout",
    kind: TIME,
    default: Is(|| Duration::from_secs(60)),
    about: "Longest pause between two writes of a response to a client that does not read. The connection is \
            closed after it.",
    example: "send_timeout = \"30s\"",
};

static MIN_RATE: Defaulted<Of<Option<u64>>> = Key {
    name: "min_rate",
    kind: SIZE,
    default: Is(|| Some(500)),
    about: "Bytes per second that a client must send or take on average while the proxy waits for it. A slower \
            connection is closed, which ends slow-read and slow-body attacks.",
    example: "min_rate = \"1k\"",
};

static KEEPALIVE_TIMEOUT: Defaulted<Of<Duration>> = Key {
    name: "keepalive_timeout",
    kind: DURATION,
    default: Is(|| Duration::from_secs(75)),
    about: "Time that an idle client connection is kept open for its next request. `\"0s\"` closes each connection \
            after one response. Behind another proxy, make it longer than the idle timeout of that proxy.",
    example: "keepalive_timeout = \"2m\"",
};

static MAX_CONNECTIONS: Defaulted<Integer> = Key {
    name: "max_connections",
    kind: Integer(1, u32::MAX),
    default: Is(|| 16_384),
    about: "Most client connections at once, over all listeners. Further ones wait in the listen queue. The limit of \
            open files (`LimitNOFILE` in systemd) must allow them. A change takes effect at a restart.",
    example: "max_connections = 50000",
};

static MAX_CONNECTIONS_PER_ADDRESS: Optional<Integer> = Key {
    name: "max_connections_per_address",
    kind: Integer(1, u32::MAX),
    default: Unset("no limit"),
    about: "Most client connections at once from one address (from one /64 of IPv6). Further ones are closed at \
            once. Peers that the listener trusts are exempt.",
    example: "max_connections_per_address = 500",
};

static MAX_MEMORY: Optional<Of<u64>> = Key {
    name: "max_memory",
    kind: Of { shape: || SIZE.shape(), read: max_memory, show: |bytes| quote(&show_size(Some(*bytes))) },
    default: Unset("no limit"),
    about: "Resident memory above which new requests get 503. Requests in progress continue. At least `\"64m\"`. Set \
            it below what the machine or the container allows.",
    example: "max_memory = \"4g\"",
};

static RESOLVER: Optional<Of<Vec<SocketAddr>>> = Key {
    name: "resolver",
    kind: Of {
        shape: || Shape::one_or_more(|| Shape::Text(NAME_SERVER)),
        read: resolver,
        show: |servers| strings(servers.iter().map(ToString::to_string)),
    },
    default: Unset("those of the system"),
    about: "DNS servers that resolve the host names of upstream servers. The default port is 53.",
    example: "resolver = \"127.0.0.1:53\"",
};

static HTTP2: Optional<Of<Http2>> = Key {
    name: "http2",
    kind: Of {
        shape: || Shape::Table(&http2::KEYS),
        read: http2::read,
        show: |http2| http2::pairs(http2).braces(),
    },
    default: Unset("the defaults of its keys"),
    about: "Limits of HTTP/2 connections.",
    example: "http2 = { max_concurrent_streams = 200 }",
};

const NAME_SERVER: TextShape =
    TextShape { what: "IP address, with a port if it is not 53", pattern: "^[0-9a-fA-F.:\\[\\]]+$" };

/// Reads `[server]`, or takes the defaults where the file has none.
pub fn read(context: &Context<'_>, value: Option<Value<'_>>) -> ServerSettings {
    let table = value.and_then(|value| value.table(&KEYS));
    read_table(table.unwrap_or_else(|| Table::absent(context, &KEYS)))
}

fn read_table(mut table: Table<'_>) -> ServerSettings {
    let cores = table.context.system.cores().max(1);
    let server = ServerSettings {
        threads: table
            .optional(&THREADS)
            .filter(|threads| *threads > 0)
            .map_or(cores, |threads| threads as usize),
        grace: table.read(&GRACE),
        pid_file: table.optional(&PID_FILE),
        client_header_timeout: table.read(&CLIENT_HEADER_TIMEOUT),
        client_body_timeout: table.read(&CLIENT_BODY_TIMEOUT),
        send_timeout: table.read(&SEND_TIMEOUT),
        min_rate: table.read(&MIN_RATE).unwrap_or_default(),
        keepalive_timeout: table.read(&KEEPALIVE_TIMEOUT),
        max_connections: table.read(&MAX_CONNECTIONS) as usize,
        max_connections_per_address: table.optional(&MAX_CONNECTIONS_PER_ADDRESS).map(|count| count as usize),
        max_memory: table.optional(&MAX_MEMORY),
        resolver: table.optional(&RESOLVER).unwrap_or_default(),
        http2: table.optional(&HTTP2).unwrap_or_else(|| http2::absent(table.context)),
    };
    table.finish();
    server
}

/// Writes `[server]` and `[server.http2]`.
pub fn show(out: &mut Out, server: &ServerSettings) {
    let pairs = Pairs::default()
        .written(&THREADS, server.threads)
        .key(&GRACE, &server.grace)
        .optional(&PID_FILE, server.pid_file.as_ref())
        .key(&CLIENT_HEADER_TIMEOUT, &server.client_header_timeout)
        .key(&CLIENT_BODY_TIMEOUT, &server.client_body_timeout)
        .key(&SEND_TIMEOUT, &server.send_timeout)
        .key(&MIN_RATE, &Some(server.min_rate).filter(|rate| *rate > 0))
        .key(&KEEPALIVE_TIMEOUT, &server.keepalive_timeout)
        .written(&MAX_CONNECTIONS, server.max_connections)
        .written_if(&MAX_CONNECTIONS_PER_ADDRESS, server.max_connections_per_address)
        .optional(&MAX_MEMORY, server.max_memory.as_ref())
        .optional(&RESOLVER, Some(&server.resolver).filter(|servers| !servers.is_empty()));
    out.table("[server]", &pairs);
    out.table("[server.http2]", &http2::pairs(&server.http2));
}

/// Smallest `max_memory`: the process's own memory and room for requests.
const LEAST_MEMORY: u64 = 64 << 20;

fn max_memory(value: Value<'_>) -> Option<u64> {
    let bytes = value.size()??;
    if bytes < LEAST_MEMORY {
        let problem = Problem::new("`max_memory` is too small", "must be `64m` or more");
        value.error(problem.help("write for example `max_memory = \"1g\"`"));
        return None;
    }
    Some(bytes)
}

/// Reads `resolver`: one name server or a list.
fn resolver(value: Value<'_>) -> Option<Vec<SocketAddr>> {
    let one = text(address::name_server);
    match value.as_list() {
        Some(items) => Some(items.into_iter().filter_map(one).collect()),
        None => one(value).map(|address| vec![address]),
    }
}
