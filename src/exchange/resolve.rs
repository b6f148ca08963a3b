//! The way of a request, from its head to what becomes of it.
//!
//! Who asks → which site and route → what the gate says → the route's action.

use std::sync::Arc;

use http::{StatusCode, header};
use percent_encoding::AsciiSet;

use crate::{
    client::Client,
    config::{Action, Template},
    exchange::{RequestContext, admit, encode, error_page, serve_files},
    files::without_content,
    listen::Peer,
    message::{RequestHead, RequestId, X_REQUEST_ID},
    observe::Rarely,
    response::{Explanation, Response, apply_route_headers},
    route::{BadPath, PathMatch, normalize},
    site::SiteTable,
    state::State,
};

/// Answers a request, or says with `None` that a server of its route's upstream answers it.
pub(crate) async fn receive(
    state: &State,
    peer: &Peer,
    request: &RequestHead,
    exchange: &mut RequestContext,
) -> Option<Response> {
    let client = Client::identify(peer, &request.headers);
    if let Some(given) = request.headers.get(X_REQUEST_ID).filter(|_| client.is_trusted()) {
        exchange.id = RequestId::given(given).unwrap_or_else(|| exchange.id.clone());
    }
    exchange.client = Some(client);
    exchange.tls.clone_from(&peer.tls);
    route(state, peer, request, exchange).await.err().map(|answer| finish(answer, exchange))
}

/// Finds the route and does what it says; an answer made here is the `Err` that ends the way early.
async fn route(
    state: &State,
    peer: &Peer,
    request: &RequestHead,
    exchange: &mut RequestContext,
) -> Result<(), Response> {
    if let Some(answer) = state.challenge(request) {
        return Err(answer);
    }
    if let Some(answer) = admit::refuse_now(state, request) {
        return Err(answer);
    }
    let table = state.table();
    let refuse = |status, sentence: String| Explanation::new(status, sentence).answer(&request.headers);
    let host = host(request);
    let path = normalize(path(request)).map_err(|bad| refuse(StatusCode::BAD_REQUEST, bad.to_string()))?;

    let Some(matched) = table.find(host, &path) else {
        return Err(refuse(StatusCode::NOT_FOUND, "No site of that name is served here.".into()));
    };
    if let Some(client) = &exchange.client
        && let Some(answer) = matched.site.https.redirect_to_https(client, peer.tls.as_deref(), host, request)
    {
        exchange.site = Some(Arc::clone(matched.site));
        return Err(answer);
    }
    let Some((route, by)) = matched.route.filter(|(route, _)| !route.settings.internal) else {
        exchange.site = Some(Arc::clone(matched.site));
        return Err(refuse(StatusCode::NOT_FOUND, "There is nothing at this address.".into()));
    };
    if table.is_misread(host, self::path(request), &path, route) {
        exchange.site = Some(Arc::clone(matched.site));
        return Err(refuse(StatusCode::BAD_REQUEST, BadPath::Ambiguous.to_string()));
    }
    exchange.take(Arc::clone(route));
    if let Some(answer) = admit::enter(state, route, request, exchange) {
        return Err(answer);
    }
    match &route.settings.action {
        Action::Proxy(_) => Ok(()),
        Action::Files(files) => Err(serve_files::send(&table, files, &by, request).await),
        Action::Redirect { to, status } => {
            Err(Response::redirect(*status, &redirect_target(to, request, host, &by)))
        }
        Action::Answer { status, body: Some(body), content_type } => {
            Err(Response::text(*status, content_type.clone(), body.clone()))
        }
        Action::Answer { status, body: None, .. } if status.is_client_error() || status.is_server_error() => {
            Err(refuse(*status, "This is what the site answers here.".into()))
        }
        Action::Answer { status, body: None, .. } => Err(Response::empty(*status)),
    }
}

