//! Who is at the other end of a connection, as the kernel tells it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;

use super::Listener;
use crate::{config::Trust, tls::TlsSession};

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
    pub tls: Option<Arc<TlsSession>>,
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

impl PeerAddress {
    /// The IP address, if the peer has one; an IPv4 address that came through an IPv6 socket as IPv4.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
    }

    /// Whether a listener with this `trust` believes the forwarded headers and PROXY headers of the peer.
    pub(crate) fn is_trusted(self, trust: &Trust) -> bool {
        match self {
            Self::Tcp(address) => includes(&trust.networks, address.ip().to_canonical()),
            Self::Unix { uid } => trust.all || trust.uids.contains(&uid),
        }
    }
}

/// Whether one of `networks` includes `address`.
pub(crate) fn includes(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            PeerAddress::Tcp(address) => address.fmt(f),
            PeerAddress::Unix { uid } => write!(f, "uid {uid} on {}", self.listener.configured),
        }
    }
}
