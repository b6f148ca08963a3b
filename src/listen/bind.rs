//! Binding the sockets of listeners.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::accept::Acceptor;
use crate::config::{Address, Listen};

/// Length of the kernel's queue of connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// An address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct BindError {
    address: Address,
    source: io::Error,
}

/// A bound socket, and the file to remove when it closes.
pub(super) struct Bound {
    pub(super) acceptor: Acceptor,
    /// Address with the actual port if the configuration says 0.
    pub(super) address: Address,
    pub(super) file: Option<SocketFile>,
}

/// Binds and listens.
///
/// # Errors
///
/// The system's error, or another program listens on the address.
pub(super) async fn bind(listen: &Listen, only_v6: bool) -> Result<Bound, BindError> {
    bind_any(listen, only_v6).await.map_err(|source| BindError { address: listen.address.clone(), source })
}

/// Whether `[::]` must leave IPv4 to `0.0.0.0` with the same port, according to all addresses that are listened on.
pub(super) fn is_only_v6(address: &Address, all: &[&Address]) -> bool {
    let Address::Tcp(SocketAddr::V6(v6)) = address else { return false };
    let is_ipv4_pair = |other: &&&Address| match other {
        Address::Tcp(SocketAddr::V4(v4)) => v4.ip().is_unspecified() && v4.port() == v6.port(),
        _ => false,
    };
    v6.ip().is_unspecified() && v6.port() != 0 && all.iter().any(|other| is_ipv4_pair(&other))
}

async fn bind_any(listen: &Listen, only_v6: bool) -> io::Result<Bound> {
    match &listen.address {
        Address::Tcp(address) => {
            let listener = bind_with_ipv4_fallback(*address, only_v6, |domain| {
                Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
            })?;
            let address = Address::Tcp(listener.local_addr()?);
            Ok(Bound { acceptor: Acceptor::Tcp(listener), address, file: None })
        }
        Address::Unix(path) => {
            let (listener, file) = bind_unix(path, listen.mode).await?;
            let address = listen.address.clone();
            Ok(Bound { acceptor: Acceptor::Unix(listener), address, file: Some(file) })
        }
    }
}

/// Binds an address. If `[::]` stands for all addresses and there is no IPv6, binds `0.0.0.0` instead.
fn bind_with_ipv4_fallback(
    address: SocketAddr,
    only_v6: bool,
    new: impl Fn(Domain) -> io::Result<Socket>,
) -> io::Result<TcpListener> {
    const NO_IPV6: [Errno; 2] = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    let includes_ipv4 = address.is_ipv6() && address.ip().is_unspecified() && !only_v6;
    match bind_tcp(address, only_v6, &new) {
        Err(error)
            if includes_ipv4
                && Errno::from_io_error(&error).is_some_and(|error| NO_IPV6.contains(&error)) =>
        {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::warn!("this machine has no IPv6: listening on {instead} instead of {address}");
            bind_tcp(instead, false, &new)
        }
        bound => bound,
    }
}

fn bind_tcp(
    address: SocketAddr,
    only_v6: bool,
    new: impl Fn(Domain) -> io::Result<Socket>,
) -> io::Result<TcpListener> {
    let socket = new(Domain::for_address(address))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // "[::]" includes IPv4, whatever the system's default is, unless "0.0.0.0" is configured too.
        socket.set_only_v6(only_v6)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Accepted connections inherit this option: responses are coalesced here, and Nagle's algorithm would only delay
    // their ends.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds under a temporary name and moves the socket into place once its mode is right, so that no client ever finds
/// it missing or with other permissions.
async fn bind_unix(path: &Path, mode: Option<u32>) -> io::Result<(UnixListener, SocketFile)> {
    // Only these errors mean that nobody listens: the backlog of a busy program may be full.
    let vacant = match UnixStream::connect(path).await {
        Ok(_) => false,
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    };
    if !vacant && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Err(io::Error::new(ErrorKind::AddrInUse, "another program is listening on this address"));
    }
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "a file of this name exists and is not a socket",
        ));
    }
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    if let Err(error) = fs::remove_file(&fresh)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&socket2::SockAddr::unix(&fresh)?)?;
    socket.listen(BACKLOG)?;
    if let Some(mode) = mode {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    }
    fs::rename(&fresh, path)?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((UnixListener::from_std(socket.into())?, SocketFile { path: path.into(), inode }))
}

/// Sets the mode of the socket of a listener that remains, as in a new configuration.
pub(super) fn set_mode(listen: &Listen) {
    if let (Address::Unix(path), Some(mode)) = (&listen.address, listen.mode)
        && let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode))
    {
        tracing::error!(path = %path.display(), %error, "cannot set the mode of the unix socket");
    }
}

/// File of a unix socket; removed on drop, unless another program has replaced it.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Whether the path still exists.
    pub(super) fn is_there(&self) -> bool {
        !fs::symlink_metadata(&self.path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the unix socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_ipv6_everybody_comes_by_ipv4() {
        let new = |domain| match domain {
            Domain::IPV6 => Err(Errno::AFNOSUPPORT.into()),
            domain => Socket::new(domain, Type::STREAM, Some(Protocol::TCP)),
        };
        let everybody = "[::]:0".parse().unwrap();
        let listener = bind_with_ipv4_fallback(everybody, false, new).unwrap();
        assert!(listener.local_addr().unwrap().ip() == Ipv4Addr::UNSPECIFIED);
        assert!(
            bind_with_ipv4_fallback("[::1]:0".parse().unwrap(), false, new).is_err(),
            "not what is meant by it"
        );
    }

    #[test]
    fn ipv4_beside_it_is_left_to_its_pair() {
        let address = |text: &str| Address::Tcp(text.parse().unwrap());
        let all = ["0.0.0.0:80", "[::]:80", "[::]:81", "127.0.0.1:81", "0.0.0.0:0", "[::]:0"].map(address);
        let all: Vec<&Address> = all.iter().collect();
        assert!(is_only_v6(&address("[::]:80"), &all));
        for text in ["[::]:81", "[::]:0", "0.0.0.0:80", "[::1]:80"] {
            assert!(!is_only_v6(&address(text), &all), "{text}");
        }
    }
}
