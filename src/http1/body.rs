//! The bodies of requests and answers as they come (RFC 9112 §6 and §7), read in one way only.

use std::ops::Range;

use crate::listen::{BEFORE, Buffer};

/// Most bytes of extensions in the chunks of one body, and of its trailers. Nobody needs them; they are dropped.
const MOST_IGNORED: usize = 16 * 1024;

/// What came is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is malformed: {0}")]
pub(super) struct Malformed(&'static str);

/// Where a body ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// After its last chunk.
    Chunked(Chunks),
    /// With the connection.
    Close,
}

/// A place in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    ignored: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first digit of a size.
    SizeStart,
    /// After some digits of a size.
    Size(u64),
    /// Within an extension of a chunk of this size.
    Extension(u64),
    /// Before the line feed after a size.
    SizeEnd(u64),
    /// Within data: this many bytes more.
    Data(u64),
    /// Before the carriage return and before the line feed after data.
    DataEnd,
    DataLineFeed,
    /// At the start of a trailer, or of the empty line that ends the body.
    TrailerStart,
    /// Within a trailer, and before its line feed.
    Trailer,
    TrailerEnd,
    /// Before the last line feed.
    LastLineFeed,
    /// Past the end.
    Done,
}

impl Framing {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunks { at: At::SizeStart, ignored: 0 })
    }

    /// Whether all of the body has come; one that ends with the connection never has.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.at == At::Done,
            Self::Close => false,
        }
    }

    /// Takes what has come: moves the data to the front of `bytes`, and gives its length and how many bytes of the body
    /// were there.
    fn take(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Malformed> {
        match self {
            Self::Length(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok((taken, taken))
            }
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::Close => Ok((bytes.len(), bytes.len())),
        }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Malformed> {
        let (mut data, mut taken) = (0, 0);
        while taken < bytes.len() && self.at != At::Done {
            if let At::Data(left) = &mut self.at {
                let step = (bytes.len() - taken).min(usize::try_from(*left).unwrap_or(usize::MAX));
                bytes.copy_within(taken..taken + step, data);
                *left -= step as u64;
                (data, taken) = (data + step, taken + step);
                if *left == 0 {
                    self.at = At::DataEnd;
                }
            } else {
                self.at = self.step(bytes[taken])?;
                taken += 1;
            }
        }
        Ok((data, taken))
    }

    /// The place after one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        if matches!(self.at, At::Extension(_) | At::TrailerStart | At::Trailer) {
            self.ignored += 1;
            if self.ignored > MOST_IGNORED {
                return Err(Malformed("too much beside its data"));
            }
        }
        Ok(match (self.at, byte) {
            (At::SizeStart, byte) if byte.is_ascii_hexdigit() => At::Size(digit(byte)),
            (At::Size(size), byte) if byte.is_ascii_hexdigit() && size >> 60 == 0 => {
                At::Size(size << 4 | digit(byte))
            }
            (At::Size(size), b';') => At::Extension(size),
            (At::Size(size) | At::Extension(size), b'\r') => At::SizeEnd(size),
            (At::Extension(size), byte) if is_text(byte) => At::Extension(size),
            (At::SizeEnd(0), b'\n') => At::TrailerStart,
            (At::SizeEnd(size), b'\n') => At::Data(size),
            (At::DataEnd, b'\r') => At::DataLineFeed,
            (At::DataLineFeed, b'\n') => At::SizeStart,
            (At::TrailerStart, b'\r') => At::LastLineFeed,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::TrailerStart | At::Trailer, byte) if is_text(byte) => At::Trailer,
            (At::TrailerEnd, b'\n') => At::TrailerStart,
            (At::LastLineFeed, b'\n') => At::Done,
            (At::SizeStart | At::Size(_) | At::SizeEnd(_), _) => {
                return Err(Malformed("not the size of a chunk"));
            }
            _ => return Err(Malformed("a line does not end as it should")),
        })
    }
}

