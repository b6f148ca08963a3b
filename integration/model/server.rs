//! Servers that do with each request what its plan says.

use std::sync::Arc;

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    plan::{Account, Act, Framing, Reads, Response, content},
    stream::{Broken, Head, Reader, chunked},
};
use crate::fixtures::{ms, pass, vacant};

/// All servers of a seed; they end with it.
pub struct Servers {
    /// Addresses of the application.
    pub app: Vec<String>,
    /// The one that internal redirects lead to.
    pub inner: String,
    /// An address at which nobody listens.
    pub nobody: String,
    _tasks: JoinSet<()>,
}

impl Servers {
    pub async fn start(account: &Arc<Account>) -> Self {
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            addresses.push(listener.local_addr().expect("its address").to_string());
            let account = Arc::clone(account);
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let account = Arc::clone(&account);
                    connections.spawn(async move {
                        // Whatever breaks a connection ends it.
                        let _ = serve(Reader::new(stream), &account).await;
                    });
                }
            });
        }
        let inner = addresses.pop().expect("three");
        Self { app: addresses, inner, nobody: vacant(), _tasks: tasks }
    }
}

/// One connection: requests until something ends it.
async fn serve(mut reader: Reader, account: &Account) -> Result<(), Broken> {
    loop {
        let head = reader.head().await?;
        let mut words = head.first.split(' ');
        let (method, target) =
            (words.next().ok_or(Broken)?.to_owned(), words.next().ok_or(Broken)?.to_owned());
        if let Some(id) = target.strip_prefix("/evil/") {
            // A body that was left unread, taken for a request.
            send(&mut reader, &whole(Framing::Length, &content(&format!("evil:{id}"), 50))).await?;
            continue;
        }
        if let Some(id) = target.strip_prefix("/inner/") {
            let body = if method == "HEAD" { Vec::new() } else { content(&format!("inner:{id}"), 500) };
            send(&mut reader, &whole(Framing::Length, &body)).await?;
            continue;
        }
        let id: usize = target.trim_start_matches('/').parse().map_err(|_| Broken)?;
        let attempt = account.arrives(id, &method);
        let plan = &account.plans[id];
        let act = plan.act(attempt);
        take(&mut reader, &head, act, id, account).await?;
        for _ in 0..act.interim {
            send(&mut reader, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await?;
        }
        if !respond(&mut reader, act, id, &method, &plan.who(attempt)).await? || act.closes {
            return Ok(());
        }
    }
}

/// Reads as much of the body as the plan says.
async fn take(
    reader: &mut Reader,
    head: &Head,
    act: Act,
    id: usize,
    account: &Account,
) -> Result<(), Broken> {
    if act.reads != Reads::Nothing && head.field("expect").is_some() {
        send(reader, b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    match act.reads {
        Reads::Whole => {
            let body = reader.body(head, false).await?;
            account.body(id, &body);
        }
        Reads::Half => {
            let has_body =
                head.field("content-length").is_some() || head.field("transfer-encoding").is_some();
            let half = if has_body { account.plans[id].body.len() / 2 } else { 0 };
            reader.some(half).await?;
        }
        Reads::Nothing => {}
    }
    Ok(())
}

/// Responds; false where the connection ends with that.
async fn respond(reader: &mut Reader, act: Act, id: usize, method: &str, who: &str) -> Result<bool, Broken> {
    let (framing, size, cut) = match act.response {
        Response::Whole { framing, size } => (framing, size, None),
        Response::Cut { framing, size, after, reset } => (framing, size, Some((after, reset))),
        Response::Dies { reset } => {
            end(&reader.stream, reset);
            return Ok(false);
        }
        Response::Redirects => {
            let head =
                format!("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inner/{id}\r\nContent-Length: 0\r\n\r\n");
            send(reader, head.as_bytes()).await?;
            return Ok(true);
        }
    };
    let mut bytes = whole(framing, &content(who, size));
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or(Broken)? + 4;
    if method == "HEAD" {
        bytes.truncate(head);
        send(reader, &bytes).await?;
        return Ok(framing != Framing::Close);
    }
    if let Some((after, reset)) = cut {
        bytes.truncate(head + after);
        // It may be gone.
        let _ = send(reader, &bytes).await;
        if framing == Framing::Close || reset {
            // A close-delimited response that ends in order is complete, whatever its server meant: so this is a reset.
            pass(ms(5)).await;
            end(&reader.stream, true);
        }
        return Ok(false);
    }
    // In pieces, now and then with a pause.
    for piece in bytes.chunks(100_000) {
        send(reader, piece).await?;
        tokio::task::yield_now().await;
    }
    if framing == Framing::Close && act.reads != Reads::Whole {
        // With unread bytes in its buffer the kernel would reset the connection, and might lose the response.
        reader.stream.shutdown().await.map_err(|_| Broken)?;
        while !reader.some(65_536).await?.is_empty() {}
    }
    Ok(framing != Framing::Close)
}

/// A whole response.
fn whole(framing: Framing, body: &[u8]) -> Vec<u8> {
    let (field, body) = match framing {
        Framing::Length => (format!("Content-Length: {}\r\n", body.len()), body.to_vec()),
        Framing::Chunked => ("Transfer-Encoding: chunked\r\n".into(), chunked(body, 60_000)),
        Framing::Close => (String::new(), body.to_vec()),
    };
    [format!("HTTP/1.1 200 OK\r\n{field}\r\n").into_bytes(), body].concat()
}

async fn send(reader: &mut Reader, bytes: &[u8]) -> Result<(), Broken> {
    reader.stream.write_all(bytes).await.map_err(|_| Broken)
}

fn end(stream: &TcpStream, reset: bool) {
    if reset {
        socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
    }
}
