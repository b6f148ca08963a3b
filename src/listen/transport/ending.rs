//! How a client's connection ends: in order, after a while for what the client may still be sending, or with a reset.

use std::sync::atomic::Ordering;

use super::Transport;
use crate::listen::{connection, inbound::Inbound};

impl Transport {
    /// Has the connection end with a reset: where an answer's end is the connection's (HTTP/1.0), that alone tells the
    /// client that it did not get the whole.
    pub(crate) fn reset_at_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
        if let Err(error) = self.socket().and_then(|socket| socket.reset_at_close(true)) {
            tracing::debug!(%error, "cannot reset the connection");
        }
    }

    /// The answer to the request in hand ends the connection, though its client may have more to send.
    pub(crate) fn end_by_surprise(&self) {
        self.surprises.store(true, Ordering::Relaxed);
    }

    /// The answer waits for the client: should the connection end meanwhile, nothing of it is to stay in the kernel.
    pub(super) fn resets_for_now(&mut self) {
        if !std::mem::replace(&mut self.resets_for_now, true)
            && let Err(error) = self.socket().and_then(|socket| socket.reset_at_close(true))
        {
            tracing::debug!(%error, "cannot have the connection end with a reset");
        }
    }

    /// The client takes nothing, or too little.
    pub(super) fn give_up(&mut self) {
        self.reset.store(true, Ordering::Relaxed);
        if let Some(socket) = &mut self.socket {
            socket.give_up();
        }
    }

    /// The connection ends, or waits for another request. What the kernel has of an answer that was sent to its end is
    /// still the client's, however late it reads.
    pub(in crate::listen) fn ends_well(&mut self) {
        let is_sent = self.outbound.is_empty() && self.queued().is_none() && !*self.reset.get_mut();
        if is_sent
            && std::mem::take(&mut self.resets_for_now)
            && let Err(error) = self.socket().and_then(|socket| socket.reset_at_close(false))
        {
            tracing::debug!(%error, "the connection ends with a reset");
        }
    }

    /// Whether it ends without a reset, in the order of TCP: its client may still have something of the answer to read.
    fn ends_in_order(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.raw().is_some())
            && self.inbound != Inbound::Tunnel
            && !self.reset.load(Ordering::Relaxed)
            && !self.resets_for_now
    }

    /// Whether the client is known to be sending what nobody will read.
    fn has_unread(&self) -> bool {
        !self.received.is_empty() || !self.inbound.is_done() || self.surprises.load(Ordering::Relaxed)
    }

    /// Ends TLS, unless the connection is to look broken.
    fn say_goodbye(&mut self) {
        let resets = *self.reset.get_mut() || self.resets_for_now;
        if let Some(socket) = self.socket.as_mut().filter(|_| !resets) {
            socket.say_goodbye();
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.ends_well();
        self.say_goodbye();
        if self.ends_in_order() {
            let place = self.place.take();
            if let Ok(socket) = self.socket() {
                connection::end(socket, self.has_unread(), place);
            }
        }
    }
}
