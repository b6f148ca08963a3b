//! A transport as a stream of bytes: what is read belongs to the request in hand, what is written leaves in few parts.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Transport;

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let received = this.poll_receive(cx, out);
        if received.is_pending() && !this.sending.outbound.is_empty() {
            // Nothing to read is the moment to send a started response: pingora flushes only at its end.
            let sent = this.poll_send_all(cx);
            if let Poll::Ready(Err(error)) = this.or_stalled(cx, sent) {
                return Poll::Ready(Err(error));
            }
        }
        received
    }
}

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
