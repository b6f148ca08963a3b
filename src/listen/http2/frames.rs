//! The bytes of a connection on their way in, with a count of the frames that mean work and carry nothing.
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

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::Shared;
use crate::{
    config::Http2,
    listen::{Socket, connection::linger, place::Place},
};

/// What a client sends first (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// Bytes of the head of a frame (§4.1).
const HEAD: usize = 9;

/// Time for which frames are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// A connection whose frames are counted.
pub(super) struct Frames {
    socket: Socket,
    counter: Counter,
    limits: Http2,
    since: Instant,
    shared: Arc<Shared>,
    place: Arc<Place>,
    /// The client has closed its side.
    has_ended: bool,
}

/// What has come of each kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    resets: u32,
    pings: u32,
    settings: u32,
    empty: u32,
}

/// Finds the heads of frames among the bytes.
#[derive(Debug)]
struct Counter {
    /// Bytes to pass over before the next head.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    counts: Counts,
}

impl Frames {
    pub(super) fn new(socket: Socket, limits: Http2, shared: Arc<Shared>, place: Arc<Place>) -> Self {
        let (counter, since) = (Counter::new(), Instant::now());
        Self { socket, counter, limits, since, shared, place, has_ended: false }
    }

    /// Takes note of whether the client takes what it is sent: it may be of streams that have ended for us.
    fn wrote<T>(&self, sent: &Poll<T>) {
        if sent.is_pending() {
            self.shared.blocked.store(true, Ordering::Relaxed);
        } else if self.shared.blocked.load(Ordering::Relaxed) {
            self.shared.is_used();
        }
    }

    /// Whether what has come is more than a client needs.
    fn is_flood(&mut self) -> bool {
        let (counts, most) = (&self.counter.counts, &self.limits);
        let is_flood = counts.resets > most.max_resets
            || counts.pings > most.max_pings
            || counts.settings > most.max_settings
            || counts.empty > most.max_empty_frames;
        if !is_flood && *counts != Counts::default() && self.since.elapsed() > WINDOW {
            self.counter.counts = Counts::default();
            self.since = Instant::now();
        }
        is_flood
    }
}

impl Counter {
    fn new() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], filled: 0, counts: Counts::default() }
    }

    fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                self.filled = 0;
                self.count();
            }
        }
    }

    /// Counts the frame whose head is there (§6).
    fn count(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let (is_empty, has_flag_1) = (self.skip == 0, flags & 1 != 0);
        let counts = &mut self.counts;
        let count = match kind {
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
        if this.shared.flooded.load(Ordering::Relaxed) {
            // Nothing more is read; who looks after the connection ends it.
            return Poll::Pending;
        }
        let start = out.filled().len();
        ready!(this.socket.poll_read(cx, out))?;
        this.has_ended = out.filled().len() == start;
        this.counter.see(&out.filled()[start..]);
        if this.is_flood() {
            this.shared.flooded.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
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
        self.socket.say_goodbye();
        // What was said last is to arrive, whatever the client still sends; who floods us needs no more.
        if !self.has_ended && !self.shared.flooded.load(Ordering::Relaxed) {
            linger(&self.socket, Arc::clone(&self.place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let [_, high, middle, low] = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1], body].concat()
    }

    fn counts(frames: &[Vec<u8>], piece: usize) -> Counts {
        let mut counter = Counter::new();
        let all = [vec![b'P'; PREFACE], frames.concat()].concat();
        all.chunks(piece).for_each(|part| counter.see(part));
        counter.counts
    }

    #[test]
    fn frames_are_counted_however_they_arrive() {
        let frames = [
            frame(4, 0, &[0; 6]),
            frame(4, 1, &[]),
            frame(1, 4, b"\x03\x03\x06\x06"),
            frame(0, 0, &[6; 40]),
            frame(0, 0, &[]),
            frame(0, 1, &[]),
            frame(6, 0, &[0; 8]),
            frame(6, 1, &[0; 8]),
            frame(3, 0, &[0; 4]),
            frame(3, 0, &[0; 4]),
            frame(9, 0, &[]),
            frame(2, 0, &[0; 5]),
            frame(8, 0, &[0; 4]),
        ];
        for piece in [1, 2, 7, 9, 10, 64, 1000] {
            let expected = Counts { resets: 2, pings: 1, settings: 1, empty: 3 };
            assert_eq!(counts(&frames, piece), expected, "{piece} bytes at a time");
        }
    }
}
