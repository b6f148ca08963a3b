//! A client's connection as whoever serves a request sees it: bytes of that request in, answers and whole files out.

mod ending;
mod stream;

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{
    Limits,
    alarm::Alarm,
    buffer::{self, Buffer},
    head::Request,
    inbound::Inbound,
    keep::Keep,
    min_rate::MinRate,
    outgoing::Outgoing,
    pace::Pace,
    peer::Peer,
    place::Place,
    socket::Socket,
};
use crate::answer::Pieces;

/// Answers up to this size leave in one write; larger writes pass through without a copy.
const COALESCE: usize = 16 * 1024;

/// Most bytes read ahead of the request in hand (pipelined requests), so that a closing client is noticed.
const READ_AHEAD: usize = 16 * 1024;

/// Requests up to this size are kept for a second attempt without being asked to; it is also not
/// known before whether a larger one is to be kept.
const KEPT: u64 = 64 * 1024;

/// What stays of a connection between two requests.
pub(super) struct Link {
    pub(super) socket: Socket,
    pub(super) peer: Peer,
    /// None of a stream: its connection has one.
    pub(super) place: Option<Place>,
    pub(super) alarm: Alarm,
}

/// A client's connection while it has a request in hand.
pub(crate) struct Transport {
    /// None once the connection is parked, which ends this.
    socket: Option<Socket>,
    /// Who is at the other end, and through which listener.
    pub(crate) peer: Peer,
    /// Read, and not yet handed out.
    pub(super) received: BytesMut,
    /// How much of what comes belongs to the request in hand.
    pub(super) inbound: Inbound,
    /// What was read of the request in hand, where it may have to be sent again.
    keep: Option<Box<Keep>>,
    /// A part of it was read and not kept.
    lost: bool,
    /// It is to be kept whole.
    keep_whole: AtomicBool,
    /// Written, and not yet sent.
    outbound: BytesMut,
    /// A body to send after `outbound`. Set through a shared reference.
    queued: Mutex<Option<Outgoing>>,
    /// The client was answered 101: from now on every byte is for the server.
    tunnel: AtomicBool,
    /// Longest pause between two successful writes.
    send_timeout: Duration,
    /// The connection may take another request after the one in hand.
    keeps_alive: bool,
    /// Bytes per second that the client must take or send while it is waited for.
    min_rate: u64,
    receiving: MinRate,
    sending: MinRate,
    /// It has taken an answer too slowly.
    too_slow: Option<io::Error>,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
    /// How fast the answer may be sent.
    pace: Mutex<Option<Box<Pace>>>,
    /// Bytes of queued bodies sent for the request in hand.
    queued_bytes: u64,
    /// It must end with a reset.
    reset: AtomicBool,
    /// It ends with a reset if it ends now: the answer waits for the client.
    resets_for_now: bool,
    /// Its client does not know yet that it ends.
    surprises: AtomicBool,
    /// Wakes its task when it or its server has waited for too long.
    pub(crate) alarm: Alarm,
    /// Its place among all connections, for as long as it or its end lasts.
    pub(super) place: Option<Place>,
}

impl Transport {
    /// A connection that has a request, of which `received` was read beside its head.
    pub(super) fn new(link: Link, received: BytesMut, limits: &Limits) -> Self {
        let Link { socket, peer, place, alarm } = link;
        Self {
            socket: Some(socket),
            peer,
            received,
            inbound: Inbound::Length(0),
            keep: None,
            lost: false,
            keep_whole: AtomicBool::new(false),
            outbound: BytesMut::new(),
            queued: Mutex::new(None),
            pace: Mutex::new(None),
            tunnel: AtomicBool::new(false),
            send_timeout: limits.send_timeout,
            keeps_alive: !limits.keepalive_timeout.is_zero(),
            min_rate: limits.min_rate,
            receiving: MinRate::default(),
            sending: MinRate::default(),
            too_slow: None,
            stalled: None,
            queued_bytes: 0,
            reset: AtomicBool::new(false),
            resets_for_now: false,
            surprises: AtomicBool::new(false),
            alarm,
            place,
        }
    }

