//! The way of a request, from its head to what becomes of it.
//!
//! Who asks → which site and route → what the gate says → the route's action. Knows nothing of the engine.

use std::{io, path::PathBuf, sync::Arc};

use http::{HeaderMap, Method, StatusCode, header, request};
use percent_encoding::AsciiSet;

use crate::{
    answer::{Answer, Explanation, dress},
    client::Client,
    config::{Action, Files, Template},
    exchange::Exchange,
    files::{self, Missing, Opened, Wanted, accelerated, listing},
    gate,
    listen::Peer,
    observe::{RequestId, X_REQUEST_ID},
    route::{By, Route, Table, normalize},
};

/// Answers a request, or says with `None` that a server of its route's upstream answers it.
pub(crate) async fn receive(
    table: &Table,
    peer: &Peer,
    request: &request::Parts,
    exchange: &mut Exchange,
) -> Option<Answer> {
    let client = Client::identify(peer, &request.headers);
    if let Some(given) = request.headers.get(X_REQUEST_ID).filter(|_| client.is_trusted()) {
        exchange.id = RequestId::given(given).unwrap_or_else(|| exchange.id.clone());
    }
    exchange.client = Some(client);
    route(table, request, exchange).await.err().map(|answer| finish(answer, exchange))
}

/// Finds the route and does what it says; an answer made here is the `Err` that ends the way early.
async fn route(table: &Table, request: &request::Parts, exchange: &mut Exchange) -> Result<(), Answer> {
    let refuse = |status, sentence: String| Explanation::new(status, sentence).answer(&request.headers);
    let host = host(request);
    let path = normalize(path(request)).map_err(|bad| refuse(StatusCode::BAD_REQUEST, bad.to_string()))?;

    let Some(matched) = table.find(host, &path) else {
        return Err(refuse(StatusCode::NOT_FOUND, "No site of that name is served here.".into()));
    };
    exchange.site = Arc::clone(matched.site);
    let Some((route, by)) = matched.route.filter(|(route, _)| !route.settings.internal) else {
        return Err(refuse(StatusCode::NOT_FOUND, "There is nothing at this address.".into()));
    };
    exchange.take(matched.site, Arc::clone(&route));
    if let Some(answer) = gate::refuse(&route.settings, request) {
        return Err(answer);
    }
    match &route.settings.action {
        Action::Proxy(_) => Ok(()),
        Action::Files(files) => Err(send_static(table, files, &by, request).await),
        Action::Redirect { to, status } => {
            Err(Answer::redirect(*status, &redirect_target(to, request, host, &by)))
        }
        Action::Answer { status, body: Some(body), content_type } => {
            Err(Answer::text(*status, content_type.clone(), body.clone()))
        }
        Action::Answer { status, body: None, .. } if status.is_client_error() || status.is_server_error() => {
            Err(refuse(*status, "This is what the site answers here.".into()))
        }
        Action::Answer { status, body: None, .. } => Err(Answer::empty(*status)),
    }
}

/// Finds a request that waits for an upstream which a reload has taken away another one; false when there is none, or
/// its route would not take the request.
pub(crate) fn reroute(table: &Table, request: &request::Parts, exchange: &mut Exchange) -> bool {
    let Ok(path) = normalize(path(request)) else { return false };
    let Some(matched) = table.find(host(request), &path) else { return false };
    let Some((route, _)) = matched.route.filter(|(route, _)| !route.settings.internal) else { return false };
    if route.upstream.is_none() || gate::refuse(&route.settings, request).is_some() {
        return false;
    }
    exchange.take(matched.site, route);
    true
}

/// The path asked for. OPTIONS * asks about the server as a whole (RFC 9110 §9.3.7).
fn path(request: &request::Parts) -> &str {
    match request.uri.path() {
        "*" => "/",
        path => path,
    }
}

fn has_encoded_slash(request: &request::Parts) -> bool {
    path(request).as_bytes().windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"%2f"))
}

/// What every answer of ours carries.
pub(crate) fn finish(mut answer: Answer, exchange: &Exchange) -> Answer {
    if let Some(route) = &exchange.route {
        dress(&mut answer.headers, answer.status, &route.settings);
    }
    answer.headers.entry(X_REQUEST_ID).or_insert_with(|| exchange.id.value());
    answer
}

/// The name asked for: that of the target where it has one (RFC 9112 §3.2.2), else `Host`.
pub(crate) fn host(request: &request::Parts) -> &str {
    let named = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri.authority().map(|authority| authority.as_str()).or(named).unwrap_or_default()
}

