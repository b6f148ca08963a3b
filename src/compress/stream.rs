//! An encoder beside the event loop: little is coded where it is, more of it on a thread that may take its time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{compress::encoder::Encoder, message::Coding};

/// Content up to this length is coded at once: that takes less time than to have a thread do it.
const LITTLE: usize = 8 * 1024;

/// The content of an answer on its way through an encoder.
#[derive(Debug)]
pub(crate) struct StreamEncoder {
    /// None while a thread has it.
    encoder: Option<Encoder>,
    working: Option<JoinHandle<(Encoder, io::Result<Vec<u8>>)>>,
    /// What has become of what was taken in.
    coded: Vec<u8>,
    /// Bytes that were taken in and cannot be read yet.
    pending: usize,
    is_finished: bool,
}

/// What an encoder is to do.
#[derive(Debug, Clone, Copy)]
enum EncodeStep {
    Write,
    Flush,
    Finish,
}

impl StreamEncoder {
    /// Codes what will be taken in; `None` when too many do that already.
    pub(crate) fn new(coding: Coding, level: u32) -> Option<Self> {
        let encoder = Encoder::new(coding, level)?;
        let (working, coded) = (None, Vec::new());
        Some(Self { encoder: Some(encoder), working, coded, pending: 0, is_finished: false })
    }

    /// Whether the end has been taken in too.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether something was taken in that cannot be read yet.
    pub(crate) fn is_open(&self) -> bool {
        self.pending > 0
    }

    /// Takes content in. Only when nothing is at work.
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.pending += content.len();
        self.step(EncodeStep::Write, content)
    }

    /// Has all that was taken in come out.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.step(EncodeStep::Flush, &[])?;
        self.pending = 0;
        Ok(())
    }

    /// The end of the content.
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
        // An encoder may leave all that it has gathered for the end.
        if self.pending <= LITTLE {
            let coded = work(&mut encoder, content);
            self.encoder = Some(encoder);
            self.coded.extend(coded?);
        } else {
            let content = content.to_vec();
            self.working = Some(spawn_blocking(move || {
                let coded = work(&mut encoder, &content);
                (encoder, coded)
            }));
        }
        Ok(())
    }

    /// Waits for what is at work, and gives what has become of it all; it may be nothing yet.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        if let Some(working) = &mut self.working {
            let (encoder, coded) = ready!(Pin::new(working).poll(cx)).map_err(io::Error::other)?;
            self.working = None;
            self.encoder = Some(encoder);
            self.coded.extend(coded?);
        }
        Poll::Ready(Ok(std::mem::take(&mut self.coded)))
    }
}

/// Codes the whole of something at once; `None` when that cannot be.
pub(crate) async fn whole(content: Bytes, coding: Coding, level: u32) -> Option<Bytes> {
    let is_little = content.len() <= LITTLE;
    let code = move || {
        let mut encoder = Encoder::new(coding, level)?;
        let mut coded = encoder.write(&content).ok()?;
        coded.extend(encoder.finish().ok()?);
        Some(Bytes::from(coded))
    };
    if is_little { code() } else { spawn_blocking(code).await.ok()? }
}