/// Finds a request that waits for an upstream which a reload has taken away another one; false when there is none, or
/// its route would not take the request.
///
/// A request that the application has redirected inside is answered already: only what it was redirected to is asked for
/// again.
pub(crate) fn reroute(table: &SiteTable, request: &RequestHead, exchange: &mut RequestContext) -> bool {
    if let Some(target) = &exchange.redirect {
        let Ok(path) = normalize(target.path()) else { return false };
        let matched = table.find(host(request), &path).and_then(|matched| matched.route);
        let Some((route, _)) = matched.filter(|(route, _)| route.upstream.is_some()) else { return false };
        exchange.take(Arc::clone(route));
        return true;
    }
    let Ok(path) = normalize(path(request)) else { return false };
    let Some(matched) = table.find(host(request), &path) else { return false };
    let Some((route, _)) = matched.route.filter(|(route, _)| !route.settings.internal) else { return false };
    if table.is_misread(host(request), self::path(request), &path, route) {
        return false;
    }
    let Some(client) = &exchange.client else { return false };
    if route.upstream.is_none() || admit::refuse(&route.settings, request, client).is_some() {
        return false;
    }
    exchange.take(Arc::clone(route));
    // Where a server has had the request, the new route must allow a second time too.
    exchange.tries == 0 || request.method.is_idempotent() || exchange.is_repeatable(&request.headers)
}

/// The path asked for. OPTIONS * asks about the server as a whole (RFC 9110 §9.3.7).
pub(super) fn path(request: &RequestHead) -> &[u8] {
    match request.target.path() {
        b"*" => b"/",
        path => path,
    }
}

/// What every answer of ours carries.
pub(crate) fn finish(mut answer: Response, exchange: &RequestContext) -> Response {
    if let Some(route) = &exchange.route {
        apply_route_headers(&mut answer.headers, answer.status, &route.settings);
    }
    if let Some(site) = exchange.site() {
        site.https.add_hsts(&mut answer.headers, exchange.client.as_ref());
    }
    answer.headers.entry(X_REQUEST_ID).or_insert_with(|| exchange.id.value());
    answer
}

/// The answer as the client gets it: with the site's own page where it has one, in a coding where that is wanted.
pub(crate) async fn for_client(
    mut answer: Response,
    request: &RequestHead,
    exchange: &RequestContext,
) -> Response {
    // Boxed, so that the answers that need neither do without the room for it.
    if answer.is_page {
        answer = Box::pin(with_own_page(answer, exchange)).await;
    }
    if let Some(route) = &exchange.route
        && let Some(settings) = &route.settings.compress
    {
        answer = Box::pin(encode::coded(answer, route, settings, request)).await;
    }
    match answer.status {
        status @ StatusCode::NOT_MODIFIED => without_content(answer, status),
        _ => answer,
    }
}

/// The site's own page in place of ours, for an answer that explains an error to a person.
async fn with_own_page(mut answer: Response, exchange: &RequestContext) -> Response {
    let Some(pages) = exchange.site().map(|site| &site.errors) else { return answer };
    let Some(path) = pages.page(answer.status) else { return answer };
    match error_page::open(pages, path).await {
        Ok(opened) => {
            answer.headers.insert(header::CONTENT_TYPE, opened.content_type.clone());
            answer.body(opened.whole())
        }
        Err(missing) => {
            static TOLD: Rarely = Rarely::new(10);
            if let Some(left_out) = TOLD.tell() {
                tracing::error!(left_out, "a page for errors: {missing}");
            }
            answer
        }
    }
}

/// The name asked for: that of the target where it has one (RFC 9112 §3.2.2), else `Host`.
pub(crate) fn host(request: &RequestHead) -> &str {
    let named = request.headers.text(header::HOST);
    request.target.authority().or(named).unwrap_or_default()
}

/// What must not stand as it is in the path of a URL (RFC 3986 §3.3). Matched paths and captures are decoded.
pub(super) const NOT_IN_PATHS: AsciiSet = percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`');

fn redirect_target(to: &Template, request: &RequestHead, host: &str, by: &PathMatch<'_>) -> String {
    to.render(|name| match (name, by) {
        ("path", _) => Some(request.target.quoted()),
        ("host", _) => Some(host.into()),
        (name, PathMatch::Regex(captures)) => captures
            .name(name)
            .map(|capture| percent_encoding::utf8_percent_encode(capture.as_str(), &NOT_IN_PATHS).into()),
        (_, PathMatch::Exact | PathMatch::Prefix(_)) => None,
    })
}
