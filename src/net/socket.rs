//! Sockets of clients and servers, plain or under TLS.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsStream;

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// As it is.
    Plain(Raw),
    /// Under TLS.
    Tls(Box<TlsStream<Raw>>),
}

/// A socket of the kernel.
#[derive(Debug)]
pub(crate) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method of whichever stream it is.
macro_rules! each {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Raw::Tcp($stream) => $call,
            Raw::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// The socket of the kernel.
    pub(crate) fn raw(&self) -> &Raw {
        match self {
            Self::Plain(raw) => raw,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Reads what is there. A read that does not fill `out` is known to have taken all: the next one waits without
    /// asking the kernel.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(raw) => raw.poll_read_some(cx, out),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }

    /// Whether something has come, even if the runtime has not been told yet.
    pub(crate) fn has_received(&self) -> bool {
        self.raw().has_received()
    }

    /// Whether there is something to read, or the end. Asks the kernel only if the runtime has been told so.
    pub(crate) fn has_something(&self) -> bool {
        self.raw().has_something()
    }

    /// Whether something that was decrypted has not been read, or the end: the kernel knows nothing of that.
    pub(crate) fn has_decrypted(&mut self) -> bool {
        let Self::Tls(stream) = self else { return false };
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// Whether the other end has closed its side or the connection is broken; reads nothing.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.raw().is_abandoned()
    }

    /// Sends `bytes`; `more` tells that others follow at once, so that they share a packet.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(raw) => raw.poll_send(cx, bytes, more),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Sends two pieces with one call.
    pub(crate) fn poll_send_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_all(cx, &[IoSlice::new(first), IoSlice::new(second)])
    }

    /// Sends several pieces with one call.
    pub(crate) fn poll_send_all(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(raw) => raw.poll_write_with(cx, |fd| Ok(rustix::io::writev(fd, pieces)?)),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    /// Sends what was taken and is not sent yet.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(raw) => Pin::new(raw).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Tells the other end, where TLS is spoken, that this is the end and nothing was cut off (RFC 8446 §6.1); what
    /// it does not take at once it does without.
    pub(crate) fn close_notify(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Whether it ends with a reset when it is dropped, or the process ends: what the kernel still has to send is then
    /// dropped, where it would else wait for the client for minutes, in memory that belongs to nobody.
    pub(crate) fn reset_on_close(&self, resets: bool) -> io::Result<()> {
        let linger = resets.then_some(Duration::ZERO);
        socket2::SockRef::from(self.raw()).set_linger(linger)
    }
}

impl Raw {
    /// The same connection a second time, for when the first is about to be dropped.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        let copy = self.as_fd().try_clone_to_owned()?;
        Ok(match self {
            Self::Tcp(_) => Self::Tcp(TcpStream::from_std(copy.into())?),
            Self::Unix(_) => Self::Unix(UnixStream::from_std(copy.into())?),
        })
    }

    pub(crate) fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, out))
    }

    /// Looks at the first bytes that have come, without taking them.
    pub(crate) fn poll_peek(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(each!(self, stream => stream.poll_read_ready(cx)))?;
            let peek = || {
                let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
                let (_, received) = rustix::net::recv(self.as_fd(), &mut *out, flags)?;
                Ok(received)
            };
            match each!(self, stream => stream.try_io(Interest::READABLE, peek)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    pub(crate) fn has_received(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(self.as_fd(), &mut [0][..], flags).is_ok_and(|(_, received)| received > 0)
    }

    fn has_something(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let is_ready = each!(self, stream => stream.poll_read_ready(&mut cx).is_ready());
        let mut byte = [0];
        let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        is_ready && !each!(self, stream => stream.try_read(&mut byte)).as_ref().is_err_and(would_block)
    }

    fn is_abandoned(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(self, PollFlags::RDHUP)];
        let broken = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => fds[0].revents().intersects(broken),
            Err(_) => false,
        }
    }

    /// Sends a part of a file without a copy (sendfile(2)).
    pub(crate) fn poll_sendfile(
        &self,
        cx: &mut Context<'_>,
        file: &File,
        mut offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |fd| Ok(rustix::fs::sendfile(fd, file, Some(&mut offset), count)?))
    }

    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], more: bool) -> Poll<io::Result<usize>> {
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        self.poll_write_with(cx, |fd| Ok(rustix::net::send(fd, bytes, flags)?))
    }

    /// Runs a non-blocking write when the socket has room, and again until it does not say "would block".
    fn poll_write_with<T>(
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
}

// What is asked of a connection to a server.

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(self.get_mut(), cx, out)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, bytes, false)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }
}

// What TLS asks of the socket beneath it.

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_read_some(cx, out)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, bytes, false)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |fd| Ok(rustix::io::writev(fd, pieces)?))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}
