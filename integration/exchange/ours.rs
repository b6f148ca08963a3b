//! Where the engine is less strict, or knows less: only in our own way.

use super::*;

#[tokio::test]
async fn a_target_with_a_name_in_it_reaches_the_server_as_a_path() {
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::to([backend.address()]).start().await;
    for (target, line) in [
        ("http://a.example/b?c", "GET /b?c HTTP/1.1"),
        ("http://a.example?c", "GET /?c HTTP/1.1"),
        ("http://a.example", "GET / HTTP/1.1"),
        ("http://a.example:80/", "GET / HTTP/1.1"),
    ] {
        let mut client = proxy.wire().await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: b.example\r\n\r\n")).await;
        client.answer().await.expect("an answer").expect(200);
        let head = backend.heads().pop().unwrap();
        assert!(head.starts_with(line), "{target}: {head}");
        let hosts: Vec<_> = head.lines().filter(|line| line.to_lowercase().starts_with("host:")).collect();
        assert!(hosts.len() == 1 && hosts[0].contains("a.example"), "{target}: {head}");
    }
}

#[tokio::test]
async fn a_body_is_sent_again_whole_when_only_the_head_of_an_answer_came() {
    let (asked, bodies) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let worker = || async {
        let (asked, bodies) = (Arc::clone(&asked), Arc::clone(&bodies));
        Backend::serving(move |mut wire: Wire, _| {
            let (asked, bodies) = (Arc::clone(&asked), Arc::clone(&bodies));
            async move {
                let Some((_, body)) = wire.request().await else { return };
                bodies.lock().unwrap().push(body);
                let is_first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                wire.send(if is_first { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" } else { OK }).await;
            }
        })
        .await
    };
    let workers = [worker().await, worker().await];
    let proxy = Proxy::to(workers.iter().map(Backend::address)).start().await;
    let mut client = proxy.wire().await;
    client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").await;
    client.answer().await.expect("an answer").expect(200);
    assert_eq!(*bodies.lock().unwrap(), [b"hello", b"hello"]);
}

#[tokio::test]
async fn nothing_that_follows_a_malformed_body_is_a_request() {
    for body in ["0\n\r\n", "1\na\n0\r\n\r\n", "1;\n\r\na\r\n0\r\n\r\n", "0\r\nX: y\n\r\n"] {
        let backend = Backend::saying("ok").await;
        let proxy = Proxy::to([backend.address()]).start().await;
        let mut client = proxy.wire().await;
        let head = "POST /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.answer().await.expect("a clear answer").expect(400);
        assert!(client.closes(ms(3000)).await.is_some(), "what follows cannot be trusted: {body:?}");
        assert!(!backend.paths().contains(&"/smuggled".into()), "{body:?}");
    }
}

#[tokio::test]
async fn who_is_refused_instead_of_told_to_go_on_sends_no_body() {
    let backend = Backend::serving(|mut wire, heads| async move {
        while let Some(head) = wire.head().await {
            heads.lock().unwrap().push(head);
            wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut client = proxy.wire().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let answer = client.answer().await.expect("an answer").expect(417);
    assert_eq!(answer.header("connection"), "close", "the body may come or not");
    assert!(client.closes(SOON).await.is_some());
    assert_eq!(backend.heads().len(), 1);
}
