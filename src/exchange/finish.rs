//! Last steps of every response of the proxy's own: the route's headers, the site's error page, a content
//! coding.

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::{
    config::Template,
    exchange::{RequestContext, cors, encode, error_page, values::Values},
    files::without_content,
    message::{EditHeaders, RequestHead, X_REQUEST_ID},
    observe::Rarely,
    response::{Response, apply_route_headers, change_headers},
    site::Route,
};

/// Adds what every response of a site carries, whether a server or the proxy made it: the headers of its route, HSTS, and
/// the request id. Not for interim responses, heads that cannot be read (400, 408, 431), plain HTTP on a TLS port, and
/// operators' pages.
pub(super) fn add_client_headers<H: EditHeaders>(
    status: StatusCode,
    headers: &mut H,
    request: &RequestHead,
    context: &RequestContext,
) {
    if let Some(cors) = context.cors() {
        cors::apply(cors, request, headers);
    }
    if let Some(status) = context.cache.as_ref().and_then(|used| used.status()) {
        headers.add(HeaderName::from_static("cache-status"), status);
    }
    for (name, value) in &context.auth_response {
        headers.add(name.clone(), value.clone());
    }
    let values = Values::new(request, context);
    let render = |template: &Template, response: &H| -> Option<HeaderValue> {
        values.header(template, |name| response.get(name))
    };
    if let Some(route) = &context.route {
        apply_route_headers(headers, status, &route.settings, render);
    } else if let Some(site) = context.site() {
        change_headers(headers, &site.headers, render);
    }
    if let Some(site) = context.site() {
        site.https.add_hsts(headers, context.client.as_ref());
    }
    if headers.get(&X_REQUEST_ID).is_none() {
        headers.write(X_REQUEST_ID, |out| out.extend_from_slice(context.id.as_bytes()));
    }
}

/// Applies the headers of an internal route to a file that it sends, after those of the route of the request.
pub(super) fn add_route_headers<H: EditHeaders>(
    headers: &mut H,
    route: &Route,
    request: &RequestHead,
    context: &RequestContext,
) {
    if let Some(cors) = &route.settings.cors {
        cors::apply(cors, request, headers);
    }
    let values = Values::new(request, context);
    change_headers(headers, &route.settings.headers, |template, response: &H| {
        values.header(template, |name| response.get(name))
    });
}

/// Completes the head of a response of the proxy's own.
pub(crate) fn finish(mut response: Response, request: &RequestHead, context: &RequestContext) -> Response {
    add_client_headers(response.status, &mut response.headers, request, context);
    response
}

/// Replaces an error by the site's own page where it has one, and encodes the content where that is wanted.
pub(super) async fn encode_for_client(
    mut response: Response,
    request: &RequestHead,
    context: &RequestContext,
) -> Response {
    // Boxed, so that responses that need neither do without the room for it.
    if response.is_page {
        response = Box::pin(with_site_page(response, context)).await;
    }
    if let Some(route) = &context.route
        && let Some(settings) = &route.settings.compress
    {
        response = Box::pin(encode::encode(response, route, settings, request)).await;
    }
    match response.status {
        status @ StatusCode::NOT_MODIFIED => without_content(response, status),
        _ => response,
    }
}

/// Puts the site's own page in place of ours, in a response that explains an error to a person.
async fn with_site_page(mut response: Response, context: &RequestContext) -> Response {
    let Some(site) = context.site() else { return response };
    let listed = context.error_page(response.status);
    let page = response.page.take().or_else(|| listed.map(|listed| listed.page.clone()));
    let Some(path) = page else { return response };
    match error_page::open(&site.pages, &path).await {
        Ok(opened) => {
            response.status = listed.and_then(|listed| listed.status).unwrap_or(response.status);
            response.headers.insert(header::CONTENT_TYPE, opened.content_type.clone());
            response.body(opened.whole())
        }
        Err(missing) => {
            static TOLD: Rarely = Rarely::new(10);
            if let Some(left_out) = TOLD.tell() {
                tracing::error!(left_out, "cannot open an error page (`errors`): {missing}");
            }
            response
        }
    }
}
