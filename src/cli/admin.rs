//! Asking the running proxy through its admin listener.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use super::{REFUSED, UNREACHABLE};
use crate::{admin::X_BOWSHOCK, config::Address};

/// A reload may wait for another one, and that one for a slow disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fields of an answer that are looked at; there are fewer.
const FIELDS: usize = 32;

/// Has the running proxy read its configuration again.
pub(super) fn reload(admin: &Address) -> ExitCode {
    change(admin, "/reload")
}

/// Has the running proxy do something, and says what came of it.
pub(super) fn change(admin: &Address, path: &str) -> ExitCode {
    match ask(admin, "POST", path) {
        Ok((200, body)) => {
            print!("{body}");
            ExitCode::SUCCESS
        }
        Ok((_, body)) => {
            eprint!("{body}");
            ExitCode::from(REFUSED)
        }
        Err(error) => unreachable(admin, &error),
    }
}

/// Says that nobody answers.
pub(super) fn unreachable(admin: &Address, error: &io::Error) -> ExitCode {
    eprintln!(
        "bowshock: no proxy answers on {admin}: {error}.\n\
         Is it running, and with this configuration? Its [admin] listen says where it is asked."
    );
    ExitCode::from(UNREACHABLE)
}

/// The status and body of the answer.
pub(super) fn ask(admin: &Address, method: &str, path: &str) -> io::Result<(u16, String)> {
    match admin {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, method, path)
        }
        Address::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream, method, path)
        }
    }
}

fn talk(mut stream: impl Read + Write, method: &str, path: &str) -> io::Result<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{X_BOWSHOCK}: cli\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "what answers there is no bowshock");
    match head.parse(&answer).map_err(|_| nonsense())? {
        httparse::Status::Complete(end) => {
            Ok((head.code.ok_or_else(nonsense)?, String::from_utf8_lossy(&answer[end..]).into_owned()))
        }
        httparse::Status::Partial => Err(nonsense()),
    }
}
