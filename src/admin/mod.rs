//! Admin endpoints: `/metrics`, `/status.json`, `/health`, and `POST /reload`, `/drain`, `/resume`.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::{
    config::Address,
    exchange::key_of,
    listen::{Listener, Purpose},
    message::{RawHeaders, RequestHead},
    observe::Metrics,
    response::{Explanation, Response},
    route::host_without_port,
    state::State,
    upstream::{Drained, ServerHealth, Standing, Upstream, WaitingFor},
};

/// Header that requests with side effects must have. A web page in an operator's browser cannot send it to another
/// origin.
pub(crate) const X_BOWSHOCK: HeaderName = HeaderName::from_static("x-bowshock");

/// Responds to a request on the admin listener.
pub(crate) async fn respond(state: &Arc<State>, listener: &Listener, request: &RequestHead) -> Response {
    if let Some(response) = refuse_host(listener, request) {
        return response;
    }
    match (&request.method, std::str::from_utf8(request.target.path()).unwrap_or_default()) {
        (&Method::GET | &Method::HEAD, "/health") => text(StatusCode::OK, "text/plain", "ok\n".into()),
        (&Method::GET | &Method::HEAD, "/metrics") => {
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics(state))
        }
        (&Method::GET | &Method::HEAD, "/status.json") => {
            match serde_json::to_string_pretty(&Status::of(state)) {
                Ok(json) => text(StatusCode::OK, "application/json", json + "\n"),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
            }
        }
        (&Method::POST, "/reload" | "/drain" | "/resume" | "/purge") if !request.headers.has(X_BOWSHOCK) => {
            let sentence =
                format!("POST requests need the header {X_BOWSHOCK}, which web pages cannot send.");
            Explanation::new(StatusCode::FORBIDDEN, sentence).answer(&request.headers)
        }
        (&Method::POST, "/reload") => reload(state).await,
        (&Method::POST, "/drain") => drain(state, request, true),
        (&Method::POST, "/resume") => drain(state, request, false),
        (&Method::POST, "/purge") => purge(state, request),
        (_, "/health" | "/metrics" | "/status.json") => not_allowed(&request.headers, "GET, HEAD"),
        (_, "/reload" | "/drain" | "/resume" | "/purge") => not_allowed(&request.headers, "POST"),
        _ => {
            let sentence = "Not found. The admin endpoints are /metrics, /status.json and /health.";
            Explanation::new(StatusCode::NOT_FOUND, sentence).answer(&request.headers)
        }
    }
}

