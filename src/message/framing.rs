//! Framing of the body of a message (RFC 9112 §6.3), for requests and responses, over HTTP/1.1 and HTTP/2.

use super::chunked::{Chunks, NoChunks};

/// An error for bytes that are no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is malformed: {0}")]
pub(crate) struct MalformedBody(#[from] NoChunks);

/// Part of a body that is still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// A number of bytes (Content-Length, or no body: 0).
    Length(u64),
    /// Chunks up to the last one and its trailers (Transfer-Encoding: chunked).
    Chunked(Chunks),
    /// Bytes until the connection or stream ends: a response without a length, an HTTP/2 request without one, or a tunnel
    /// (101 Switching Protocols).
    UntilClose,
}

impl BodyFraming {
    /// A chunked body of which nothing has come.
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunks::new())
    }

    /// Whether all of the body has come; one that ends with the connection never has.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Bytes of data that can be taken without looking at them, at most.
    pub(crate) fn data_left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(chunks) => chunks.data_left(),
            Self::UntilClose => Some(u64::MAX),
        }
    }

    /// Counts the bytes of `bytes` that belong to the body as come.
    ///
    /// # Errors
    ///
    /// When the first of them can be read in more than one way.
    pub(crate) fn count(&mut self, bytes: &[u8]) -> Result<usize, MalformedBody> {
        match self {
            Self::Chunked(chunks) => Ok(chunks.count(bytes)?),
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            Self::UntilClose => Ok(bytes.len()),
        }
    }

    /// Counts as [`count`](Self::count) does; malformed bytes belong to nobody.
    pub(crate) fn count_valid(&mut self, bytes: &[u8]) -> usize {
        self.count(bytes).unwrap_or_default()
    }

    /// Moves the data of `bytes` to their front. Returns the length of the data, and how many bytes were the body's.
    ///
    /// # Errors
    ///
    /// When a chunk can be read in more than one way.
    pub(crate) fn unframe(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), MalformedBody> {
        match self {
            Self::Chunked(chunks) => unchunk(chunks, bytes),
            Self::Length(_) | Self::UntilClose => self.count(bytes).map(|taken| (taken, taken)),
        }
    }
}

/// Moves the data of chunks to the front of `bytes`.
fn unchunk(chunks: &mut Chunks, bytes: &mut [u8]) -> Result<(usize, usize), MalformedBody> {
    let (mut data, mut taken) = (0, 0);
    loop {
        let step = chunks.next(&bytes[taken..])?;
        taken += step.around;
        bytes.copy_within(taken..taken + step.data, data);
        (data, taken) = (data + step.data, taken + step.data);
        if step.around + step.data == 0 {
            return Ok((data, taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked() -> BodyFraming {
        BodyFraming::chunked()
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let mut inbound = BodyFraming::Length(5);
        assert_eq!(inbound.count_valid(b"abc"), 3);
        assert!(!inbound.is_done());
        assert_eq!(inbound.count_valid(b"deGET /"), 2);
        assert!(inbound.is_done());
        assert_eq!(inbound.count_valid(b"GET /"), 0);
    }

    #[test]
    fn chunks_end_after_the_trailers() {
        let body = b"5;name=value\r\nhel\nl\r\n0A\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
        let next = b"GET / HTTP/1.1\r\n";
        let mut inbound = chunked();
        assert_eq!(inbound.count_valid(&[body.as_slice(), next].concat()), body.len());
        assert!(inbound.is_done());
    }

    #[test]
    fn chunks_may_come_one_byte_at_a_time() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        let mut inbound = chunked();
        for byte in body {
            assert!(!inbound.is_done());
            assert_eq!(inbound.count_valid(&[*byte]), 1);
        }
        assert!(inbound.is_done());
        assert_eq!(inbound.count_valid(b"x"), 0);
    }

    #[test]
    fn nothing_belongs_to_malformed_chunks() {
        let mut inbound = chunked();
        assert_eq!(inbound.count_valid(b"FFFFFFFFFFFFFFFFFFFF1\r\nabc"), 0);
        assert!(!inbound.is_done());
        assert_eq!(inbound.count_valid(b"0\r\n\r\n"), 0);
    }

    #[test]
    fn a_tunnel_never_ends() {
        let mut inbound = BodyFraming::UntilClose;
        assert_eq!(inbound.count_valid(b"anything"), 8);
        assert!(!inbound.is_done());
    }
}
