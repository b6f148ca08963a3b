//! The life of a client's connection: wait for a head, hand the request to the engine, again.
//!
//! Between two requests nothing of the engine is alive: the task holds the socket, a few words and a timer.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

use super::{
    Limits, Serve,
    head::{self, MAX_HEAD, Refusal},
    place::Place,
    transport::Transport,
};
use crate::answer;

/// Read at once while a head arrives.
const HEAD_READ: usize = 4096;

/// What waiting for the next request has come to.
enum Next {
    /// A whole head is there, and where its request ends is known.
    Request,
    /// It cannot be read; an answer is owed.
    Refused(Refusal),
    /// The client has gone, or has been idle too long, or we are stopping.
    Close,
}

/// Serves the requests of one connection, one after the other.
pub(super) async fn serve(mut transport: Box<Transport>, limits: Limits, serve: Serve, place: Place) {
    let mut idle_until = Instant::now() + limits.client_header_timeout;
    loop {
        match next_request(&mut transport, &limits, idle_until).await {
            Next::Request => {}
            Next::Refused(refusal) => return refuse(transport, refusal).await,
            Next::Close => return,
        }
        let active = place.active();
        // Boxed, so that a parked connection does not keep the room that a request needs.
        let Some(again) = Box::pin(serve(transport)).await else { return };
        drop(active);
        transport = again;
        transport.park();
        idle_until = Instant::now() + limits.keepalive_timeout;
    }
}

/// Waits for the first byte until `idle_until`, then for the rest of the head within its own total deadline.
async fn next_request(transport: &mut Transport, limits: &Limits, idle_until: Instant) -> Next {
    let mut closing = transport.peer.listener.closing();
    let mut deadline = idle_until;
    let mut started = false;
    let mut seen = 0;
    loop {
        match head::inspect(&transport.received, seen) {
            Err(refusal) => return Next::Refused(refusal),
            Ok(Some(inbound)) => {
                transport.inbound = inbound;
                return Next::Request;
            }
            Ok(None) => seen = transport.received.len(),
        }
        if !started && !transport.received.is_empty() {
            started = true;
            deadline = Instant::now() + limits.client_header_timeout;
        }
        let readable = async {
            tokio::select! {
                // While we are stopping a request that has begun is still taken; an idle connection is not.
                _ = closing.wait_for(|closing| *closing), if !started => None,
                readable = timeout_at(deadline, transport.socket().readable()) => Some(readable),
            }
        };
        match readable.await {
            None | Some(Ok(Err(_))) => return Next::Close,
            Some(Err(_elapsed)) if started => return Next::Refused(Refusal::TOO_SLOW),
            Some(Err(_elapsed)) => return Next::Close,
            Some(Ok(Ok(()))) => {}
        }
        match read_some(transport) {
            Ok(0) => return Next::Close,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Next::Close,
            Ok(_) | Err(_) => {}
        }
    }
}

fn read_some(transport: &mut Transport) -> io::Result<usize> {
    let mut received = std::mem::take(&mut transport.received);
    received.reserve(HEAD_READ.min(MAX_HEAD));
    let result = transport.socket().try_read_buf(&mut received);
    if !received.is_empty() {
        transport.received = received;
    }
    result
}

/// Answers a head that cannot be served, and closes.
async fn refuse(mut transport: Box<Transport>, refusal: Refusal) {
    tracing::debug!(peer = %transport.peer, status = refusal.status.as_u16(), "{}", refusal.sentence);
    transport.peer.listener.metrics.refused(refusal.status);
    let answer = answer::bare(refusal.status, refusal.sentence);
    let farewell = async {
        transport.write_all(&answer).await?;
        transport.flush().await
    };
    if let Err(error) = farewell.await {
        tracing::debug!(%error, "the client did not take the refusal");
    }
}

/// Longest time that a closed connection is read from, so that the client gets its answer.
const LINGER: Duration = Duration::from_secs(5);

/// Reads what a client still sends after its answer: closing at once would reset the connection, and the client
/// would lose the answer (RFC 9112 §9.6).
pub(super) fn linger(transport: &Transport) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let Ok(socket) = transport.socket().duplicate() else { return };
    if rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    runtime.spawn(async move {
        let mut buffer = BytesMut::with_capacity(HEAD_READ);
        let drain = async {
            while socket.readable().await.is_ok() {
                buffer.clear();
                match socket.try_read_buf(&mut buffer) {
                    Ok(0) => break,
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => {}
                }
            }
        };
        // Either way the connection is closed now.
        let _ = tokio::time::timeout(LINGER, drain).await;
    });
}

/// Starts the task of a connection that has just been accepted.
pub(super) fn spawn(transport: Transport, limits: Limits, engine: &Serve, place: Place) {
    tokio::spawn(serve(Box::new(transport), limits, Arc::clone(engine), place));
}
