//! Bodies of responses that are not passed on: the list of an archive, and what a server sends beside a redirect.

use std::{future::poll_fn, io, task::Context};

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use crate::{
    exchange::{Error, Exchange, internal_redirect, record::Sent, request_body::RequestBody, select},
    files::archive,
    message::{BodyFraming, EditHeaders, HeaderEdits, Pipe, ResponseHead},
    upstream::ServerConnection,
};

/// Most bytes of an unwanted body that are read to keep the connection.
const MOST_SKIPPED: usize = 64 * 1024;

impl Exchange<'_> {
    /// Leaves a response whose body is not wanted; its connection is kept if the rest is short and comes soon.
    pub(super) fn skip_body(
        &self,
        mut server: ServerConnection,
        request_body: &RequestBody,
        head: &ResponseHead,
        framing: BodyFraming,
    ) {
        if !head.is_persistent() || !request_body.is_sent(&server) {
            return;
        }
        let mut pipe = Pipe::new(framing, false);
        let wait = select::read_timeout(self.context);
        let mut left = MOST_SKIPPED;
        let mut rest = Box::pin(async move {
            while !pipe.is_done() && left > 0 {
                match read_part(&mut server, &mut pipe).await {
                    Ok(part) => left = left.saturating_sub(part.len().max(1)),
                    Err(_) => return,
                }
            }
            if pipe.is_done() {
                server.keep();
            }
        });
        // Nearly always the rest is there.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        if rest.as_mut().poll(&mut cx).is_pending() {
            tokio::spawn(timeout(wait, rest));
        }
    }

    /// Sends an archive in place of the list of its members.
    pub(super) async fn send_archive(
        &mut self,
        mut server: ServerConnection,
        request_body: &RequestBody,
        head: &ResponseHead,
        framing: BodyFraming,
        fields: &HeaderEdits<'_>,
    ) -> Result<Sent, Error> {
        let wait = select::read_timeout(self.context);
        let mut pipe = Pipe::new(framing, false);
        let mut list = BytesMut::new();
        let is_whole = loop {
            if pipe.is_done() {
                break true;
            }
            match timeout(wait, read_part(&mut server, &mut pipe)).await {
                Ok(Ok(part)) if list.len() + part.len() <= archive::MOST_LIST => {
                    list.extend_from_slice(&part);
                }
                _ => break false,
            }
        };
        self.context.lease = None;
        if is_whole {
            self.keep(server, request_body, head);
        }
        let (table, crcs, request) = (self.state.table(), self.state.crcs(), &self.request.head);
        let list = is_whole.then(|| list.freeze());
        let response =
            internal_redirect::archive(table, request, list, &fields.map(), crcs, self.context).await;
        Ok(self.respond(response).await)
    }
}

/// Reads the next part of a body.
async fn read_part(server: &mut ServerConnection, pipe: &mut Pipe) -> io::Result<Bytes> {
    if server.rest().is_empty() && poll_fn(|cx| server.poll_more(cx, MOST_SKIPPED)).await? == 0 {
        return pipe.end().map(|_| Bytes::new()).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
    }
    let Some((mut buffer, range)) = server.take_rest() else { return Ok(Bytes::new()) };
    let (start, end) = (range.start, range.end);
    let taken = pipe.take(&mut buffer, range).map_err(io::Error::other)?;
    let part = Bytes::copy_from_slice(&buffer[taken.out]);
    server.unread(buffer, start + taken.taken..end);
    Ok(part)
}
