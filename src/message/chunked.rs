//! A chunked body (RFC 9112 §7.1), read in one way only: by both sides of every exchange.

/// Most bytes of extensions in the chunks of one body, and of its trailers. Nobody needs them; they are dropped.
pub(crate) const MOST_IGNORED: usize = 16 * 1024;

/// Most digits of a size.
const MOST_DIGITS: u8 = 16;

/// Largest size: many programs keep it in 64 bits with a sign.
const MOST_SIZE: u64 = i64::MAX as u64;

/// Error for bytes that are no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoChunks(&'static str);

/// A place in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunks {
    at: ChunkState,
    ignored: usize,
}

/// Bytes up to the end of the next data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkStep {
    /// Bytes around data.
    pub(crate) around: usize,
    /// Bytes of data that follow them.
    pub(crate) data: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    /// Before the first digit of a size.
    SizeStart,
    /// After so many digits of a size, which is this so far.
    Size(u64, u8),
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
    /// Within the name of a trailer, within its value, and before its line feed.
    TrailerName,
    Trailer,
    TrailerEnd,
    /// Before the last line feed.
    LastLineFeed,
    /// Past the end.
    Done,
    /// Past a malformed byte: the meaning of what follows is unknown.
    Lost(NoChunks),
}

impl Chunks {
    /// At the start of a body.
    pub(crate) fn new() -> Self {
        Self { at: ChunkState::SizeStart, ignored: 0 }
    }

    /// Whether all of the body has come.
    pub(crate) fn is_done(&self) -> bool {
        self.at == ChunkState::Done
    }

    /// Bytes of the current chunk's data that are still to come.
    pub(crate) fn data_left(&self) -> Option<u64> {
        if let ChunkState::Data(left) = self.at { Some(left) } else { None }
    }

    /// Takes what comes up to the end of the next data, or of `bytes`, or of the body: nothing only there.
    ///
    /// # Errors
    ///
    /// Where two programs could read it in two ways; from then on always.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<ChunkStep, NoChunks> {
        for (around, byte) in bytes.iter().enumerate() {
            match &mut self.at {
                ChunkState::Done => return Ok(ChunkStep { around, data: 0 }),
                ChunkState::Data(left) => {
                    let data = (bytes.len() - around).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= data as u64;
                    if *left == 0 {
                        self.at = ChunkState::DataEnd;
                    }
                    return Ok(ChunkStep { around, data });
                }
                _ => self.at = self.after(*byte).inspect_err(|error| self.at = ChunkState::Lost(*error))?,
            }
        }
        Ok(ChunkStep { around: bytes.len(), data: 0 })
    }

    /// Number of `bytes` that belong to the body. What is no chunk does not, nor anything after it.
    ///
    /// # Errors
    ///
    /// When there is something, and none of it is a chunk.
    pub(crate) fn count(&mut self, bytes: &[u8]) -> Result<usize, NoChunks> {
        let mut taken = 0;
        loop {
            match self.next(&bytes[taken..]) {
                Ok(ChunkStep { around, data }) if around + data > 0 => taken += around + data,
                Err(error) if taken == 0 => return Err(error),
                Ok(_) | Err(_) => return Ok(taken),
            }
        }
    }

    /// The place after one byte that is not data.
    fn after(&mut self, byte: u8) -> Result<ChunkState, NoChunks> {
        if matches!(
            self.at,
            ChunkState::Extension(_)
                | ChunkState::TrailerStart
                | ChunkState::TrailerName
                | ChunkState::Trailer
        ) {
            self.ignored += 1;
            if self.ignored > MOST_IGNORED {
                return Err(NoChunks("too much beside its data"));
            }
        }
        Ok(match (self.at, byte) {
            (ChunkState::SizeStart, byte) if byte.is_ascii_hexdigit() => ChunkState::Size(digit(byte), 1),
            (ChunkState::Size(size, digits), byte) if byte.is_ascii_hexdigit() && digits < MOST_DIGITS => {
                if size > MOST_SIZE >> 4 {
                    return Err(NoChunks("a chunk that is larger than any body"));
                }
                ChunkState::Size(size << 4 | digit(byte), digits + 1)
            }
            (ChunkState::Size(size, _), b';') => ChunkState::Extension(size),
            (ChunkState::Size(size, _) | ChunkState::Extension(size), b'\r') => ChunkState::SizeEnd(size),
            (ChunkState::Extension(size), byte) if is_text(byte) => ChunkState::Extension(size),
            (ChunkState::SizeEnd(0), b'\n') => ChunkState::TrailerStart,
            (ChunkState::SizeEnd(size), b'\n') => ChunkState::Data(size),
            (ChunkState::DataEnd, b'\r') => ChunkState::DataLineFeed,
            (ChunkState::DataLineFeed, b'\n') => ChunkState::SizeStart,
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastLineFeed,
            // Only fields are trailers: what looks like a request there was meant to be one for somebody.
            (ChunkState::TrailerStart | ChunkState::TrailerName, byte) if is_token(byte) => {
                ChunkState::TrailerName
            }
            (ChunkState::TrailerName, b':') => ChunkState::Trailer,
            (ChunkState::Trailer, b'\r') => ChunkState::TrailerEnd,
            (ChunkState::Trailer, byte) if is_text(byte) => ChunkState::Trailer,
            (ChunkState::TrailerEnd, b'\n') => ChunkState::TrailerStart,
            (ChunkState::LastLineFeed, b'\n') => ChunkState::Done,
            (ChunkState::Lost(error), _) => return Err(error),
            (ChunkState::SizeStart | ChunkState::Size(..) | ChunkState::SizeEnd(_), _) => {
                return Err(NoChunks("not the size of a chunk"));
            }
            (ChunkState::TrailerStart | ChunkState::TrailerName, _) => {
                return Err(NoChunks("a trailer is no field"));
            }
            _ => return Err(NoChunks("a line does not end as it should")),
        })
    }
}

