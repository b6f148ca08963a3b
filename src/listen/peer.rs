//! Peer of a connection, as reported by the kernel.

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
    /// Listener that accepted the connection.
    pub listener: Arc<Listener>,
    /// Address of the peer, or the one that a trusted balancer in front has announced.
    pub address: PeerAddress,
    /// Port at the balancer in front, as announced by a PROXY header.
    pub announced_port: Option<u16>,
    /// Parameters of the TLS session, if the connection uses TLS.
    pub tls: Option<Arc<TlsSession>>,
}

/// Address of a peer, by kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A unix peer, identified by its user (SO_PEERCRED).
    Unix {
        /// User id.
        uid: u32,
    },
}

impl PeerAddress {
    /// IP address, if the peer has one. An IPv4-mapped IPv6 address is returned as IPv4.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
    }

    /// Whether a listener with this `trust` accepts forwarded headers and PROXY headers from the peer.
    pub(crate) fn is_trusted(self, trust: &Trust) -> bool {
        match self {
            Self::Tcp(address) => includes(&trust.networks, address.ip().to_canonical()),
            Self::Unix { uid } => trust.all || trust.uids.contains(&uid),
        }
    }
}

/// Whether one of `networks` contains `address`.
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
