//! Responses in place of one whose application names a file, a path or the members of an archive.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, uri::PathAndQuery};
use percent_encoding::AsciiSet;
use tokio::runtime::Handle;

use crate::{
    config::{Action, Files},
    exchange::{
        context::RequestContext,
        finish::{add_route_headers, finish},
        resolve::host,
        serve_files::{busy, explain, not_found, open},
        values::MatchedPath,
    },
    files::{
        self, FileRequest,
        accelerated::{self, AccelTarget},
        archive,
    },
    message::{RawHeaders, RequestHead},
    response::{Explanation, Response},
    route::{PathMatch, normalize},
    site::{Alternatives, Route, SiteTable},
    upstream::Fetch,
};

/// Bytes that cannot stand in a request target (RFC 9112 §3.2); what is quoted already stays.
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

/// Replacement of a response by something that the application names.
pub(crate) enum Replacement {
    /// A response, with the route if it is a file of one.
    Response(Response, Option<Arc<Route>>),
    /// A server of this route's upstream is asked for this path, of which the route's pattern matched a part.
    Route(Arc<Route>, PathAndQuery, Box<MatchedPath>),
}

/// Finds the replacement of a response that names a file or a path: `X-Accel-Redirect` or `X-Sendfile` in `response`.
pub(crate) async fn accelerate(
    table: &SiteTable,
    request: &RequestHead,
    response: &HeaderMap,
    context: &RequestContext,
) -> Replacement {
    let mut base = accelerated::kept_fields(response);
    accelerated::drop_bad_dates(&mut base);
    let (found, route) = match accelerated_target(table, request, response, context) {
        Ok(RedirectTarget::Route(route, path, matched)) => return Replacement::Route(route, path, matched),
        Ok(RedirectTarget::Files(wanted, route)) => (wanted, route),
        Err(problem) => {
            tracing::error!(request_id = %context.id, "{problem}");
            return Replacement::Response(finish(not_found(&request.headers), request, context), None);
        }
    };
    let path = found.first().and_then(|wanted| wanted.candidates.first().cloned());
    let mut replacement = not_found(&request.headers);
    for wanted in found {
        match open(&table.files, &wanted).await {
            Ok(opened) => {
                replacement = files::respond(&opened, &request.method, &request.headers, base);
                break;
            }
            Err(missing) => replacement = explain(&missing, &request.headers),
        }
    }
    if replacement.status == StatusCode::NOT_FOUND {
        log_missing(context, path);
    }
    let mut replacement = finish(replacement, request, context);
    if let Some(route) = &route {
        add_route_headers(&mut replacement.headers, route, request, context);
    }
    Replacement::Response(replacement, route)
}

fn log_missing(context: &RequestContext, path: Option<PathBuf>) {
    let path = path.unwrap_or_default();
    tracing::error!(request_id = %context.id, path = %path.display(), "the application named a file that is not served");
}

/// The response to a request whose application has sent the list of an archive: `list`, with the fields of `response`.
/// There is no archive without the whole of it.
pub(crate) async fn archive(
    table: Arc<SiteTable>,
    request: &RequestHead,
    list: Option<Bytes>,
    response: &HeaderMap,
    crcs: &Arc<archive::Crcs>,
    context: &RequestContext,
) -> Response {
    let Some(list) = list else {
        tracing::error!(request_id = %context.id, "the list of an archive did not come whole, or is too large");
        return finish(no_archive(&request.headers), request, context);
    };
    let host = host(request).to_owned();
    let (received, client, runtime) =
        (Fetch::who(&request.headers), context.client.clone(), Handle::current());
    let resolve = move |path: &str, listed: &str| {
        let matched = table.find(&host, path).and_then(|matched| matched.route);
        let Some((routes, by)) = matched else { return Err(archive::Unresolved::NoRoute) };
        let route = routes.unconditional().ok_or(archive::Unresolved::NoRoute)?;
        if let (Some(upstream), Some(client)) = (&route.upstream, &client) {
            let target = target(&table, &host, listed, routes).ok_or(archive::Unresolved::NoRoute)?;
            let fetch = Fetch::new(Arc::clone(upstream), &target, &received, client, runtime.clone());
            return Ok(archive::MemberPlace::Remote(Box::new(fetch)));
        }
        let PathMatch::Prefix(rest) = by else { return Err(archive::Unresolved::NoRoute) };
        let wanted = files_of(route).and_then(|files| accelerated::named(files, rest));
        wanted.map(archive::MemberPlace::File).ok_or(archive::Unresolved::NoRoute)
    };
    let order = archive::ArchiveRequest::new(list, response, Arc::new(resolve), Arc::clone(crcs));
    let replacement = match archive::plan(order).await {
        Ok(archive) => archive::answer(archive, &request.method, &request.headers, response),
        Err(problem) if problem.is_busy() => busy(&request.headers),
        Err(problem) => {
            tracing::error!(request_id = %context.id, "{problem}");
            no_archive(&request.headers)
        }
    };
    finish(replacement, request, context)
}

