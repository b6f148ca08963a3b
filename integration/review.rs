//! What a review found: each of these fails at 0c1ef91 and says what should be.

use std::{io, time::Instant};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::fixtures::{Backend, Proxy, SOON, Scratch, Target, Wire, eventually, ms, pass};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const WEBSOCKET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An address that nobody listens on yet.
fn vacant() -> String {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string()
}

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
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
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
async fn a_body_sent_again_is_counted_once() {
    let backend = Backend::serving(|mut wire, heads| async move {
        let Some(head) = wire.head().await else { return };
        wire.read(40_000).await;
        let first = heads.lock().unwrap().is_empty();
        heads.lock().unwrap().push(head);
        if !first {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = Proxy::toml(&format!(
        "[[site]]\nmax_body = \"60000b\"\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n[upstream.app]\n\
         servers = [\"{}\"]",
        backend.address()
    ))
    .start()
    .await;
    proxy.request("PUT", "/").body(vec![7; 40_000]).send().await.unwrap().expect(200);
}

#[tokio::test]
async fn hold_is_the_time_a_request_waits_and_not_the_time_it_was_worked_on() {
    let address = vacant();
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let proxy = Proxy::to([&address]).with("hold = \"2s\"").start().await;
    let request = proxy.get("/").spawn();
    let (mut worked_on, _) = listener.accept().await.unwrap();
    let _ = worked_on.read(&mut [0; 1000]).await.unwrap();
    pass(ms(2500)).await;
    // The worker restarts: it is away for half a second.
    drop((worked_on, listener));
    pass(ms(500)).await;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(16).unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = socket.accept() {
            let mut stream = std::net::TcpStream::from(stream);
            std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                if stream.read(&mut [0; 1000]).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    request.await.unwrap().unwrap().expect(200);
}

#[tokio::test]
async fn a_reload_that_takes_an_upstream_away_frees_those_who_wait_for_it() {
    let site = |name: &str, server: &str| {
        Proxy::toml(&format!(
            "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"{name}\" }}\n[upstream.{name}]\nhold = \"60s\"\n\
             servers = [\"{server}\"]"
        ))
    };
    let mut proxy = site("old", &vacant()).start().await;
    let waiting = proxy.get("/").spawn();
    eventually("it waits", async || proxy.status().await["upstreams"][0]["waiting"] == 1).await;
    let backend = Backend::saying("new").await;
    proxy.reload(site("new", &backend.address())).await;
    proxy.get("/").send().await.unwrap().expect(200);
    let answer = tokio::time::timeout(SOON, waiting).await.expect("nobody will ever come to free it");
    answer.unwrap().unwrap().expect(200);
}

#[tokio::test]
async fn requests_sent_before_a_stop_are_answered() {
    let backend = Backend::saying("ok").await;
    let mut proxy = Proxy::to([backend.address()]).start().await;
    let mut wires = Vec::new();
    for _ in 0..30 {
        let mut wire = proxy.wire().await;
        wire.send(GET).await;
        wire.answer().await.unwrap().expect(200);
        wires.push(wire);
    }
    proxy.signal(Signal::STOP);
    for wire in &mut wires {
        wire.send(GET).await;
    }
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    let mut lost = 0;
    for wire in &mut wires {
        lost += usize::from(wire.answer().await.is_none());
    }
    proxy.process().exited(SOON).await;
    assert_eq!(lost, 0, "of 30 requests that had arrived");
}

#[tokio::test]
async fn a_connection_accepted_before_a_stop_may_send_its_first_request() {
    let backend = Backend::saying("ok").await;
    let mut proxy = Proxy::to([backend.address()]).start().await;
    let mut wire = proxy.wire().await;
    eventually("it is accepted", async || proxy.status().await["listeners"][0]["connections"] == 1).await;
    proxy.signal(Signal::TERM);
    proxy.notified("STOPPING=1").await;
    wire.send(GET).await;
    wire.answer().await.expect("a client cannot know, and must not send a POST again").expect(200);
}

#[tokio::test]
async fn a_silent_worker_gets_nothing_new_while_another_answers() {
    let (good, silent) = (Backend::saying("ok").await, Backend::silent().await);
    let proxy =
        Proxy::to([good.address(), silent.address()]).with("read_timeout = \"1s\"").start().await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(proxy.get("/").send().await.unwrap().status != 200);
    }
    assert!(failed <= 1, "{failed} of 20 requests, one after the other");
}

#[tokio::test]
async fn workers_that_return_together_share_those_who_wait() {
    let addresses = [vacant(), vacant(), vacant(), vacant()];
    let proxy = Proxy::to(&addresses).start().await;
    let requests: Vec<_> = (0..80).map(|_| proxy.get("/").spawn()).collect();
    eventually("all wait", async || proxy.waiting().await == 80).await;
    let mut workers = Vec::new();
    for address in &addresses {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        workers.push(tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok(Ok((stream, _))) = tokio::time::timeout(ms(3000), listener.accept()).await {
                served.spawn(async move {
                    let mut wire = Wire::on(stream);
                    let asked = wire.head().await.is_some();
                    pass(ms(1000)).await;
                    let _ = wire.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                    usize::from(asked)
                });
            }
            served.join_all().await.into_iter().sum::<usize>()
        }));
        pass(ms(100)).await;
    }
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
    let mut counts = Vec::new();
    for worker in workers {
        counts.push(worker.await.unwrap());
    }
    assert!(counts.iter().all(|count| *count < 60), "the first one back got everything: {counts:?}");
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
async fn what_a_redirect_captures_is_encoded_again() {
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n'~ ^/old/(?<rest>.*)$' = { redirect = \"https://new/{rest}\" }",
    )
    .start()
    .await;
    let answer = proxy.get("/old/a%20b%3Fc%23d").send().await.unwrap().expect(302);
    assert_eq!(answer.header("location"), "https://new/a%20b%3Fc%23d");
}

#[tokio::test]
async fn a_416_keeps_what_the_application_said() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("f"), "hello").unwrap();
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAccess-Control-Allow-Origin: *\r\nX-Accel-Redirect: /_x/f\r\n\r\n"
            .to_vec()
    })
    .await;
    let folder = scratch.root().display();
    let proxy = Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n\
         \"/_x\" = {{ files = \"{folder}\", internal = true, within = [\"{folder}\"] }}\n\
         [upstream.app]\nservers = [\"{}\"]",
        backend.address()
    ))
    .start()
    .await;
    let answer = proxy.get("/").header("range", "bytes=100-").send().await.unwrap().expect(416);
    assert_eq!(answer.all("access-control-allow-origin"), ["*"], "or the browser hides the 416");
}

