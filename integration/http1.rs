//! The protocol itself, byte by byte.

use std::{io, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::fixtures::{
    Backend, Gunicorn, Proxy, SOON, Target, Wire, eventually, ms, noise, pass, run, within,
};

async fn before_app(server: &str) -> (Gunicorn, Proxy) {
    let worker = Gunicorn::app().start().await;
    let proxy = Proxy::to([worker.address()]).server(server).start().await;
    (worker, proxy)
}

const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Everything up to the end, and how it ended.
async fn rest(proxy: &Proxy, request: &str) -> (String, io::Result<()>) {
    let Target::Tcp(address) = proxy.target() else { panic!("not tcp") };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all).await.map(drop);
    (String::from_utf8_lossy(&all).into_owned(), end)
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let (_worker, proxy) = before_app("").await;
    let mut connection = proxy.connect().await;
    for number in 0..20 {
        let path = format!("/echo?{number}");
        let answer = connection.send(connection.get(&path)).await.expect("kept alive").expect(200);
        assert_eq!(answer.json()["query"], number.to_string());
    }
    soon_eq!(proxy.metrics().await.sum("bowshock_connections_total", &[]).round() as u32, 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_worker, proxy) = before_app("").await;
    let mut wire = proxy.wire().await;
    let mut requests = String::from("GET /slow?s=0.3 HTTP/1.1\r\nHost: x\r\n\r\n");
    for number in 1..5 {
        requests += &format!("POST /echo?{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    }
    wire.send(requests).await;
    wire.answer().await.expect("the slow one first").expect(200);
    for number in 1..5 {
        let echo = wire.answer().await.expect("all are answered").expect(200).json();
        assert_eq!(echo["query"], number.to_string());
    }
}

#[tokio::test]
async fn connection_close_closes() {
    let (_worker, proxy) = before_app("").await;
    let mut wire = proxy.wire().await;
    wire.send("GET /pid HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    wire.answer().await.expect("an answer").expect(200);
    assert!(wire.closes(SOON).await.is_some());
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let (_worker, proxy) = before_app("").await;
    let mut wire = proxy.wire().await;
    wire.send("POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    wire.answer().await.expect("to go on").expect(100);
    wire.send("hello").await;
    let mut answer = wire.answer().await.expect("an answer");
    if answer.status == 100 {
        answer = wire.answer().await.expect("an answer");
    }
    assert_eq!(answer.expect(200).json()["length"], 5);
}

#[tokio::test]
async fn chunked_uploads_arrive_whole() {
    let (_worker, proxy) = before_app("").await;
    let mut wire = proxy.wire().await;
    wire.send("POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in [
        "5\r\nhello\r\n",
        "6;extension=1\r\n world\r\n",
        "a\r\n",
        "0123456789\r\n",
        "0\r\nX-Trailer: 1\r\n\r\n",
    ] {
        wire.send(piece).await;
        pass(ms(20)).await;
    }
    let answer = wire.answer().await.expect("an answer").expect(200).json();
    assert_eq!(answer["length"], 21);
    wire.send("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.answer().await.expect("the connection is in order").expect(200);
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_what_it_understands() {
    let (_worker, proxy) = before_app("").await;
    let mut wire = proxy.wire().await;
    wire.send("GET /stream?n=3&s=0 HTTP/1.0\r\n\r\n").await;
    let head = wire.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.") && head.contains(" 200 "), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert_eq!(wire.rest().await, b"piece 0\npiece 1\npiece 2\n", "until the connection closes");
}

#[tokio::test]
async fn a_head_that_dribbles_is_cut_in_time() {
    let (_worker, proxy) = before_app("client_header_timeout = \"1s\"").await;
    let mut wire = proxy.wire().await;
    let start = Instant::now();
    wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    // Were the time begun anew with each byte, this would never end.
    within(SOON, "it is cut, though a byte comes every tenth of a second", async {
        while wire.try_send("x").await.is_ok() && wire.closes(ms(100)).await.is_none() {}
    })
    .await;
    assert!(start.elapsed() > ms(800), "{:?}", start.elapsed());
    // The same for who says nothing at all.
    let mut silent = proxy.wire().await;
    let start = Instant::now();
    assert!(silent.closes(SOON).await.is_some());
    assert!(start.elapsed() > ms(800), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_keepalive_timeout() {
    let (_worker, proxy) = before_app("keepalive_timeout = \"500ms\"").await;
    let mut wire = proxy.wire().await;
    wire.send("GET /pid HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.answer().await.expect("an answer").expect(200);
    let idle = wire.closes(SOON).await.expect("it closes");
    assert!(idle > ms(300), "{idle:?}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_cut_in_time() {
    let (_worker, proxy) = before_app("client_body_timeout = \"500ms\"").await;
    let mut wire = proxy.wire().await;
    wire.send("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this").await;
    assert!(wire.closes(SOON).await.is_some());
    proxy.get("/pid").await.expect(200);
}

#[tokio::test]
async fn an_oversized_head_is_431() {
    let (_worker, proxy) = before_app("").await;
    for head in [
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "x".repeat(2 << 20)),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(50_000)),
    ] {
        let mut wire = proxy.wire().await;
        // It may be cut before all of it is sent.
        let _ = wire.try_send(head).await;
        if let Some(answer) = wire.answer().await {
            answer.expect(431);
        }
    }
    proxy.get("/pid").await.expect(200);
}

#[tokio::test]
async fn what_two_programs_could_read_in_two_ways_is_400_and_reaches_nobody() {
    let backend = Backend::saying("reached").await;
    let proxy = Proxy::to([backend.address()]).start().await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /\r\nHost: x\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-A: b\rX-C: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut wire = proxy.wire().await;
        wire.send(request).await;
        wire.finish().await;
        let answer = wire.answer().await.unwrap_or_else(|| panic!("a clear answer to {request:?}"));
        assert!((400..=505).contains(&answer.status) && answer.status != 502, "{request:?}: {answer:?}");
        assert!(wire.closes(SOON).await.is_some(), "what follows cannot be trusted: {request:?}");
    }
    assert_eq!(backend.heads(), Vec::<String>::new());
    proxy.get("/").await.expect(200);
}

#[tokio::test]
async fn an_answer_that_smuggles_is_not_passed_on() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello".to_vec()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    proxy.post("/", "").await.expect(502);
}

#[tokio::test]
async fn curl_sees_that_an_answer_was_cut() {
    let (_worker, proxy) = before_app("").await;
    let address = proxy.status().await["listeners"][0]["address"].as_str().unwrap().to_owned();
    for path in ["/truncate", "/cut-chunked"] {
        let url = format!("http://{address}{path}");
        let curl = tokio::task::spawn_blocking(move || {
            run(std::process::Command::new("curl").args(["--silent", "--max-time", "10", &url]))
        });
        assert_eq!(curl.await.unwrap().0, Some(18), "{path}: a partial file");
    }
}

#[tokio::test]
async fn bodiless_answers_leave_the_connection_in_order() {
    let backend = Backend::answering(|head| {
        match head.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".into(),
            "/103" => {
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                    .into()
            }
            _ => String::from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        }
        .into_bytes()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut connection = proxy.connect().await;
    for (path, status) in
        [("/204", 204), ("/304", 304), ("/200", 200), ("/103", 200), ("/204", 204), ("/200", 200)]
    {
        connection.send(connection.get(path)).await.expect("in order").expect(status);
    }
}

#[tokio::test]
async fn an_answer_may_have_large_headers() {
    let backend = Backend::answering(|_| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Large: {}\r\n\r\nok", "x".repeat(31 << 10))
            .into_bytes()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    assert_eq!(proxy.get("/").await.expect(200).header("x-large").len(), 31 << 10);
}

#[tokio::test]
async fn a_websocket_is_passed_in_both_directions() {
    let (_worker, proxy) = before_app("").await;
    let mut wire: Wire = proxy.wire().await;
    wire.send(
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )
    .await;
    let head = wire.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    for text in ["hi", "there"] {
        let length = u8::try_from(text.len()).unwrap();
        // FIN and text; masked with zeros; the text as it is.
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat();
        wire.send(frame).await;
        let back = wire.read(2 + text.len()).await;
        assert_eq!(back, [&[0x81, length], text.as_bytes()].concat());
    }
    wire.send([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await;
    assert!(wire.closes(SOON).await.is_some());
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    let (_worker, proxy) = before_app("").await;
    // The second event is not due before this test has given up.
    let mut events = proxy.get("/sse?s=60").open().await.unwrap();
    assert_eq!(events.status(), 200);
    assert_eq!(events.piece().await.unwrap().unwrap(), "data: 0\n\n");
    let mut pieces = proxy.get("/stream?n=3&s=0.3").open().await.unwrap();
    let start = Instant::now();
    for number in 0..3 {
        assert_eq!(pieces.piece().await.unwrap().unwrap(), format!("piece {number}\n"));
    }
    assert!(start.elapsed() > ms(400), "not all at once");
}

#[tokio::test]
async fn a_slow_client_gets_all_of_a_large_answer() {
    let body = noise(32 << 20);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), &body].concat();
    let backend = Backend::answering(move |_| answer.clone()).await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let before = proxy.resident();
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    pass(ms(700)).await;
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 12 << 20, "the worker waits, not our memory: {grown} bytes");
    assert!(wire.answer().await.expect("an answer").expect(200).body == body);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_after_send_timeout() {
    let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n"[..], &noise(32 << 20)].concat();
    let backend = Backend::answering(move |_| answer.clone()).await;
    let proxy = Proxy::to([backend.address()]).server("send_timeout = \"500ms\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    eventually("it was given up", async || proxy.inflight().await == [0]).await;
    assert!(wire.rest().await.len() < 32 << 20);
}

#[tokio::test]
async fn past_max_connections_new_ones_wait_until_one_closes() {
    let (_worker, proxy) = before_app("max_connections = 2").await;
    let mut connections = vec![proxy.connect().await, proxy.connect().await];
    for connection in &mut connections {
        let request = connection.get("/pid");
        connection.send(request).await.unwrap().expect(200);
    }
    let third = proxy.get("/pid").spawn();
    pass(ms(500)).await;
    assert!(!third.is_finished(), "there are two");
    connections.pop();
    third.await.unwrap().expect("its turn has come").expect(200);
}

#[tokio::test]
async fn a_cut_answer_ends_with_a_reset_even_when_the_client_sent_more_than_its_request() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        pass(ms(100)).await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let (part, end) = rest(&proxy, "GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    assert!(part.ends_with("hello") && end.is_err(), "a reset: {end:?}");
    let (part, end) = rest(&proxy, "GET / HTTP/1.0\r\nHost: x\r\n\r\n\r\n").await;
    assert!(part.ends_with("hello") && end.is_err(), "a cut answer passed off as whole: {end:?}");
}

#[tokio::test]
async fn a_tunnel_that_breaks_gets_no_error_page() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        wire.send("frame").await;
        pass(ms(5000)).await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).with("read_timeout = \"1s\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send(WEBSOCKET).await;
    wire.read_until("frame").await;
    let after = wire.rest().await;
    assert!(after.is_empty(), "in the middle of frames: {}", String::from_utf8_lossy(&after));
}

#[tokio::test]
async fn http_10_gets_no_interim_answers() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let (answer, _) = rest(&proxy, "GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn connections_that_linger_count_too() {
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::to([backend.address()]).server("max_connections = 20").start().await;
    let descriptors = format!("/proc/{}/fd", proxy.status().await["pid"]);
    let mut wires = Vec::new();
    for _ in 0..200 {
        let mut wire = proxy.wire().await;
        wire.send("GET / HTTP/7\r\n\r\nX").await;
        wires.push(wire);
    }
    pass(ms(300)).await;
    let open = std::fs::read_dir(descriptors).unwrap().count();
    assert!(open < 80, "{open} descriptors with max_connections = 20");
}

#[tokio::test]
async fn a_slow_upload_is_not_the_servers_silence() {
    let backend = Backend::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()).await;
    let proxy = Proxy::to([backend.address()]).with("read_timeout = \"1s\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello").await;
    pass(ms(1700)).await;
    let _ = wire.try_send("world").await;
    wire.answer().await.unwrap().expect(200);
}

#[tokio::test]
async fn tunnels_that_open_at_the_same_time_all_stay_open() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        let back = wire.read(4).await;
        wire.send(back).await;
        pass(ms(5000)).await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut tunnels = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let target = proxy.target();
        tunnels.spawn(async move {
            let mut wire = Wire::to(&target).await;
            wire.send(WEBSOCKET).await;
            wire.read_until("\r\n\r\n").await;
            wire.send("ping").await;
            wire.read(4).await == b"ping"
        });
    }
    let whole = tunnels.join_all().await.into_iter().filter(|whole| *whole).count();
    assert_eq!(whole, 300);
}

#[tokio::test]
async fn a_connection_that_is_not_kept_says_so() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).server("keepalive_timeout = \"0s\"").start().await;
    for version in ["HTTP/1.1", "HTTP/1.0\r\nConnection: keep-alive"] {
        let mut wire = proxy.wire().await;
        wire.send(format!("GET / {version}\r\nHost: x\r\n\r\n")).await;
        let answer = wire.answer().await.expect("an answer").expect(200);
        assert_eq!(answer.header("connection"), "close", "{version}");
        assert_eq!(wire.rest().await, b"");
    }
}

#[tokio::test]
async fn a_server_is_told_that_its_connection_is_not_kept() {
    let app = Backend::saying("ok").await;
    let proxy = Proxy::to([app.address()]).start().await;
    proxy.get("/").await.expect(200);
    // A server that does not read a body would take it for the next request.
    proxy.post("/", "body").await.expect(200);
    let heads = app.heads();
    assert!(!heads[0].to_lowercase().contains("connection:"), "{}", heads[0]);
    assert!(heads[1].lines().any(|line| line == "Connection: close"), "{}", heads[1]);
}

#[tokio::test]
async fn a_websocket_may_have_raw_characters_in_its_target() {
    let app = Backend::serving(|mut wire, heads| async move {
        while let Some(head) = wire.head().await {
            heads.lock().unwrap().push(head);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = Proxy::to([app.address()]).start().await;
    let mut wire = proxy.wire().await;
    wire.send(WEBSOCKET.replace("GET /", "GET /ws?q={\"a\":<1>}")).await;
    wire.answer().await.expect("an answer").expect(200);
    assert!(app.heads()[0].starts_with("GET /ws?q={\"a\":<1>} HTTP/1.1"), "{:?}", app.heads());
}
