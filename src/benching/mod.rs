//! Operations measured by `benches/micro`: single steps of a request, and the steps of a reload, each with the
//! program's own values.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

pub mod large;

use std::{
    hint::black_box,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode};
use tokio::runtime::Runtime;

use crate::{
    client::Client,
    config::{Config, ConfigPath},
    exchange,
    files::range::Range,
    listen::{PeerAddress, Purpose, WorkerThreads},
    machine,
    message::{HeaderEdits, Request, read_request},
    response::{self, apply_route_headers},
    route::normalize,
    site::{Route, SiteTable},
    state::State,
    upstream::{Selection, ServerHealth, Upstream},
};

pub use crate::listen::Peer;

/// Process with a configuration in effect and no clients.
pub struct Process {
    state: Arc<State>,
    /// Runs only inside calls that need it, so that nothing else runs beside a measurement.
    runtime: Runtime,
}

impl Process {
    /// Applies the configuration in a file.
    pub fn start(path: &Path) -> Self {
        let config = load(path);
        let state = Arc::new(State::new(ConfigPath(path.into()), &config.server, None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let process = Self { state, runtime };
        process.apply(&config);
        process
    }

    /// Applies another configuration.
    pub fn apply(&self, config: &Config) {
        let workers = Arc::new(WorkerThreads::start(0).unwrap());
        self.runtime
            .block_on(self.state.open(config, Arc::new(|_, _, _, _| {}), Arc::new(|_| {}), workers))
            .unwrap();
    }

    /// The sites and routes in effect, loaded as for each request.
    pub fn sites(&self) -> Sites {
        Sites(self.state.table())
    }

    /// Upstream whose servers are all up.
    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        let upstream = self.state.upstreams.find(name).unwrap();
        let all_up =
            || upstream.servers().iter().all(|standing| standing.server.health() == ServerHealth::Up);
        self.runtime.block_on(async {
            while !all_up() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        upstream
    }

    /// Peer of a connection to the listener with this index.
    pub fn peer(&self, listener: usize, from: SocketAddr) -> Peer {
        let listeners = self.state.listeners().into_iter();
        let listener = listeners.filter(|listener| listener.purpose == Purpose::Sites).nth(listener).unwrap();
        Peer { listener, address: PeerAddress::Tcp(from), announced_port: None, tls: None }
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Config {
    machine::load(path).unwrap().config
}

/// The sites and routes in effect.
pub struct Sites(Arc<SiteTable>);

impl Sites {
    /// Finds the route of a request.
    pub fn route(&self, host: &str, path: &str) {
        let path = normalize(path).unwrap();
        assert!(black_box(self.0.find(host, &path)).is_some_and(|matched| matched.route.is_some()));
    }

    /// Response with these headers from the route of a path.
    pub fn answer(&self, path: &str, fields: HeaderMap) -> Answer {
        let (routes, _) = self.0.find("", path).unwrap().route.unwrap();
        let route = routes.unconditional().unwrap();
        let mut answer = response::Response::empty(StatusCode::OK);
        answer.headers = fields;
        Answer { route: Arc::clone(route), answer, out: BytesMut::new() }
    }
}

/// Response and its route.
pub struct Answer {
    route: Arc<Route>,
    answer: response::Response,
    out: BytesMut,
}

impl Answer {
    /// Adds the route's headers and writes the head, as for each file that is sent. Repetition does not change the
    /// headers.
    pub fn write_head(&mut self) {
        apply_route_headers(&mut self.answer.headers, StatusCode::OK, &self.route.settings, |_, _| None);
        self.out.clear();
        exchange::write_head(&mut self.out, &self.answer, true, b"", SystemTime::UNIX_EPOCH);
        black_box(&self.out);
    }
}

/// Parses the head of a request.
pub fn read_head(head: &[u8]) {
    assert!(matches!(black_box(read_request(head, 0)), Ok(Some(_))));
}

/// Selects the best server, and releases it.
pub fn pick(upstream: &Arc<Upstream>) {
    let mut turn = Selection::default();
    let lease = upstream.acquire(&mut turn, Duration::from_secs(300)).now_or_never().unwrap();
    black_box(lease.unwrap());
}

/// Parses the value of `Range` for a file of this size.
pub fn range(value: &str, size: u64) {
    assert!(matches!(black_box(Range::parse(Some(value), size)), Range::Parts(_)));
}

/// Request to an upstream, and its client.
pub struct Forwarded {
    client: Client,
    request: Request,
    out: BytesMut,
}

impl Forwarded {
    /// A request with this head from `peer`.
    pub fn new(peer: &Peer, head: &str) -> Self {
        let (request, _) = read_request(head.as_bytes(), 0).unwrap().unwrap();
        Self { client: Client::identify(peer, &request.head.headers), request, out: BytesMut::new() }
    }

    /// Identifies the client.
    pub fn identify(&self, peer: &Peer) {
        black_box(Client::identify(peer, &self.request.head.headers));
    }

    /// Sets the headers that identify the client.
    pub fn forward(&mut self) {
        let mut fields = HeaderEdits::new(&self.request.head.headers);
        self.client.forward(&mut fields);
        self.out.clear();
        fields.write(&mut self.out);
        black_box(&self.out);
    }
}