fn digit(byte: u8) -> u64 {
    (byte as char).to_digit(16).unwrap_or_default().into()
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Characters of field names (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces of this size, and how many bytes it takes.
    fn read(body: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), NoChunks> {
        let (mut chunks, mut data, mut taken) = (Chunks::new(), Vec::new(), 0);
        for part in body.chunks(piece) {
            let mut at = 0;
            while at < part.len() && !chunks.is_done() {
                let step = chunks.next(&part[at..])?;
                data.extend_from_slice(&part[at + step.around..][..step.data]);
                at += step.around + step.data;
            }
            taken += at;
        }
        Ok((data, taken, chunks.is_done()))
    }

    #[test]
    fn a_body_may_come_in_pieces() {
        let body = b"5;a=\"b\"\r\nhello\r\n0a\r\n0123456789\r\n000\r\nX: y\r\nA-b:\r\n\r\nGET";
        for piece in 1..body.len() {
            let expected = (b"hello0123456789".to_vec(), body.len() - 3, true);
            assert_eq!(read(body, piece), Ok(expected), "{piece}");
        }
    }

    #[test]
    fn what_follows_the_end_is_not_counted() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        let mut chunks = Chunks::new();
        assert_eq!(chunks.count(&[&body[..], b"GET / HTTP/1.1\r\n"].concat()), Ok(body.len()));
        assert_eq!((chunks.is_done(), chunks.count(b"x")), (true, Ok(0)));
    }

    #[test]
    fn who_is_lost_stays_lost() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.count(b"1\r\nab\r\n0\r\n\r\n"), Ok(4));
        assert!(!chunks.is_done());
        assert!(chunks.count(b"0\r\n\r\n").is_err() && chunks.next(b"0\r\n\r\n").is_err());
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_body() {
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
            "00000000000000001\r\n",
            "fffffffffffffffff\r\n",
            "8000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "1;\n\r\na\r\n",
            "1;a\x00\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "0\r\nX\x00: y\r\n\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nGET / HTTP/1.1\r\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\r\n",
        ] {
            for piece in [1, 1000] {
                let read = read(body.as_bytes(), piece);
                assert!(read.is_err(), "{body:?}: {read:?}");
            }
        }
        let flood = format!("1;{}\r\na\r\n", "x".repeat(MOST_IGNORED));
        assert!(read(flood.as_bytes(), 1000).is_err());
    }

    proptest::proptest! {
        #[test]
        fn pieces_make_no_difference(body: Vec<u8>, piece in 1_usize..20) {
            proptest::prop_assert_eq!(read(&body, piece).ok(), read(&body, body.len().max(1)).ok());
        }
    }
}
