//! The end of a client's connection: in order, after a while for what the client may still be sending, or with a reset.

use super::Transport;
use crate::downstream::connection;

/// The way that the connection is to end.
#[derive(Debug, Default)]
pub(super) struct Close {
    /// Always with a reset.
    resets: bool,
    /// With a reset if it ends now: the response waits for the client.
    resets_for_now: bool,
    /// The client does not know yet that the connection ends, and may have more to send.
    is_unannounced: bool,
    /// The connection has become a tunnel.
    pub(super) is_tunnel: bool,
}

impl Transport {
    /// Has the connection end with a reset: where a response's end is the connection's (HTTP/1.0), that alone tells the
    /// client that it did not get the whole.
    pub(crate) fn reset_at_close(&mut self) {
        self.close.resets = true;
        self.set_reset(true);
    }

    /// Notes that the response to the request in hand ends the connection, though its client may have more to send.
    pub(crate) fn close_unannounced(&mut self) {
        self.close.is_unannounced = true;
    }

    /// Has the connection end with a reset should it end while the response waits for the client: nothing of it is to
    /// stay in the kernel then.
    pub(super) fn reset_if_closed_now(&mut self) {
        if !std::mem::replace(&mut self.close.resets_for_now, true) {
            self.set_reset(true);
        }
    }

    /// Gives up a client that takes nothing, or too little.
    pub(super) fn give_up(&mut self) {
        self.close.resets = true;
        if let Some(wire) = &mut self.wire {
            wire.give_up();
        }
    }

    /// The connection ends, or waits for another request. What the kernel has of a response that was sent to its end is
    /// still the client's, however late it reads.
    pub(super) fn leave_to_kernel(&mut self) {
        let is_sent = self.sending.outbound.is_empty() && self.sending.body.is_none() && !self.close.resets;
        if is_sent && std::mem::take(&mut self.close.resets_for_now) {
            self.set_reset(false);
        }
    }

    fn set_reset(&self, resets: bool) {
        if let Some(wire) = &self.wire {
            wire.reset_on_close(resets);
        }
    }

    /// Whether the client is known to be sending what nobody will read.
    fn has_unread(&self) -> bool {
        !self.received.is_empty() || !self.inbound.is_done() || self.close.is_unannounced
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.leave_to_kernel();
        if self.close.resets || self.close.resets_for_now {
            return;
        }
        let (has_unread, place) = (self.has_unread(), self.place.take());
        let Some(wire) = &mut self.wire else { return };
        wire.close_notify();
        if let Some(socket) = wire.socket() {
            connection::linger_on_close(socket, has_unread, place);
        }
    }
}
