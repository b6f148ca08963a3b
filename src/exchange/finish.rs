//! Last steps of every response of the proxy's own: the route's headers, the site's error page, a content
//! coding.

use http::{StatusCode, header};

use crate::{
    exchange::{RequestContext, encode, error_page},
    files::without_content,
    message::{EditHeaders, RequestHead, X_REQUEST_ID},
    observe::Rarely,
    response::{Response, apply_route_headers},
};

/// Adds what every response of a site carries, whether a server or the proxy made it: the headers of its route, HSTS, and
/// the request id. Not for interim responses, heads that cannot be read (400, 408, 431), plain HTTP on a TLS port, and
/// operators' pages.
pub(super) fn add_client_headers(
    status: StatusCode,
    headers: &mut impl EditHeaders,
    context: &RequestContext,
) {
    if let Some(route) = &context.route {
        apply_route_headers(headers, status, &route.settings);
    }
    if let Some(site) = context.site() {
        site.https.add_hsts(headers, context.client.as_ref());
    }
    if headers.get(&X_REQUEST_ID).is_none() {
        headers.write(X_REQUEST_ID, |out| out.extend_from_slice(context.id.as_bytes()));
    }
}

/// Completes the head of a response of the proxy's own.
pub(crate) fn finish(mut response: Response, context: &RequestContext) -> Response {
    add_client_headers(response.status, &mut response.headers, context);
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
    let Some(pages) = context.site().map(|site| &site.errors) else { return response };
    let Some(path) = pages.page(response.status) else { return response };
    match error_page::open(pages, path).await {
        Ok(opened) => {
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
