//! The life of a client's connection: wait for a head, hand the request to the engine, again.
//!
//! Between two requests nothing of the engine is alive: the task holds the socket, a few words and a timer.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt,
    sync::watch,
    time::{Instant, error::Elapsed, timeout, timeout_at},
};

use super::{
    Limits, Serve,
    head::{self, MAX_HEAD, Refusal},
    place::Place,
    socket::Socket,
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
async fn serve(mut transport: Box<Transport>, limits: Limits, serve: Serve) {
    let mut idle = Idle::Fresh(Instant::now() + limits.client_header_timeout);
    loop {
        match next_request(&mut transport, &limits, idle).await {
            Next::Request => {}
            Next::Refused(refusal) => return refuse(transport, refusal).await,
            Next::Close => return,
        }
        let active = transport.place.as_ref().map(Place::active);
        // Boxed, so that a parked connection does not keep the room that a request needs.
        let Some(again) = Box::pin(serve(transport)).await else { return };
        drop(active);
        transport = again;
        transport.park();
        idle = Idle::Kept(Instant::now() + limits.keepalive_timeout);
    }
}

/// Waits for the first byte for as long as the connection may be idle, then for the rest of the head within its own
/// total deadline.
async fn next_request(transport: &mut Transport, limits: &Limits, idle: Idle) -> Next {
    let mut closing = transport.peer.listener.closing();
    let mut begun = None;
    let mut seen = 0;
    loop {
        match head::inspect(&transport.received, seen) {
            Err(refusal) => return Next::Refused(refusal),
            Ok(Some(inbound)) => {
                transport.begin(inbound);
                return Next::Request;
            }
            Ok(None) => seen = transport.received.len(),
        }
        if begun.is_none() && !transport.received.is_empty() {
            begun = Some(Instant::now() + limits.client_header_timeout);
        }
        let waited = match begun {
            // A request that has begun is taken even while we are stopping.
            Some(deadline) => timeout_at(deadline, transport.socket().readable()).await,
            None => idle.readable(transport.socket(), &mut closing).await,
        };
        let in_time = match waited {
            Ok(Ok(())) => true,
            Ok(Err(_)) => return Next::Close,
            Err(_) if begun.is_some() => return Next::Refused(Refusal::TOO_SLOW),
            // What has come at the last moment is still taken.
            Err(_) => false,
        };
        match read_some(transport) {
            Ok(0) => return Next::Close,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock || !in_time => return Next::Close,
            Ok(_) | Err(_) => {}
        }
    }
}

/// A connection that waits for a request, and until when.
#[derive(Debug, Clone, Copy)]
enum Idle {
    /// For its first. Its client cannot know that we are stopping, and may not send a POST again.
    Fresh(Instant),
    /// For another one. Its client knows that a kept connection may close at any time.
    Kept(Instant),
}

/// What a connection gets for its first request once we are stopping.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

impl Idle {
    /// Waits until there is something to read; `Err` when the connection has been idle for long enough.
    async fn readable(
        self,
        socket: &Socket,
        closing: &mut watch::Receiver<bool>,
    ) -> Result<io::Result<()>, Elapsed> {
        let (Self::Fresh(until) | Self::Kept(until)) = self;
        let closed = async {
            // Fails only when the listener is gone, which closes before.
            let _ = closing.wait_for(|closing| *closing).await;
        };
        tokio::select! {
            biased;
            readable = timeout_at(until, socket.readable()) => return readable,
            () = closed => {}
        }
        let rest = match self {
            Self::Fresh(_) => FIRST_REQUEST,
            Self::Kept(_) => Duration::ZERO,
        };
        timeout(rest, socket.readable()).await
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
pub(super) fn linger(transport: &mut Transport) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let Ok(socket) = transport.socket().duplicate() else { return };
    if rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let place = transport.place.take();
    runtime.spawn(async move {
        // It counts as a connection until it is closed.
        let _place = place;
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
        let _ = timeout(LINGER, drain).await;
    });
}

/// Starts the task of a connection that has just been accepted.
pub(super) fn spawn(transport: Transport, limits: Limits, engine: &Serve) {
    tokio::spawn(serve(Box::new(transport), limits, Arc::clone(engine)));
}
