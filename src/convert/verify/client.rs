//! HTTP client of the replay: one request a connection.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustls::StreamOwned;

use crate::tls::TlsClient;

/// Time for a response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest body that is compared.
const LONGEST: usize = 1 << 20;

/// A response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Status; 0 if the connection was closed without a response.
    pub status: u16,
    /// Headers in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Body, without transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// Value of a header, empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Sends a request as it stands, and reads the response.
pub fn exchange(
    port: u16,
    tls: Option<(&TlsClient, &str)>,
    request: &[u8],
    is_head: bool,
) -> io::Result<Response> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    match tls {
        Some((client, host)) => {
            let session = client.session(host).or_else(|_| client.session("localhost"))?;
            speak(StreamOwned::new(session, stream), request, is_head)
        }
        None => speak(stream, request, is_head),
    }
}

fn speak(mut stream: impl Read + Write, request: &[u8], is_head: bool) -> io::Result<Response> {
    stream.write_all(request)?;
    stream.flush()?;
    let (head, rest) = match read_head(&mut stream, 1 << 17) {
        Ok(read) => read,
        // A connection that is closed is a response, too: nginx's 444.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Response::default()),
        Err(error) => return Err(error),
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status: status.unwrap_or_default(), headers, body: Vec::new() };
    let length = response.header("content-length").parse::<usize>().ok();
    response.body = match length {
        _ if is_head || matches!(response.status, 204 | 304) => Vec::new(),
        Some(length) => read_exactly(&mut stream, rest, length.min(LONGEST))?,
        None if response.header("transfer-encoding").contains("chunked") => read_chunks(&mut stream, rest)?,
        None => read_all(&mut stream, rest),
    };
    Ok(response)
}

/// Reads up to the end of a head: the head without its end, and what was read behind it.
pub fn read_head(stream: &mut impl Read, longest: usize) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > longest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
        }
        more(stream, &mut bytes)?;
    }
}

fn more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 8192];
    match stream.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            bytes.extend_from_slice(&piece[..read]);
            Ok(())
        }
    }
}

/// Reads a body of this length.
pub fn read_exactly(stream: &mut impl Read, mut bytes: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while bytes.len() < length {
        more(stream, &mut bytes)?;
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn read_all(stream: &mut impl Read, mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.len() < LONGEST && more(stream, &mut bytes).is_ok() {}
    bytes
}

/// Reads a chunked body.
pub fn read_chunks(stream: &mut impl Read, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            match memchr::memmem::find(&bytes, b"\r\n") {
                Some(end) => break end,
                None => more(stream, &mut bytes)?,
            }
        };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a chunk"))?;
        bytes.drain(..end + 2);
        if size == 0 || body.len() > LONGEST {
            return Ok(body);
        }
        while bytes.len() < size + 2 {
            more(stream, &mut bytes)?;
        }
        body.extend(bytes.drain(..size));
        bytes.drain(..2);
    }
}
