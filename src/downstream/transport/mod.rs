//! A client's connection while it has a request in hand: bytes of that request in ([`request`]), the response and whole
//! files out ([`response`]), and the way it ends ([`close`]).

mod close;
mod request;
mod response;
mod stream;

use std::{fmt, io};

use bytes::BytesMut;
use http::HeaderMap;

use super::wire::Wire;
use crate::{
    listen::{ConnectionGuard, ConnectionSettings, Peer},
    message::BodyFraming,
    net::IdleTimeout,
};
use close::Close;
use request::Recording;
use response::Sending;

/// A connection between two requests.
pub(crate) struct Link {
    pub(crate) wire: Wire,
    pub(crate) peer: Peer,
    /// `None` for a stream: its connection has one.
    pub(crate) place: Option<ConnectionGuard>,
    pub(crate) alarm: IdleTimeout,
}

/// A client's connection while it has a request in hand.
pub(crate) struct Transport {
    /// `None` once the connection is parked, which ends this.
    wire: Option<Wire>,
    /// The client, and the listener it came in by.
    pub(crate) peer: Peer,
    /// Bytes read and not yet handed out.
    pub(crate) received: BytesMut,
    /// Bytes still to come that belong to the request in hand.
    inbound: BodyFraming,
    replay: Recording,
    sending: Sending,
    close: Close,
    /// The connection may take another request after the one in hand.
    keeps_alive: bool,
    /// Bytes per second that the client must send or take while it is waited for (`min_rate`).
    min_rate: u64,
    /// Wakes its task when it or its server has waited for too long.
    pub(crate) alarm: IdleTimeout,
    /// Counts the connection for as long as it, or its lingering close, lasts.
    place: Option<ConnectionGuard>,
}

impl Transport {
    /// A connection that has a request, of which `received` was read beside its head.
    pub(crate) fn new(link: Link, received: BytesMut, limits: &ConnectionSettings) -> Self {
        let Link { wire, peer, place, alarm } = link;
        Self {
            wire: Some(wire),
            peer,
            received,
            inbound: BodyFraming::Length(0),
            replay: Recording::default(),
            sending: Sending::new(limits.send_timeout),
            close: Close::default(),
            keeps_alive: !limits.keepalive_timeout.is_zero(),
            min_rate: limits.min_rate,
            alarm,
            place,
        }
    }

    /// The connection until its next request, and what has been read of that.
    pub(crate) fn park(mut self) -> Option<(Link, BytesMut)> {
        self.leave_to_kernel();
        let wire = self.wire.take()?;
        let place = self.place.take();
        let (peer, alarm) = (self.peer.clone(), std::mem::take(&mut self.alarm));
        Some((Link { wire, peer, place, alarm }, std::mem::take(&mut self.received)))
    }

    fn wire(&mut self) -> io::Result<&mut Wire> {
        self.wire.as_mut().ok_or_else(parked)
    }

    /// Trailers of the request's body, which has been read.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.wire.as_ref().and_then(Wire::trailers)
    }

    /// Sets the trailers of the response, whose last chunk is yet to be written.
    pub(crate) fn set_trailers(&mut self, trailers: HeaderMap) {
        if let Some(wire) = &mut self.wire {
            wire.set_trailers(trailers);
        }
    }

    /// Whether the connection may take another request (`keepalive_timeout`).
    pub(crate) fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether the client has closed its side or the connection is broken; reads nothing.
    pub(crate) fn is_abandoned(&mut self) -> bool {
        self.wire.as_mut().is_none_or(Wire::is_abandoned)
    }

    /// Turns the connection into a tunnel (101 Switching Protocols): every byte from now on is for the server.
    pub(crate) fn become_tunnel(&mut self) {
        if let Some(socket) = self.wire.as_ref().and_then(Wire::socket) {
            socket.keep_alive();
        }
        self.inbound = BodyFraming::UntilClose;
        self.close.is_tunnel = true;
        self.replay = Recording::default();
    }
}

/// Error for the use of a parked connection, which does not happen.
fn parked() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection from {}", self.peer)
    }
}
