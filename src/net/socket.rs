//! Sockets of clients and servers, with or without TLS.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsStream;

/// Silence after which the kernel asks for a peer, and how often it does until one answers.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Without TLS.
    Plain(RawSocket),
    /// With TLS.
    Tls(Box<TlsStream<RawSocket>>),
}

/// A kernel socket.
#[derive(Debug)]
pub(crate) enum RawSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Calls the same method on any kind of stream.
macro_rules! each {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            RawSocket::Tcp($stream) => $call,
            RawSocket::Unix($stream) => $call,
        }
    };
}

impl Socket {
    /// Kernel socket of the connection.
    pub(crate) fn raw(&self) -> &RawSocket {
        match self {
            Self::Plain(raw) => raw,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Reads available data. A read that does not fill `out` has taken everything: the next one waits without a
    /// system call.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(raw) => raw.poll_read_some(cx, out),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }

    /// Whether data has arrived, even if the runtime has not been notified.
    pub(crate) fn has_received(&self) -> bool {
        self.raw().has_received()
    }

    /// Whether there is data to read, or the end of the stream. Makes a system call only if the runtime has been
    /// notified.
    pub(crate) fn has_something(&self) -> bool {
        self.raw().has_something()
    }

    /// Whether there is decrypted data that has not been read, or the end of the stream, of which the kernel does not
    /// know.
    pub(crate) fn has_decrypted(&mut self) -> bool {
        let Self::Tls(stream) = self else { return false };
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// Whether the peer has closed its side or the connection is broken; reads nothing.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.raw().is_abandoned()
    }

    /// Sends `bytes`; `more` means that others follow at once, so that they share a packet.
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

    /// Sends `bytes` over a new connection without waiting for the runtime to notice that it is writable. A unix socket
    /// only: others connect in the background, and TLS has state; nothing is sent there.
    pub(crate) fn send_at_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Plain(RawSocket::Unix(stream)) = self else { return Ok(0) };
        match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            sent => Ok(sent?),
        }
    }

    /// Has the kernel ask from time to time whether the peer's machine is still there, where it is another one. A
    /// connection that is silent for hours ends with it.
    pub(crate) fn keep_alive(&self) {
        let RawSocket::Tcp(stream) = self.raw() else { return };
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
        if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes) {
            tracing::debug!(%error, "cannot set SO_KEEPALIVE");
        }
    }

    /// Has the kernel give the connection up once the peer has not acknowledged what was sent for so long.
    pub(crate) fn give_up_after(&self, time: Duration) {
        let RawSocket::Tcp(stream) = self.raw() else { return };
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds) {
            tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT");
        }
    }

    /// Whether both sides have agreed on a protocol (ALPN, RFC 7301).
    pub(crate) fn has_agreed_on(&self, protocol: &[u8]) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(protocol))
    }

    /// Whether the end of the stream tells if the peer has read what was sent: a unix socket that is closed with unread
    /// bytes, or before it was accepted, resets the connection, and any other closes it in order.
    pub(crate) fn tells_what_is_read(&self) -> bool {
        matches!(self, Self::Plain(RawSocket::Unix(_)))
    }

    /// Sends `bytes`, after which the socket counts as writable when the peer has read them (a unix socket), has sent
    /// something or has closed the connection.
    pub(crate) fn poll_send_and_wait(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(raw) => raw.poll_send_and_wait(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Sends two slices with one system call.
    pub(crate) fn poll_send_both(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send_all(cx, &[IoSlice::new(first), IoSlice::new(second)])
    }

    /// Sends several slices with one system call.
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

    /// Sends buffered data.
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

    /// Sends a TLS close_notify alert, by which the peer recognizes a complete stream (RFC 8446 §6.1). If it cannot
    /// be sent at once, it is dropped.
    pub(crate) fn close_notify(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Sets whether the connection is reset when it is dropped, or when the process ends. The kernel then discards
    /// unsent data; otherwise it would wait for the client for minutes, in memory that is accounted to no process.
    pub(crate) fn reset_on_close(&self, resets: bool) -> io::Result<()> {
        let linger = resets.then_some(Duration::ZERO);
        SockRef::from(self.raw()).set_linger(linger)
    }
}

impl RawSocket {
    /// Duplicates the connection, for when the first handle is about to be dropped.
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

    /// Reads the first bytes without consuming them.
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

    /// Sends a part of a file without copying it (sendfile(2)).
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

    /// Sends, and has the runtime forget that the socket is writable. The kernel tells so anew as soon as a buffer has been
    /// read; the runtime keeps what it is told while this runs.
    fn poll_send_and_wait(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(each!(self, stream => stream.poll_write_ready(cx)))?;
            let mut sent = None;
            let send = || {
                sent = Some(rustix::net::send(self.as_fd(), bytes, SendFlags::NOSIGNAL)?);
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            };
            let result = each!(self, stream => stream.try_io(Interest::WRITABLE, send));
            match (sent, result) {
                (Some(sent), _) => return Poll::Ready(Ok(sent)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, result) => return Poll::Ready(result.map(|()| 0)),
            }
        }
    }

    /// Runs a non-blocking write when the socket is writable, and repeats it when that turns out to be wrong ("would
    /// block").
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

// Required of connections to servers.

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Self::poll_read(self.get_mut(), cx, out)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, bytes, false)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send_all(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(self.get_mut(), cx)
    }
}

// Required by TLS of the underlying socket.

impl AsyncRead for RawSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_read_some(cx, out)
    }
}

impl AsyncWrite for RawSocket {
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

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}