    /// What stays of it until the next request, and what has been read of that.
    pub(super) fn park(mut self) -> Option<(Link, BytesMut)> {
        self.ends_well();
        let socket = self.socket.take()?;
        let place = self.place.take();
        let (peer, alarm) = (self.peer.clone(), std::mem::take(&mut self.alarm));
        Some((Link { socket, peer, place, alarm }, std::mem::take(&mut self.received)))
    }

    pub(super) fn socket(&self) -> io::Result<&Socket> {
        self.socket.as_ref().ok_or_else(parked)
    }

    fn socket_mut(&mut self) -> io::Result<&mut Socket> {
        self.socket.as_mut().ok_or_else(parked)
    }

    /// Sends `pieces` after what is written so far, at the next flush.
    pub(crate) fn queue(&self, pieces: Box<dyn Pieces>) {
        *self.queued.lock().unwrap_or_else(PoisonError::into_inner) = Some(Outgoing::new(pieces));
    }

    /// Sends the answer to the request in hand no faster than this, whatever was said before.
    pub(crate) fn limit(&self, pace: Option<Pace>) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace.map(Box::new);
    }

    fn pace(&mut self) -> Option<&mut Pace> {
        self.pace.get_mut().unwrap_or_else(PoisonError::into_inner).as_deref_mut()
    }

    /// How many bytes may be sent now.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        self.pace().map_or(Poll::Ready(u64::MAX), |pace| pace.poll(cx))
    }

    /// Bytes of queued bodies sent for the request in hand.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// From now on every byte that comes belongs to the request in hand.
    pub(crate) fn become_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether the client has closed its side or the connection is broken; reads nothing.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.socket.as_ref().is_none_or(Socket::is_abandoned)
    }

    /// Whether the connection may take another request (`keepalive_timeout`).
    pub(crate) fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether all of the request in hand has arrived.
    pub(crate) fn has_whole_request(&self) -> bool {
        match self.to_come() {
            Inbound::Length(left) => *left <= self.received.len() as u64,
            other => other.is_done(),
        }
    }

    /// How much of the request in hand is still to come from the client, whatever is handed out again before.
    fn to_come(&self) -> &Inbound {
        self.keep.as_ref().and_then(|keep| keep.then()).unwrap_or(&self.inbound)
    }

    /// A request has come whose body ends there. What is read of it is kept if it `may_repeat`, as far as it is small.
    pub(crate) fn begin(&mut self, body: Inbound, may_repeat: bool) {
        self.keep = (may_repeat && !body.is_done()).then(|| Box::new(Keep::new(body.clone())));
        self.lost = !may_repeat && !body.is_done();
        self.keep_whole.store(false, Ordering::Relaxed);
        self.inbound = body;
    }

    /// Has the head of a request without a body read again, by pingora.
    pub(crate) fn hand_over(&mut self, request: &Request) {
        let head = request.in_origin_form();
        let mut received = BytesMut::with_capacity(head.len() + self.received.len());
        received.extend_from_slice(&head);
        received.extend_from_slice(&self.received);
        (self.received, self.inbound) = (received, Inbound::Length(head.len() as u64));
    }

    /// Drops what has arrived of the request in hand; whether that was all of it.
    pub(crate) fn skip_request(&mut self) -> bool {
        self.inbound = self.to_come().clone();
        self.keep = None;
        let rest = self.inbound.take(&self.received);
        self.received.advance(rest);
        self.inbound.is_done()
    }

    /// Whether what was read of the request in hand can be handed out again.
    pub(crate) fn is_replayable(&self) -> bool {
        !self.lost && self.keep.as_ref().is_none_or(|keep| keep.is_good())
    }

    /// Keeps all of the request in hand, so that it can be sent again.
    pub(crate) fn keep_request(&self) {
        self.keep_whole.store(true, Ordering::Relaxed);
    }

    /// The request in hand will not be sent again.
    pub(crate) fn forget_request(&self) {
        self.keep_whole.store(false, Ordering::Relaxed);
    }

    /// Frees what is kept of a request that has been read to its end.
    pub(crate) fn free_kept(&mut self) {
        self.keep = None;
    }

    /// So much of it is kept in memory before a file is used.
    pub(crate) fn keep_in_memory(&mut self, most: usize) {
        if let Some(keep) = &mut self.keep {
            keep.in_memory = most;
        }
    }

    /// Waits until what was read of the request in hand is kept.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub(crate) fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.keep {
            Some(keep) => keep.poll_written(cx),
            None => Poll::Ready(Err(io::ErrorKind::Other.into())),
        }
    }

    /// Whether all that was read of the request in hand is kept.
    pub(crate) fn has_kept(&self) -> bool {
        self.keep_whole.load(Ordering::Relaxed) && self.keep.as_ref().is_some_and(|keep| keep.is_good())
    }

    /// Hands out the request in hand again, from its start.
    pub(crate) fn rewind(&mut self) {
        if let Some(keep) = &mut self.keep {
            keep.rewind(&self.inbound);
            self.inbound = keep.whole.clone();
        }
        // Until it is read from again, it is the servers that are waited for.
        self.receiving.waits_for_others();
    }

    /// Notes that nothing is expected of the client for now: the server has yet to ask for the body.
    pub(crate) fn waits_for_server(&mut self) {
        self.receiving.waits_for_others();
    }

    fn queued(&mut self) -> &mut Option<Outgoing> {
        self.queued.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out received bytes that belong to the request; false when there are none.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let offered = self.received.len().min(out.remaining());
        let taken = self.inbound.take(&self.received[..offered]);
        out.put_slice(&self.received[..taken]);
        self.received.advance(taken);
        taken > 0
    }

    /// Sends what is written, then the queued body.
    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let more_follows = self.queued().is_some();
        while !self.outbound.is_empty() {
            // Small parts of an answer are paid for like large ones, and what was kept of a large one like the rest of it.
            let most = usize::try_from(ready!(self.poll_pace(cx))).unwrap_or(usize::MAX);
            let part = &self.outbound[..self.outbound.len().min(most)];
            let socket = self.socket.as_mut().ok_or_else(parked)?;
            let sent = ready!(socket.poll_send(cx, part, more_follows))?;
            self.outbound.advance(sent);
            self.sent(sent as u64);
        }
        if !more_follows {
            ready!(self.socket_mut()?.poll_flush(cx))?;
            self.rest();
            return Poll::Ready(Ok(()));
        }
        let most = ready!(self.poll_pace(cx));
        let mut queued = self.queued().take();
        let mut sent_now = 0;
        let sent = match queued.as_mut() {
            Some(queued) => queued.poll(cx, self.socket_mut()?, most, |sent| sent_now += sent),
            None => Poll::Ready(Ok(())),
        };
        // What was sent stays on record whatever the last of it waits for.
        let sent = match sent {
            Poll::Ready(Ok(())) => {
                queued = None;
                self.socket_mut()?.poll_flush(cx)
            }
            sent => sent,
        };
        if sent_now > 0 {
            self.queued_bytes += sent_now;
            self.sent(sent_now);
        }
        match sent {
            Poll::Pending => *self.queued() = queued,
            Poll::Ready(_) => self.rest(),
        }
        sent
    }

    /// Nothing is left to send for now.
    fn rest(&mut self) {
        if let Some(pace) = self.pace() {
            pace.rest();
        }
    }

    /// The client has taken so many bytes.
    fn sent(&mut self, bytes: u64) {
        self.stalled = None;
        if let Err(error) = self.sending.moved(bytes, self.min_rate) {
            self.too_slow = Some(error);
        }
        if let Some(pace) = self.pace() {
            pace.sent(bytes);
        }
    }

    /// Fails a write that has waited for the client too long.
    fn or_stalled<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_pending() {
            self.resets_for_now();
        }
        let waits_for_disk = self.queued().as_ref().is_some_and(Outgoing::waits_for_disk);
        let waits_for_time = self.pace().is_some_and(|pace| pace.is_waiting());
        if !write.is_ready() && (waits_for_disk || waits_for_time) {
            self.sending.waits_for_others();
        }
        if write.is_ready() || waits_for_disk || waits_for_time {
            self.stalled = None;
            return write;
        }
        if let Some(error) = self.too_slow.take() {
            self.give_up();
            return Poll::Ready(Err(error));
        }
        self.sending.waits();
        let deadline = Instant::now() + self.send_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(stalled.as_mut().poll(cx));
        self.give_up();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing (send_timeout)")))
    }

    /// Hands out what is kept if it is asked for again, else what comes, which is kept where that is wanted.
    fn poll_receive(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.tunnel.load(Ordering::Relaxed) {
            self.inbound = Inbound::Tunnel;
            self.keep = None;
        }
        let Some(keep) = &mut self.keep else { return self.poll_receive_new(cx, out) };
        if keep.length() > KEPT && !self.keep_whole.load(Ordering::Relaxed) && !keep.is_replaying() {
            (self.keep, self.lost) = (None, true);
            return self.poll_receive_new(cx, out);
        }
        let start = out.filled().len();
        if ready!(keep.poll_replay(cx, out))? > 0 {
            self.inbound.take(&out.filled()[start..]);
            return Poll::Ready(Ok(()));
        }
        ready!(keep.poll_room(cx));
        let received = self.poll_receive_new(cx, out);
        if let Some(keep) = &mut self.keep {
            keep.record(&out.filled()[start..]);
        }
        received
    }

    fn poll_receive_new(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if out.remaining() == 0 || self.hand_out(out) {
                return Poll::Ready(Ok(()));
            }
            if self.inbound.is_malformed() {
                return Poll::Ready(Err(malformed()));
            }
            if self.received.is_empty() && !self.inbound.is_done() {
                // Past the head, bodies go straight to who reads them.
                return self.poll_receive_body(cx, out);
            }
            if self.received.len() >= READ_AHEAD {
                // The client has sent plenty of its next requests: it is there, and nothing more is wanted.
                return Poll::Pending;
            }
            if ready!(self.poll_read_ahead(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads what follows the request in hand, for as long as there is not plenty of it.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::take();
        let mut room = ReadBuf::new(&mut buffer.room()[..READ_AHEAD]);
        ready!(self.socket_mut()?.poll_read(cx, &mut room))?;
        self.received.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    /// Ready when the client has left or closed its side, which is taken for the same, as in nginx. Only when its request
    /// has been read.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.received.len() < READ_AHEAD {
            if matches!(ready!(self.poll_read_ahead(cx)), Ok(0) | Err(_)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Where the head of an answer is written.
    pub(crate) fn outbound(&mut self) -> &mut BytesMut {
        &mut self.outbound
    }

    /// Writes `bytes` behind what is written so far, if all of it is so little that it leaves at once.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let fits = self.outbound.len() + bytes.len() <= COALESCE;
        if fits {
            self.outbound.extend_from_slice(bytes);
        }
        fits
    }

    /// Sends what is written so far and then `bytes`. Whatever the socket does not take is kept: when it is not ready,
    /// the flush that follows sends it.
    pub(crate) fn poll_offer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let mut left = bytes;
        while self.outbound.len() + left.len() > COALESCE {
            match Pin::new(&mut *self).poll_write(cx, left) {
                Poll::Ready(sent) => left = &left[sent?..],
                Poll::Pending => break,
            }
        }
        buffer::keep(&mut self.outbound, left);
        Pin::new(self).poll_flush(cx)
    }

    /// Reads without a copy as much as surely belongs to the request; chunks have to be looked at.
    fn poll_receive_body(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = match self.inbound {
            Inbound::Tunnel => out.remaining(),
            Inbound::Length(left) => out.remaining().min(usize::try_from(left).unwrap_or(usize::MAX)),
            Inbound::Chunked(_) => out.remaining().min(READ_AHEAD),
        };
        let mut part = ReadBuf::new(out.initialize_unfilled_to(most));
        let received = self.socket_mut()?.poll_read(cx, &mut part);
        if self.inbound != Inbound::Tunnel {
            match received {
                Poll::Pending => self.receiving.waits(),
                Poll::Ready(_) => self.receiving.moved(part.filled().len() as u64, self.min_rate)?,
            }
        }
        ready!(received)?;
        let read = part.filled().len();
        let ours = self.inbound.take(part.filled());
        // What follows the last chunk is the next request's.
        self.received.extend_from_slice(&part.filled()[ours..]);
        out.advance(ours);
        Poll::Ready(if ours == 0 && read > 0 { Err(malformed()) } else { Ok(()) })
    }
}

/// Nobody asks a parked connection for anything.
fn parked() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// What comes is no body, and what follows it is no request.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection from {}", self.peer)
    }
}
