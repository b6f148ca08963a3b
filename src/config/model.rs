//! The checked configuration: types that cannot be wrong.
//!
//! Everything here has been parsed and checked against everything else; the program never looks at the file
//! again. Durations and sizes are values, names are resolved, patterns are compiled.

mod compress;
mod tls;
mod upstream;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use regex::Regex;

pub use compress::*;
pub use tls::*;
pub use upstream::*;

use super::{Access, Acme, Limit, LimitNames};

/// A whole configuration that may take effect.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process.
    pub server: Server,
    /// Where operators look.
    pub admin: Admin,
    /// Where certificates are had from, when a site wants them.
    pub acme: Option<Acme>,
    /// What is written down, and where.
    pub log: Log,
    /// Sockets that clients connect to; never empty.
    pub listen: Vec<Listen>,
    /// Limits by name. Every name that a site or a route uses is here.
    pub limits: BTreeMap<String, Limit>,
    /// Sites in the order of the file; the first one without `host` answers for unknown names.
    pub sites: Vec<Site>,
    /// Groups of workers by name. Every name that a route uses is here.
    pub upstreams: BTreeMap<String, Upstream>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Threads of the event loop; never 0 (`0` in the file means one per core and is resolved here).
    pub threads: usize,
    /// How long shutdown waits for requests in flight.
    pub grace: Duration,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// Total time for the head of a request.
    pub client_header_timeout: Duration,
    /// Longest pause between two reads of a request body.
    pub client_body_timeout: Duration,
    /// Longest pause between two successful writes to a client.
    pub send_timeout: Duration,
    /// Bytes per second that a client must take or send while it is waited for, on average; 0 is no limit.
    pub min_rate: u64,
    /// How long an idle connection is kept for its next request.
    pub keepalive_timeout: Duration,
    /// Most client connections at once; past it new ones wait in the listen queue.
    pub max_connections: usize,
    /// Most of them from one address (of IPv6 one /64); `None` is no limit.
    pub max_connections_per_address: Option<usize>,
    /// Bytes of resident memory past which new requests are refused; `None` is no limit.
    pub max_memory: Option<u64>,
    /// Name servers that host names of servers are looked up at; empty means those of the system.
    pub resolver: Vec<SocketAddr>,
    /// `[server.http2]`
    pub http2: Http2,
}

/// `[server.http2]`: what one connection may take. Counts are for ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2 {
    /// Requests at once (RFC 9113 §5.1.2).
    pub max_concurrent_streams: u32,
    /// Bytes of one request's body that may be on their way (§5.2).
    pub stream_window: u32,
    /// The same of all of them.
    pub connection_window: u32,
    /// Bytes of a head, each field with 32 more (§6.5.2).
    pub max_header_list: u32,
    /// Streams that the client gives up.
    pub max_resets: u32,
    /// PING frames.
    pub max_pings: u32,
    /// SETTINGS frames.
    pub max_settings: u32,
    /// Frames that carry nothing, and those that say how important streams are.
    pub max_empty_frames: u32,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// The socket of `/metrics`, `/status.json` and `/health`.
    pub listen: Address,
    /// Permission bits of a unix socket; `None` leaves them to the umask.
    pub mode: Option<u32>,
    /// Names in `Host` that are taken beside IP addresses and `localhost`, in lower case.
    pub hosts: Vec<String>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least severe message that is written.
    pub level: Level,
    /// How messages look on standard error.
    pub format: LogFormat,
    /// One line per request, or none.
    pub access: Option<AccessLog>,
}

/// `log.level`, from most to least severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Only what an operator must act on.
    Error,
    /// And what an operator should know.
    Warn,
    /// And what happens in the large.
    Info,
    /// And what happens to single requests.
    Debug,
    /// And everything else.
    Trace,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines for programs.
    Json,
}

/// `log.access`
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where the lines go.
    pub to: AccessTarget,
    /// What a line looks like.
    pub format: AccessFormat,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// What an access log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// The combined format of Apache and nginx.
    Combined,
    /// One JSON object per line.
    Json,
}

