//! Answers in a coding: which of them, in which, and that nothing waits for the encoder.

use std::{io::Read, sync::Arc};

use crate::fixtures::{Answer, Backend, Gate, Proxy, SOON, Scratch, noise, within};

/// Text of which no part is like another.
fn prose(length: usize) -> String {
    let mut all = String::with_capacity(length + 64);
    for number in 0_u64.. {
        if all.len() >= length {
            break;
        }
        all.push_str(&format!("line {number} of {:x}\n", number * number));
    }
    all.truncate(length);
    all
}

fn decoded(answer: &Answer) -> Vec<u8> {
    decode(&answer.header("content-encoding"), &answer.body).expect("whole")
}

/// What can be read of coded bytes so far.
fn decode(coding: &str, coded: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
    let mut content = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(coded).read_to_end(&mut content),
        "br" => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content),
        "zstd" => zstd::stream::read::Decoder::new(coded).unwrap().read_to_end(&mut content),
        "" => (&*coded).read_to_end(&mut content),
        other => panic!("what is {other}?"),
    };
    if read.is_ok() { Ok(content) } else { Err(content) }
}

/// A server that answers with these fields and this body, and a proxy before it that compresses.
async fn before(fields: &'static str, body: Vec<u8>) -> (Backend, Proxy) {
    let backend = Backend::answering(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).route("compress = true").start().await;
    (backend, proxy)
}

#[tokio::test]
async fn every_size_comes_out_as_it_went_in_in_every_coding() {
    for size in [1024, 8192, 8193, 70_000, 3_000_000] {
        let content = prose(size);
        let (_backend, proxy) =
            before("Content-Type: text/plain\r\nETag: \"a\"\r\n", content.clone().into()).await;
        for coding in ["gzip", "br", "zstd", ""] {
            let answer = proxy.get("/").header("accept-encoding", coding).await.expect(200);
            assert_eq!(answer.header("content-encoding"), coding);
            assert!(decoded(&answer) == content.as_bytes(), "{coding}, {size} bytes");
            assert_eq!(answer.header("vary"), "Accept-Encoding");
            if coding.is_empty() {
                assert_eq!(answer.header("etag"), "\"a\"");
            } else {
                assert_eq!(answer.header("etag"), "W/\"a\"");
                assert!(answer.body.len() < size * 3 / 4, "{coding}: {} of {size}", answer.body.len());
            }
        }
    }
}

#[tokio::test]
async fn connections_go_on_after_coded_answers() {
    let (backend, proxy) = before("Content-Type: text/plain\r\n", prose(100_000).into()).await;
    let mut connection = proxy.connect().await;
    for _ in 0..20 {
        let request = connection.get("/").header("accept-encoding", "gzip");
        let answer = connection.send(request).await.expect("kept alive").expect(200);
        assert_eq!(decoded(&answer).len(), 100_000);
    }
    let head = proxy.request("HEAD", "/").header("accept-encoding", "gzip").await.expect(200);
    assert_eq!((head.header("content-encoding").as_str(), head.body.len()), ("gzip", 0));
    assert_eq!(backend.heads().len(), 21);
}

#[tokio::test]
async fn a_part_is_never_coded() {
    let fields = "Content-Type: text/plain\r\nContent-Range: bytes 0-1999/9999\r\n";
    let backend = Backend::answering(move |_| {
        format!("HTTP/1.1 206 Partial Content\r\n{fields}Content-Length: 2000\r\n\r\n{}", prose(2000)).into()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).route("compress = true").start().await;
    let answer =
        proxy.get("/").header("accept-encoding", "gzip").header("range", "bytes=0-1999").await.expect(206);
    assert_eq!((answer.header("content-encoding").as_str(), answer.text()), ("", prose(2000)));
}

#[tokio::test]
async fn what_the_server_says_is_heard_at_once() {
    let gate = Gate::shut();
    let backend = {
        let gate = gate.clone();
        Backend::serving(move |mut wire, _| {
            let gate = gate.clone();
            async move {
                wire.head().await;
                wire.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
                )
                .await;
                wire.send("6\r\nfirst \r\n").await;
                gate.passed().await;
                wire.send("6\r\nsecond\r\n0\r\n\r\n").await;
            }
        })
        .await
    };
    let proxy = Proxy::to([backend.address()]).route("compress = true").start().await;
    for coding in ["gzip", "br", "zstd"] {
        gate.close();
        let mut stream = proxy.get("/").header("accept-encoding", coding).open().await.unwrap();
        let mut coded = Vec::new();
        within(SOON, "the first part is heard", async {
            while decode(coding, &coded).unwrap_or_else(|so_far| so_far) != b"first " {
                coded.extend_from_slice(&stream.piece().await.unwrap().expect("more"));
            }
        })
        .await;
        gate.open();
        while let Some(piece) = stream.piece().await.unwrap() {
            coded.extend_from_slice(&piece);
        }
        assert_eq!(decode(coding, &coded), Ok(b"first second".to_vec()), "{coding}");
    }
}

#[tokio::test]
async fn an_event_stream_is_left_alone() {
    let (_backend, proxy) = before("Content-Type: text/event-stream\r\n", prose(5000).into()).await;
    let answer = proxy.get("/").header("accept-encoding", "gzip").await.expect(200);
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (String::new(), String::new()));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_off_as_whole() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n").await;
        wire.send(prose(50_000)).await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).route("compress = true").start().await;
    let mut client = proxy.wire().await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let all = client.rest().await;
    assert!(!all.ends_with(b"0\r\n\r\n"));
}

