//! What is measured.

#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::{hint::black_box, io::Write as _, net::TcpListener};

use bowshock::benching::{self, Forwarded, Peer, Process, large};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tempfile::NamedTempFile;

use crate::inputs::{self, SMALL};

/// A step of a request's way, or of a reload.
pub struct Step {
    pub name: &'static str,
    /// Makes what it needs, and gives what repeats it.
    pub prepare: fn() -> Box<Repeat>,
}

/// Does a step so many times.
pub type Repeat = dyn FnMut(u64);

/// All of them, in the order in which a request meets them.
pub const STEPS: [Step; 26] = [
    Step {
        name: "head/short",
        prepare: || head("GET / HTTP/1.1\r\nHost: galaxy.example.org\r\n\r\n".into()),
    },
    Step { name: "head/browser", prepare: || head(inputs::browser("")) },
    Step { name: "identify/untrusted", prepare: || identify(UNTRUSTED) },
    Step { name: "identify/trusted", prepare: || identify(TRUSTED) },
    Step { name: "table/read", prepare: read_table },
    Step { name: "route/small", prepare: || route(SMALL, "/api/histories/f2db41e1fa331b3e/contents") },
    Step { name: "route/small-exact", prepare: || route(SMALL, "/favicon.ico") },
    Step {
        name: "route/small-regex",
        prepare: || route(SMALL, "/plugins/visualizations/charts/static/a.js"),
    },
    Step { name: "route/small-encoded", prepare: || route(SMALL, "//static/../static/%73tyle/base.css") },
    Step { name: "route/large", prepare: route_large },
    Step {
        name: "route/10-regexes",
        prepare: || route(&inputs::regexes(10), "/api/histories/f2db41e1fa331b3e"),
    },
    Step {
        name: "route/100-regexes",
        prepare: || route(&inputs::regexes(100), "/api/histories/f2db41e1fa331b3e"),
    },
    Step {
        name: "route/1000-regexes",
        prepare: || route(&inputs::regexes(1000), "/api/histories/f2db41e1fa331b3e"),
    },
    Step { name: "pick/4-servers", prepare: || pick(4) },
    Step { name: "pick/40-servers", prepare: || pick(40) },
    Step { name: "forward/untrusted", prepare: || forward(UNTRUSTED) },
    Step { name: "forward/trusted", prepare: || forward(TRUSTED) },
    Step { name: "range/one", prepare: || range("bytes=1048576-2097151") },
    Step { name: "range/30-apart", prepare: || range(&inputs::ranges(2000)) },
    Step { name: "range/30-near", prepare: || range(&inputs::ranges(500)) },
    Step { name: "answer/head", prepare: answer },
    Step { name: "load/small", prepare: || load(SMALL) },
    Step { name: "load/large", prepare: || load(&large::text(SITES, ROUTES)) },
    Step { name: "load/one-site", prepare: || load(&large::text(1, SITES * ROUTES)) },
    Step { name: "swap/small", prepare: || swap(SMALL) },
    Step { name: "swap/large", prepare: || swap(&large::text(SITES, ROUTES)) },
];

/// Sites of a large configuration, and routes of each.
const SITES: usize = 1000;
const ROUTES: usize = 20;

fn repeated(mut step: impl FnMut() + 'static) -> Box<Repeat> {
    Box::new(move |times| (0..times).for_each(|_| step()))
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn process(text: &str) -> Process {
    Process::start(file(text).path())
}

fn head(head: String) -> Box<Repeat> {
    repeated(move || benching::read_head(black_box(head.as_bytes())))
}

/// Who asks: by which listener of [`SMALL`], from which address, and who the peer says has asked it.
type Asks = (usize, &'static str, &'static str);

const UNTRUSTED: Asks = (0, "192.0.2.1:4000", "198.51.100.7");
const TRUSTED: Asks = (1, "10.0.0.9:4000", "198.51.100.7, 192.0.2.1, 10.0.0.8");

fn forwarded((listener, from, chain): Asks) -> (Forwarded, Peer) {
    let peer = process(SMALL).peer(listener, from.parse().unwrap());
    let fields = format!("X-Forwarded-For: {chain}\r\nX-Forwarded-Proto: https\r\n");
    (Forwarded::new(&peer, &inputs::browser(&fields)), peer)
}

fn identify(asks: Asks) -> Box<Repeat> {
    let (forwarded, peer) = forwarded(asks);
    repeated(move || forwarded.identify(black_box(&peer)))
}

fn forward(asks: Asks) -> Box<Repeat> {
    let (mut forwarded, _) = forwarded(asks);
    repeated(move || forwarded.forward())
}

fn read_table() -> Box<Repeat> {
    let process = process(SMALL);
    repeated(move || drop(black_box(process.sites())))
}

fn route(text: &str, path: &'static str) -> Box<Repeat> {
    let sites = process(text).sites();
    repeated(move || sites.route(black_box("galaxy.example.org"), black_box(path)))
}

/// One site after the other, so that little of them is in the processor's caches.
fn route_large() -> Box<Repeat> {
    let sites = process(&large::text(SITES, ROUTES)).sites();
    let request = |site| (large::host(site), large::Sample::new(site, site % ROUTES).path);
    let requests: Vec<(String, String)> = (0..SITES).map(request).collect();
    let mut next = 0;
    repeated(move || {
        let (host, path) = &requests[next];
        sites.route(host, path);
        next = (next + 1) % SITES;
    })
}

fn pick(servers: u8) -> Box<Repeat> {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let addresses: Vec<String> = (1..=servers).map(|host| format!("127.0.0.{host}:{port}")).collect();
    let workers = "\"unix:/run/galaxy/gunicorn0.sock\", \"unix:/run/galaxy/gunicorn1.sock\"";
    let process = process(&SMALL.replace(workers, &format!("\"{}\"", addresses.join("\", \""))));
    let upstream = process.upstream("galaxy");
    repeated(move || benching::pick(black_box(&upstream)))
}

fn range(value: &str) -> Box<Repeat> {
    let value = value.to_owned();
    repeated(move || benching::range(black_box(&value), 10_000_000))
}

/// A static file's answer.
fn answer() -> Box<Repeat> {
    let mut fields = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CONTENT_LENGTH, "48123"),
        (header::ETAG, "\"68f0c1-bbfb\""),
        (header::LAST_MODIFIED, "Sat, 01 Nov 2025 10:00:00 GMT"),
        (header::ACCEPT_RANGES, "bytes"),
        (HeaderName::from_static("x-request-id"), "5f0c2a5be1c94cf1a3a4ecb9f2d7e6a1"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    let mut answer = process(SMALL).sites().answer("/static/style/base.css", fields);
    repeated(move || answer.write_head())
}

/// Reads, checks and puts into effect.
fn load(text: &str) -> Box<Repeat> {
    let file = file(text);
    let process = Process::start(file.path());
    repeated(move || process.apply(&benching::load(file.path())))
}

/// Only puts into effect.
fn swap(text: &str) -> Box<Repeat> {
    let file = file(text);
    let (process, config) = (Process::start(file.path()), benching::load(file.path()));
    repeated(move || process.apply(&config))
}
