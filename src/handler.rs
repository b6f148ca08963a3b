//! The way of a request, from its head to what becomes of it.
//!
//! Who asks → which site and route → what the gate says → the route's action. Knows nothing of the engine.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request, uri::PathAndQuery};
use percent_encoding::AsciiSet;
use tokio::runtime::Handle;

use crate::{
    answer::{Answer, Explanation, dress},
    client::Client,
    config::{Action, Files, Template},
    exchange::Exchange,
    files::{
        self, Missing, Opened, Wanted,
        accelerated::{self, Target},
        archive, listing,
    },
    gate,
    listen::Peer,
    observe::{RequestId, X_REQUEST_ID},
    route::{By, Route, Table, normalize},
    upstream::Fetch,
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
    exchange.errors = Some(Arc::clone(matched.errors));
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
    // What another server was to be asked is nothing for this one; it may say so again.
    exchange.redirect = None;
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

/// The site's own page in place of ours, for an answer that explains an error to a person.
pub(crate) async fn with_own_page(mut answer: Answer, exchange: &Exchange) -> Answer {
    let page =
        exchange.errors.as_ref().filter(|_| answer.is_page).and_then(|errors| errors.page(answer.status));
    let Some((path, cache)) = page else { return answer };
    let wanted = Wanted::file(path.into());
    match open(cache, wanted).await {
        Ok(opened) => {
            answer.headers.insert(header::CONTENT_TYPE, opened.content_type.clone());
            answer.body(opened.whole())
        }
        Err(missing) => {
            tracing::error!("a page for errors: {missing}");
            answer
        }
    }
}

/// The name asked for: that of the target where it has one (RFC 9112 §3.2.2), else `Host`.
pub(crate) fn host(request: &request::Parts) -> &str {
    let named = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    request.uri.authority().map(|authority| authority.as_str()).or(named).unwrap_or_default()
}

/// What cannot stand in a request target (RFC 9112 §3.2); what is quoted already stays.
const NOT_IN_TARGETS: AsciiSet = percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'\\')
    .add(b'^')
    .add(b'{')
    .add(b'|')
    .add(b'}');

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
        Err(Missing::Directory(_))
            if (files.listing || !files.index.is_empty()) && !request.uri.path().ends_with('/') =>
        {
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

/// What comes of an answer in whose place the application wants something else sent.
pub(crate) enum Instead {
    /// This is sent, of this route if it is a file of one.
    Answer(Answer, Option<Arc<Route>>),
    /// A server of this route's upstream is asked for this path.
    Route(Arc<Route>, PathAndQuery),
}

/// What is sent in place of an answer that names a file or a path: `X-Accel-Redirect` or `X-Sendfile` in `response`.
pub(crate) async fn accelerate(
    table: &Table,
    request: &request::Parts,
    response: &HeaderMap,
    exchange: &Exchange,
) -> Instead {
    let mut base = accelerated::kept_fields(response);
    accelerated::drop_bad_dates(&mut base);
    let (found, route) = match accelerated_target(table, request, response) {
        Ok(Found::Route(route, path)) => return Instead::Route(route, path),
        Ok(Found::Files(wanted, route)) => (wanted, route),
        Err(problem) => {
            tracing::error!(request_id = %exchange.id, "{problem}");
            return Instead::Answer(finish(not_found(&request.headers), exchange), None);
        }
    };
    let path = found.first().and_then(|wanted| wanted.candidates.first().cloned());
    let mut answer = not_found(&request.headers);
    for wanted in found {
        match open(&table.files, wanted).await {
            Ok(opened) => {
                answer = files::respond(&opened, &request.method, &request.headers, base);
                break;
            }
            Err(missing) => answer = explain(&missing, &request.headers),
        }
    }
    if answer.status == StatusCode::NOT_FOUND {
        log_missing(exchange, path);
    }
    Instead::Answer(finish(answer, exchange), route)
}

fn log_missing(exchange: &Exchange, path: Option<PathBuf>) {
    let path = path.unwrap_or_default();
    tracing::error!(request_id = %exchange.id, path = %path.display(), "the application named a file that is not served");
}

/// The answer to a request whose application has sent the list of an archive: `list`, with the fields of `response`.
pub(crate) async fn archive(
    table: Arc<Table>,
    request: &request::Parts,
    list: Bytes,
    response: &HeaderMap,
    crcs: &Arc<archive::Crcs>,
    exchange: &Exchange,
) -> Answer {
    let host = host(request).to_owned();
    let (received, client, runtime) = (request.headers.clone(), exchange.client.clone(), Handle::current());
    let resolve = move |path: &str, listed: &str| {
        let matched = table.find(&host, path).and_then(|matched| matched.route);
        let Some((route, by)) = matched else { return Err(archive::Unresolved::NoRoute) };
        if let (Some(upstream), Some(client)) = (&route.upstream, &client) {
            if accelerated::leads_up(listed) {
                return Err(archive::Unresolved::NoRoute);
            }
            let target = percent_encoding::utf8_percent_encode(listed, &NOT_IN_TARGETS).to_string();
            let fetch = Fetch::new(Arc::clone(upstream), &target, &received, client, runtime.clone());
            return Ok(archive::Place::Remote(Box::new(fetch)));
        }
        let By::Prefix(rest) = by else { return Err(archive::Unresolved::NoRoute) };
        let wanted = files_of(&route).and_then(|files| accelerated::named(files, rest));
        wanted.map(archive::Place::File).ok_or(archive::Unresolved::NoRoute)
    };
    let order = archive::Order::new(list, response, Arc::new(resolve), Arc::clone(crcs));
    let answer = match archive::plan(order).await {
        Ok(archive) => archive::answer(archive, &request.method, &request.headers, response),
        Err(problem) => {
            tracing::error!(request_id = %exchange.id, "{problem}");
            no_archive(&request.headers)
        }
    };
    finish(answer, exchange)
}

impl archive::Remote for Fetch {
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Self::open(self).map(|body| Box::new(body) as Box<dyn io::Read + Send>)
    }
}

