//! Client of the admin listener.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{REFUSED, UNREACHABLE};
use crate::{admin::X_BOWSHOCK, config::Address};

/// Time for a response. A reload may wait for another one, and that one for a slow disk.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most headers of a response; the admin listener sends fewer.
const MAX_HEADERS: usize = 32;

/// Reloads the configuration of the running proxy.
pub(super) fn reload(admin: &Address) -> ExitCode {
    change(admin, "/reload")
}

/// Removes what the caches of the running proxy have stored for a URL.
pub(super) fn purge(admin: &Address, url: &str) -> ExitCode {
    change(admin, &format!("/purge?url={}", utf8_percent_encode(url, NON_ALPHANUMERIC)))
}

/// Sends a POST request to the running proxy, and prints the result.
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

/// Reports that the admin listener cannot be reached.
pub(super) fn unreachable(admin: &Address, error: &io::Error) -> ExitCode {
    eprintln!(
        "bowshock: cannot reach the admin listener at {admin}: {error}.\n\
         Is the proxy running with this configuration? The address is `listen` of [admin]."
    );
    ExitCode::from(UNREACHABLE)
}

/// Sends a request, and returns the status and body of the response.
pub(super) fn ask(admin: &Address, method: &str, path: &str) -> io::Result<(u16, String)> {
    match admin {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            exchange(stream, method, path)
        }
        Address::Unix(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            exchange(stream, method, path)
        }
    }
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> io::Result<(u16, String)> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{X_BOWSHOCK}: cli\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the response is not HTTP/1.1: is this the admin listener of bowshock?",
        )
    };
    match head.parse(&response).map_err(|_| malformed())? {
        httparse::Status::Complete(end) => {
            Ok((head.code.ok_or_else(malformed)?, String::from_utf8_lossy(&response[end..]).into_owned()))
        }
        httparse::Status::Partial => Err(malformed()),
    }
}
