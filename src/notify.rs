//! Messages to the service manager (sd_notify(3)).

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;

/// Sends a message to systemd, if it is there. A service manager that does not read its socket delays nothing.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(?socket, %error, "cannot notify the service manager (NOTIFY_SOCKET)");
    }
}

fn send(name: &OsStr, state: &[NotifyState<'_>]) -> io::Result<()> {
    let address = address(name)?;
    let mut message = String::new();
    for one in state {
        // Writing to a string does not fail.
        let _ = writeln!(message, "{one}");
    }
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// Address of a path, or of an abstract socket for `@name`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => {
            let sentence = "neither an absolute path nor an abstract socket (@name)";
            Err(io::Error::new(io::ErrorKind::InvalidInput, sentence))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_be_in_no_file_system() {
        let name = format!("bowshock-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_ref(), &[NotifyState::Ready, NotifyState::Status("well")]).unwrap();
        let mut message = [0; 100];
        let length = socket.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\nSTATUS=well\n");
    }

    #[test]
    fn who_does_not_listen_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            [folder.path().join("none").as_os_str(), OsStr::new("vsock:2:1"), OsStr::new("@none here")]
        {
            assert!(send(name, &[NotifyState::Ready]).is_err(), "{name:?}");
        }
    }
}
