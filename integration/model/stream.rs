//! Bytes of HTTP/1.1 as both sides of the model read them: strictly, and with an end that is told from a break.

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpStream,
};

/// A connection, and what was read ahead.
pub struct Reader<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

/// The end of the stream before the end of the message, or what is no message.
#[derive(Debug)]
pub struct Broken;

/// A head.
#[derive(Debug)]
pub struct Head {
    pub first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads more; false at the end of the stream.
    async fn more(&mut self) -> Result<bool, Broken> {
        let read = self.stream.read_buf(&mut self.buffer).await.map_err(|_| Broken)?;
        Ok(read > 0)
    }

    pub async fn head(&mut self) -> Result<Head, Broken> {
        let end = loop {
            match self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at,
                None if !self.more().await? => return Err(Broken),
                None => {}
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields =
            fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Head { first, fields })
    }

    /// Some bytes of the body, `most` at most; fewer where the stream ends.
    pub async fn some(&mut self, most: usize) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() < most && self.more().await? {}
        Ok(self.buffer.drain(..most.min(self.buffer.len())).collect())
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        let bytes = self.some(length).await?;
        if bytes.len() == length { Ok(bytes) } else { Err(Broken) }
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).map_err(|_| Broken);
            }
            if !self.more().await? {
                return Err(Broken);
            }
        }
    }

    /// A whole body; one that ends with the connection only where that may be.
    pub async fn body(&mut self, head: &Head, may_end_with_connection: bool) -> Result<Vec<u8>, Broken> {
        if let Some(coding) = head.field("transfer-encoding") {
            assert_eq!(coding, "chunked");
            return self.chunks().await;
        }
        match head.field("content-length") {
            Some(length) => self.exactly(length.parse().map_err(|_| Broken)?).await,
            None if may_end_with_connection => {
                while self.more().await? {}
                Ok(std::mem::take(&mut self.buffer))
            }
            None => Ok(Vec::new()),
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let size = self.line().await?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| Broken)?;
            body.extend(self.exactly(size).await?);
            if !self.line().await?.is_empty() {
                return Err(Broken);
            }
            if size == 0 {
                return Ok(body);
            }
        }
    }
}

/// A body in chunks.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}
