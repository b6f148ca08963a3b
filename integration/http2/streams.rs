//! Requests and answers on streams.

use std::sync::Arc;

use super::before;
use crate::fixtures::{
    Backend, End, Frames, Gate, Proxy, Scratch, Wire, answers,
    frames::{
        self, END_STREAM, FRAME_SIZE_ERROR, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
        REFUSED_STREAM, get, headers, post, reset, window,
    },
    ms, noise, pass,
};

/// A worker that repeats the body that it gets.
async fn echo() -> Backend {
    Backend::serving(|mut wire, heads| async move {
        while let Some((head, body)) = wire.request().await {
            heads.lock().unwrap().push(head);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if wire.try_send([head.as_bytes(), &body].concat()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_hundred_requests_share_a_connection() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).start().await;
    let connection = proxy.h2().connect().await.unwrap();
    let requests: Vec<_> = (0..100).map(|_| connection.spawn(connection.get("/"))).collect();
    soon_eq!(proxy.inflight().await, [100]);
    assert_eq!(proxy.status().await["listeners"][1]["connections"], 1);
    gate.open();
    answers(requests).await;
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused_and_cost_nobody_anything() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).server("[server.http2]\nmax_concurrent_streams = 10").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    assert!(client.settings.contains(&(MAX_CONCURRENT_STREAMS, 10)), "{:?}", client.settings);
    for number in 0..11 {
        client.send(get(2 * number + 1, "/")).await;
    }
    assert_eq!(client.end_of(21).await, End::Reset(REFUSED_STREAM));
    gate.open();
    for number in 0..10 {
        assert_eq!(client.end_of(2 * number + 1).await, End::Answer(200, b"ok".into()));
    }
    assert_eq!(client.ask(23, get(23, "/")).await.status(), Some(200), "there is room again");
}

#[tokio::test]
async fn a_worker_is_told_who_asks_and_how() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).start().await;
    let request = proxy.h2().get("/path?query").header("x-forwarded-proto", "http");
    let answer = request.header("cookie", "a=1").await.expect(200);
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("connection"), "");
    let head = app.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /path?query http/1.1\r\nhost: localhost\r\n"), "{head}");
    for field in [
        "x-forwarded-proto: https",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: localhost",
        "x-forwarded-port: 443",
    ] {
        assert!(head.lines().any(|line| line == field), "{field} is not in\n{head}");
    }
}

#[tokio::test]
async fn cookies_come_as_one() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let fields = [&frames::fields("GET", "/")[..], &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")]];
    client.ask(1, headers(1, END_STREAM, &fields.concat())).await;
    let head = app.heads()[0].to_ascii_lowercase();
    let cookies: Vec<&str> = head.lines().filter(|line| line.starts_with("cookie:")).collect();
    assert_eq!(cookies, ["cookie: a=1; b=2; c=3"]);
}