/// `[[listen]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// The socket.
    pub address: Address,
    /// Whose forwarded headers are believed here.
    pub trust: Trust,
    /// Permission bits of a unix socket; `None` leaves them to the umask.
    pub mode: Option<u32>,
    /// Clients speak TLS here.
    pub tls: Option<ListenTls>,
    /// Trusted peers say in a PROXY header who has connected to them.
    pub proxy_protocol: bool,
    /// Of the operators' listener: [`Admin::hosts`].
    pub hosts: Vec<String>,
}

impl From<&Admin> for Listen {
    fn from(admin: &Admin) -> Self {
        Self { mode: admin.mode, hosts: admin.hosts.clone(), ..Self::plain(admin.listen.clone()) }
    }
}

impl Listen {
    /// A listener that only has an address.
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

/// Whose forwarded headers a listener believes. The default believes nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Every peer of this (unix) socket.
    pub all: bool,
    /// Peers from these networks; also proxies to walk past in `X-Forwarded-For`.
    pub networks: Vec<IpNet>,
    /// Peers of a unix socket that run as these users.
    pub uids: Vec<u32>,
}

/// `[[site]]`
#[derive(Debug, Clone)]
pub struct Site {
    /// The first host as written, or `default`; the `site` label of metrics.
    pub name: String,
    /// The names it answers for; empty for the default site.
    pub hosts: Vec<HostPattern>,
    /// Pages that are sent in place of the proxy's own, by the status of the error.
    pub errors: BTreeMap<u16, PathBuf>,
    /// Bytes per second of all its answers together, each of which gets the same part.
    pub limit_rate: Option<u64>,
    /// Its certificate.
    pub tls: Option<Tls>,
    /// Clients are to come by HTTPS.
    pub redirect_https: Option<RedirectHttps>,
    /// Its routes, in the order of the file.
    pub routes: Vec<Route>,
}

/// One entry of `site.host`.
#[derive(Debug, Clone)]
pub enum HostPattern {
    /// `galaxy.example.org`, in lower case.
    Exact(String),
    /// `*.example.org`, kept as `.example.org` in lower case.
    Suffix(String),
    /// `~regex`, matched against the lower-case name.
    Regex(Regex),
}

/// One entry of `[site.routes]`, with what it inherits from its site.
#[derive(Debug, Clone)]
pub struct Route {
    /// The key as written; the `route` label of metrics.
    pub key: String,
    /// Which paths it is for.
    pub pattern: PathPattern,
    /// What it does.
    pub action: Action,
    /// Only reachable from inside (`X-Accel-Redirect`); clients get 404.
    pub internal: bool,
    /// `Expires` and `Cache-Control: max-age` of its answers.
    pub expires: Option<Duration>,
    /// Headers set on its answers: the site's, then the route's; one value per name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest pause of the upstream; `None` takes the upstream's own.
    pub read_timeout: Option<Duration>,
    /// How long its requests wait for a server; `None` takes the upstream's own.
    pub hold: Option<Duration>,
    /// When its requests are sent again.
    pub retry: RouteRetry,
    /// Whether its answers are sent in a coding.
    pub compress: Option<Arc<Compress>>,
    /// What of a request's body there must be before a server is asked.
    pub buffer: Buffering,
    /// Largest request body in bytes; `None` is no limit.
    pub max_body: Option<u64>,
    /// Who may ask.
    pub access: Access,
    /// The limits that hold for it.
    pub limits: LimitNames,
    /// Bytes per second of each of its answers.
    pub limit_rate: Option<u64>,
    /// Bytes that an answer may have before `limit_rate` holds.
    pub limit_rate_after: u64,
    /// The only methods allowed; `None` allows all. `GET` includes `HEAD`.
    pub methods: Option<Vec<Method>>,
}

