//! Requests and responses that cross: early, at the same time, cut, and what is left unread of them.

use super::*;

#[tokio::test]
async fn both_directions_go_on_at_the_same_time() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\n\r\n").await;
        for _ in 0..1024 {
            let piece = wire.read(16 * 1024).await;
            wire.send(piece).await;
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let (mut read, mut write) = tcp(&proxy).await.into_split();
    let body = noise(16 << 20);
    let sent = body.clone();
    let writing = tokio::spawn(async move {
        write.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n").await?;
        write.write_all(&sent).await?;
        Ok::<_, io::Error>(write)
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.unwrap();
    writing.await.unwrap().unwrap();
    assert!(back.ends_with(&body), "{} bytes came back", back.len());
}

#[tokio::test]
async fn an_answer_before_the_end_of_an_upload_arrives_and_ends_the_connection() {
    let backend = Backend::serving(|mut wire, heads| async move {
        let head = wire.head().await;
        heads.lock().unwrap().extend(head);
        wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut client = proxy.wire().await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100_000);
    client
        .send(format!("POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", inner.len() + 9))
        .await;
    client.send(&inner).await;
    let answer = client.answer().await.expect("an answer").expect(403);
    assert_eq!(answer.text(), "no");
    assert!(client.closes(SOON).await.is_some());
    assert_eq!(backend.paths(), ["/first"]);
}

#[tokio::test]
async fn a_download_leaves_the_connection_to_the_application_for_the_next() {
    let scratch = Scratch::new();
    let file = scratch.write("data/a.bin", noise(200_000));
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, path) = (Arc::clone(&asked), file.display().to_string());
    let app = Backend::serving(move |mut wire: Wire, _| {
        let count = Arc::clone(&count);
        let answer = format!("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /_x{path}\r\nContent-Length: 0\r\n\r\n");
        async move {
            let mut first = true;
            while wire.head().await.is_some() {
                count.fetch_add(usize::from(first), Ordering::SeqCst);
                first = false;
                wire.send(&answer).await;
            }
        }
    })
    .await;
    let proxy = Proxy::handing_over(&scratch.path("data"), &app).with("keepalive = \"1m\"").start().await;
    for _ in 0..8 {
        assert_eq!(proxy.get("/download").await.expect(200).body.len(), 200_000);
        // The client has its file a moment before the connection is free.
        pass(ms(50)).await;
    }
    // Each of its two threads keeps connections of its own.
    assert!(asked.load(Ordering::SeqCst) <= 2, "connections that requests came on: {asked:?}");
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

#[tokio::test]
async fn the_date_of_an_answer_is_its_servers() {
    let date = "Mon, 01 Jan 2024 00:00:00 GMT";
    let backend = Backend::answering(move |_| {
        format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    assert_eq!(proxy.get("/").await.expect(200).all("date"), [date]);
}

/// A worker that answers `head` and then dies with most of the body unread, which resets the connection.
async fn dying_over_a_body(head: &'static str) -> Backend {
    Backend::serving(move |mut wire, _| async move {
        wire.head().await;
        // It may be over already.
        let _ = wire.try_send(format!("{head}first half")).await;
        pass(ms(20)).await;
    })
    .await
}

#[tokio::test]
async fn a_response_cut_short_by_a_reset_is_not_passed_off_as_complete() {
    let backend = dying_over_a_body("HTTP/1.1 200 OK\r\n\r\n").await;
    let proxy = Proxy::to([backend.address()]).secure().start().await;
    for target in [proxy.target(), proxy.h2()] {
        for _ in 0..10 {
            let answer = target.request("POST", "/").body(noise(8 << 20)).send().await;
            assert!(answer.is_err(), "{target:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_list_of_members_cut_short_by_a_reset_is_no_archive() {
    let backend = dying_over_a_body("HTTP/1.1 200 OK\r\nX-Archive-Files: zip\r\n\r\n").await;
    let proxy = Proxy::to([backend.address()]).secure().start().await;
    for _ in 0..10 {
        let answer = proxy.h2().request("POST", "/").body(noise(8 << 20)).send().await;
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 502), "{answer:?}");
    }
}

/// Python's `http.server` is such a worker: it answers and takes the unread body for the next request.
#[tokio::test]
async fn a_body_that_a_worker_ignores_is_nobody_elses_request() {
    let backend = Backend::serving(|mut wire, heads| async move {
        while let Some(head) = wire.head().await {
            let body = head.lines().next().unwrap_or_default().to_owned();
            heads.lock().unwrap().push(head);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if wire.try_send(answer).await.is_err() {
                return;
            }
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).with("keepalive = \"1m\"").start().await;
    let inner = "GET /admin/secret HTTP/1.1\r\nHost: x\r\n\r\n";
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "QUERY"] {
        for framing in [
            format!("Content-Length: {}\r\n\r\n{inner}", inner.len()),
            format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len()),
        ] {
            let mut attacker = proxy.wire().await;
            attacker.send(format!("{method} /innocent HTTP/1.1\r\nHost: x\r\n{framing}")).await;
            attacker.answer_to(method).await.expect("an answer").expect(200);
            for _ in 0..6 {
                let answer = proxy.get("/victim").await.expect(200);
                assert_eq!(answer.text(), "GET /victim HTTP/1.1", "after {method} with a body");
            }
        }
    }
}
