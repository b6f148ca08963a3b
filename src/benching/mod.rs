//! What `benches/micro` measures: single steps of a request's way, and what a reload does, each through the program's
//! own values.

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

/// A process with a configuration in effect, which nobody connects to.
pub struct Process {
    state: Arc<State>,
    /// Runs only inside of calls that need it, so that nothing else is measured beside them.
    runtime: Runtime,
}

impl Process {
    /// Has the configuration of a file take effect.
    pub fn start(path: &Path) -> Self {
        let config = load(path);
        let state = Arc::new(State::new(ConfigPath(path.into()), &config.server, None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let process = Self { state, runtime };
        process.apply(&config);
        process
    }

    /// Has another configuration take its place.
    pub fn apply(&self, config: &Config) {
        let workers = Arc::new(WorkerThreads::start(0).unwrap());
        self.runtime
            .block_on(self.state.open(config, Arc::new(|_, _, _, _| {}), Arc::new(|_| {}), workers))
            .unwrap();
    }

    /// Takes the sites and routes as each request does.
    pub fn sites(&self) -> Sites {
        Sites(self.state.table())
    }

    /// An upstream whose servers are all up.
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

    /// Somebody who has connected to the listener with this place in the configuration.
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

    /// An answer with these fields from the route of a path.
    pub fn answer(&self, path: &str, fields: HeaderMap) -> Answer {
        let (route, _) = self.0.find("", path).unwrap().route.unwrap();
        let mut answer = response::Response::empty(StatusCode::OK);
        answer.headers = fields;
        Answer { route: Arc::clone(route), answer, out: BytesMut::new() }
    }
}

/// An answer, and the route that it comes from.
pub struct Answer {
    route: Arc<Route>,
    answer: response::Response,
    out: BytesMut,
}

impl Answer {
    /// Adds what the route adds, and writes the head, as is done for each file that is sent. The fields are the same
    /// however often that is done.
    pub fn write_head(&mut self) {
        apply_route_headers(&mut self.answer.headers, StatusCode::OK, &self.route.settings);
        self.out.clear();
        exchange::write_head(&mut self.out, &self.answer, true, b"", SystemTime::UNIX_EPOCH);
        black_box(&self.out);
    }
}

/// Reads the head of a request that has just arrived.
pub fn read_head(head: &[u8]) {
    assert!(matches!(black_box(read_request(head, 0)), Ok(Some(_))));
}

/// Takes a place on the best server, and gives it back.
pub fn pick(upstream: &Arc<Upstream>) {
    let mut turn = Selection::default();
    let lease = upstream.acquire(&mut turn, Duration::from_secs(300)).now_or_never().unwrap();
    black_box(lease.unwrap());
}

/// Reads the value of `Range` for a file of this size.
pub fn range(value: &str, size: u64) {
    assert!(matches!(black_box(Range::parse(Some(value), size)), Range::Parts(_)));
}

/// A request for an upstream, and who asks it.
pub struct Forwarded {
    client: Client,
    request: Request,
    out: BytesMut,
}

impl Forwarded {
    /// The peer asks with this head.
    pub fn new(peer: &Peer, head: &str) -> Self {
        let (request, _) = read_request(head.as_bytes(), 0).unwrap().unwrap();
        Self { client: Client::identify(peer, &request.head.headers), request, out: BytesMut::new() }
    }

    /// Finds out who asks.
    pub fn identify(&self, peer: &Peer) {
        black_box(Client::identify(peer, &self.request.head.headers));
    }

    /// Writes the fields for the upstream, with who asks among them.
    pub fn forward(&mut self) {
        let mut fields = HeaderEdits::new(&self.request.head.headers);
        self.client.forward(&mut fields);
        self.out.clear();
        fields.write(&mut self.out);
        black_box(&self.out);
    }
}
