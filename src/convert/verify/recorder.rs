//! Upstream servers of the replay: each answers with what it was asked.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::{Deserialize, Serialize};

use super::stage::Recorder;

/// Request header that chooses the status of the answer.
pub const STATUS: &str = "x-replay-status";
/// Request header that makes the answer name a file or path (X-Accel-Redirect).
pub const ACCEL: &str = "x-replay-accel";
/// Request header that makes the answer a redirect.
pub const LOCATION: &str = "x-replay-location";

/// Longest head or packet.
const LONGEST: usize = 1 << 17;

/// What a server was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Name of the upstream.
    pub upstream: String,
    /// Method.
    pub method: String,
    /// Target as sent.
    pub target: String,
    /// Headers, or variables of uwsgi, in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: String,
    /// Text that makes the answer long enough for compression.
    #[serde(default)]
    pub padding: String,
}

/// Starts a recorder. Its threads end with the process.
pub fn start(recorder: &Recorder, tls: &Arc<ServerConfig>) -> io::Result<()> {
    let (label, protocol) = (recorder.label.clone(), recorder.protocol);
    let tls = Arc::clone(tls);
    match recorder.address.strip_prefix("unix:") {
        Some(path) => {
            let listener = UnixListener::bind(path)?;
            thread::spawn(move || {
                for stream in listener.incoming().filter_map(Result::ok) {
                    let label = label.clone();
                    thread::spawn(move || drop(answer(stream, &label, protocol)));
                }
            });
        }
        None => {
            let listener = TcpListener::bind(&recorder.address)?;
            thread::spawn(move || {
                for stream in listener.incoming().filter_map(Result::ok) {
                    let (label, tls) = (label.clone(), Arc::clone(&tls));
                    thread::spawn(move || match protocol {
                        "https" => {
                            let session = ServerConnection::new(tls).map_err(io::Error::other);
                            drop(session.and_then(|session| {
                                answer(StreamOwned::new(session, stream), &label, "http")
                            }));
                        }
                        _ => drop(answer(stream, &label, protocol)),
                    });
                }
            });
        }
    }
    Ok(())
}

/// Answers one request; the connection is closed after it.
fn answer(mut stream: impl Read + Write, label: &str, protocol: &str) -> io::Result<()> {
    let recording = match protocol {
        "uwsgi" => read_uwsgi(&mut stream, label)?,
        _ => read_http(&mut stream, label)?,
    };
    let header = |name: &str| recording.headers.get(name).map(String::as_str);
    let status = header(STATUS).and_then(|status| status.parse().ok()).unwrap_or(200);
    let mut head = String::from("X-Frame-Options: DENY\r\nX-Application: yes\r\n");
    let mut status: u16 = status;
    if let Some(location) = header(LOCATION) {
        status = 302;
        head.push_str(&format!("Location: {location}\r\n"));
    }
    if let Some(accel) = header(ACCEL) {
        head.push_str(&format!("X-Accel-Redirect: {accel}\r\n"));
    }
    let body = serde_json::to_string(&recording).map_err(io::Error::other)?;
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{head}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if recording.method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

fn read_http(stream: &mut impl Read, label: &str) -> io::Result<Recording> {
    let (head, rest) = super::client::read_head(stream, LONGEST)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    let body = match length {
        Some(length) => super::client::read_exactly(stream, rest, length.min(LONGEST))?,
        None if headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) => {
            super::client::read_chunks(stream, rest)?
        }
        None => Vec::new(),
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Recording { upstream: label.into(), method, target, headers, body, padding: padding() })
}

fn padding() -> String {
    "some words that are easily compressed ".repeat(40)
}

/// A packet of uwsgi: a size, then names and values with their lengths.
fn read_uwsgi(stream: &mut impl Read, label: &str) -> io::Result<Recording> {
    let mut start = [0; 4];
    stream.read_exact(&mut start)?;
    let mut packet = vec![0; usize::from(u16::from_le_bytes([start[1], start[2]]))];
    stream.read_exact(&mut packet)?;
    let mut texts = Vec::new();
    let mut rest = packet.as_slice();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (text, behind) = behind.split_at(length);
        texts.push(String::from_utf8_lossy(text).into_owned());
        rest = behind;
    }
    let pairs = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    let variables: BTreeMap<String, String> = pairs.collect();
    let value = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let length: usize = value("CONTENT_LENGTH").parse().unwrap_or_default();
    let body = super::client::read_exactly(stream, Vec::new(), length.min(LONGEST))?;
    let header = |(name, value): (&String, &String)| {
        let name = name.strip_prefix("HTTP_")?;
        Some((name.to_lowercase().replace('_', "-"), value.clone()))
    };
    let mut headers: BTreeMap<String, String> = variables.iter().filter_map(header).collect();
    // CGI has these two without a prefix.
    let media_type = value("CONTENT_TYPE");
    if !media_type.is_empty() {
        headers.insert("content-type".into(), media_type);
    }
    Ok(Recording {
        upstream: label.into(),
        method: value("REQUEST_METHOD"),
        target: value("REQUEST_URI"),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        padding: padding(),
    })
}
