//! A client that reads and throws away: one connection, one request after the other.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
};

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

const BUFFER: usize = 256 * 1024;

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = BufReader::with_capacity(BUFFER, TcpStream::connect(address)?);
        Ok(Self { stream, address })
    }

    /// Downloads `path`, and tells its length. Each piece is shown to `see`. Anything but a whole answer with status 200
    /// is an error.
    pub fn get(&mut self, path: &str, see: impl FnMut(&[u8])) -> io::Result<u64> {
        self.send_head(&format!("GET {path}"), "")?;
        self.answer(path, see)
    }

    /// Uploads `length` bytes to `path`, and tells what was answered.
    #[allow(dead_code, reason = "not every bench uploads")]
    pub fn post(&mut self, path: &str, length: u64) -> io::Result<String> {
        self.send_head(&format!("POST {path}"), &format!("Content-Length: {length}\r\n"))?;
        let piece = [b'x'; BUFFER];
        let mut left = length;
        while left > 0 {
            let now = left.min(BUFFER as u64);
            self.stream.get_mut().write_all(&piece[..now as usize])?;
            left -= now;
        }
        let mut answer = Vec::new();
        self.answer(path, |piece| answer.extend_from_slice(piece))?;
        String::from_utf8(answer).map_err(io::Error::other)
    }

    /// Keeps the connection, and nothing else.
    #[allow(dead_code, reason = "not every bench has idle connections")]
    pub fn into_idle(self) -> TcpStream {
        self.stream.into_inner()
    }

    fn send_head(&mut self, request: &str, fields: &str) -> io::Result<()> {
        let head = format!("{request} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.address);
        self.stream.get_mut().write_all(head.as_bytes())
    }

    fn answer(&mut self, path: &str, mut see: impl FnMut(&[u8])) -> io::Result<u64> {
        let length = self.head(path)?;
        let mut left = length;
        while left > 0 {
            let piece = self.stream.fill_buf()?;
            if piece.is_empty() {
                return Err(io::Error::other(format!(
                    "{path} breaks off, {left} of {length} bytes are missing"
                )));
            }
            let piece = &piece[..piece.len().min(left as usize)];
            see(piece);
            let taken = piece.len();
            self.stream.consume(taken);
            left -= taken as u64;
        }
        Ok(length)
    }

    /// The `Content-Length` of an answer.
    fn head(&mut self, path: &str) -> io::Result<u64> {
        let mut status = String::new();
        self.stream.read_line(&mut status)?;
        if status.split(' ').nth(1) != Some("200") {
            return Err(io::Error::other(format!("{path}: {}", status.trim_end())));
        }
        let mut length = None;
        let mut line = String::new();
        while self.stream.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse().map_err(io::Error::other)?);
            }
            line.clear();
        }
        length.ok_or_else(|| io::Error::other(format!("{path}: no Content-Length")))
    }
}
