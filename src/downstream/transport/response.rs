//! The response to the request in hand: written in few parts, no faster than its limits say, to a client that takes it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep},
};

use super::{Transport, parked};
use crate::{
    downstream::outgoing::OutgoingBody,
    net::{self, MinRate, Pace},
    response::Pieces,
};

/// Responses up to this size leave in one write; larger writes pass through without a copy.
const COALESCE: usize = 16 * 1024;

/// State of sending the response.
pub(super) struct Sending {
    /// Bytes written and not yet sent.
    pub(super) outbound: BytesMut,
    /// A body to send after `outbound`.
    pub(super) body: Option<OutgoingBody>,
    /// Bytes of such bodies sent for the request in hand.
    body_bytes: u64,
    /// Limit of the sending rate (`limit_rate`).
    pace: Option<Box<Pace>>,
    /// Rate at which the client takes it (`min_rate`).
    rate: MinRate,
    /// The client has taken a response too slowly.
    too_slow: Option<io::Error>,
    /// Longest pause between two successful writes (`send_timeout`).
    timeout: Duration,
    /// Runs while a write waits for the client.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Sending {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            outbound: BytesMut::new(),
            body: None,
            body_bytes: 0,
            pace: None,
            rate: MinRate::default(),
            too_slow: None,
            timeout,
            stalled: None,
        }
    }

    /// Bytes that may be sent now.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        match &mut self.pace {
            Some(pace) => pace.poll(cx).map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            None => Poll::Ready(usize::MAX),
        }
    }

    /// Notes that nothing is left to send for now.
    fn rest(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.rest();
        }
    }

    /// The client has taken so many bytes.
    fn sent(&mut self, bytes: u64, min_rate: u64) {
        self.stalled = None;
        if let Err(error) = self.rate.moved(bytes, min_rate) {
            self.too_slow = Some(error);
        }
        if let Some(pace) = &mut self.pace {
            pace.sent(bytes);
        }
    }
}

impl Transport {
    /// Sends `pieces` after what is written so far, at the next flush.
    pub(crate) fn queue(&mut self, pieces: Box<dyn Pieces>) {
        self.sending.body = Some(OutgoingBody::new(pieces));
    }

    /// Limits how fast the response to the request in hand is sent, whatever was said before.
    pub(crate) fn limit(&mut self, pace: Option<Pace>) {
        self.sending.pace = pace.map(Box::new);
    }

    /// Bytes of queued bodies sent for the request in hand.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.sending.body_bytes
    }

    /// The buffer that the head of a response is written to.
    pub(crate) fn outbound(&mut self) -> &mut BytesMut {
        &mut self.sending.outbound
    }

    /// Writes `bytes` behind what is written so far, if all of it is so little that it leaves at once.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let outbound = &mut self.sending.outbound;
        let fits = outbound.len() + bytes.len() <= COALESCE;
        if fits {
            outbound.extend_from_slice(bytes);
        }
        fits
    }

    /// Sends what is written so far and then `bytes`. Whatever the socket does not take is kept: when it is not ready,
    /// the flush that follows sends it.
    pub(crate) fn poll_offer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        let mut left = bytes;
        while self.sending.outbound.len() + left.len() > COALESCE {
            match Pin::new(&mut *self).poll_write(cx, left) {
                Poll::Ready(sent) => left = &left[sent?..],
                Poll::Pending => break,
            }
        }
        net::keep(&mut self.sending.outbound, left);
        Pin::new(self).poll_flush(cx)
    }

    /// Sends what is written, and of `bytes` behind it what may be sent now; bytes of those that were taken.
    pub(super) fn poll_send_behind(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let most = ready!(self.sending.poll_pace(cx)).min(bytes.len());
            let waiting = self.sending.outbound.len();
            let wire = self.wire.as_mut().ok_or_else(parked)?;
            let sent = ready!(wire.poll_send_both(cx, &self.sending.outbound, &bytes[..most]))?;
            self.sending.sent(sent as u64, self.min_rate);
            if sent > waiting || waiting == 0 {
                self.sending.outbound.clear();
                return Poll::Ready(Ok(sent - waiting));
            }
            self.sending.outbound.advance(sent);
        }
    }

    /// Sends what is written, then the queued body.
    pub(super) fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { wire, sending, min_rate, .. } = self;
        let wire = wire.as_mut().ok_or_else(parked)?;
        let more_follows = sending.body.is_some();
        while !sending.outbound.is_empty() {
            // Small parts of a response are paid for like large ones, and what was kept of a large one like the rest.
            let most = ready!(sending.poll_pace(cx)).min(sending.outbound.len());
            let sent = ready!(wire.poll_send(cx, &sending.outbound[..most], more_follows))?;
            sending.outbound.advance(sent);
            sending.sent(sent as u64, *min_rate);
        }
        if !more_follows {
            ready!(wire.poll_flush(cx))?;
            sending.rest();
            return Poll::Ready(Ok(()));
        }
        let most = ready!(sending.poll_pace(cx)) as u64;
        let mut sent_now = 0;
        let sent = match &mut sending.body {
            Some(body) => body.poll(cx, wire, most, |sent| sent_now += sent),
            None => Poll::Ready(Ok(())),
        };
        // What was sent stays on record whatever the last of it waits for.
        let sent = match sent {
            Poll::Ready(Ok(())) => {
                sending.body = None;
                wire.poll_flush(cx)
            }
            sent => sent,
        };
        if sent_now > 0 {
            sending.body_bytes += sent_now;
            sending.sent(sent_now, *min_rate);
        }
        if let Poll::Ready(result) = &sent {
            if result.is_err() {
                sending.body = None;
            }
            sending.rest();
        }
        sent
    }

    /// Fails a write that has waited for the client too long.
    pub(super) fn or_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.sending.stalled = None;
            return write;
        }
        self.reset_if_closed_now();
        let sending = &mut self.sending;
        let waits_for_disk = sending.body.as_ref().is_some_and(OutgoingBody::waits_for_disk);
        if waits_for_disk || sending.pace.as_ref().is_some_and(|pace| pace.is_waiting()) {
            sending.rate.waits_for_others();
            sending.stalled = None;
            return write;
        }
        if let Some(error) = sending.too_slow.take() {
            self.give_up();
            return Poll::Ready(Err(error));
        }
        sending.rate.waits();
        let deadline = Instant::now() + sending.timeout;
        let stalled = sending.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(stalled.as_mut().poll(cx));
        self.give_up();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing (send_timeout)")))
    }
}
