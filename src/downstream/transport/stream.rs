//! A transport as a stream of bytes that are written, and leave in few parts.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::Transport;

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.append(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = this.poll_send_behind(cx, bytes);
        this.or_stalled(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.poll_send_all(cx);
        this.or_stalled(cx, sent)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let sent = this.poll_send_all(cx);
        ready!(this.or_stalled(cx, sent))?;
        this.wire()?.poll_shutdown(cx)
    }
}
