//! Requests of the proxy's own to a server, of whose response the head is what counts.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::BytesMut;
use http::{HeaderMap, Method};
use tokio::time::{sleep, timeout};

use super::{Lease, NoServer, ResponseOutcome, Selection, ServerConnection, Upstream, error_label, retry};
use crate::message::{Pipe, ResponseHead};

/// Most attempts on which something was sent.
const MOST_TRIES: u32 = 3;

/// Bytes read at once while the head arrives.
const READ: usize = 16 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubrequestFailed {
    /// No server could be had.
    #[error("{0}")]
    NoServer(NoServer),
    /// A server was asked, and did not respond.
    #[error("{0}")]
    NoResponse(io::Error),
}

/// Sends a request without a body, whose head is `request`, and returns the head of the response. Waits for a server as
/// long as `hold` of the upstream. The request must be one that may be repeated.
pub(crate) async fn ask(
    upstream: &Arc<Upstream>,
    request: &[u8],
) -> Result<(ResponseHead, HeaderMap), SubrequestFailed> {
    let mut response = Subresponse::of(upstream, request).await?;
    response.keep();
    Ok((response.head, response.fields))
}

/// Response to a request of the proxy's own.
pub(crate) struct Subresponse {
    pub(crate) head: ResponseHead,
    pub(crate) fields: HeaderMap,
    connection: Option<ServerConnection>,
    lease: Lease,
}

impl Subresponse {
    /// Sends a request, as [`ask`] does.
    pub(crate) async fn of(upstream: &Arc<Upstream>, request: &[u8]) -> Result<Self, SubrequestFailed> {
        let mut selection = Selection::default();
        let hold = upstream.settings().hold;
        let (mut tries, mut failed_connects) = (0, 0);
        loop {
            let pause = retry::pause(tries, failed_connects);
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let mut lease =
                upstream.acquire(&mut selection, hold).await.map_err(SubrequestFailed::NoServer)?;
            match ServerConnection::connect(&lease).await {
                Ok(mut connection) => {
                    lease.connected();
                    tries += 1;
                    failed_connects = 0;
                    match receive_head(&mut connection, request, &mut lease).await {
                        Ok(head) => {
                            let fields = head.lines.map();
                            return Ok(Self { head, fields, connection: Some(connection), lease });
                        }
                        Err(error) => {
                            lease.broke();
                            if tries == MOST_TRIES {
                                return Err(SubrequestFailed::NoResponse(error));
                            }
                            selection.avoid(lease.server());
                        }
                    }
                }
                Err(error) => {
                    failed_connects += 1;
                    upstream.failed(lease.server(), error_label(&error));
                }
            }
        }
    }

    /// Reads the body, of which `take` gets each part.
    ///
    /// # Errors
    ///
    /// The body is malformed, or breaks off.
    pub(crate) async fn body(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let framing = self.head.framing(&Method::GET).map_err(io::Error::other)?;
        let limit = self.lease.settings().read_timeout;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut pipe = Pipe::new(framing, false);
        while !pipe.is_done() {
            if let Some((mut buffer, range)) = connection.take_rest() {
                let (start, end) = (range.start, range.end);
                let step = pipe.take(&mut buffer, range).map_err(io::Error::other)?;
                take(&buffer[step.out]);
                connection.unread(buffer, start + step.taken..end);
                if step.taken > 0 {
                    continue;
                }
            }
            let more = poll_fn(|cx| connection.poll_more(cx, READ));
            let read = timeout(limit, more).await.map_err(|_| io::ErrorKind::TimedOut)??;
            if read == 0 && pipe.end().is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.keep();
        Ok(())
    }

    /// Keeps the connection, where the response is whole.
    fn keep(&mut self) {
        let is_whole = self.head.framing(&Method::GET).is_ok_and(|framing| framing.is_done());
        if let Some(mut connection) = self.connection.take()
            && is_whole
            && connection.rest().is_empty()
            && self.head.is_persistent()
        {
            connection.allow_reuse(self.lease.settings().keepalive);
            connection.keep();
        }
    }
}

async fn receive_head(
    connection: &mut ServerConnection,
    request: &[u8],
    lease: &mut Lease,
) -> io::Result<ResponseHead> {
    connection.outbound = BytesMut::from(request);
    connection.translate(Vec::new).map_err(io::Error::other)?;
    let (most, limit) = (lease.settings().max_response_head, lease.settings().read_timeout);
    let head = poll_fn(|cx| {
        let is_sent = connection.poll_flush(cx)?.is_ready();
        loop {
            if let Some((head, length)) = connection.head(most).map_err(io::Error::other)? {
                connection.advance(length);
                if head.is_interim() {
                    continue;
                }
                return Poll::Ready(Ok(head));
            }
            if ready!(connection.poll_more(cx, READ))? == 0 {
                let kind =
                    if is_sent { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::ConnectionReset };
                return Poll::Ready(Err(io::Error::from(kind)));
            }
        }
    });
    let head: ResponseHead = timeout(limit, head).await.map_err(|_| io::ErrorKind::TimedOut)??;
    lease.sent();
    lease.response_begun(ResponseOutcome::of(head.status), None);
    Ok(head)
}