#[tokio::test]
async fn bodies_of_every_size_come_back_as_they_went() {
    let app = echo().await;
    let proxy = before(&app).start().await;
    let mut connection = proxy.h2().connect().await.unwrap();
    for size in [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 300_000, 3_000_000] {
        let body = noise(size);
        let request = proxy.h2().request("POST", "/").body(body.clone());
        let answer = connection.send(request).await.unwrap().expect(200);
        assert!(answer.body == body, "{size} bytes");
    }
    assert_eq!(proxy.status().await["listeners"][1]["connections"], 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_on_in_chunks() {
    let app = echo().await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(post(1, "/")).await;
    client.send(frames::frame(frames::DATA, 0, 1, "first, ")).await;
    client.send(frames::frame(frames::DATA, frames::PADDED, 1, b"\x04second\0\0\0\0")).await;
    client.send(frames::frame(frames::DATA, END_STREAM, 1, "")).await;
    assert_eq!(client.end_of(1).await, End::Answer(200, b"first, second".into()));
    assert!(app.heads()[0].to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked"));
}

#[tokio::test]
async fn trailers_of_a_client_end_its_body() {
    let app = echo().await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(post(1, "/")).await;
    client.send(frames::frame(frames::DATA, 0, 1, "body")).await;
    assert_eq!(
        client.ask(1, headers(1, END_STREAM, &[("x-checksum", "1")])).await,
        End::Answer(200, b"body".into())
    );
    assert!(!app.heads()[0].contains("checksum"));
}

#[tokio::test]
async fn answers_without_bodies_end_with_their_heads() {
    let app = Backend::answering(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = match path {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n",
            "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        };
        answer.into()
    })
    .await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    for (number, (method, path)) in
        [("GET", "/204"), ("GET", "/304"), ("GET", "/empty"), ("HEAD", "/")].into_iter().enumerate()
    {
        let stream = u32::try_from(2 * number + 1).unwrap();
        client.send(headers(stream, END_STREAM, &frames::fields(method, path))).await;
        let head = client.until(|frame| frame.kind == HEADERS).await;
        assert_eq!((head.stream, head.flags & END_STREAM), (stream, END_STREAM), "{method} {path}");
    }
    let answer = proxy.h2().request("HEAD", "/").await.expect(200);
    assert_eq!(answer.header("content-length"), "9");
}

#[tokio::test]
async fn interim_answers_come_before_the_last_one() {
    let app = Backend::answering(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .into()
    })
    .await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    assert_eq!(client.ask(1, get(1, "/")).await, End::Answer(200, b"ok".into()));
    assert_eq!(client.interim, [103]);
}

#[tokio::test]
async fn who_waits_to_be_asked_for_its_body_is_asked() {
    let app = Backend::serving(|mut wire, _| async move {
        let Some(head) = wire.head().await else { return };
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"));
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        wire.read(4).await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        wire.rest().await;
    })
    .await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let fields =
        [&frames::fields("PUT", "/")[..], &[("expect", "100-continue"), ("content-length", "4")]].concat();
    client.send(headers(1, 0, &fields)).await;
    let interim = client.until(|frame| frame.kind == HEADERS).await;
    assert_eq!(interim.flags & END_STREAM, 0);
    let body = frames::frame(frames::DATA, END_STREAM, 1, "body");
    assert_eq!(client.ask(1, body).await, End::Answer(200, b"ok".into()));
}

#[tokio::test]
async fn a_client_that_resets_its_stream_frees_its_place_and_its_worker() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).with("max_requests = 1").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(get(1, "/first")).await;
    soon_eq!(proxy.inflight().await, [1]);
    client.send(get(3, "/second")).await;
    client.send(get(5, "/third")).await;
    soon_eq!(proxy.waiting().await, 2);
    client.send(reset(3)).await;
    soon_eq!(proxy.waiting().await, 1, "who waits leaves the queue");
    client.send(reset(1)).await;
    soon_eq!(proxy.waiting().await, 0, "who is served makes room");
    gate.open();
    assert_eq!(client.end_of(5).await, End::Answer(200, b"ok".into()));
    soon_eq!(proxy.inflight().await, [0]);
}

#[tokio::test]
async fn a_client_that_leaves_frees_all_its_places() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    for number in 0..20 {
        client.send(get(2 * number + 1, "/")).await;
    }
    soon_eq!(proxy.inflight().await, [20]);
    drop(client);
    soon_eq!(proxy.inflight().await, [0]);
    soon_eq!(proxy.status().await["listeners"][1]["connections"], 0);
}

#[tokio::test]
async fn an_upload_that_is_cut_never_looks_whole_to_a_worker() {
    let (cut, mut was_cut) = tokio::sync::mpsc::unbounded_channel();
    let app = Backend::serving(move |mut wire, _| {
        let cut = cut.clone();
        async move {
            // Who only connects asks whether it is there.
            let Some(_) = wire.head().await else { return };
            cut.send(String::from_utf8_lossy(&wire.rest().await).into_owned()).unwrap();
        }
    })
    .await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(post(1, "/")).await;
    client.send(frames::frame(frames::DATA, 0, 1, "part")).await;
    soon_eq!(proxy.inflight().await, [1]);
    pass(ms(100)).await;
    client.send(reset(1)).await;
    assert_eq!(was_cut.recv().await.unwrap(), "4\r\npart\r\n");
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_whole_to_a_client() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let app = Backend::serving(move |mut wire, _| async move {
            wire.head().await;
            let body = if framing.starts_with('C') { "part" } else { "4\r\npart\r\n" };
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}")).await;
        })
        .await;
        let proxy = before(&app).start().await;
        let mut client = Frames::to(&proxy.h2()).await;
        assert!(matches!(client.ask(1, get(1, "/")).await, End::Reset(code) if code != 0), "{framing}");
        let answer = proxy.h2().get("/").send().await;
        assert!(answer.is_err(), "{framing}: {answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_whole() {
    let app = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    })
    .await;
    let proxy = before(&app).start().await;
    assert_eq!(proxy.h2().get("/").await.expect(200).text(), "all of it");
}

