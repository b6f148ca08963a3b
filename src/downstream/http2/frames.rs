//! The frames of a connection on their way in: header blocks are rewritten ([`Heads`]), and those that mean work and carry
//! nothing are counted.
//!
//! Resets (RFC 9113 §10.5 and the attack of 2023), PING and SETTINGS, which want answers, and frames that are empty: a
//! client needs few of each.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, BytesMut};
use h2::Reason;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    config::Http2,
    downstream::{
        connection::linger_on_close,
        http2::{
            ConnectionState, MAX_FRAME,
            heads::{CONTINUATION, HEADERS, Heads},
        },
    },
    listen::ConnectionGuard,
    net::Socket,
};

/// Connection preface of a client (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Bytes of the head of a frame (§4.1).
const HEAD: usize = 9;

/// Time for which frames are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// A connection whose frames are counted.
pub(crate) struct Frames {
    socket: Socket,
    reader: Reader,
    /// Bytes for `h2` that come before anything else that is read.
    ready: BytesMut,
    limits: Http2,
    since: Instant,
    shared: Arc<ConnectionState>,
    place: Arc<ConnectionGuard>,
    /// The client has closed its side.
    has_ended: bool,
    /// The connection ends with a reset if it ends while the client is behind.
    resets: bool,
}

/// Counts of frames by kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    resets: u32,
    pings: u32,
    settings: u32,
    empty: u32,
}

/// The head of a frame (§4.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHead {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    fn read([high, middle, low, kind, flags, stream @ ..]: [u8; HEAD]) -> Self {
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    pub(crate) fn write(self, out: &mut BytesMut) {
        // No longer than a frame that was read.
        out.put_uint(self.length as u64, 3);
        out.put_slice(&[self.kind, self.flags]);
        out.put_u32(self.stream);
    }

    fn is_of_block(&self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }
}

/// Finds the frames among the bytes.
#[derive(Debug)]
struct Reader {
    /// Bytes to pass over before the next head.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    counts: Counts,
    heads: Heads,
    /// A frame of a header block that has not come whole, and what has come of it.
    partial: Option<(FrameHead, Vec<u8>)>,
    /// Frames are too large: `h2` ends the connection, and all goes on to it as it comes.
    is_lost: bool,
}

impl Frames {
    pub(crate) fn new(
        socket: Socket,
        limits: Http2,
        shared: Arc<ConnectionState>,
        place: Arc<ConnectionGuard>,
    ) -> Self {
        let (reader, since) = (Reader::new(limits.max_header_list), Instant::now());
        Self {
            socket,
            reader,
            ready: BytesMut::new(),
            limits,
            since,
            shared,
            place,
            has_ended: false,
            resets: false,
        }
    }

    /// Takes note of whether the client takes what it is sent: it may be of streams that have ended for us.
    fn wrote<T>(&mut self, sent: &Poll<T>) {
        if sent.is_ready() {
            if self.shared.blocked.load(Ordering::Relaxed) {
                self.shared.is_used();
                self.shared.has_taken();
            }
        } else if !self.shared.blocked.swap(true, Ordering::Relaxed) {
            self.shared.has_taken();
            if !std::mem::replace(&mut self.resets, true) {
                self.reset_at_close(true);
            }
        }
    }

