//! Encoding next to the event loop: small parts are encoded inline, larger ones on the blocking pool.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{compress::encoder::Encoder, message::Coding};

/// Longest content that is encoded inline: handing it to a thread would take longer.
const MOST_INLINE: usize = 8 * 1024;

/// Body of a response on its way through an encoder.
#[derive(Debug)]
pub(crate) struct StreamEncoder {
    /// Encoder; `None` while a thread uses it.
    encoder: Option<Encoder>,
    running: Option<JoinHandle<(Encoder, io::Result<Vec<u8>>)>>,
    /// Output so far.
    coded: Vec<u8>,
    /// Bytes written whose output cannot be decoded yet.
    pending: usize,
    is_finished: bool,
}

/// Operation of an encoder.
#[derive(Debug, Clone, Copy)]
enum EncodeStep {
    Write,
    Flush,
    Finish,
}

impl StreamEncoder {
    /// Creates a stream; `None` when there are too many encoders.
    pub(crate) fn new(coding: Coding, level: u32) -> Option<Self> {
        let encoder = Encoder::new(coding, level)?;
        let (running, coded) = (None, Vec::new());
        Some(Self { encoder: Some(encoder), running, coded, pending: 0, is_finished: false })
    }

    /// Whether the end has been written.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether bytes were written whose output cannot be decoded yet.
    pub(crate) fn is_open(&self) -> bool {
        self.pending > 0
    }

    /// Writes content. Must not be called while an operation is running.
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.pending += content.len();
        self.step(EncodeStep::Write, content)
    }

    /// Starts flushing everything written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.step(EncodeStep::Flush, &[])?;
        self.pending = 0;
        Ok(())
    }

    /// Ends the content.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.is_finished = true;
        self.step(EncodeStep::Finish, &[])?;
        self.pending = 0;
        Ok(())
    }

    fn step(&mut self, step: EncodeStep, content: &[u8]) -> io::Result<()> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        let work = move |encoder: &mut Encoder, content: &[u8]| match step {
            EncodeStep::Write => encoder.write(content),
            EncodeStep::Flush => encoder.flush(),
            EncodeStep::Finish => encoder.finish(),
        };
        // An encoder may hold back all of its output until the end.
        if self.pending <= MOST_INLINE {
            let coded = work(&mut encoder, content);
            self.encoder = Some(encoder);
            self.coded.extend(coded?);
        } else {
            let content = content.to_vec();
            self.running = Some(spawn_blocking(move || {
                let coded = work(&mut encoder, &content);
                (encoder, coded)
            }));
        }
        Ok(())
    }

    /// Waits for the running operation, and returns all output so far, which may be empty.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        if let Some(running) = &mut self.running {
            let (encoder, coded) = ready!(Pin::new(running).poll(cx)).map_err(io::Error::other)?;
            self.running = None;
            self.encoder = Some(encoder);
            self.coded.extend(coded?);
        }
        Poll::Ready(Ok(std::mem::take(&mut self.coded)))
    }
}

/// Encodes a whole body at once; `None` if that fails.
pub(crate) async fn whole(content: Bytes, coding: Coding, level: u32) -> Option<Bytes> {
    let is_small = content.len() <= MOST_INLINE;
    let code = move || {
        let mut encoder = Encoder::new(coding, level)?;
        let mut coded = encoder.write(&content).ok()?;
        coded.extend(encoder.finish().ok()?);
        Some(Bytes::from(coded))
    };
    if is_small { code() } else { spawn_blocking(code).await.ok()? }
}
