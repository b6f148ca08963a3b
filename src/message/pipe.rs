//! Bodies passed on from one side of an exchange to the other: read as they are framed here, written as they are framed
//! there.

use std::ops::Range;

use super::framing::{BodyFraming, MalformedBody};
use crate::net::{BEFORE, Buffer};

/// A body on its way through: read as it is framed on one side, written as it is to be on the other.
#[derive(Debug)]
pub(crate) struct Pipe {
    framing: BodyFraming,
    /// The other side gets chunks.
    chunks: bool,
    /// The end has been written.
    done: bool,
}

impl Pipe {
    pub(crate) fn new(framing: BodyFraming, chunks: bool) -> Self {
        let done = framing.is_done();
        Self { framing, chunks, done }
    }

    /// Whether all has come and been given out.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes what lies in `range` of the buffer, which starts no earlier than [`BEFORE`], and gives what is to be
    /// written.
    pub(crate) fn take(
        &mut self,
        buffer: &mut Buffer,
        range: Range<usize>,
    ) -> Result<PipeStep, MalformedBody> {
        let start = range.start;
        let (data, taken) = self.framing.unframe(&mut buffer[range])?;
        self.done = self.framing.is_done();
        let out = if self.chunks { chunk(buffer, start, data, self.done) } else { start..start + data };
        Ok(PipeStep { out, data, taken })
    }

    /// Ends the body here, whatever the other side still has; what is still to be written for it.
    pub(crate) fn cut(&mut self) -> &'static [u8] {
        self.done = true;
        if self.chunks { LAST_CHUNK } else { b"" }
    }

    /// The connection has ended: for a body that ends with it that is the end, and what is still to be written for it.
    /// `None` where something is missing.
    pub(crate) fn end(&mut self) -> Option<&'static [u8]> {
        let ends = self.framing == BodyFraming::UntilClose;
        self.done |= ends;
        ends.then_some(if self.chunks { LAST_CHUNK } else { b"" })
    }
}

/// Result of taking a part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PipeStep {
    /// Range of the buffer that is to be written.
    pub(crate) out: Range<usize>,
    /// Bytes of data in it.
    pub(crate) data: usize,
    /// Bytes that were the body's; what follows them is not.
    pub(crate) taken: usize,
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Makes a chunk of the data in `buffer` from `start` on, and the last chunk after it at the end (RFC 9112 §7.1). Returns
/// where it is.
pub(crate) fn chunk(buffer: &mut Buffer, start: usize, length: usize, last: bool) -> Range<usize> {
    let (mut from, mut to) = (start, start + length);
    let mut put = |to: &mut usize, bytes: &[u8]| {
        buffer[*to..*to + bytes.len()].copy_from_slice(bytes);
        *to += bytes.len();
    };
    if length > 0 {
        put(&mut to, b"\r\n");
        let mut size = [0; BEFORE];
        let mut at = BEFORE - 2;
        size[at..].copy_from_slice(b"\r\n");
        let mut rest = length;
        while rest > 0 {
            at -= 1;
            size[at] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
        }
        from = start - (BEFORE - at);
        put(&mut from.clone(), &size[at..]);
    }
    if last {
        put(&mut to, LAST_CHUNK);
    }
    from..to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output for a body that arrives in pieces of this size, or what is wrong with it.
    fn through(mut pipe: Pipe, body: &[u8], piece: usize) -> Result<(Vec<u8>, usize), MalformedBody> {
        let (mut out, mut used) = (Vec::new(), 0);
        for part in body.chunks(piece) {
            let mut buffer = Buffer::take();
            buffer.room()[..part.len()].copy_from_slice(part);
            let taken = pipe.take(&mut buffer, BEFORE..BEFORE + part.len())?;
            out.extend_from_slice(&buffer[taken.out]);
            used += taken.taken;
            if pipe.is_done() {
                break;
            }
        }
        Ok((out, used))
    }

    #[test]
    fn chunks_become_chunks_without_what_nobody_needs() {
        let body = b"5;a=\"b\"\r\nhello\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET";
        for piece in 1..body.len() {
            let (out, used) = through(Pipe::new(BodyFraming::chunked(), true), body, piece).unwrap();
            assert_eq!(used, body.len() - 3, "{piece}");
            let (data, _) = through(Pipe::new(BodyFraming::chunked(), false), &out, out.len()).unwrap();
            assert_eq!(data, b"hello0123456789", "{piece}");
        }
        let (out, _) = through(Pipe::new(BodyFraming::chunked(), true), body, 1000).unwrap();
        assert_eq!(out, b"f\r\nhello0123456789\r\n0\r\n\r\n");
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let (out, used) = through(Pipe::new(BodyFraming::Length(4), false), b"abcdef", 3).unwrap();
        assert_eq!((out.as_slice(), used), (&b"abcd"[..], 4));
        assert!(Pipe::new(BodyFraming::Length(0), false).is_done());
    }

    #[test]
    fn what_ends_with_the_connection_becomes_chunks() {
        let mut pipe = Pipe::new(BodyFraming::UntilClose, true);
        let mut buffer = Buffer::take();
        buffer.room()[..2].copy_from_slice(b"hi");
        let taken = pipe.take(&mut buffer, BEFORE..BEFORE + 2).unwrap();
        assert_eq!(&buffer[taken.out], b"2\r\nhi\r\n");
        assert_eq!((pipe.is_done(), pipe.end(), pipe.is_done()), (false, Some(LAST_CHUNK), true));
        assert_eq!(Pipe::new(BodyFraming::Length(1), false).end(), None);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_malformed() {
        for piece in [1, 1000] {
            assert!(through(Pipe::new(BodyFraming::chunked(), true), b"1\r\na\n0\r\n\r\n", piece).is_err());
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(body: Vec<u8>, piece in 1_usize..20) {
            let _ = through(Pipe::new(BodyFraming::chunked(), true), &body, piece);
        }
    }
}
