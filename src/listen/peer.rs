//! Who is at the other end of a connection, as the kernel tells it.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::Listener;
use crate::tls::Facts;

/// The other end of a client's connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The listener it came in by.
    pub listener: Arc<Listener>,
    /// Its address, or what a trusted balancer in front says it is.
    pub address: PeerAddress,
    /// The port that it has connected to at a balancer in front, as a PROXY header tells it.
    pub announced_port: Option<u16>,
    /// What was agreed on, where it speaks TLS.
    pub tls: Option<Arc<Facts>>,
}

/// The address of a peer, by kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A unix peer, known by the user it runs as (SO_PEERCRED).
    Unix {
        /// Its user id.
        uid: u32,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            PeerAddress::Tcp(address) => address.fmt(f),
            PeerAddress::Unix { uid } => write!(f, "uid {uid} on {}", self.listener.configured),
        }
    }
}
