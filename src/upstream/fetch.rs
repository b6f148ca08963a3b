//! Blocking requests to an upstream for content that bowshock includes in its own responses.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use rustls::StreamOwned;
use tokio::runtime::Handle;

use super::{Lease, ResponseOutcome, Selection, Upstream, health, uwsgi};
use crate::{
    client::Client,
    config::Address,
    message::{BodyFraming, RawHeaders, ResponseHead, write_fields},
};

/// Longest wait for a server. The waiting thread belongs to the pool that also opens files.
const MOST_HOLD: Duration = Duration::from_secs(30);

/// Most servers that are tried.
const MOST_TRIES: usize = 4;

/// A request to an upstream.
pub(crate) struct Fetch {
    upstream: Arc<Upstream>,
    request: BytesMut,
    runtime: Handle,
}

impl Fetch {
    /// Copies the request headers that identify the client and the host.
    pub(crate) fn who(received: &RawHeaders) -> HeaderMap {
        const IDENTIFYING: [HeaderName; 5] = [
            header::HOST,
            header::AUTHORIZATION,
            header::COOKIE,
            header::USER_AGENT,
            HeaderName::from_static("x-api-key"),
        ];
        let mut headers = HeaderMap::new();
        for name in &IDENTIFYING {
            for value in received.values(name).filter_map(|value| HeaderValue::from_bytes(value).ok()) {
                headers.append(name, value);
            }
        }
        headers
    }

    /// Prepares a request for `target` on behalf of the client that `who` identifies. It is sent as HTTP/1.0, so that
    /// the response is not chunked: it has a length, or ends with the connection.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        target: &str,
        who: &HeaderMap,
        client: &Client,
        runtime: Handle,
    ) -> Self {
        let mut fields = who.clone();
        client.forward(&mut fields);
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let mut request = BytesMut::from(format!("GET {target} HTTP/1.0\r\n").as_bytes());
        write_fields(&mut request, &fields);
        if upstream.settings().uwsgi.is_some() {
            // Only a head that is larger than one of a client may be does not fit.
            request = uwsgi::packet(&request, &[]).unwrap_or(request);
        }
        Self { upstream, request, runtime }
    }

    /// Sends the request, waiting for a server if necessary, and returns the body of the response. Blocks.
    ///
    /// # Errors
    ///
    /// No server is available, or the status is not 200.
    pub(crate) fn open(&self) -> io::Result<FetchedBody> {
        if self.upstream.settings().http2 {
            let name = &self.upstream.name;
            let error = format!("content of {name}, which speaks HTTP/2, cannot be put into archives");
            return Err(io::Error::new(io::ErrorKind::Unsupported, error));
        }
        let mut selection = Selection::default();
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for _ in 0..MOST_TRIES {
            let hold = self.upstream.settings().hold.min(MOST_HOLD);
            let lease = self
                .runtime
                .block_on(self.upstream.acquire(&mut selection, hold))
                .map_err(io::Error::other)?;
            match connect(&lease) {
                Ok(stream) => return exchange(stream, &self.request, lease),
                Err(error) => {
                    self.upstream.failed(lease.server(), health::error_label(&error));
                    selection.avoid(lease.server());
                    last = error;
                }
            }
        }
        Err(last)
    }
}

trait FetchedStream: Read + Write + Send {}
impl<T: Read + Write + Send> FetchedStream for T {}

fn connect(lease: &Lease) -> io::Result<Box<dyn FetchedStream>> {
    let settings = lease.settings();
    let (read, write) = (Some(settings.read_timeout), Some(settings.send_timeout));
    let plain: Box<dyn FetchedStream> = match &lease.server().address {
        Address::Tcp(address) => {
            let stream =
                TcpStream::connect_timeout(address, settings.connect_timeout.max(Duration::from_millis(1)))?;
            stream.set_read_timeout(read)?;
            stream.set_write_timeout(write)?;
            Box::new(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(read)?;
            stream.set_write_timeout(write)?;
            Box::new(stream)
        }
    };
    Ok(match lease.upstream().tls() {
        None => plain,
        Some(tls) => Box::new(StreamOwned::new(tls.session(&lease.server().host)?, plain)),
    })
}

fn exchange(mut stream: Box<dyn FetchedStream>, request: &[u8], mut lease: Lease) -> io::Result<FetchedBody> {
    lease.connected();
    stream.write_all(request)?;
    lease.sent();
    let (mut begun, most) = (Vec::new(), lease.settings().max_response_head);
    let head = loop {
        let read = if lease.settings().uwsgi.is_some() {
            uwsgi::read_head(&begun, most)
        } else {
            ResponseHead::read(&begun, most)
        };
        if let Some((head, length)) = read.map_err(io::Error::other)? {
            begun.drain(..length);
            if head.is_interim() {
                continue;
            }
            break head;
        }
        let mut part = [0; 4096];
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => begun.extend_from_slice(&part[..read]),
        }
    };
    lease.response_begun(ResponseOutcome::of(head.status), None);
    if head.status != StatusCode::OK {
        return Err(io::Error::other(format!("the server responded with status {}", head.status.as_u16())));
    }
    let length = match head.framing(&Method::GET).map_err(io::Error::other)? {
        BodyFraming::Length(length) => Some(length),
        BodyFraming::UntilClose => None,
        // A response to an HTTP/1.0 request must not be chunked (RFC 9112 §6.1).
        BodyFraming::Chunked(_) => {
            return Err(io::Error::other("the response to an HTTP/1.0 request is chunked"));
        }
    };
    Ok(FetchedBody { begun: io::Cursor::new(begun), stream, left: length, _lease: lease })
}

/// Body of a response.
pub(crate) struct FetchedBody {
    begun: io::Cursor<Vec<u8>>,
    stream: Box<dyn FetchedStream>,
    /// Bytes still to come, if the length is known.
    left: Option<u64>,
    _lease: Lease,
}

impl Read for FetchedBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self
            .left
            .map_or(buffer.len(), |left| buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        if most == 0 {
            return Ok(0);
        }
        let mut read = self.begun.read(&mut buffer[..most])?;
        if read == 0 {
            read = self.stream.read(&mut buffer[..most])?;
        }
        match &mut self.left {
            Some(_) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(left) => *left -= read as u64,
            None => {}
        }
        Ok(read)
    }
}
