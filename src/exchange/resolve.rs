//! From a request head to the site and route that it is for.

use std::{borrow::Cow, sync::Arc};

use http::{StatusCode, header};

use crate::{
    client::Client,
    exchange::{RequestContext, admit},
    listen::Peer,
    message::{RequestHead, RequestId, X_REQUEST_ID},
    response::{Explanation, Response},
    route::{BadPath, PathMatch, normalize},
    site::{Route, SiteTable},
};

impl RequestContext {
    /// Finds out who the client is, and the id of the request: a trusted proxy may give one.
    pub(super) fn identify(&mut self, peer: &Peer, request: &RequestHead) {
        let client = Client::identify(peer, &request.headers);
        if let Some(given) = request.headers.get(X_REQUEST_ID).filter(|_| client.is_trusted()) {
            self.id = RequestId::given(given).unwrap_or_else(|| self.id.clone());
        }
        self.client = Some(client);
        self.tls.clone_from(&peer.tls);
    }
}

/// The route of a request, and how its pattern matched.
pub(super) struct Resolved<'t, 'p> {
    pub(super) route: &'t Arc<Route>,
    pub(super) by: PathMatch<'p>,
}

/// Finds the route for a request whose normalized path is `path`.
///
/// # Errors
///
/// The response to a request that has no route: 400, 404, or a redirect to HTTPS.
#[expect(clippy::result_large_err, reason = "moved once, and no request pays for a box")]
pub(super) fn resolve<'t, 'p>(
    table: &'t SiteTable,
    peer: &Peer,
    request: &RequestHead,
    path: &'p str,
    context: &mut RequestContext,
) -> Result<Resolved<'t, 'p>, Response> {
    let host = host(request);
    let Some(matched) = table.find(host, path) else {
        return Err(refuse(request, StatusCode::NOT_FOUND, "No site of that name is served here."));
    };
    let site = matched.site;
    let find = || {
        if let Some(client) = &context.client
            && let Some(redirect) = site.https.redirect_to_https(client, peer.tls.as_deref(), host, request)
        {
            return Err(redirect);
        }
        let Some((route, by)) = matched.route.filter(|(route, _)| !route.settings.internal) else {
            return Err(refuse(request, StatusCode::NOT_FOUND, "There is nothing at this address."));
        };
        if table.is_ambiguous(host, self::path(request), path, route) {
            return Err(refuse(request, StatusCode::BAD_REQUEST, &BadPath::Ambiguous.to_string()));
        }
        Ok(Resolved { route, by })
    };
    match find() {
        Ok(resolved) => {
            context.set_route(Arc::clone(resolved.route));
            Ok(resolved)
        }
        Err(response) => {
            context.site = Some(Arc::clone(site));
            Err(response)
        }
    }
}

/// The path of a request, normalized.
///
/// # Errors
///
/// The response to a request whose path cannot be normalized: 400.
#[expect(clippy::result_large_err, reason = "moved once, and no request pays for a box")]
pub(super) fn normal_path(request: &RequestHead) -> Result<Cow<'_, str>, Response> {
    normalize(path(request)).map_err(|bad| refuse(request, StatusCode::BAD_REQUEST, &bad.to_string()))
}

/// Finds another route for a request whose upstream a reload has taken away. Returns false when there is none, or its
/// route would not take the request.
///
/// After an internal redirect the request itself has been responded to: only the target of the redirect is asked for
/// again.
pub(super) fn reroute(table: &SiteTable, request: &RequestHead, context: &mut RequestContext) -> bool {
    if let Some(target) = &context.redirect {
        let Ok(path) = normalize(target.path()) else { return false };
        let matched = table.find(host(request), &path).and_then(|matched| matched.route);
        let Some((route, _)) = matched.filter(|(route, _)| route.upstream.is_some()) else { return false };
        context.set_route(Arc::clone(route));
        return true;
    }
    let Ok(path) = normalize(path(request)) else { return false };
    let Some(matched) = table.find(host(request), &path) else { return false };
    let Some((route, _)) = matched.route.filter(|(route, _)| !route.settings.internal) else { return false };
    if table.is_ambiguous(host(request), self::path(request), &path, route) {
        return false;
    }
    let Some(client) = &context.client else { return false };
    if route.upstream.is_none() || admit::refuse(&route.settings, request, client).is_some() {
        return false;
    }
    context.set_route(Arc::clone(route));
    // Where a server has had the request, the new route must allow a second attempt too.
    context.tries == 0 || request.method.is_idempotent() || context.is_repeatable(&request.headers)
}

fn refuse(request: &RequestHead, status: StatusCode, sentence: &str) -> Response {
    Explanation::new(status, sentence).answer(&request.headers)
}

/// The path asked for. OPTIONS * asks about the server as a whole (RFC 9110 §9.3.7).
pub(super) fn path(request: &RequestHead) -> &[u8] {
    match request.target.path() {
        b"*" => b"/",
        path => path,
    }
}

/// The host asked for: that of the target where it has one (RFC 9112 §3.2.2), else `Host`.
pub(super) fn host(request: &RequestHead) -> &str {
    let named = request.headers.text(header::HOST);
    request.target.authority().or(named).unwrap_or_default()
}