#[tokio::test]
async fn files_are_coded_unless_a_part_is_wanted() {
    let scratch = Scratch::new();
    let content = prose(200_000);
    std::fs::write(scratch.path("page.html"), &content).unwrap();
    std::fs::write(scratch.path("picture.png"), noise(50_000)).unwrap();
    let proxy = Proxy::toml(
        "[[site]]\ncompress = true\n[site.routes]\n\"/\" = { files = \"@DATA@\" }\n\
         \"/raw\" = { files = \"@DATA@\", compress = false }\n",
    )
    .fill("DATA", scratch.root().display())
    .start()
    .await;
    for _ in 0..2 {
        let answer = proxy.get("/page.html").header("accept-encoding", "br, gzip;q=0.5").await.expect(200);
        assert_eq!(answer.header("content-encoding"), "br");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string());
        assert!(decoded(&answer) == content.as_bytes());
        let tag = answer.header("etag");
        assert!(tag.starts_with("W/"), "{tag}");
        let same = proxy.get("/page.html").header("accept-encoding", "br").header("if-none-match", &tag);
        let same = same.await.expect(304);
        assert_eq!((same.header("vary"), same.header("etag")), ("Accept-Encoding".into(), tag.clone()));
        for name in ["content-type", "content-length", "content-encoding", "accept-ranges"] {
            assert_eq!(same.header(name), "", "{name} is that of a body");
        }
        let plain = proxy.get("/page.html").header("if-none-match", &tag).await.expect(304);
        assert_eq!(
            (plain.header("vary").as_str(), plain.header("etag")),
            ("Accept-Encoding", tag[2..].into())
        );
    }
    let part = proxy.get("/page.html").header("accept-encoding", "gzip").header("range", "bytes=5-9").await;
    let part = part.expect(206);
    assert_eq!((part.text(), part.header("vary")), (content[5..10].into(), "Accept-Encoding".into()));
    for path in ["/raw/page.html", "/picture.png"] {
        let answer = proxy.get(path).header("accept-encoding", "gzip").await.expect(200);
        assert_eq!(answer.header("content-encoding"), "");
        let tag = answer.header("etag");
        let same = proxy.get(path).header("accept-encoding", "gzip").header("if-none-match", &tag).await;
        assert_eq!((same.expect(304).header("vary"), answer.header("vary")), (String::new(), String::new()));
    }
    // A file that has changed is coded anew.
    let changed = prose(150_000);
    std::fs::write(scratch.path("page.html"), &changed).unwrap();
    crate::fixtures::eventually("the new one is served", async || {
        let answer = proxy.get("/page.html").header("accept-encoding", "br").await.expect(200);
        decoded(&answer) == changed.as_bytes()
    })
    .await;
}

#[tokio::test]
async fn what_has_not_changed_varies_as_it_did() {
    let backend = Backend::answering(|head| match head.contains("if-none-match") {
        true => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".into(),
        false => {
            let text = prose(5000);
            let fields = "Content-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: 5000";
            format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{text}").into()
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).route("compress = true").start().await;
    for coding in ["gzip", "identity"] {
        let get = || proxy.get("/").header("accept-encoding", coding);
        let first = get().await.expect(200);
        let same = get().header("if-none-match", &first.header("etag")).await.expect(304);
        for name in ["vary", "etag"] {
            assert_eq!(same.header(name), first.header(name), "{name}, {coding}");
        }
        assert_eq!(same.header("vary"), "Accept-Encoding");
    }
}

#[tokio::test]
async fn who_speaks_an_old_version_hears_that_others_get_it_otherwise() {
    let (_backend, proxy) = before("Content-Type: text/plain\r\n", prose(5000).into()).await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.0\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let answer = wire.answer().await.expect("an answer").expect(200);
    let said = (answer.header("vary"), answer.header("content-encoding"), answer.text());
    assert_eq!(said, ("Accept-Encoding".into(), String::new(), prose(5000)));
}

#[tokio::test]
async fn many_large_answers_at_once_are_all_whole() {
    let content = Arc::new(prose(1_000_000));
    let (_backend, proxy) = before("Content-Type: application/json\r\n", content.as_bytes().to_vec()).await;
    let requests: Vec<_> =
        (0..30).map(|_| proxy.get("/").header("accept-encoding", "zstd").spawn()).collect();
    for answer in crate::fixtures::answers(requests).await {
        assert!(decoded(&answer) == content.as_bytes());
    }
}

#[tokio::test]
async fn of_nothing_nothing_is_coded() {
    let (_backend, proxy) = before("Content-Type: text/plain\r\n", Vec::new()).await;
    let mut connection = proxy.connect().await;
    for _ in 0..2 {
        let request = connection.get("/").header("accept-encoding", "gzip, identity;q=0");
        let answer = within(SOON, "the end of nothing", connection.send(request)).await.expect("kept alive");
        let answer = answer.expect(200);
        assert_eq!((answer.header("content-encoding").as_str(), answer.body.len()), ("", 0));
        assert_eq!(answer.header("content-length"), "0");
    }
}
