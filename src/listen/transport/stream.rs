//! A transport as a stream of bytes: what is read belongs to the request in hand, what is written leaves in few parts.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Transport, parked};

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let received = this.poll_receive(cx, out);
        if received.is_pending() && !this.outbound.is_empty() {
            // Nothing to read is the moment to send a started answer: pingora flushes only at its end.
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
        let written = loop {
            let most = match this.poll_pace(cx) {
                Poll::Ready(most) => bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX)),
                Poll::Pending => break Poll::Pending,
            };
            let waiting = this.outbound.len();
            let socket = this.socket.as_mut().ok_or_else(parked)?;
            match socket.poll_send_both(cx, &this.outbound, &bytes[..most]) {
                Poll::Ready(Ok(sent)) if sent <= waiting && waiting > 0 => {
                    this.outbound.advance(sent);
                    this.sent(sent as u64);
                }
                Poll::Ready(Ok(sent)) => {
                    this.outbound.clear();
                    this.sent(sent as u64);
                    break Poll::Ready(Ok(sent - waiting));
                }
                other => break other,
            }
        };
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
        this.socket_mut()?.poll_shutdown(cx)
    }
}
