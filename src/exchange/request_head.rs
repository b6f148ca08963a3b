//! The head of the request that a server gets.

use std::borrow::Cow;

use bytes::BufMut;
use http::{Version, header};

use crate::{
    config::Name,
    exchange::{
        Error, Exchange, RequestContext, authenticate::tell_server, cached, failure, relay::SWITCHES,
        values::Values,
    },
    message::{BodyFraming, EditHeaders, HeaderEdits, RequestHead, has_word, write_number},
    response::change_headers,
    upstream::{self, Lease, ServerConnection},
};

/// The target that the server is asked for: that of an internal redirect, else the client's; the `path` of the route in
/// place of its path.
pub(crate) fn target<'a>(request: &'a RequestHead, context: &'a RequestContext) -> Cow<'a, [u8]> {
    let redirect = context.redirect.as_ref().map(|target| target.as_str().as_bytes());
    let asked = redirect.unwrap_or_else(|| request.target.path_and_query());
    if let Some(tool) = &context.tool {
        return tool.target(asked);
    }
    let path = context.route.as_ref().and_then(|route| route.settings.proxy.path.as_ref());
    let Some(path) = path else {
        // A URL may have a query and no path.
        return if asked.starts_with(b"?") { [b"/", asked].concat().into() } else { asked.into() };
    };
    let mut target = Values::new(request, context).url(path);
    if !target.starts_with(b"/") {
        target.insert(0, b'/');
    }
    let has_query = path.names().any(|name| matches!(name, Name::Query | Name::Uri));
    let query = memchr::memchr(b'?', asked).map(|at| &asked[at + 1..]).filter(|_| !has_query);
    if let Some(query) = query {
        target.push(if target.contains(&b'?') { b'&' } else { b'?' });
        target.extend_from_slice(query);
    }
    target.into()
}

/// Prepares the headers of `head`, a copy of `request`, for the server that was selected.
pub(crate) fn prepare<H: EditHeaders>(head: &mut H, request: &RequestHead, context: &RequestContext) {
    let (Some(client), Some(lease)) = (&context.client, &context.lease) else { return };
    upstream::prepare(head, request, client, &context.id, &lease.upstream().name);
    match &context.tool {
        Some(tool) => tool.prepare(head, context),
        None => tell_server(head, context),
    }
    cached::prepare(head, context);
    apply_request_headers(head, request, context);
}

/// Applies `request_headers` of the route.
pub(super) fn apply_request_headers(
    head: &mut impl EditHeaders,
    request: &RequestHead,
    context: &RequestContext,
) {
    let Some(route) = &context.route else { return };
    let values = Values::new(request, context);
    change_headers(head, &route.settings.proxy.request_headers, |template, _| {
        values.header(template, |_| None)
    });
}

/// Whether the client takes trailers (RFC 9110 §10.1.4), and gets them.
fn has_te_trailers(request: &RequestHead) -> bool {
    request.version == Version::HTTP_2
        && request.headers.values(&header::TE).any(|codings| has_word(codings, b"trailers"))
}

impl Exchange<'_> {
    /// Writes the head for the server that was selected.
    ///
    /// # Errors
    ///
    /// The head is too large for a server that speaks uwsgi, or cannot be said in HTTP/2.
    pub(super) fn write_request_head(&self, server: &mut ServerConnection) -> Result<(), Error> {
        let (request, context) = (&self.request.head, &*self.context);
        let mut fields = HeaderEdits::new(&self.request.head.headers);
        prepare(&mut fields, request, context);
        if self.buffers_request() || !server.asks_for_bodies() {
            // Nobody waits to be asked for a body that is here, or that the client is asked for.
            fields.remove(&header::EXPECT);
        }
        let (is_kept, is_http2) = (server.may_be_kept(), server.is_http2());
        let out = &mut server.outbound;
        let target = target(request, context);
        out.reserve(512 + target.len());
        out.put_slice(context.method(&request.method).as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(&target);
        out.put_slice(b" HTTP/1.1\r\n");
        fields.write(out);
        match (&self.request.body, self.length) {
            (BodyFraming::Chunked(_) | BodyFraming::UntilClose, None) => {
                out.put_slice(b"Transfer-Encoding: chunked\r\n");
            }
            (BodyFraming::Chunked(_) | BodyFraming::UntilClose, Some(length)) => {
                out.put_slice(b"Content-Length: ");
                write_number(out, length);
                out.put_slice(b"\r\n");
            }
            (BodyFraming::Length(_), _) => {}
        }
        if is_http2 && has_te_trailers(request) {
            out.put_slice(b"TE: trailers\r\n");
        }
        if self.is_handshake() {
            out.put_slice(SWITCHES);
        } else if is_kept {
            out.put_slice(b"\r\n");
        } else {
            out.put_slice(b"Connection: close\r\n\r\n");
        }
        let translated = server.translate(|| self.uwsgi_params());
        translated.map_err(|error| Error::Refused(failure::cannot_translate(error)))
    }

    /// Further variables of a uwsgi request.
    fn uwsgi_params(&self) -> Vec<(String, Vec<u8>)> {
        let values = Values::new(&self.request.head, self.context);
        let settings = self.context.lease.as_ref().map(Lease::settings);
        let params = settings.and_then(|settings| settings.uwsgi.as_ref()).into_iter().flatten();
        params.map(|(name, value)| (name.clone(), values.text(value))).collect()
    }

    /// Whether the client waits for the server to ask for the body (RFC 9110 §10.1.1).
    pub(super) fn expects_continue(&self) -> bool {
        let request = &self.request.head;
        !self.buffers_request() && request.version != Version::HTTP_10 && request.headers.has(header::EXPECT)
    }
}
