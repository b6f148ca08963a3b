//! Requests that lie in a unix socket when its server goes: they are sent again, whatever their method.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::fixtures::{Answer, Proxy, Scratch, Wire, eventually, outcome};

/// A unix socket that a proxy sends requests to.
struct Socket {
    path: PathBuf,
    _scratch: Scratch,
}

impl Socket {
    fn new() -> (Self, UnixListener) {
        let scratch = Scratch::new();
        let path = scratch.path("app.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        (Self { path, _scratch: scratch }, listener)
    }

    async fn proxy(&self) -> Proxy {
        Proxy::to([format!("unix:{}", self.path.display())]).start().await
    }

    /// Puts a server in the place of the last that answers with the length of the body; counts its requests.
    fn replace(&self, last: UnixListener) -> (Arc<AtomicUsize>, JoinHandle<()>) {
        std::fs::remove_file(&self.path).expect("the socket of the last");
        let listener = UnixListener::bind(&self.path).expect("a socket");
        drop(last);
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut wire = Wire::on(stream);
                    while let Some((_, body)) = wire.request().await {
                        count.fetch_add(1, Ordering::SeqCst);
                        let text = body.len().to_string();
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
                        if wire.try_send(head + &text).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        (served, task)
    }
}

/// The connection of a request, of which the first byte has been read; a probe sends none.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        if stream.read_u8().await.is_ok() {
            return stream;
        }
    }
}

/// The response to a POST with a body of this length, which the first server `treats` before it goes.
async fn posted(
    length: usize,
    treats: impl AsyncFnOnce(&UnixListener) -> Option<UnixStream>,
) -> (Answer, usize) {
    let (socket, listener) = Socket::new();
    let proxy = socket.proxy().await;
    let sent = proxy.post("/", vec![b'x'; length]).spawn();
    eventually("it is at the server", async || proxy.inflight().await == [1]).await;
    let accepted = treats(&listener).await;
    let (served, task) = socket.replace(listener);
    drop(accepted);
    let answer = outcome(sent).await;
    task.abort();
    (answer, served.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_post_that_nobody_accepted_is_sent_again() {
    for length in [0, 10, 100_000, 3_000_000] {
        let (answer, served) = posted(length, async |_| None).await;
        assert_eq!(answer.expect(200).text(), length.to_string());
        assert_eq!(served, 1);
    }
}

#[tokio::test]
async fn a_post_that_waits_for_a_busy_server_has_the_time_of_any_request() {
    for length in [10, 3_000_000] {
        let (socket, listener) = Socket::new();
        let proxy = Proxy::to([format!("unix:{}", socket.path.display())])
            .with("send_timeout = \"500ms\"")
            .start()
            .await;
        let sent = proxy.post("/", vec![b'x'; length]).spawn();
        eventually("it is at the server", async || proxy.inflight().await == [1]).await;
        crate::fixtures::pass(crate::fixtures::ms(1_500)).await;
        assert!(!sent.is_finished());
        let (served, task) = socket.replace(listener);
        assert_eq!(outcome(sent).await.expect(200).text(), length.to_string());
        assert_eq!(served.load(Ordering::SeqCst), 1);
        task.abort();
    }
}

#[tokio::test]
async fn a_server_that_reads_no_heads_of_posts_is_silent() {
    let (socket, _listener) = Socket::new();
    let proxy = socket.proxy().await;
    let sent = proxy.post("/", "x").spawn();
    eventually("it is silent", async || proxy.states().await == ["silent"]).await;
    sent.abort();
}

#[tokio::test]
async fn a_post_whose_head_was_not_read_to_its_end_is_sent_again() {
    let (answer, served) = posted(10, async |listener: &UnixListener| {
        let mut stream = accept(listener).await;
        stream.read_exact(&mut [0; 20]).await.expect("a part of the head");
        Some(stream)
    })
    .await;
    assert_eq!((answer.expect(200).text(), served), ("10".into(), 1));
}

#[tokio::test]
async fn a_post_whose_head_was_read_is_never_sent_twice() {
    for length in [0, 10, 3_000_000] {
        let (answer, served) = posted(length, async |listener: &UnixListener| {
            let mut stream = accept(listener).await;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("the head"));
            }
            if length > 0 {
                stream.read_u8().await.expect("the body follows");
            }
            Some(stream)
        })
        .await;
        answer.expect(502);
        assert_eq!(served, 0);
    }
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_not_forgotten() {
    let (socket, listener) = Socket::new();
    let proxy = socket.proxy().await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    eventually("it is at the server", async || proxy.inflight().await == [1]).await;
    let (served, task) = socket.replace(listener);
    wire.send("abc").await;
    assert_eq!(wire.answer().await.expect("an answer").expect(200).text(), "3");
    assert_eq!(served.load(Ordering::SeqCst), 1);
    task.abort();
}