#[tokio::test]
async fn http_10_gets_no_interim_answers() {
    let backend = Backend::answering(|_| {
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    })
    .await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let (answer, _) = rest(&proxy, "GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_keep_the_proxy_from_stopping() {
    let backend = Backend::saying("ok").await;
    let scratch = Scratch::new();
    let (admin, socket) = (scratch.path("admin.sock"), scratch.path("http.sock"));
    let file = scratch.path("bowshock.toml");
    std::fs::write(
        &file,
        format!(
            "[admin]\nlisten = \"unix:{}\"\n[log]\naccess = \"stdout\"\n[[listen]]\naddress = \"unix:{}\"\n\
             [[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n[upstream.app]\nservers = [\"{}\"]\n",
            admin.display(),
            socket.display(),
            backend.address()
        ),
    )
    .unwrap();
    let mut child = Proxy::command(["run", "-c"])
        .arg(&file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let target = Target::Unix(socket);
    eventually("it accepts", async || target.accepts().await).await;
    let mut wire = Wire::to(&target).await;
    for _ in 0..800 {
        wire.send(format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200))).await;
        wire.answer().await.unwrap().expect(200);
    }
    drop(wire);
    pass(ms(500)).await;
    let pid = rustix::process::Pid::from_child(&child);
    let start = Instant::now();
    for _ in 0..2 {
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        pass(ms(1500)).await;
    }
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_some(), "still there {:?} after two SIGTERMs", start.elapsed());
}

#[tokio::test]
async fn a_file_from_before_1970_is_a_file() {
    let scratch = Scratch::new();
    let file = std::fs::File::create(scratch.path("old.txt")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(86_400)).unwrap();
    let proxy = Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ files = \"{}\" }}",
        scratch.root().display()
    ))
    .start()
    .await;
    proxy.get("/old.txt").send().await.expect("an answer, not a panic").expect(200);
}
