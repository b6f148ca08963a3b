//! What servers are made to do.

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use crate::server::Server;

/// A kind of download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    Large,
    Accelerated,
    Small,
    Page,
}

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

impl Load {
    pub const ALL: [Self; 4] = [Self::Large, Self::Accelerated, Self::Page, Self::Small];

    pub fn name(self) -> &'static str {
        match self {
            Self::Large => "1 GiB, static, for each GiB",
            Self::Accelerated => "1 MiB, accelerated, for each GiB",
            Self::Page => "16 KiB, static, for each request",
            Self::Small => "1 KiB, static, for each request",
        }
    }

    pub fn size(self) -> usize {
        match self {
            Self::Large => GIB,
            Self::Accelerated => MIB,
            Self::Page => 16 * 1024,
            Self::Small => 1024,
        }
    }

    pub fn file(self) -> String {
        format!("{}.bin", self.size())
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Large | Self::Accelerated => "ms",
            Self::Page | Self::Small => "µs",
        }
    }

    /// The CPU that it takes a server, in the [unit](Self::unit).
    pub fn cost(self, server: &Server) -> Result<f64, Box<dyn Error>> {
        let before = server.cpu()?;
        let (times, thousands) = match self {
            Self::Large => (download(server.address, &format!("/static/{}", self.file()), 4)? / GIB, 1e3),
            Self::Accelerated => (download(server.address, "/accelerated", 2048)? / GIB, 1e3),
            Self::Page | Self::Small => (wrk(server.address, &format!("/static/{}", self.file()))?, 1e6),
        };
        Ok((server.cpu()? - before) * thousands / times as f64)
    }
}

/// Downloads a file so often on one connection, and tells the number of bytes.
fn download(address: SocketAddr, path: &str, times: usize) -> io::Result<usize> {
    let mut stream = BufReader::with_capacity(256 * 1024, TcpStream::connect(address)?);
    let mut received = 0;
    for _ in 0..times {
        stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let mut length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            line.clear();
        }
        let body = io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
        if body < length || length < MIB as u64 {
            return Err(io::Error::other(format!("{body} of {length} bytes of {path}")));
        }
        received += body as usize;
    }
    Ok(received)
}

/// Asks for a file as often as possible for a while, and tells how often that was.
fn wrk(address: SocketAddr, path: &str) -> Result<usize, Box<dyn Error>> {
    let output = Command::new("wrk")
        .args(["--threads=1", "--connections=16", "--duration=1s", &format!("http://{address}{path}")])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(text.into());
    }
    let count = text.lines().find_map(|line| line.split_once(" requests in")?.0.trim().parse().ok());
    count.ok_or_else(|| format!("wrk counts no requests: {text}").into())
}

/// Hands the file of accelerated downloads over, on as many connections as are wanted.
pub fn application() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // An error is the end of a connection.
            thread::spawn(move || hand_over(stream));
        }
    });
    Ok(address)
}

fn hand_over(stream: TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/plain\r\nX-Accel-Redirect: /_x/{}\r\n\r\n",
        Load::Accelerated.file()
    );
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            stream.get_mut().write_all(answer.as_bytes())?;
        }
        line.clear();
    }
    Ok(())
}