/// What must not stand as it is in the path of a URL (RFC 3986 §3.3). Matched paths and captures are decoded.
const NOT_IN_PATHS: AsciiSet = percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`');

fn redirect_target(to: &Template, request: &request::Parts, host: &str, by: &By<'_>) -> String {
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    to.render(|name| match (name, by) {
        ("path", _) => Some(target.into()),
        ("host", _) => Some(host.into()),
        (name, By::Regex(captures)) => captures
            .name(name)
            .map(|capture| percent_encoding::utf8_percent_encode(capture.as_str(), &NOT_IN_PATHS).into()),
        (_, By::Exact | By::Prefix(_)) => None,
    })
}

/// Answers with a file of a route, or what stands for a directory.
async fn send_static(table: &Table, files: &Files, by: &By<'_>, request: &request::Parts) -> Answer {
    let (method, headers) = (&request.method, &request.headers);
    // No file name has a slash in it: `%2F` names none, and must not name another.
    if has_encoded_slash(request) {
        return not_found(headers);
    }
    let Some(wanted) = files::wanted(files, by) else { return not_found(headers) };
    match open(&table.files, wanted.clone()).await {
        Ok(opened) => files::respond(&opened, method, headers, HeaderMap::new()),
        Err(Missing::Directory(_)) if files.listing || !files.index.is_empty() => {
            // What the page in it refers to is beneath it (RFC 3986 §5.2.3). As it was sent, a path that starts with
            // two slashes would lead to another host.
            let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let path = normalize(path(request)).unwrap_or_default();
            let path = percent_encoding::utf8_percent_encode(&path, &NOT_IN_PATHS);
            Answer::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{path}/{query}"))
        }
        Err(Missing::NotFound(_)) if files.listing => match files::directory(files, by) {
            Some(directory) => list(directory, wanted, request).await,
            None => not_found(headers),
        },
        Err(missing) => explain(&missing, headers),
    }
}

async fn list(directory: PathBuf, wanted: Wanted, request: &request::Parts) -> Answer {
    let read = tokio::task::spawn_blocking(move || listing::read(&directory, &wanted)).await;
    match read {
        Ok(Ok(found)) => {
            let path = normalize(path(request)).unwrap_or_default();
            listing::answer(found, &path, request.uri.query().unwrap_or_default(), &request.headers)
        }
        Ok(Err(missing)) => explain(&missing, &request.headers),
        Err(panic) => {
            tracing::error!(%panic, "listing a directory failed");
            trouble(&request.headers)
        }
    }
}

/// Opens a file, or finds it open.
async fn open(cache: &Arc<files::Cache>, wanted: Wanted) -> Result<Arc<Opened>, Missing> {
    if let Some(opened) = cache.fresh(&wanted) {
        return Ok(opened);
    }
    // File systems block, some of them for long; the event loop must not.
    let first = wanted.candidates.first().cloned().unwrap_or_default();
    let opened =
        tokio::task::spawn_blocking(move || files::open(&wanted).map(|opened| (wanted, opened))).await;
    let unreadable = |panic| Missing::Unreadable { path: first, source: io::Error::other(panic) };
    let (wanted, opened) = opened.map_err(unreadable)??;
    let opened = Arc::new(opened);
    cache.keep(wanted, Arc::clone(&opened));
    Ok(opened)
}

fn not_found(request: &HeaderMap) -> Answer {
    Explanation::new(StatusCode::NOT_FOUND, "There is no such file.").answer(request)
}

fn trouble(request: &HeaderMap) -> Answer {
    let sentence = "The file cannot be opened at the moment. Please try again soon.";
    Explanation::new(StatusCode::INTERNAL_SERVER_ERROR, sentence).answer(request)
}

/// Why there is no file, for the client and, where it is their business, for operators.
fn explain(missing: &Missing, request: &HeaderMap) -> Answer {
    if missing.is_remarkable() {
        tracing::error!("{missing}");
    }
    if missing.is_trouble() { trouble(request) } else { not_found(request) }
}

/// The answer to a request that the application wants answered with a file: `X-Accel-Redirect` in its `response`.
pub(crate) async fn accelerate(
    table: &Table,
    request: &request::Parts,
    method: &Method,
    response: &HeaderMap,
    exchange: &Exchange,
) -> Answer {
    let mut base = accelerated::kept_fields(response);
    accelerated::drop_bad_dates(&mut base);
    let answer = match accelerated_file(table, request, response) {
        Ok(wanted) => {
            let path = wanted.as_ref().and_then(|wanted| wanted.candidates.first().cloned());
            let answer = match wanted {
                Some(wanted) => match open(&table.files, wanted).await {
                    Ok(opened) => files::respond(&opened, method, &request.headers, base),
                    Err(missing) => explain(&missing, &request.headers),
                },
                None => not_found(&request.headers),
            };
            if answer.status == StatusCode::NOT_FOUND {
                log_missing(exchange, path);
            }
            answer
        }
        Err(problem) => {
            tracing::error!(request_id = %exchange.id, "{problem}");
            Explanation::new(StatusCode::NOT_FOUND, "There is no such file.").answer(&request.headers)
        }
    };
    finish(answer, exchange)
}

fn log_missing(exchange: &Exchange, path: Option<PathBuf>) {
    let path = path.unwrap_or_default();
    tracing::error!(request_id = %exchange.id, path = %path.display(), "the application named a file that is not served");
}

/// Why an accelerated download leads nowhere.
#[derive(Debug, thiserror::Error)]
enum Astray {
    #[error(transparent)]
    NotText(#[from] accelerated::NotText),
    #[error("the application sent an X-Accel-Redirect to {0}, and no route with files is there")]
    NoRoute(String),
}

fn accelerated_file(
    table: &Table,
    request: &request::Parts,
    response: &HeaderMap,
) -> Result<Option<Wanted>, Astray> {
    let target = accelerated::target(response).transpose()?.unwrap_or_default();
    let matched = table.find(host(request), target).and_then(|matched| matched.route);
    let (files, rest) = match &matched {
        Some((route, By::Prefix(rest))) => (files_of(route), *rest),
        Some((_, By::Exact | By::Regex(_))) | None => (None, ""),
    };
    let files = files.ok_or_else(|| Astray::NoRoute(target.to_owned()))?;
    Ok(accelerated::named(files, rest))
}

fn files_of(route: &Route) -> Option<&Files> {
    match &route.settings.action {
        Action::Files(files) => Some(files),
        Action::Proxy(_) | Action::Redirect { .. } | Action::Answer { .. } => None,
    }
}
