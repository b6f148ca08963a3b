//! What operators and their tools ask: `/metrics`, `/status.json`, `/health`, and `POST /reload`.

use std::sync::{Arc, PoisonError};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};
use serde::Serialize;

use super::Metrics;
use crate::{
    answer::{Answer, Explanation},
    listen::{Listener, Purpose},
    state::State,
    upstream::Upstream,
};

/// Must be in a request that changes something: a page in somebody's browser cannot send it elsewhere unasked.
pub(crate) const X_BOWSHOCK: &str = "x-bowshock";

/// Answers a request on the admin listener.
pub(crate) async fn answer(state: &Arc<State>, request: &request::Parts) -> Answer {
    match (&request.method, request.uri.path()) {
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
        (&Method::POST, "/reload") if request.headers.contains_key(X_BOWSHOCK) => reload(state).await,
        (&Method::POST, "/reload") => {
            let sentence = format!("A request that changes something must carry the field {X_BOWSHOCK}.");
            Explanation::new(StatusCode::FORBIDDEN, sentence).answer(&request.headers)
        }
        (_, "/health" | "/metrics" | "/status.json") => not_allowed(&request.headers, "GET, HEAD"),
        (_, "/reload") => not_allowed(&request.headers, "POST"),
        _ => {
            let sentence = "There are /metrics, /status.json and /health here.";
            Explanation::new(StatusCode::NOT_FOUND, sentence).answer(&request.headers)
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Answer {
    Answer::text(status, HeaderValue::from_static(kind), body)
        .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

fn not_allowed(request: &HeaderMap, allow: &'static str) -> Answer {
    Explanation::new(StatusCode::METHOD_NOT_ALLOWED, format!("Only {allow} can be asked here."))
        .answer(request)
        .with(header::ALLOW, HeaderValue::from_static(allow))
}

/// Reads the configuration again, and tells what came of it.
async fn reload(state: &Arc<State>) -> Answer {
    match state.reload().await {
        Ok(()) => {
            text(StatusCode::OK, "text/plain; charset=utf-8", "The new configuration is in effect.\n".into())
        }
        Err(error) => {
            text(StatusCode::UNPROCESSABLE_ENTITY, "text/plain; charset=utf-8", format!("{error}\n"))
        }
    }
}

/// Reads the gauges off the state, then writes all metrics.
fn metrics(state: &State) -> String {
    let metrics = &state.metrics;
    let _one_at_a_time = metrics.scraping.lock().unwrap_or_else(PoisonError::into_inner);
    for gauges in [&metrics.connections, &metrics.upstream_inflight, &metrics.upstream_up, &metrics.held] {
        // Servers and listeners that are gone must not show for ever.
        gauges.reset();
    }
    for listener in state.listeners().into_iter().filter(|listener| listener.purpose == Purpose::Sites) {
        read_listener(metrics, &listener);
    }
    for upstream in state.upstreams.list() {
        metrics.held.with_label_values(&[&upstream.name]).set(upstream.waiting() as i64);
        for (server, _) in upstream.servers() {
            let labels = &[upstream.name.as_str(), server.label.as_str()];
            metrics.upstream_inflight.with_label_values(labels).set(server.inflight() as i64);
            metrics.upstream_up.with_label_values(labels).set(server.is_up().into());
        }
    }
    metrics.text()
}

fn read_listener(metrics: &Metrics, listener: &Listener) {
    let label = listener.configured.to_string();
    let (open, active) = listener.connections();
    metrics.connections.with_label_values(&[&label, "active"]).add(active as i64);
    metrics.connections.with_label_values(&[&label, "idle"]).add(open.saturating_sub(active) as i64);
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
    servers: Vec<ServerStatus>,
}

#[derive(Serialize)]
struct ServerStatus {
    address: String,
    state: &'static str,
    inflight: usize,
    weight: u32,
    backup: bool,
    max_requests: Option<usize>,
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
        let servers = upstream.servers().into_iter().map(|(server, configured)| ServerStatus {
            address: server.label.clone(),
            state: match (server.is_up(), server.is_silent(now)) {
                (false, _) => "failing",
                (true, true) => "silent",
                (true, false) => "up",
            },
            inflight: server.inflight(),
            weight: configured.weight,
            backup: configured.backup,
            max_requests: configured.max_requests,
        });
        Self { name: upstream.name.clone(), waiting: upstream.waiting(), servers: servers.collect() }
    }
}