impl archive::Remote for Fetch {
    fn open(&self) -> io::Result<Box<dyn io::Read + Send>> {
        Self::open(self).map(|body| Box::new(body) as Box<dyn io::Read + Send>)
    }
}

/// There is no archive, and it is not the client's fault.
fn no_archive(request: &RawHeaders) -> Response {
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

/// Target that an application names.
enum RedirectTarget {
    /// To one of these files, all of this route if it is known.
    Files(Vec<FileRequest>, Option<Arc<Route>>),
    /// To another upstream.
    Route(Arc<Route>, PathAndQuery, Box<MatchedPath>),
}

fn accelerated_target(
    table: &SiteTable,
    request: &RequestHead,
    response: &HeaderMap,
    context: &RequestContext,
) -> Result<RedirectTarget, Astray> {
    let path = match accelerated::target(response).transpose()? {
        Some(AccelTarget::Route(path)) => path,
        Some(AccelTarget::File(path)) => {
            let wanted: Vec<_> = table
                .internal_files(host(request))
                .filter_map(|files| accelerated::sent(files, path))
                .collect();
            return if wanted.is_empty() {
                Err(Astray::NoInternalRoute)
            } else {
                Ok(RedirectTarget::Files(wanted, None))
            };
        }
        None => "",
    };
    let nowhere = || Astray::NoRoute(path.to_owned());
    let plain = path.split('?').next().unwrap_or_default();
    let find = |path| table.find(host(request), path).and_then(|matched| matched.route);
    let (routes, by) = find(plain).ok_or_else(nowhere)?;
    let route = routes.select(request, context.client.as_ref()).ok_or_else(nowhere)?;
    if route.upstream.is_some() {
        let target = target(table, host(request), path, routes);
        let target = target.and_then(|target| PathAndQuery::try_from(target).ok()).ok_or_else(nowhere)?;
        let matched = MatchedPath::new(
            table,
            &route.settings.pattern,
            host(request),
            (target.path().as_bytes(), plain),
            &by,
        );
        return Ok(RedirectTarget::Route(Arc::clone(route), target, matched));
    }
    // The name of a file may have a question mark in it.
    let by = match (plain.len() < path.len()).then(|| find(path)) {
        None => by,
        Some(Some((same, literal))) if std::ptr::eq(same, routes) => literal,
        Some(_) => by,
    };
    let (PathMatch::Prefix(rest), Some(files)) = (by, files_of(route)) else { return Err(nowhere()) };
    Ok(RedirectTarget::Files(accelerated::named(files, rest).into_iter().collect(), Some(Arc::clone(route))))
}

/// The target to ask a server for by a path that an application names: as in a URL, what cannot stand in one being quoted.
/// `None` for one that leads up, or that a server may read as the path of another route: it must stay on its route.
fn target(table: &SiteTable, host: &str, path: &str, routes: &Alternatives) -> Option<String> {
    let raw = path.split('?').next().unwrap_or_default();
    let normalized = normalize(raw).ok()?;
    let decoded = table.find(host, &normalized).and_then(|matched| matched.route);
    let is_here = decoded.is_some_and(|(found, _)| std::ptr::eq(found, routes))
        && !accelerated::leads_up(path)
        && !table.is_ambiguous(host, raw, &normalized, routes);
    is_here.then(|| percent_encoding::utf8_percent_encode(path, &NOT_IN_TARGETS).to_string())
}

fn files_of(route: &Route) -> Option<&Files> {
    match &route.settings.action {
        Action::Files(files) => Some(files),
        _ => None,
    }
}