/// Refuses a request whose `Host` is neither an address nor a configured name. Otherwise a web page whose owner
/// points its name at this address after it was loaded ("DNS rebinding") could read and change anything from an
/// operator's browser. Browsers do not connect to unix sockets.
fn refuse_host(listener: &Listener, request: &RequestHead) -> Option<Response> {
    let named = request.target.authority().or_else(|| request.headers.text(header::HOST));
    let name = host_without_port(named?);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let is_ours = matches!(listener.address, Address::Unix(_))
        || bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || listener.settings().hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
    let sentence = "The Host header must have an IP address, localhost or a name in `hosts` of [admin].";
    (!is_ours).then(|| Explanation::new(StatusCode::MISDIRECTED_REQUEST, sentence).answer(&request.headers))
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response {
    Response::text(status, HeaderValue::from_static(kind), body)
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

fn not_allowed(request: &RawHeaders, allow: &'static str) -> Response {
    Explanation::new(StatusCode::METHOD_NOT_ALLOWED, format!("Method not allowed. Use {allow}."))
        .answer(request)
        .with(header::ALLOW, HeaderValue::from_static(allow))
}

/// Reloads the configuration, and reports the result.
async fn reload(state: &Arc<State>) -> Response {
    match state.reload().await {
        Ok(later) => {
            let note = |setting: &&str| format!("The new `{setting}` takes effect after a restart.\n");
            let notes: String = later.iter().map(note).collect();
            let sentence = format!("The new configuration is in effect.\n{notes}");
            text(StatusCode::OK, "text/plain; charset=utf-8", sentence)
        }
        Err(error) => {
            text(StatusCode::UNPROCESSABLE_ENTITY, "text/plain; charset=utf-8", format!("{error}\n"))
        }
    }
}

/// Drains servers or ends that: `?server=ADDRESS&upstream=NAME`.
fn drain(state: &State, request: &RequestHead, draining: bool) -> Response {
    let (server, upstream) = (parameter(request, "server"), parameter(request, "upstream"));
    let plain = |status, body| text(status, "text/plain; charset=utf-8", body);
    let Some(server) = server else {
        return plain(
            StatusCode::BAD_REQUEST,
            "The parameter `server` is missing: write ?server=ADDRESS.\n".into(),
        );
    };
    match state.upstreams.drain(&server, upstream.as_deref(), draining) {
        Ok(servers) => {
            let line = |Drained { upstream, server }: &Drained| {
                let (label, name) = (&server.label, &upstream.name);
                match (draining, server.inflight()) {
                    (true, left) => format!("{label} of {name} gets no new requests; {left} in flight.\n"),
                    (false, _) => format!("{label} of {name} gets requests again.\n"),
                }
            };
            plain(StatusCode::OK, servers.iter().map(line).collect())
        }
        Err(known) => {
            let place = upstream.map(|name| format!(" of {name}")).unwrap_or_default();
            let list = if known.is_empty() { "none".into() } else { known.join(", ") };
            plain(StatusCode::NOT_FOUND, format!("Unknown server {server}{place}. Known servers: {list}.\n"))
        }
    }
}

/// Removes the responses for a URL from all caches.
fn purge(state: &State, request: &RequestHead) -> Response {
    let plain = |status, body: String| text(status, "text/plain; charset=utf-8", body);
    let url = parameter(request, "url").unwrap_or_default();
    let parts = url.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme));
    let Some((scheme, rest)) = parts else {
        let sentence = "The parameter `url` must be a whole URL: ?url=https://galaxy.example.org/path.\n";
        return plain(StatusCode::BAD_REQUEST, sentence.into());
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let key = key_of(scheme, &rest[..at], &rest.as_bytes()[at..]);
    let caches = state.caches.list();
    let removed: Vec<&str> =
        caches.iter().filter(|cache| cache.remove(key)).map(|cache| cache.name()).collect();
    match removed.as_slice() {
        [] => plain(StatusCode::NOT_FOUND, format!("Nothing is stored for {url}.\n")),
        names => plain(StatusCode::OK, format!("{url} is removed from {}.\n", names.join(", "))),
    }
}

/// The value of a parameter of the query.
fn parameter(request: &RequestHead, name: &str) -> Option<String> {
    let query = request.target.query().and_then(|query| std::str::from_utf8(query).ok());
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// Sets the gauges from the state, then encodes the metrics.
fn metrics(state: &State) -> String {
    let metrics = &state.metrics;
    let _one_at_a_time = metrics.scraping.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.reset_gauges();
    for listener in state.listeners().into_iter().filter(|listener| listener.purpose == Purpose::Sites) {
        read_listener(metrics, &listener);
    }
    for (limit, keys) in state.limits.list() {
        metrics.limits.keys.with_label_values(&[&limit]).set(keys as i64);
    }
    for cache in state.caches.list() {
        for (place, bytes) in cache.bytes() {
            metrics.cache_bytes(cache.name(), place, bytes);
        }
    }
    metrics.read_process();
    metrics.process.max_memory.set(state.memory.ceiling().unwrap_or_default().cast_signed());
    metrics.process.memory_full.set(state.memory.is_full().into());
    let (tools, failures) = state.tools.counts();
    metrics.process.tools.set(tools as i64);
    metrics.process.tool_map_failures.set(failures as i64);
    let mut there = HashSet::new();
    for upstream in state.upstreams.list() {
        metrics.upstreams.held.with_label_values(&[&upstream.name]).set(upstream.waiting() as i64);
        // Their counters go on if they come back.
        there.extend(upstream.leaving().into_iter().map(|server| (upstream.name.clone(), server)));
        for Standing { server, .. } in upstream.servers() {
            let labels = &[upstream.name.as_str(), server.label.as_str()];
            there.insert((upstream.name.clone(), server.label.clone()));
            metrics.upstreams.in_flight.with_label_values(labels).set(server.inflight() as i64);
            metrics.upstreams.streaming.with_label_values(labels).set(server.streaming() as i64);
            metrics.upstreams.streams.with_label_values(labels).set(server.streams() as i64);
            metrics.upstreams.outlier.with_label_values(labels).set(server.is_outlier().into());
            metrics.upstreams.up.with_label_values(labels).set((server.health() == ServerHealth::Up).into());
            metrics.upstreams.draining.with_label_values(labels).set(server.is_draining().into());
        }
    }
    metrics.retain_servers(|upstream, server| there.contains(&(upstream.to_owned(), server.to_owned())));
    metrics.text()
}

fn read_listener(metrics: &Metrics, listener: &Listener) {
    let label = listener.configured.to_string();
    let (open, active) = listener.connections();
    metrics.listeners.connections.with_label_values(&[&label, "active"]).add(active as i64);
    metrics
        .listeners
        .connections
        .with_label_values(&[&label, "idle"])
        .add(open.saturating_sub(active) as i64);
}

/// `/status.json`
#[derive(Serialize)]
struct Status {
    version: &'static str,
    pid: u32,
    listeners: Vec<ListenerStatus>,
    upstreams: Vec<UpstreamStatus>,
    config: ConfigStatus,
}

#[derive(Serialize)]
struct ListenerStatus {
    configured: String,
    address: String,
    connections: usize,
    active: usize,
}

#[derive(Serialize)]
struct UpstreamStatus {
    name: String,
    waiting: usize,
    /// `servers` when none can be used, `places` when all that can be are at `max_requests`.
    waiting_for: Option<&'static str>,
    servers: Vec<ServerStatus>,
}

#[derive(Serialize)]
struct ServerStatus {
    address: String,
    /// The host name that it is an address of.
    name: Option<String>,
    state: &'static str,
    reason: Option<String>,
    inflight: usize,
    streaming: usize,
    streams: usize,
    weight: u32,
    backup: bool,
    max_requests: Option<usize>,
    reported_load: Option<f64>,
}

#[derive(Serialize)]
struct ConfigStatus {
    path: String,
    last_reload_successful: bool,
    error: Option<String>,
}

impl Status {
    fn of(state: &State) -> Self {
        let error = state.last_error();
        let listeners = state.listeners();
        let clients = listeners.iter().filter(|listener| listener.purpose == Purpose::Sites);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            listeners: clients.map(|listener| ListenerStatus::of(listener)).collect(),
            upstreams: state.upstreams.list().iter().map(|upstream| UpstreamStatus::of(upstream)).collect(),
            config: ConfigStatus {
                path: state.config_path(),
                last_reload_successful: error.is_none(),
                error: error.map(|error| error.to_string()),
            },
        }
    }
}

impl ListenerStatus {
    fn of(listener: &Listener) -> Self {
        let (connections, active) = listener.connections();
        let (configured, address) = (listener.configured.to_string(), listener.address.to_string());
        Self { configured, address, connections, active }
    }
}

impl UpstreamStatus {
    fn of(upstream: &Upstream) -> Self {
        let now = tokio::time::Instant::now();
        let servers = upstream.servers().into_iter().map(|standing| ServerStatus::of(standing, now));
        let unresolved =
            upstream.unresolved().into_iter().map(|(name, why)| ServerStatus::unresolved(name, why));
        Self {
            name: upstream.name.clone(),
            waiting: upstream.waiting(),
            waiting_for: upstream.waiting_for().map(|what| match what {
                WaitingFor::Servers => "servers",
                WaitingFor::Places => "places",
            }),
            servers: servers.chain(unresolved).collect(),
        }
    }
}

impl ServerStatus {
    fn of(standing: Standing, now: tokio::time::Instant) -> Self {
        let Standing { server, name, weight, backup, max_requests } = standing;
        let reported = server.reported_load(now, max_requests);
        Self {
            address: server.label.clone(),
            name,
            state: server.state(now),
            reason: server.reason().map(|reason| reason.to_string()),
            inflight: server.inflight(),
            streaming: server.streaming(),
            streams: server.streams(),
            weight,
            backup,
            max_requests,
            reported_load: (reported > 0).then_some(reported as f64 / 100.0),
        }
    }

    /// A host name that leads nowhere is a server that is down.
    fn unresolved(name: String, why: String) -> Self {
        Self {
            address: name.clone(),
            name: Some(name),
            state: "failing",
            reason: Some(why),
            inflight: 0,
            streaming: 0,
            streams: 0,
            weight: 1,
            backup: false,
            max_requests: None,
            reported_load: None,
        }
    }
}
