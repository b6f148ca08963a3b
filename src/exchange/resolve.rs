//! From a request head to the site and route that it is for.

use std::{borrow::Cow, sync::Arc};

use http::{StatusCode, header};

use crate::{
    client::Client,
    exchange::{RequestContext, admit, values::MatchedPath},
    listen::Peer,
    message::{RequestHead, RequestId, X_REQUEST_ID},
    response::{Explanation, Response},
    route::{BadPath, PathMatch, normalize},
    site::{Route, Site, SiteTable},
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
    let client = context.client.as_ref();
    let find = || {
        if let Some(client) = client
            && let Some(response) = site
                .https
                .redirect_to_https(client, peer.tls.as_deref(), host, request)
                .or_else(|| maintenance(site, request, client))
                .or_else(|| redirect(site, request, path))
        {
            return Err(response);
        }
        let found =
            matched.route.and_then(|(routes, by)| Some((routes, routes.select(request, client)?, by)));
        let Some((routes, route, by)) = found.filter(|(_, route, _)| !route.settings.internal) else {
            return Err(refuse(request, StatusCode::NOT_FOUND, "There is nothing at this address."));
        };
        if table.is_ambiguous(host, self::path(request), path, routes) {
            return Err(refuse(request, StatusCode::BAD_REQUEST, &BadPath::Ambiguous.to_string()));
        }
        Ok(Resolved { route, by })
    };
    match find() {
        Ok(resolved) => {
            let paths = (self::path(request), path);
            context.set_route(resolved.route, || {
                MatchedPath::new(table, &resolved.route.settings.pattern, host, paths, &resolved.by)
            });
            Ok(resolved)
        }
        Err(response) => {
            context.site = Some(Arc::clone(site));
            Err(response)
        }
    }
}

/// The response of a site that is under maintenance.
fn maintenance(site: &Site, request: &RequestHead, client: &Client) -> Option<Response> {
    let (settings, flag) = site.maintenance.as_ref()?;
    if !flag.exists() || settings.except.contains(client.address) {
        return None;
    }
    let sentence = "This site is under maintenance at the moment. Please come back later.";
    let mut explanation = Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
    explanation.retry_after =
        settings.retry_after.map(|after| after.as_secs().try_into().unwrap_or(u32::MAX));
    let response = explanation.answer(&request.headers);
    Some(Response { page: settings.page.clone(), ..response })
}

/// The redirect of the site for this path.
fn redirect(site: &Site, request: &RequestHead, path: &str) -> Option<Response> {
    let to = site.redirects.as_ref()?.find(path)?;
    let query = request.target.query().filter(|_| !to.target.contains('?'));
    let query = query.map(|_| request.target.quoted());
    let query =
        query.as_ref().and_then(|target| target.find('?').map(|at| &target[at..])).unwrap_or_default();
    Some(Response::redirect(to.status, &format!("{}{query}", to.target)))
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
        let (raw, host) = (target.path().to_owned(), host(request));
        let Ok(path) = normalize(&raw) else { return false };
        let matched = table.find(host, &path).and_then(|matched| matched.route);
        let Some((routes, by)) = matched else { return false };
        let route = routes.select(request, context.client.as_ref());
        let Some(route) = route.filter(|route| route.upstream.is_some()) else { return false };
        context.set_route(route, || {
            MatchedPath::new(table, &route.settings.pattern, host, (raw.as_bytes(), &path), &by)
        });
        return true;
    }
    let (raw, host) = (path(request), host(request));
    let Ok(path) = normalize(raw) else { return false };
    let Some(client) = &context.client else { return false };
    let Some((routes, by)) = table.find(host, &path).and_then(|matched| matched.route) else { return false };
    let route = routes.select(request, Some(client)).filter(|route| !route.settings.internal);
    let Some(route) = route.filter(|_| !table.is_ambiguous(host, raw, &path, routes)) else { return false };
    if route.upstream.is_none() || admit::refuse(&route.settings, request, client).is_some() {
        return false;
    }
    context.set_route(route, || MatchedPath::new(table, &route.settings.pattern, host, (raw, &path), &by));
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