/// `buffer` of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Buffering {
    /// Nothing: it is passed on as it comes.
    #[default]
    Off,
    /// The whole, or as much of it as waits in memory.
    Memory,
    /// The whole, in a temporary file where it is large.
    Disk,
}

/// `retry` of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteRetry {
    /// Tries in all; `None` takes the upstream's own.
    pub tries: Option<u32>,
    /// Statuses for which another server is asked; `None` takes the upstream's own.
    pub on: Option<Vec<StatusCode>>,
    /// Methods that are not idempotent are sent again too; bodies are kept for it.
    pub any_method: bool,
}

/// The key of a route, by nginx's location words.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// `"= /exact"`
    Exact(String),
    /// `"/prefix"` and `"^~ /prefix"`: whole segments.
    Prefix {
        /// The prefix, without a trailing slash except for `/` itself.
        path: String,
        /// `^~`: no regex is tried when this is the longest prefix.
        before_regex: bool,
    },
    /// `"~ regex"` and `"~* regex"` (case-insensitive, already compiled so).
    Regex(Regex),
}

/// What a route does; exactly one.
#[derive(Debug, Clone)]
pub enum Action {
    /// `proxy = "upstream"`: the name is a key of [`Config::upstreams`].
    Proxy(String),
    /// `files = "/dir"`
    Files(Files),
    /// `redirect = "https://…{path}"`
    Redirect {
        /// The target; `{path}` is the path and query as the client sent them, `{host}` the host.
        to: Template,
        /// 301, 302, 303, 307 or 308; 302 when not written.
        status: StatusCode,
    },
    /// `answer = 404`
    Answer {
        /// The status.
        status: StatusCode,
        /// The body; `None` takes the proxy's own page for errors and nothing otherwise.
        body: Option<String>,
        /// `Content-Type` of the body; `text/plain; charset=utf-8` when not written.
        content_type: HeaderValue,
    },
}

/// `files = "/dir"` with its modifiers.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The directory that replaces the prefix (nginx's `alias`), or for exact and regex keys the file itself.
    pub root: Template,
    /// The only directories that files may come from; empty means the root alone.
    pub within: Vec<PathBuf>,
    /// `try`: where to look when the file is not there, in this order.
    pub otherwise: Vec<Template>,
    /// Which symlinks may be on the way to a file.
    pub symlinks: Symlinks,
    /// Names of files that stand for the directory they are in.
    pub index: Vec<String>,
    /// Whether a directory without such a file is listed.
    pub listing: bool,
    /// Codings in which files beside a file (`.br`, `.zst`, `.gz`) hold its content, by preference.
    pub precompressed: Arc<[Coding]>,
    /// Types of content by the end of a name, before the known ones.
    pub types: Types,
}

/// Types of content that a route knows beside the common ones, by the end of a name.
pub type Types = Arc<[(String, HeaderValue)]>;

/// `symlinks` of a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Symlinks {
    /// Those that end where files may come from.
    #[default]
    Inside,
    /// All, wherever they lead.
    Follow,
    /// None beneath the directory that files come from.
    None,
}

/// Text with `{captures}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// `{name}`: a capture of the route's regex, or a word the action knows.
    Capture(String),
}

impl Template {
    /// Fills in the captures; a name that `lookup` does not know becomes nothing.
    pub fn render<'a>(&self, lookup: impl Fn(&str) -> Option<Cow<'a, str>>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Capture(name) => text.push_str(&lookup(name).unwrap_or_default()),
            }
        }
        text
    }

    /// The text when there is no capture in it.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Capture(name) => write!(f, "{{{name}}}"),
        })
    }
}

/// A configuration file, as told on the command line or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPath(pub PathBuf);

impl ConfigPath {
    /// `bowshock.toml` in the current directory when it exists, else `/etc/bowshock/bowshock.toml`.
    pub fn find(given: Option<PathBuf>) -> Self {
        let here = Path::new("bowshock.toml");
        Self(given.unwrap_or_else(|| {
            if here.exists() { here.into() } else { "/etc/bowshock/bowshock.toml".into() }
        }))
    }
}
