//! Where a request ends in the bytes of its connection (RFC 9112 §6).
//!
//! The transport hands out exactly the bytes of one request; what follows belongs to the next one and stays behind. So
//! pipelined requests are kept in order, and nobody who reads one sees a byte that must be given back.

use crate::message::chunked::Chunks;

/// How much of what a client sends belongs to the request in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// This many bytes more.
    Length(u64),
    /// Chunks up to the last one and its trailers.
    Chunked(Chunks),
    /// Everything: the connection has become a tunnel (101 Switching Protocols).
    Tunnel,
}

impl Inbound {
    /// How many of the next bytes belong to this request; counts them as handed out.
    ///
    /// What is no chunk belongs to nobody: see [`is_malformed`](Self::is_malformed).
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Tunnel => bytes.len(),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                taken
            }
            Self::Chunked(chunks) => chunks.count(bytes).unwrap_or_default(),
        }
    }

    /// Whether every byte of the request has been handed out.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_done(),
            Self::Tunnel => false,
        }
    }

    /// Whether what comes next is no chunk: where the request ends cannot be known.
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self, Self::Chunked(chunks) if chunks.is_lost())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> Inbound {
        Inbound::Chunked(Chunks::new())
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let mut inbound = Inbound::Length(5);
        assert_eq!(inbound.take(b"abc"), 3);
        assert!(!inbound.is_done());
        assert_eq!(inbound.take(b"deGET /"), 2);
        assert!(inbound.is_done());
        assert_eq!(inbound.take(b"GET /"), 0);
    }

    #[test]
    fn chunks_end_after_the_trailers() {
        let body = b"5;name=value\r\nhel\nl\r\n0A\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
        let next = b"GET / HTTP/1.1\r\n";
        let mut inbound = chunked();
        assert_eq!(inbound.take(&[body.as_slice(), next].concat()), body.len());
        assert!(inbound.is_done());
    }

    #[test]
    fn chunks_may_come_one_byte_at_a_time() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        let mut inbound = chunked();
        for byte in body {
            assert!(!inbound.is_done());
            assert_eq!(inbound.take(&[*byte]), 1);
        }
        assert!(inbound.is_done());
        assert_eq!(inbound.take(b"x"), 0);
    }

    #[test]
    fn nothing_belongs_to_malformed_chunks() {
        let mut inbound = chunked();
        assert_eq!(inbound.take(b"FFFFFFFFFFFFFFFFFFFF1\r\nabc"), 0);
        assert!(inbound.is_malformed() && !inbound.is_done());
        assert_eq!(inbound.take(b"0\r\n\r\n"), 0);
    }

    #[test]
    fn a_tunnel_never_ends() {
        let mut inbound = Inbound::Tunnel;
        assert_eq!(inbound.take(b"anything"), 8);
        assert!(!inbound.is_done());
    }
}
