//! One coding at work: content in, coded bytes out.

use std::{
    fmt,
    io::{self, Write},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::message::Coding;

/// Encoders at work at once: each takes up to two megabytes. Past it answers go as they are.
const MOST: usize = 512;

/// Windows of Brotli, in powers of two: half a megabyte.
const BROTLI_WINDOW: u32 = 19;

/// What Brotli gathers before it hands bytes on.
const BROTLI_BUFFER: usize = 16 * 1024;

static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// One coding at work.
pub(super) struct Encoder {
    kind: Option<EncoderKind>,
    _place: EncoderMemory,
}

enum EncoderKind {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// Has whichever it is do something, and takes what has become of that.
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

/// Counted for as long as it lasts.
struct EncoderMemory;

impl EncoderMemory {
    fn take() -> Option<Self> {
        let taken = AT_WORK.fetch_add(1, Ordering::Relaxed);
        let place = Self;
        (taken < MOST).then_some(place)
    }
}

impl Drop for EncoderMemory {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Encoder {
    /// One that begins; `None` when too many are at work.
    pub(super) fn new(coding: Coding, level: u32) -> Option<Self> {
        let place = EncoderMemory::take()?;
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
        Some(Self { kind: Some(kind), _place: place })
    }

    /// Takes content in; what has become of it so far.
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<Vec<u8>> {
        each!(&mut self.kind, encoder => encoder.write_all(content))
    }

    /// All that has become of what was taken in, so that it can be read.
    pub(super) fn flush(&mut self) -> io::Result<Vec<u8>> {
        each!(&mut self.kind, encoder => encoder.flush())
    }

    /// The end.
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
        // What is not whole is read as far as it goes.
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