#[tokio::test]
async fn windows_hold_back_those_streams_alone() {
    let body = Arc::new(noise(1 << 20));
    let sent = Arc::clone(&body);
    let app = Backend::serving(move |mut wire: Wire, _| {
        let sent = Arc::clone(&sent);
        async move {
            while wire.head().await.is_some() {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
                if wire.try_send([head.as_bytes(), &sent].concat()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let proxy = before(&app).start().await;
    let mut client = Frames::with(&proxy.h2(), &[(INITIAL_WINDOW_SIZE, 1000)], 1 << 30).await;
    client.send(get(1, "/")).await;
    let mut came = 0;
    while came < 1000 {
        came += client.until(|frame| frame.kind == frames::DATA).await.payload.len();
    }
    assert_eq!(came, 1000);
    assert_eq!(client.next_within(ms(200)).await, None, "not a byte more");
    // Another stream, with all the room that it needs, is served meanwhile.
    client.send([get(3, "/"), window(3, 1 << 24)].concat()).await;
    assert!(matches!(client.end_of(3).await, End::Answer(200, got) if got[..] == body[..]));
    client.send(window(1, 1 << 24)).await;
    assert!(matches!(client.end_of(1).await, End::Answer(0, got) if got[..] == body[1000..]));
}

#[tokio::test]
async fn files_and_ranges_are_the_same_over_every_protocol() {
    let scratch = Scratch::new();
    let sizes = [0, 1, 1000, 16_384, 32_768, 32_769, 100_000, 5_000_000];
    for size in sizes {
        scratch.write(&format!("{size}.bin"), noise(size));
    }
    let proxy = Proxy::toml("[[site]]\n[site.routes]\n\"/\" = { files = \"@ROOT@\" }\n")
        .fill("ROOT", scratch.root().display())
        .secure()
        .start()
        .await;
    let (plain, https, h2) = (proxy.target(), proxy.https(), proxy.h2());
    for size in sizes {
        let path = format!("/{size}.bin");
        for range in
            ["", "bytes=0-0", "bytes=5-", "bytes=-7", "bytes=100-70000", "bytes=1-2,50-60", "bytes=9999999-"]
        {
            let ask = async |target: &crate::fixtures::Target| {
                let request = target.get(&path);
                let request = if range.is_empty() { request } else { request.header("range", range) };
                request.await
            };
            let expected = ask(&plain).await;
            for target in [&https, &h2] {
                let got = ask(target).await;
                assert_eq!(got.status, expected.status, "{path} {range} {target:?}");
                for field in ["content-range", "content-length", "etag"] {
                    assert_eq!(got.header(field), expected.header(field), "{path} {range} {target:?}");
                }
                // The parts of several ranges have a boundary between them that is another each time.
                let is_same = range.contains(',') || got.body == expected.body;
                assert!(is_same && got.body.len() == expected.body.len(), "{path} {range} {target:?}");
            }
        }
    }
}

#[tokio::test]
async fn heads_larger_than_allowed_are_431() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).server("[server.http2]\nmax_header_list = \"8k\"").start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let large = "x".repeat(9000);
    let fields = [&frames::fields("GET", "/")[..], &[("x-large", &large)]].concat();
    assert_eq!(client.ask(1, headers(1, END_STREAM, &fields)).await.status(), Some(431));
    assert_eq!(client.ask(3, get(3, "/")).await.status(), Some(200), "the connection goes on");
    assert_eq!(app.heads().len(), 1);
}

#[tokio::test]
async fn frames_larger_than_allowed_end_the_connection() {
    let app = Backend::saying("ok").await;
    let proxy = before(&app).start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    client.send(post(1, "/")).await;
    client.try_send(frames::frame(frames::DATA, 0, 1, noise((64 << 10) + 1))).await.ok();
    assert_eq!(client.end().await, End::GoAway(FRAME_SIZE_ERROR));
}