/// There is no archive, and it is not the client's fault.
pub(crate) fn no_archive(request: &HeaderMap) -> Answer {
    let sentence =
        "The archive cannot be made: a part of it is missing. Please tell the operators of the site.";
    Explanation::new(StatusCode::BAD_GATEWAY, sentence).answer(request)
}

/// Why an accelerated download leads nowhere.
#[derive(Debug, thiserror::Error)]
enum Astray {
    #[error(transparent)]
    NotText(#[from] accelerated::NotText),
    #[error("the application sent an X-Accel-Redirect to {0}, and no route with files or a proxy is there")]
    NoRoute(String),
    #[error(
        "the application sent an X-Sendfile, and the site has no internal route with files that could allow it"
    )]
    NoInternalRoute,
}

/// Where an application's word leads.
enum Found {
    /// To one of these files, all of this route if it is known.
    Files(Vec<Wanted>, Option<Arc<Route>>),
    /// To another upstream.
    Route(Arc<Route>, PathAndQuery),
}

fn accelerated_target(
    table: &Table,
    request: &request::Parts,
    response: &HeaderMap,
) -> Result<Found, Astray> {
    let path = match accelerated::target(response).transpose()? {
        Some(Target::Route(path)) => path,
        Some(Target::File(path)) => {
            let wanted: Vec<_> = table
                .internal_files(host(request))
                .filter_map(|files| accelerated::sent(files, path))
                .collect();
            return if wanted.is_empty() {
                Err(Astray::NoInternalRoute)
            } else {
                Ok(Found::Files(wanted, None))
            };
        }
        None => "",
    };
    let nowhere = || Astray::NoRoute(path.to_owned());
    let plain = path.split('?').next().unwrap_or_default();
    let matched = table.find(host(request), plain).and_then(|matched| matched.route);
    match matched {
        // Where it leads from there is the server's to say: it must stay on the route.
        Some((route, _)) if route.upstream.is_some() && accelerated::leads_up(path) => Err(nowhere()),
        Some((route, _)) if route.upstream.is_some() => {
            // What is asked of a server is a URL: what cannot stand in one is quoted.
            let quoted = percent_encoding::utf8_percent_encode(path, &NOT_IN_TARGETS).to_string();
            let target = PathAndQuery::try_from(quoted).map_err(|_| nowhere())?;
            Ok(Found::Route(route, target))
        }
        Some((route, _)) => match table.find(host(request), path).and_then(|matched| matched.route) {
            Some((same, By::Prefix(rest))) if Arc::ptr_eq(&same, &route) => {
                let files = files_of(&route).ok_or_else(nowhere)?;
                let wanted = accelerated::named(files, rest).into_iter().collect();
                Ok(Found::Files(wanted, Some(route)))
            }
            _ => Err(nowhere()),
        },
        None => Err(nowhere()),
    }
}

fn files_of(route: &Route) -> Option<&Files> {
    match &route.settings.action {
        Action::Files(files) => Some(files),
        Action::Proxy(_) | Action::Redirect { .. } | Action::Answer { .. } => None,
    }
}
