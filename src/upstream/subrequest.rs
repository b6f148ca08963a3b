//! Requests of the proxy's own to a server, of whose response the head is what counts.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderMap, Method};
use tokio::time::{sleep, timeout};

use super::{
    Lease, NoServer, ResponseOutcome, Selection, ServerConnection, Upstream, error_label, outlier, retry,
};
use crate::message::ResponseHead;

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
    let mut selection = Selection::default();
    let hold = upstream.settings().hold;
    let (mut tries, mut failed_connects) = (0, 0);
    loop {
        let pause = retry::pause(tries, failed_connects);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let mut lease = upstream.acquire(&mut selection, hold).await.map_err(SubrequestFailed::NoServer)?;
        match ServerConnection::connect(&lease).await {
            Ok(connection) => {
                lease.connected();
                tries += 1;
                failed_connects = 0;
                let limit = lease.settings().read_timeout;
                match exchange(connection, request, &mut lease, limit).await {
                    Ok(head) => return Ok(head),
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

async fn exchange(
    mut connection: ServerConnection,
    request: &[u8],
    lease: &mut Lease,
    limit: Duration,
) -> io::Result<(ResponseHead, HeaderMap)> {
    connection.outbound = BytesMut::from(request);
    let most = lease.settings().max_response_head;
    let head = poll_fn(|cx| {
        let is_sent = connection.poll_flush(cx)?.is_ready();
        loop {
            if let Some((head, length)) =
                ResponseHead::read(connection.rest(), most).map_err(io::Error::other)?
            {
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
    let result =
        if outlier::is_failure(head.status) { ResponseOutcome::Failure } else { ResponseOutcome::Success };
    lease.response_begun(result, None);
    let fields = head.lines.map();
    // A connection whose response has a body is not kept: nobody reads it.
    let is_whole =
        head.framing(&Method::GET).is_ok_and(|framing| framing.is_done()) && connection.rest().is_empty();
    if is_whole && head.is_persistent() {
        connection.allow_reuse(lease.settings().keepalive);
        connection.keep();
    }
    Ok((head, fields))
}
