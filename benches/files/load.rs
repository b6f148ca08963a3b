//! What servers are made to do.

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::{client::Client, server::Server, wrk::wrk};

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
        let path = format!("/static/{}", self.file());
        let before = server.cpu()?;
        let (times, thousands) = match self {
            Self::Large => (download(server.address, &path, 4)?, 1e3),
            Self::Accelerated => (download(server.address, "/accelerated", 2048)?, 1e3),
            Self::Page | Self::Small => (wrk(server.address, &path, 16, 1)? as f64, 1e6),
        };
        Ok(server.cpu()?.since(&before) * thousands / times)
    }
}

/// Downloads a file so often on one connection, and tells how many GiB that were.
fn download(address: SocketAddr, path: &str, times: usize) -> io::Result<f64> {
    let mut client = Client::connect(address)?;
    let mut received = 0;
    for _ in 0..times {
        received += client.get(path, |_| ())?;
    }
    Ok(received as f64 / GIB as f64)
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
