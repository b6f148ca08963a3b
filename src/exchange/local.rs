//! Responses that need no upstream server: refusals, files, redirects and fixed responses.

use http::StatusCode;
use percent_encoding::AsciiSet;

use crate::{
    config::{Action, Template},
    exchange::{
        RequestContext, admit,
        authenticate::authenticate,
        finish::finish,
        resolve::{Resolved, host, normal_path, resolve},
        serve_files, tools,
        values::Values,
    },
    listen::Peer,
    message::RequestHead,
    response::{Explanation, Response},
    site::SiteTable,
    state::State,
};

/// The response to a request, or `None` where a server of its route's upstream is to respond.
pub(super) async fn local_response(
    state: &State,
    peer: &Peer,
    request: &RequestHead,
    context: &mut RequestContext,
) -> Option<Response> {
    context.identify(peer, request);
    let response = resolve_and_act(state, peer, request, context).await.err()?;
    Some(finish(response, request, context))
}

/// Finds the route and does what it says; `Ok` where that is to ask a server.
async fn resolve_and_act(
    state: &State,
    peer: &Peer,
    request: &RequestHead,
    context: &mut RequestContext,
) -> Result<(), Response> {
    if let Some(response) = state
        .challenge(request)
        .or_else(|| admit::refuse_if_memory_full(&state.memory, &state.metrics, request))
    {
        return Err(response);
    }
    let table = state.table();
    let path = normal_path(request)?;
    if table.has_flags() {
        table.refresh_flags(host(request)).await;
    }
    let resolved = resolve(&table, peer, request, &path, context)?;
    context.trace_route(request);
    if let Some(response) = admit::enter(&state.metrics, resolved.route, request, context) {
        return Err(response);
    }
    if resolved.route.auth.is_some() {
        authenticate(state, resolved.route, request, context).await?;
    }
    act(&table, request, context, &resolved).await
}

/// Does what the route says; `Ok` where that is to ask a server.
async fn act(
    table: &SiteTable,
    request: &RequestHead,
    context: &mut RequestContext,
    resolved: &Resolved<'_, '_>,
) -> Result<(), Response> {
    let Resolved { route, by } = resolved;
    if let Action::InteractiveTools(settings) = &route.settings.action {
        return tools::find(route, settings, request, by, context);
    }
    let context = &*context;
    let values = Values { by: Some(by), ..Values::new(request, context) };
    Err(match &route.settings.action {
        Action::Proxy(_) | Action::InteractiveTools(_) => return Ok(()),
        Action::Files(files) => serve_files::send(table, files, by, &values).await,
        Action::Redirect { to, status } => Response::redirect(*status, &redirect_target(to, &values)),
        Action::Answer { status, body: Some(body), content_type } => {
            Response::text(*status, content_type.clone(), body.clone())
        }
        Action::Answer { status, body: None, .. } if status.is_client_error() || status.is_server_error() => {
            fixed_error(request, *status)
        }
        Action::Answer { status, body: None, .. } => Response::empty(*status),
    })
}

fn fixed_error(request: &RequestHead, status: StatusCode) -> Response {
    Explanation::new(status, "This is what the site answers here.").answer(&request.headers)
}

/// Bytes that must not stand as they are in the path of a URL (RFC 3986 §3.3). Matched paths and captures are decoded.
pub(super) const NOT_IN_PATHS: AsciiSet = percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'`');

/// The target of a redirect. A path that begins with two slashes would lead to another host.
fn redirect_target(to: &Template, values: &Values<'_>) -> String {
    let target = String::from_utf8_lossy(&values.url(to)).into_owned();
    match target.strip_prefix('/') {
        Some(rest) => format!("/{}", rest.trim_start_matches(['/', '\\'])),
        None => target,
    }
}
