//! Where a request ends in the bytes of its connection (RFC 9112 §6).
//!
//! The transport hands the engine exactly the bytes of one request; what follows belongs to the next one and
//! stays behind. So pipelined requests are kept in order, and the engine never sees a byte it must give back.

/// How much of what a client sends belongs to the request in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// This many bytes more.
    Length(u64),
    /// The rest of the head, then chunks up to the last one and its trailers.
    Chunked {
        /// Bytes of the head not yet handed out.
        head: u64,
        /// Where in the chunks we are.
        at: Chunk,
    },
    /// Everything: the connection has become a tunnel (101 Switching Protocols).
    Tunnel,
}

/// A place in a chunked body (RFC 9112 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Within the digits of a size, which is so far this.
    Size(u64),
    /// Within an extension of a chunk of this size.
    Extension(u64),
    /// Within data: this many bytes more.
    Data(u64),
    /// Before the line feed that ends data.
    DataEnd,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    /// Within a trailer line.
    Trailer,
    /// Past the end.
    Done,
}

impl Inbound {
    /// How many of the next bytes belong to this request; counts them as handed out.
    ///
    /// Malformed chunks are handed out as they are: the reader of the body refuses them.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Tunnel => bytes.len(),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                taken
            }
            Self::Chunked { head, at } => {
                let skip = bytes.len().min(usize::try_from(*head).unwrap_or(usize::MAX));
                *head -= skip as u64;
                skip + at.take(&bytes[skip..])
            }
        }
    }

    /// The same with so many bytes before it.
    pub(super) fn after(self, more: u64) -> Self {
        match self {
            Self::Length(length) => Self::Length(length.saturating_add(more)),
            Self::Chunked { head, at } => Self::Chunked { head: head + more, at },
            Self::Tunnel => Self::Tunnel,
        }
    }

    /// Whether every byte of the request has been handed out.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked { head: 0, at: Chunk::Done })
    }
}

impl Chunk {
    /// How many of `bytes` belong to the body, from this place on.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && *self != Self::Done {
            if let Self::Data(left) = self {
                let step = (bytes.len() - taken).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= step as u64;
                taken += step;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
            } else {
                *self = self.step(bytes[taken]);
                taken += 1;
            }
        }
        taken
    }

    /// The place after one byte that is not data.
    pub(super) fn step(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size(size) | Self::Extension(size), b'\n') => {
                if size == 0 {
                    Self::TrailerStart
                } else {
                    Self::Data(size)
                }
            }
            (Self::Size(size), digit) if digit.is_ascii_hexdigit() => {
                let digit = (digit as char).to_digit(16).unwrap_or_default();
                // An overflow is refused by the reader of the body; here it only must not wrap to a small size.
                Self::Size(size.saturating_mul(16).saturating_add(digit.into()))
            }
            (Self::Size(size) | Self::Extension(size), _) => Self::Extension(size),
            (Self::DataEnd, b'\n') => Self::Size(0),
            (Self::DataEnd, _) => Self::DataEnd,
            (Self::TrailerStart, b'\r') => Self::TrailerStart,
            (Self::TrailerStart, b'\n') => Self::Done,
            (Self::TrailerStart, _) => Self::Trailer,
            (Self::Trailer, b'\n') => Self::TrailerStart,
            (Self::Trailer, _) => Self::Trailer,
            (at @ (Self::Data(_) | Self::Done), _) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> Inbound {
        Inbound::Chunked { head: 0, at: Chunk::Size(0) }
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
        let mut inbound = Inbound::Chunked { head: 2, at: Chunk::Size(0) };
        for byte in b"HD".iter().chain(body) {
            assert!(!inbound.is_done());
            assert_eq!(inbound.take(&[*byte]), 1);
        }
        assert!(inbound.is_done());
        assert_eq!(inbound.take(b"x"), 0);
    }

    #[test]
    fn a_size_that_overflows_never_becomes_a_small_one() {
        let mut inbound = chunked();
        let body = b"FFFFFFFFFFFFFFFFFFFF1\r\nabc";
        assert_eq!(inbound.take(body), body.len());
        assert!(!inbound.is_done());
    }

    #[test]
    fn a_tunnel_never_ends() {
        let mut inbound = Inbound::Tunnel;
        assert_eq!(inbound.take(b"anything"), 8);
        assert!(!inbound.is_done());
    }
}