fn digit(byte: u8) -> u64 {
    (byte as char).to_digit(16).unwrap_or_default().into()
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A body on its way through: read as it is framed on one side, written as it is to be on the other.
#[derive(Debug)]
pub(super) struct Pipe {
    framing: Framing,
    /// The other side gets chunks.
    chunks: bool,
    /// The end has been written.
    done: bool,
}

impl Pipe {
    pub(super) fn new(framing: Framing, chunks: bool) -> Self {
        let done = framing.is_done();
        Self { framing, chunks, done }
    }

    /// Whether all has come and been given out.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes what lies in `range` of the buffer, which starts no earlier than [`BEFORE`], and gives what is to be
    /// written.
    pub(super) fn take(&mut self, buffer: &mut Buffer, range: Range<usize>) -> Result<Taken, Malformed> {
        let start = range.start;
        let (data, taken) = self.framing.take(&mut buffer[range])?;
        self.done = self.framing.is_done();
        let out = if self.chunks { chunk(buffer, start, data, self.done) } else { start..start + data };
        Ok(Taken { out, data, taken })
    }

    /// The connection has ended: for a body that ends with it that is the end, and what is still to be written for it.
    /// `None` where something is missing.
    pub(super) fn end(&mut self) -> Option<&'static [u8]> {
        let ends = self.framing == Framing::Close;
        self.done |= ends;
        ends.then_some(if self.chunks { LAST_CHUNK } else { b"" })
    }
}

/// What was taken of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Where in the buffer what is to be written is.
    pub(super) out: Range<usize>,
    /// Bytes of data in it.
    pub(super) data: usize,
    /// Bytes that were the body's; what follows them is not.
    pub(super) taken: usize,
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Makes a chunk of the data around it, and the last one after it at the end.
fn chunk(buffer: &mut Buffer, start: usize, length: usize, last: bool) -> Range<usize> {
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

    /// What comes out of a body that arrives in pieces of this size, or what is wrong with it.
    fn through(mut pipe: Pipe, body: &[u8], piece: usize) -> Result<(Vec<u8>, usize), Malformed> {
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
            let (out, used) = through(Pipe::new(Framing::chunked(), true), body, piece).unwrap();
            assert_eq!(used, body.len() - 3, "{piece}");
            let (data, _) = through(Pipe::new(Framing::chunked(), false), &out, out.len()).unwrap();
            assert_eq!(data, b"hello0123456789", "{piece}");
        }
        let (out, _) = through(Pipe::new(Framing::chunked(), true), body, 1000).unwrap();
        assert_eq!(out, b"f\r\nhello0123456789\r\n0\r\n\r\n");
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let (out, used) = through(Pipe::new(Framing::Length(4), false), b"abcdef", 3).unwrap();
        assert_eq!((out.as_slice(), used), (&b"abcd"[..], 4));
        assert!(Pipe::new(Framing::Length(0), false).is_done());
    }

    #[test]
    fn what_ends_with_the_connection_becomes_chunks() {
        let mut pipe = Pipe::new(Framing::Close, true);
        let mut buffer = Buffer::take();
        buffer.room()[..2].copy_from_slice(b"hi");
        let taken = pipe.take(&mut buffer, BEFORE..BEFORE + 2).unwrap();
        assert_eq!(&buffer[taken.out], b"2\r\nhi\r\n");
        assert_eq!((pipe.is_done(), pipe.end(), pipe.is_done()), (false, Some(LAST_CHUNK), true));
        assert_eq!(Pipe::new(Framing::Length(1), false).end(), None);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_malformed() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "1\na\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\r\r\n",
            "1\r\na0\r\n\r\n",
            "10000000000000000\r\n",
            "fffffffffffffffff\r\n",
            "1;\n\r\na\r\n",
            "1;a\x00\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "0\r\nX\x00: y\r\n\r\n",
            "0\r\r\n",
        ] {
            let whole = through(Pipe::new(Framing::chunked(), true), body.as_bytes(), 1000);
            assert!(whole.is_err(), "{body:?}: {whole:?}");
            assert!(through(Pipe::new(Framing::chunked(), true), body.as_bytes(), 1).is_err(), "{body:?}");
        }
        let flood = format!("1;{}\r\na\r\n", "x".repeat(MOST_IGNORED));
        assert!(through(Pipe::new(Framing::chunked(), true), flood.as_bytes(), 1000).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(body: Vec<u8>, piece in 1_usize..20) {
            let _ = through(Pipe::new(Framing::chunked(), true), &body, piece);
        }
    }
}
