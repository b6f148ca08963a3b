//! The application behind all servers, on a unix socket. It does as little as one can; its CPU is not counted.
//!
//! `GET /bytes/N` is answered with N times the letter x, `POST` with the number of bytes that came. `GET
//! /x-accel-redirect/N`, `/x-sendfile/N` and `/x-reproxy-url/N` name the file of that size in the field that the path
//! says. Below `/uwsgi` it is asked over uwsgi, one request on a connection.

use std::{io, path::Path, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::server::{Place, file_name};

/// Listens until dropped.
pub struct Application {
    accepting: JoinHandle<()>,
}

/// What large answers are written from.
static PIECE: [u8; 256 * 1024] = [b'x'; 256 * 1024];

impl Application {
    /// Starts it.
    pub async fn start(place: &Place) -> io::Result<Self> {
        let listener = UnixListener::bind(&place.upstream)?;
        let files: Arc<Path> = place.files.as_path().into();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let files = Arc::clone(&files);
                // A server that closes its connection ends the task with an error, which is nobody's concern here.
                tokio::spawn(async move { drop(serve(stream, &files).await) });
            }
        });
        Ok(Self { accepting })
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What is asked for.
struct Request {
    /// The path's first segment.
    what: String,
    /// The size in its second, for GET.
    size: usize,
    /// Bytes of the request's body.
    length: usize,
    /// The connection has no other request.
    is_last: bool,
}

/// One connection, one request after the other.
async fn serve(stream: UnixStream, files: &Path) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(PIECE.len(), stream);
    while let Some(request) = read_request(&mut stream).await? {
        let file = file_name(request.size);
        match request.what.as_str() {
            "bytes" => send_bytes(&mut stream, request.size).await?,
            "upload" => {
                discard(&mut stream, request.length).await?;
                let count = request.length.to_string();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", count.len());
                stream.write_all((head + &count).as_bytes()).await?;
            }
            field => {
                let place =
                    if field == "x-sendfile" { files.join(file) } else { Path::new("/_x").join(file) };
                let place = place.display();
                let head = format!("HTTP/1.1 200 OK\r\n{field}: {place}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
            }
        }
        if request.is_last {
            break;
        }
    }
    Ok(())
}

/// `None` when there is no further request.
async fn read_request(stream: &mut BufReader<UnixStream>) -> io::Result<Option<Request>> {
    if stream.fill_buf().await?.first() == Some(&0) {
        return read_packet(stream).await.map(Some);
    }
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut segments = line.split(' ').nth(1).unwrap_or_default().split('/').skip(1).map(str::to_owned);
    let what = segments.next().unwrap_or_default();
    let size = segments.next().and_then(|size| size.parse().ok()).unwrap_or_default();
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    Ok(Some(Request { what, size, length, is_last: false }))
}

/// A request of the uwsgi protocol, without a body.
async fn read_packet(stream: &mut BufReader<UnixStream>) -> io::Result<Request> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let mut variables = vec![0; usize::from(u16::from_le_bytes([head[1], head[2]]))];
    stream.read_exact(&mut variables).await?;
    let mut words = Vec::new();
    let mut rest = &variables[..];
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (word, after) = after.split_at(usize::from(u16::from_le_bytes(*length)).min(after.len()));
        words.push(word);
        rest = after;
    }
    let uri = words.chunks(2).find(|pair| pair[0] == b"REQUEST_URI").map(|pair| pair[1]).unwrap_or_default();
    let uri = std::str::from_utf8(uri).map_err(io::Error::other)?;
    let mut segments = uri.split('/').skip(2).map(str::to_owned);
    let what = segments.next().unwrap_or_default();
    let size = segments.next().and_then(|size| size.parse().ok()).unwrap_or_default();
    Ok(Request { what, size, length: 0, is_last: true })
}

async fn send_bytes(stream: &mut BufReader<UnixStream>, size: usize) -> io::Result<()> {
    let mut start = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    let first = size.min(PIECE.len());
    start.extend_from_slice(&PIECE[..first]);
    stream.write_all(&start).await?;
    let mut left = size - first;
    while left > 0 {
        let now = left.min(PIECE.len());
        stream.write_all(&PIECE[..now]).await?;
        left -= now;
    }
    Ok(())
}

async fn discard(stream: &mut BufReader<UnixStream>, length: usize) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let piece = stream.fill_buf().await?.len().min(left);
        if piece == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.consume(piece);
        left -= piece;
    }
    Ok(())
}