    /// Whether more may be written. While the client is behind, nothing more goes into the buffer of TLS: that would pass for
    /// taken by the client each time that somebody looks.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shared.blocked.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let flushed = self.socket.poll_flush(cx);
        self.wrote(&flushed);
        flushed
    }

    fn reset_at_close(&self, resets: bool) {
        if let Err(error) = self.socket.reset_on_close(resets) {
            tracing::debug!(%error, "cannot choose how the connection ends");
        }
    }

    /// Reads until there is something for `h2` in `out` or `ready`, or the client has closed its side.
    fn poll_more(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        loop {
            if self.shared.ends_with().is_some() {
                // Nothing more is read; who looks after the connection ends it.
                return Poll::Pending;
            }
            ready!(self.socket.poll_read(cx, out))?;
            let came = &out.filled()[start..];
            if came.is_empty() {
                self.has_ended = true;
                return Poll::Ready(Ok(()));
            }
            let passed = self.reader.pass(came);
            let taken = self.reader.take(&came[passed..], &mut self.ready);
            out.set_filled(start + passed);
            if let Err(reason) = taken {
                self.shared.end(reason);
            } else if self.is_flood() {
                self.shared.end(Reason::ENHANCE_YOUR_CALM);
            }
            if passed > 0 || !self.ready.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether what has come is more than a client needs.
    fn is_flood(&mut self) -> bool {
        let (counts, most) = (&self.reader.counts, &self.limits);
        let is_flood = counts.resets > most.max_resets
            || counts.pings > most.max_pings
            || counts.settings > most.max_settings
            || counts.empty > most.max_empty_frames;
        if !is_flood && *counts != Counts::default() && self.since.elapsed() > WINDOW {
            self.reader.counts = Counts::default();
            self.since = Instant::now();
        }
        is_flood
    }
}

impl Reader {
    fn new(max_header_list: u32) -> Self {
        Self {
            skip: PREFACE,
            head: [0; HEAD],
            filled: 0,
            counts: Counts::default(),
            heads: Heads::new(max_header_list),
            partial: None,
            is_lost: false,
        }
    }

    /// Number of `bytes` that go on as they came. Those that follow are for [`take`](Self::take).
    fn pass(&mut self, bytes: &[u8]) -> usize {
        if self.filled > 0 || self.partial.is_some() || self.heads.is_open() {
            return 0;
        }
        let mut passed = 0;
        loop {
            let skipped = self.skip.min(bytes.len() - passed);
            self.skip -= skipped;
            passed += skipped;
            // Where only a part of a head has come, it is held back: the frame may not go on.
            let Some(head) = bytes[passed..].first_chunk() else { return passed };
            let head = FrameHead::read(*head);
            if head.is_of_block() && !self.is_lost {
                return passed;
            }
            self.begin(head);
            passed += HEAD;
        }
    }

    /// Takes bytes from the head of a frame on, and adds to `out` what `h2` gets of them.
    ///
    /// # Errors
    ///
    /// The code with which the connection ends.
    fn take(&mut self, mut bytes: &[u8], out: &mut BytesMut) -> Result<(), Reason> {
        while !bytes.is_empty() {
            if let Some((head, payload)) = &mut self.partial {
                let taken = (head.length - payload.len()).min(bytes.len());
                payload.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if payload.len() == head.length
                    && let Some((head, payload)) = self.partial.take()
                {
                    self.heads.take(head, &payload, out)?;
                }
            } else if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                out.put_slice(&bytes[..passed]);
                bytes = &bytes[passed..];
            } else {
                let taken = (HEAD - self.filled).min(bytes.len());
                self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled == HEAD {
                    self.filled = 0;
                    bytes = self.frame(FrameHead::read(self.head), bytes, out)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a frame whose payload begins with `bytes`; those that follow what was taken.
    fn frame<'b>(
        &mut self,
        head: FrameHead,
        bytes: &'b [u8],
        out: &mut BytesMut,
    ) -> Result<&'b [u8], Reason> {
        self.begin(head);
        if !head.is_of_block() || self.is_lost {
            self.heads.give_up(out);
            head.write(out);
            return Ok(bytes);
        }
        self.skip = 0;
        match bytes.split_at_checked(head.length) {
            Some((payload, rest)) => self.heads.take(head, payload, out).map(|()| rest),
            None => {
                self.partial = Some((head, Vec::with_capacity(head.length)));
                Ok(bytes)
            }
        }
    }

    /// Takes note of a frame that begins.
    fn begin(&mut self, head: FrameHead) {
        self.skip = head.length;
        self.is_lost |= head.length > MAX_FRAME as usize;
        self.count(head);
    }

    /// Counts a frame (§6).
    fn count(&mut self, head: FrameHead) {
        let (is_empty, has_flag_1) = (head.length == 0, head.flags & 1 != 0);
        let counts = &mut self.counts;
        let count = match head.kind {
            // DATA and HEADERS without END_STREAM, CONTINUATION.
            0 | 1 if is_empty && !has_flag_1 => &mut counts.empty,
            9 if is_empty => &mut counts.empty,
            // PRIORITY, and what nobody knows.
            2 | 10.. => &mut counts.empty,
            3 => &mut counts.resets,
            // But for answers to ours.
            4 if !has_flag_1 => &mut counts.settings,
            6 if !has_flag_1 => &mut counts.pings,
            _ => return,
        };
        *count = count.saturating_add(1);
    }
}

impl AsyncRead for Frames {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ready.is_empty() {
            ready!(this.poll_more(cx, out))?;
        }
        let taken = this.ready.len().min(out.remaining());
        out.put_slice(&this.ready[..taken]);
        this.ready.advance(taken);
        if this.ready.is_empty() {
            // It may have grown with a large block.
            this.ready = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        let sent = this.socket.poll_send(cx, bytes, false);
        this.wrote(&sent);
        sent
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        let sent = this.socket.poll_send_all(cx, pieces);
        this.wrote(&sent);
        sent
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.socket.poll_flush(cx);
        this.wrote(&sent);
        if sent.is_ready() {
            this.shared.blocked.store(false, Ordering::Relaxed);
        }
        sent
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_shutdown(cx)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let is_behind = self.shared.blocked.load(Ordering::Relaxed);
        if is_behind || self.shared.gave_up.load(Ordering::Relaxed) {
            // What the client has not taken is not to wait for it in the kernel.
            return self.reset_at_close(true);
        }
        if self.resets {
            self.reset_at_close(false);
        }
        self.socket.close_notify();
        // What was said last is to arrive, whatever the client still sends; who floods us needs no more.
        if !self.has_ended && self.shared.ends_with() != Some(Reason::ENHANCE_YOUR_CALM) {
            linger_on_close(&self.socket, true, Arc::clone(&self.place));
        }
    }
}

/// Counters of a connection that begins with `frames`, which come in pieces of so many bytes, and the bytes for `h2`.
///
/// # Errors
///
/// The code with which the connection ends.
#[cfg(any(fuzzing, test))]
fn pass_all(frames: &[u8], piece: usize, max_header_list: u32) -> Result<(Counts, Vec<u8>), Reason> {
    let mut reader = Reader::new(max_header_list);
    let all = [&[b'P'; PREFACE], frames].concat();
    let mut handed_over = BytesMut::new();
    for part in all.chunks(piece) {
        let passed = reader.pass(part);
        handed_over.put_slice(&part[..passed]);
        reader.take(&part[passed..], &mut handed_over)?;
    }
    Ok((reader.counts, handed_over[PREFACE..].to_vec()))
}

/// Bytes for `h2` of a connection that begins with `frames`, which come in pieces of so many bytes.
///
/// # Errors
///
/// The code with which the connection ends.
#[cfg(any(fuzzing, test))]
pub(crate) fn rewritten(frames: &[u8], piece: usize) -> Result<Vec<u8>, Reason> {
    pass_all(frames, piece, 64 << 10).map(|(_, handed_over)| handed_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1], body].concat()
    }

    fn read(frames: &[Vec<u8>], piece: usize) -> (Counts, Vec<u8>) {
        pass_all(&frames.concat(), piece, 1000).unwrap()
    }

    #[test]
    fn frames_are_counted_however_they_arrive() {
        let frames = [
            frame(4, 0, &[0; 6]),
            frame(4, 1, &[]),
            frame(1, 4, b"\x82\x87\x84\x41\x01a"),
            frame(0, 0, &[6; 40]),
            frame(0, 0, &[]),
            frame(0, 1, &[]),
            frame(6, 0, &[0; 8]),
            frame(6, 1, &[0; 8]),
            frame(3, 0, &[0; 4]),
            frame(3, 0, &[0; 4]),
            frame(2, 0, &[0; 5]),
            frame(8, 0, &[0; 4]),
        ];
        let whole = read(&frames, 1000).1;
        for piece in [1, 2, 7, 9, 10, 64, 1000] {
            let (counts, handed_over) = read(&frames, piece);
            let expected = Counts { resets: 2, pings: 1, settings: 1, empty: 2 };
            assert_eq!(counts, expected, "{piece} bytes at a time");
            assert!(handed_over == whole, "{piece} bytes at a time");
        }
        let plain = [frames[0].clone(), frames[1].clone()].concat();
        assert!(whole.starts_with(&plain) && whole.ends_with(&frames[3..].concat()));
    }

    #[test]
    fn h2_sees_what_it_must_end_the_connection_over() {
        let open = frame(1, 0, b"\x82");
        let stub = [0, 0, 0, 1, 0, 0, 0, 0, 1];
        let ping = frame(6, 0, &[0; 8]);
        assert_eq!(read(&[open, ping.clone()], 7).1, [&stub[..], &ping].concat(), "within a block");
        for alone in [frame(9, 4, b"\x82"), frame(1, 12, b"\x09\x82")] {
            assert_eq!(read(std::slice::from_ref(&alone), 7).1, alone);
        }
    }
}
