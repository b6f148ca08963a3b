//! The head of the request that a server gets.

use bytes::BufMut;
use http::{Version, header};

use crate::{
    exchange::Exchange,
    message::{BodyFraming, EditHeaders, HeaderEdits, write_number},
    upstream::{self, ServerConnection},
};

impl Exchange<'_> {
    /// Writes the head for the server that was selected.
    pub(super) fn write_request_head(&self, server: &mut ServerConnection) {
        let (request, context) = (&self.request.head, &*self.context);
        let mut fields = HeaderEdits::new(&self.request.head.headers);
        let Some(lease) = &context.lease else { return };
        if let Some(client) = &context.client {
            upstream::prepare(&mut fields, request, client, &context.id, &lease.upstream().name);
        }
        if self.buffers_request() {
            // Nobody waits to be asked for a body that is here.
            fields.remove(&header::EXPECT);
        }
        let is_kept = server.may_be_kept();
        let out = &mut server.outbound;
        let redirect = context.redirect.as_ref().map(|target| target.as_str().as_bytes());
        let target = redirect.unwrap_or_else(|| request.target.path_and_query());
        out.reserve(512 + target.len());
        out.put_slice(context.method(&request.method).as_str().as_bytes());
        out.put_u8(b' ');
        if target.starts_with(b"?") {
            // The target had a host and no path.
            out.put_u8(b'/');
        }
        out.put_slice(target);
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
        if !is_kept {
            out.put_slice(b"ServerConnection: close\r\n");
        }
        out.put_slice(b"\r\n");
    }

    /// Whether the client waits for the server to ask for the body (RFC 9110 §10.1.1).
    pub(super) fn expects_continue(&self) -> bool {
        let request = &self.request.head;
        !self.buffers_request() && request.version != Version::HTTP_10 && request.headers.has(header::EXPECT)
    }
}
