//! Encoders: content in, coded bytes out.

use std::{
    fmt,
    io::{self, Write},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::message::Coding;

/// Most encoders at once: each takes up to two megabytes. Beyond that, responses are sent uncompressed.
const MOST: usize = 512;

/// Window of Brotli as a power of two: half a megabyte.
const BROTLI_WINDOW: u32 = 19;

/// Size of Brotli's output buffer.
const BROTLI_BUFFER: usize = 16 * 1024;

static ENCODERS: AtomicUsize = AtomicUsize::new(0);

/// An encoder of one coding.
pub(super) struct Encoder {
    kind: Option<EncoderKind>,
    _slot: EncoderSlot,
}

enum EncoderKind {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// Calls the same method on any kind of encoder, and takes the output.
macro_rules! each {
    ($kind:expr, $encoder:ident => $call:expr) => {
        match $kind {
            Some(EncoderKind::Gzip($encoder)) => $call.map(|()| std::mem::take($encoder.get_mut())),
            Some(EncoderKind::Brotli($encoder)) => $call.map(|()| std::mem::take($encoder.get_mut())),
            Some(EncoderKind::Zstd($encoder)) => $call.map(|()| std::mem::take($encoder.get_mut())),
            None => Ok(Vec::new()),
        }
    };
}

/// Counts an encoder while it exists.
struct EncoderSlot;

impl EncoderSlot {
    fn take() -> Option<Self> {
        let taken = ENCODERS.fetch_add(1, Ordering::Relaxed);
        let slot = Self;
        (taken < MOST).then_some(slot)
    }
}

impl Drop for EncoderSlot {
    fn drop(&mut self) {
        ENCODERS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Encoder {
    /// Creates an encoder; `None` when there are too many.
    pub(super) fn new(coding: Coding, level: u32) -> Option<Self> {
        let slot = EncoderSlot::take()?;
        let kind = match coding {
            Coding::Gzip => EncoderKind::Gzip(flate2::write::GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(level.min(9)),
            )),
            Coding::Brotli => EncoderKind::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                level.min(11),
                BROTLI_WINDOW,
            ))),
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or(i32::MAX).min(19);
                EncoderKind::Zstd(zstd::stream::write::Encoder::new(Vec::new(), level).ok()?)
            }
        };
        Some(Self { kind: Some(kind), _slot: slot })
    }

    /// Encodes content; returns the output so far.
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<Vec<u8>> {
        each!(&mut self.kind, encoder => encoder.write_all(content))
    }

    /// Flushes the encoder, so that everything written so far can be decoded.
    pub(super) fn flush(&mut self) -> io::Result<Vec<u8>> {
        each!(&mut self.kind, encoder => encoder.flush())
    }

    /// Ends the stream.
    pub(super) fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self.kind.take() {
            Some(EncoderKind::Gzip(encoder)) => encoder.finish(),
            Some(EncoderKind::Brotli(encoder)) => Ok(encoder.into_inner()),
            Some(EncoderKind::Zstd(encoder)) => encoder.finish(),
            None => Ok(Vec::new()),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("encoder")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        // Truncated data is decoded as far as possible.
        let _ = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut content),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content),
            Coding::Zstd => zstd::stream::read::Decoder::new(coded).unwrap().read_to_end(&mut content),
        };
        content
    }

    #[test]
    fn what_was_coded_can_be_read_at_each_flush_and_at_the_end() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(coding, 4).unwrap();
            let (mut coded, mut taken) = (Vec::new(), 0);
            for part in content.chunks(100_000) {
                coded.extend(encoder.write(part).unwrap());
                coded.extend(encoder.flush().unwrap());
                taken += part.len();
                assert!(decoded(coding, &coded) == content[..taken], "{coding:?} at {taken}");
            }
            coded.extend(encoder.finish().unwrap());
            assert!(decoded(coding, &coded) == content, "{coding:?}");
            assert!(coded.len() < content.len() / 2, "{coding:?}: {}", coded.len());
        }
    }
}
