//! A connected socket, TCP or unix, with the few operations the transport needs.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method of whichever stream it is.
macro_rules! each {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// The same connection a second time, for when the first is about to be dropped.
    pub(super) fn duplicate(&self) -> io::Result<Self> {
        let copy = self.as_fd().try_clone_to_owned()?;
        Ok(match self {
            Self::Tcp(_) => Self::Tcp(TcpStream::from_std(copy.into())?),
            Self::Unix(_) => Self::Unix(UnixStream::from_std(copy.into())?),
        })
    }

    /// Reads what is there. A read that does not fill `out` is known to have taken all: the next one waits without
    /// asking the kernel.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, out))
    }

    /// Whether something has come, even if the runtime has not been told yet.
    pub(super) fn has_received(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(self, &mut [0][..], flags).is_ok_and(|(_, received)| received > 0)
    }

    /// Whether there is something to read, or the end. Asks the kernel only if the runtime has been told so.
    pub(crate) fn has_something(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let is_ready = each!(self, stream => stream.poll_read_ready(&mut cx).is_ready());
        let mut byte = [0];
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        is_ready && !each!(self, stream => stream.try_read(&mut byte)).as_ref().is_err_and(would_block)
    }

    /// Sends `bytes`; `more` tells the kernel that others follow at once, so that they share a packet.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        self.poll_write_with(cx, |fd| Ok(rustix::net::send(fd, bytes, flags)?))
    }

    /// Sends two pieces with one call.
    pub(crate) fn poll_send_both(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        self.poll_write_with(cx, |fd| Ok(rustix::io::writev(fd, &pieces)?))
    }

    /// Runs a non-blocking write when the socket has room, and again until it does not say "would block".
    pub(super) fn poll_write_with<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(each!(self, stream => stream.poll_write_ready(cx)))?;
            let result = each!(self, stream => stream.try_io(Interest::WRITABLE, || write(stream.as_fd())));
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}
