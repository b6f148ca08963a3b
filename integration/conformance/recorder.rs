//! An upstream that writes down every byte it gets, and reads it by the [letter](super::strict).

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use super::strict::{self, Bad, Message};

/// What was heard.
#[derive(Default)]
struct Heard {
    requests: Vec<Message>,
    /// What was no request, and why.
    wrong: Vec<String>,
}

/// Answers each request with its target as the body, as long as it can be read.
pub struct Recorder {
    address: String,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hears = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(listen(stream, Arc::clone(&hears)));
            }
        });
        Self { address, heard, task }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// The requests since the last time.
    ///
    /// # Errors
    ///
    /// What came that was none.
    pub fn take(&self) -> Result<Vec<Message>, String> {
        let heard = std::mem::take(&mut *self.heard.lock().expect("no panic"));
        if heard.wrong.is_empty() { Ok(heard.requests) } else { Err(heard.wrong.join("\n")) }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(mut stream: TcpStream, heard: Arc<Mutex<Heard>>) {
    let (mut bytes, mut told) = (Vec::new(), false);
    loop {
        match strict::request(&bytes) {
            Ok(request) => {
                bytes.drain(..request.length);
                told = false;
                let target = request.word(1).to_owned();
                let body = if request.word(0) == "HEAD" { "" } else { &target };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", target.len());
                heard.lock().expect("no panic").requests.push(request);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
            Err(Bad::Malformed(why)) => {
                let bytes = bytes.escape_ascii().to_string();
                heard.lock().expect("no panic").wrong.push(format!("{why}: {bytes}"));
                return;
            }
            Err(Bad::Incomplete) => {
                if !told
                    && bytes.ends_with(b"\r\n\r\n")
                    && bytes.to_ascii_lowercase().windows(7).any(|part| part == b"expect:")
                {
                    told = true;
                    if stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                        return;
                    }
                }
                // A request that breaks off is none.
                if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                    return;
                }
            }
        }
    }
}
