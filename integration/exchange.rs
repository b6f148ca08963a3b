//! The exchange with a server where it goes wrong: bodies and answers that cross, attempts that fail in between, and
//! what follows on the same connections.

mod crossing;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::fixtures::{
    Backend, Gate, Proxy, SOON, Scratch, Target, Wire, eventually, ms, noise, pass, vacant,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Where an answer of chunks has begun.
const BEGUN: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn tcp(proxy: &Proxy) -> TcpStream {
    let Target::Tcp(address) = proxy.target() else { panic!("not tcp") };
    TcpStream::connect(address).await.unwrap()
}

/// What comes on this connection within a moment, if it ends as chunks do.
async fn whole_chunks(wire: &mut Wire) -> Option<Vec<u8>> {
    let all = tokio::time::timeout(ms(1000), wire.head()).await.ok()??;
    all.ends_with("\r\n0").then(|| all.into_bytes())
}

#[tokio::test]
async fn a_head_that_is_followed_by_death_is_never_followed_by_another_head() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.read(5).await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    for method in ["POST", "PUT"] {
        let mut client = proxy.wire().await;
        // Half of its body is still to come.
        client.send(format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")).await;
        let all = text(&client.rest().await);
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{method}: an answer within another: {all}");
    }
}

#[tokio::test]
async fn a_body_that_turns_bad_after_the_answer_has_begun_is_not_passed_off_as_whole() {
    for bad in ["14\r\nbbbbbbbbbbbbbbbbbbbb\r\n", "1\nb\n"] {
        let gate = Gate::shut();
        let (taken, mut whole) = mpsc::unbounded_channel();
        let backend = {
            let gate = gate.clone();
            Backend::serving(move |mut wire, _| {
                let (taken, gate) = (taken.clone(), gate.clone());
                async move {
                    if wire.head().await.is_none() {
                        return;
                    }
                    wire.send(BEGUN).await;
                    gate.passed().await;
                    // It may be cut by now.
                    let _ = wire.try_send("1\r\nx\r\n").await;
                    taken.send(whole_chunks(&mut wire).await).unwrap();
                }
            })
            .await
        };
        let proxy = Proxy::to([backend.address()]).route("max_body = \"10b\"").start().await;
        let mut client = proxy.wire().await;
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
        client.read_until("begun").await;
        client.send(bad).await;
        pass(ms(100)).await;
        // As above.
        let _ = client.try_send("1\r\nc\r\n0\r\n\r\n").await;
        gate.open();
        let body = whole.recv().await.expect("it was asked");
        assert_eq!(body.as_deref().map(text), None, "{bad:?}");
    }
}

#[tokio::test]
async fn a_server_that_waits_for_the_rest_of_a_body_gets_no_other_request() {
    let gate = Gate::shut();
    let backend = {
        let gate = gate.clone();
        Backend::serving(move |mut wire, heads| {
            let gate = gate.clone();
            async move {
                while let Some(head) = wire.head().await {
                    let is_first = head.contains("/first");
                    heads.lock().unwrap().push(head);
                    if is_first {
                        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
                        gate.passed().await;
                        wire.send("cd").await;
                    } else if wire.try_send(OK).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    };
    let proxy = Proxy::to([backend.address()]).route("max_body = \"10b\"").start().await;
    let mut client = proxy.wire().await;
    client.send("GET /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    client.read_until("ab").await;
    client.send("14\r\nbbbbbbbbbbbbbbbbbbbb\r\n0\r\n\r\n").await;
    pass(ms(200)).await;
    gate.open();
    client.rest().await;
    let mut others = Vec::new();
    for _ in 0..4 {
        // Held open, so that each thread has some of them.
        let mut other = proxy.wire().await;
        other.send("GET /other HTTP/1.1\r\nHost: x\r\n\r\n").await;
        other.answer().await.expect("an answer").expect(200);
        others.push(other);
    }
    for head in backend.heads() {
        assert!(head.starts_with("GET /"), "the request of another as a part of a body: {head}");
    }
}

#[tokio::test]
async fn a_request_behind_one_that_cannot_be_sent_again_stays_what_it_is() {
    let next = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
    for (body, is_whole) in [
        ("Content-Length: 5\r\n\r\nhello", true),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true),
        ("Content-Length: 50\r\n\r\nhello", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::toml(
            "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\", hold = \"0s\" }\n\
             \"= /next\" = { answer = 200, body = \"next\" }\n[upstream.app]\nservers = [\"@SERVER@\"]\n",
        )
        .fill("SERVER", listener.local_addr().unwrap())
        .start()
        .await;
        let dies = tokio::spawn(async move {
            loop {
                let mut wire = Wire::on(listener.accept().await.unwrap().0);
                if wire.head().await.is_some() {
                    wire.read_until("hello").await;
                    // With its listener, before a byte of answer.
                    return;
                }
            }
        });
        let mut client = proxy.wire().await;
        let more = if is_whole { next } else { "" };
        client.send(format!("PUT /1 HTTP/1.1\r\nHost: x\r\n{body}{more}")).await;
        client.answer().await.expect("an answer").expect(503);
        if !is_whole {
            // What comes now is the rest of the body. It may be cut by now.
            let _ = client.try_send(next).await;
            assert!(client.answer().await.is_none(), "{body}");
        } else if let Some(answer) = client.answer().await {
            assert_eq!(answer.expect(200).text(), "next", "{body}");
        }
        dies.await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_is_noticed_though_the_answer_has_begun() {
    let (left, mut noticed) = mpsc::unbounded_channel();
    let backend = Backend::serving(move |mut wire, _| {
        let left = left.clone();
        async move {
            if wire.head().await.is_none() {
                return;
            }
            wire.send(BEGUN).await;
            left.send(wire.closes(SOON).await).unwrap();
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut client = proxy.wire().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello").await;
    client.read_until("begun").await;
    drop(client);
    assert!(noticed.recv().await.unwrap().is_some(), "the server is kept busy for nobody");
    eventually("its place is free", async || proxy.inflight().await == [0]).await;
}

#[tokio::test]
async fn a_slow_upload_is_not_the_servers_silence_when_the_answer_has_begun() {
    let backend = Backend::serving(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
        wire.read(10).await;
        // It may have been given up.
        let _ = wire.try_send("ok").await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).with("read_timeout = \"1s\"").start().await;
    let mut client = proxy.wire().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n").await;
    for _ in 0..10 {
        pass(ms(200)).await;
        let _ = client.try_send("x").await;
    }
    let answer = client.answer().await.expect("an answer").expect(200);
    assert_eq!(answer.text(), "ok");
}

#[tokio::test]
async fn what_a_server_sends_beside_its_answer_is_nobodys_answer() {
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
    let backend = Backend::answering(move |head| {
        let answer = match head.split(' ').nth(1).unwrap() {
            "/204" => "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "/length" => OK,
            _ => return OK.into(),
        };
        format!("{answer}{extra}").into_bytes()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    for path in ["/204", "/304", "/head", "/chunked", "/length"] {
        let mut client = proxy.wire().await;
        let method = if path == "/head" { "HEAD" } else { "GET" };
        let first = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        client.send(format!("{first}GET /next HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        client.answer_to(method).await.expect("an answer");
        assert_eq!(client.answer().await.expect("another").expect(200).text(), "ok", "{path}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_leaves_the_clients_open() {
    let backend = Backend::serving(|mut wire, _| async move {
        let Some(head) = wire.head().await else { return };
        let version = if head.contains("/old") { "HTTP/1.0" } else { "HTTP/1.1" };
        wire.send(format!("{version} 200 OK\r\n\r\nuntil the end")).await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut client = proxy.wire().await;
    for path in ["/old", "/new", "/old"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let answer = client.answer().await.expect("an answer").expect(200);
        assert_eq!(
            (answer.text().as_str(), answer.header("transfer-encoding").as_str()),
            ("until the end", "chunked")
        );
    }
}

#[tokio::test]
async fn a_target_that_is_no_path_is_400() {
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::to([backend.address()]).start().await;
    for line in
        ["GET http://user@a.example/", "GET http://user:word@a.example/", "GET a.example", "GET a.example:80"]
    {
        let mut client = proxy.wire().await;
        client.send(format!("{line} HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
        let answer = client.answer().await.expect("an answer");
        assert_eq!(answer.status, 400, "{line}: {answer:?} {:?}", backend.heads());
    }
    assert_eq!(backend.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_in_place_of_an_answer_has_one_date() {
    let scratch = Scratch::new();
    let path = scratch.write("data.txt", "data");
    let path = path.display().to_string();
    let backend = Backend::answering(move |_| {
        format!(
            "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: app\r\n\
             X-Accel-Redirect: /_x{path}\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    })
    .await;
    let proxy = Proxy::handing_over(scratch.root(), &backend).start().await;
    let answer = proxy.get("/").await.expect(200);
    assert_eq!((answer.text().as_str(), answer.all("date").len()), ("data", 1), "{answer:?}");
}

#[tokio::test]
async fn who_sends_a_body_behind_a_bad_head_reads_why() {
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let (mut read, mut write) = tcp(&proxy).await.into_split();
    let writing = tokio::spawn(async move {
        let head = "POST / HTTP/1.1\r\nHost: a b\r\nContent-Length: 3000000\r\n\r\n";
        write.write_all(&[head.as_bytes(), &noise(3_000_000)].concat()).await?;
        Ok::<_, io::Error>(write)
    });
    let mut all = Vec::new();
    let end = read.read_to_end(&mut all).await;
    assert!(text(&all).starts_with("HTTP/1.1 400 "), "{}", text(&all));
    assert!(
        end.is_ok() && writing.await.unwrap().is_ok(),
        "no reset, which could cost it the answer: {end:?}"
    );
}

#[tokio::test]
async fn a_server_that_left_with_work_and_came_back_is_counted() {
    let gate = Gate::shut();
    let backend = {
        let gate = gate.clone();
        Backend::serving(move |mut wire, heads| {
            let gate = gate.clone();
            async move {
                while let Some(head) = wire.head().await {
                    if head.contains("/slow") {
                        gate.passed().await;
                    }
                    heads.lock().unwrap().push(head);
                    if wire.try_send(OK).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    };
    let other = Backend::saying("ok").await;
    let mut proxy = Proxy::to([backend.address()]).start().await;
    proxy.get("/").await.expect(200);
    let slow = proxy.get("/slow").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    proxy.reload(Proxy::to([other.address()])).await;
    proxy.metrics().await;
    proxy.reload(Proxy::to([backend.address()])).await;
    gate.open();
    slow.await.unwrap().unwrap().expect(200);
    let label = format!("server=\"{}\"", backend.address());
    let answers =
        async || proxy.metrics().await.sum("bowshock_upstream_requests_total", &[&label]).round() as u32;
    let before = answers().await;
    proxy.get("/").await.expect(200);
    assert_eq!(answers().await, before + 1);
}

#[tokio::test]
async fn kept_connections_to_a_server_that_is_gone_are_closed() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let backend = Backend::serving(move |mut wire, _| {
        let ends = ends.clone();
        async move {
            while wire.head().await.is_some() {
                wire.send(OK).await;
            }
            ends.send(()).unwrap();
        }
    })
    .await;
    let other = Backend::saying("other").await;
    let mut proxy = Proxy::to([backend.address()]).with("keepalive = \"2s\"").start().await;
    let mut client = proxy.connect().await;
    client.send(client.get("/")).await.unwrap().expect(200);
    proxy.reload(Proxy::to([other.address()])).await;
    assert_eq!(client.send(client.get("/")).await.unwrap().expect(200).text(), "other");
    ended.recv().await.unwrap();
}

#[tokio::test]
async fn an_answer_is_dated_when_it_is_made() {
    let address = vacant();
    let proxy = Proxy::to([&address]).start().await;
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    pass(ms(3000)).await;
    let back = SystemTime::now();
    let _backend = Backend::saying_at(&address, "ok").await;
    let answer = request.await.unwrap().unwrap().expect(200);
    let date = httpdate::parse_http_date(&answer.header("date")).unwrap();
    assert!(date + ms(1500) > back, "{date:?} is long before {back:?}");
}

#[tokio::test]
async fn an_interim_answer_before_death_does_not_make_a_request_safe_to_repeat() {
    let backend = Backend::serving(|mut wire, heads| async move {
        let head = wire.head().await;
        heads.lock().unwrap().extend(head);
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await;
        wire.read(5).await;
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let mut client = proxy.wire().await;
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").await;
    client.answer().await.expect("hints").expect(103);
    client.answer().await.expect("an answer").expect(502);
    assert_eq!(backend.heads().len(), 1);
}

#[tokio::test]
async fn fields_that_frame_or_name_cannot_be_taken_away_by_connection() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let arrived = Arc::clone(&bodies);
    let backend = Backend::serving(move |mut wire: Wire, heads| {
        let arrived = Arc::clone(&arrived);
        async move {
            while let Some((head, body)) = wire.request().await {
                heads.lock().unwrap().push(head.to_lowercase());
                arrived.lock().unwrap().push(body);
                wire.send(OK).await;
            }
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let named = "Connection: content-length, transfer-encoding, host, x-forwarded-for, x-real-ip, x-request-id, x-y\r\n\
                 X-Y: z\r\n";
    for body in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let mut client = proxy.wire().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a.example\r\n{named}{body}")).await;
        client.answer().await.expect("an answer").expect(200);
    }
    for head in backend.heads() {
        for field in
            ["host: a.example", "x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "x-request-id: "]
        {
            assert!(head.contains(field), "{field} in {head}");
        }
        assert!(!head.contains("x-y"), "{head}");
    }
    assert_eq!(*bodies.lock().unwrap(), [b"hello", b"hello"]);
}

/// The time that a process has spent on processors so far.
fn processor_time(pid: &serde_json::Value) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ms(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[tokio::test]
async fn exchanges_that_wait_cost_nothing() {
    let body = noise(8 << 20);
    let backend = Backend::serving(move |mut wire, heads| {
        let body = body.clone();
        async move {
            let Some(head) = wire.head().await else { return };
            let path = head.split(' ').nth(1).unwrap().to_owned();
            heads.lock().unwrap().push(head);
            match path.as_str() {
                "/begun" => wire.send(BEGUN).await,
                // The client takes none of it, and it may end before that is all.
                "/large" | "/slow" => {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n").await;
                    let _ = wire.try_send(&body).await;
                }
                _ => {}
            }
            // Reads nothing more, and lives as long as the test.
            pass(SOON).await;
        }
    })
    .await;
    let proxy = Proxy::to([backend.address()])
        .with("[[site]]\nhost = \"slow\"\n[site.routes]\n\"/\" = { proxy = \"app\", limit_rate = \"1k\" }\n")
        .start()
        .await;
    let more = noise(32 << 20);
    let mut clients = Vec::new();
    for (line, fields, rest) in [
        ("POST /upload", "Host: x\r\nContent-Length: 1000", &b"some"[..]),
        ("POST /begun", "Host: x\r\nContent-Length: 1000", b"some"),
        ("PUT /chunks", "Host: x\r\nTransfer-Encoding: chunked", b"4\r\nsome\r\n"),
        ("POST /blocked", "Host: x\r\nContent-Length: 33554432", &more[..]),
        ("POST /begun", "Host: x\r\nContent-Length: 33554432", &more[..]),
        ("GET /large", "Host: x", b""),
        ("GET /slow", "Host: slow", b""),
        ("POST /large", "Host: x\r\nContent-Length: 1000", b"some"),
        ("GET /silent", "Host: x", &b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000)),
    ] {
        let mut client = tcp(&proxy).await;
        client.write_all(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).await.unwrap();
        // As much as is taken within a moment.
        let _ = tokio::time::timeout(ms(300), client.write_all(rest)).await;
        clients.push(client);
    }
    eventually("all have arrived", async || backend.heads().len() == clients.len()).await;
    pass(ms(500)).await;
    let pid = proxy.status().await["pid"].clone();
    let before = processor_time(&pid);
    pass(ms(1000)).await;
    let spent = processor_time(&pid) - before;
    assert!(spent < ms(100), "{spent:?} within a second");
}

#[tokio::test]
async fn nothing_that_follows_a_malformed_body_with_an_upgrade_is_a_request() {
    for body in ["0\n\r\n", "1\na\n0\r\n\r\n", "1;\n\r\na\r\n0\r\n\r\n", "0\r\nX: y\n\r\n"] {
        let backend = Backend::saying("ok").await;
        let proxy = Proxy::to([backend.address()]).start().await;
        let mut client = proxy.wire().await;
        let head = "POST /first HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let _ = client.answer().await;
        client.closes(ms(1000)).await;
        assert!(!backend.paths().contains(&"/smuggled".into()), "{body:?}: {:?}", backend.heads());
    }
}
