//! Upstreams as the program uses them.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};

use super::UpstreamTls;

/// `[upstream.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name in the file and in metrics.
    pub name: String,
    /// Name servers that their host names are looked up at ([`Server::resolver`]).
    pub resolver: Vec<SocketAddr>,
    /// Its workers; may be empty (requests then wait for a reload that brings some).
    pub servers: Vec<UpstreamServer>,
    /// They are spoken to under TLS (`protocol = "https"`).
    pub tls: Option<UpstreamTls>,
    /// Which of them gets a request.
    pub balance: Balance,
    /// Over how long a server that has returned gets to its whole share; zero is at once.
    pub slow_start: Duration,
    /// What a request counts while only its answer's body is being sent, in percent.
    pub streaming_share: u32,
    /// The field of an answer in which a server tells its load.
    pub load_header: Option<HeaderName>,
    /// How long a request waits for a usable worker; zero does not wait.
    pub hold: Duration,
    /// How many requests may wait at once.
    pub queue: usize,
    /// Who of those that wait goes first.
    pub queue_order: QueueOrder,
    /// When a request is sent again.
    pub retry: Retry,
    /// How to ask a worker whether it is well; `None` asks only for a connection.
    pub health: Option<Health>,
    /// Time for connecting to one worker.
    pub connect_timeout: Duration,
    /// Longest pause of a worker before and within its answer.
    pub read_timeout: Duration,
    /// Longest pause between two writes to a worker.
    pub send_timeout: Duration,
    /// How long an idle connection to a worker is kept; zero keeps none.
    pub keepalive: Duration,
    /// Most bytes of the head of a worker's answer; a larger one is no answer.
    pub max_response_head: usize,
}

/// `upstream.balance`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// The server with the fewest requests in flight for its weight.
    LeastConn,
    /// One after the other, by weight.
    RoundRobin,
    /// The less loaded of two taken at random by weight.
    Random,
    /// The same server for the same key, for as long as it is there.
    Hash(HashKey),
}

/// What `balance = "hash:KEY"` looks at. A request without it goes to the least loaded server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Address,
    /// A cookie.
    Cookie(String),
    /// A field.
    Header(HeaderName),
}

/// `upstream.queue_order`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// Who has waited longest goes first.
    #[default]
    Oldest,
    /// Who has come last goes first: when more comes than can be served, some are served fast rather than all late.
    Newest,
}

/// `upstream.retry`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all once something of a request was sent; at least 1.
    pub tries: u32,
    /// Most retries for each hundred requests.
    pub budget: u32,
    /// Statuses for which another server is asked.
    pub on: Vec<StatusCode>,
}

/// One entry of `upstream.servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Where it listens.
    pub address: ServerAddress,
    /// Its share of the load; at least 1.
    pub weight: u32,
    /// Used only while no other can be connected to.
    pub backup: bool,
    /// Most requests in flight on it; the rest wait.
    pub max_requests: Option<usize>,
}

/// Where a worker listens. Its [`Display`](fmt::Display) form is its name in metrics and commands.
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

/// `upstream.health`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The path that is asked for.
    pub path: String,
    /// `Host` of the question; `None` is `localhost`.
    pub host: Option<String>,
    /// Further headers of the question, which replace those of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The statuses of a worker that is well; empty means any 2xx.
    pub expect: Vec<StatusCode>,
    /// Pause between two questions to a worker that is well.
    pub every: Duration,
    /// Time for an answer.
    pub timeout: Duration,
}
