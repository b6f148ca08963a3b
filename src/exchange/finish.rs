//! Last steps of every response of the proxy's own: the route's headers, the site's error page, a content
//! coding.

use http::{StatusCode, header};

use crate::{
    exchange::{RequestContext, encode, error_page},
    files::without_content,
    message::{RequestHead, X_REQUEST_ID},
    observe::Rarely,
    response::{Response, apply_route_headers},
};

/// Adds the headers of the route and of the site, and the request id.
pub(crate) fn finish(mut response: Response, context: &RequestContext) -> Response {
    if let Some(route) = &context.route {
        apply_route_headers(&mut response.headers, response.status, &route.settings);
    }
    if let Some(site) = context.site() {
        site.https.add_hsts(&mut response.headers, context.client.as_ref());
    }
    response.headers.entry(X_REQUEST_ID).or_insert_with(|| context.id.value());
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
        response = Box::pin(encode::coded(response, route, settings, request)).await;
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
