//! What an operator sees: metrics, logs, request ids, the state of things.

use regex::Regex;
use serde_json::Value;

use crate::fixtures::{
    Backend, End, Frames, Gunicorn, Prometheus, Proxy, SOON, Scratch, Wire, eventually, frames, free_port,
    ms, pass, promtool, within,
};

#[tokio::test]
async fn the_metrics_are_there_and_promtool_finds_no_fault() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    for _ in 0..3 {
        proxy.get("/pid").await.expect(200);
    }
    proxy.get("/status?code=404").await.expect(404);
    eventually("all four are counted", async || {
        proxy.metrics().await.sum("bowshock_requests_total", &[]).round() as u32 == 4
    })
    .await;
    let answer = proxy.admin().get("/metrics").await.expect(200);
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    let (code, words) = promtool(&answer.text());
    assert_eq!(code, Some(0), "{words}");

    let metrics = proxy.metrics().await;
    let count = |name: &str, labels: &[&str]| metrics.sum(name, labels).round() as i64;
    let route = ["site=\"default\"", "route=\"/\"", "method=\"GET\""];
    assert_eq!(count("bowshock_requests_total", &[&route[..], &["code=\"200\""]].concat()), 3);
    assert_eq!(count("bowshock_requests_total", &[&route[..], &["code=\"404\""]].concat()), 1);
    assert_eq!(count("bowshock_request_duration_seconds_count", &["route=\"/\""]), 4);
    let server = format!("server=\"{}\"", worker.address());
    let server = ["upstream=\"app\"", server.as_str()];
    assert_eq!(count("bowshock_upstream_requests_total", &server), 4);
    assert_eq!(count("bowshock_upstream_inflight", &server), 0);
    assert_eq!(count("bowshock_upstream_up", &server), 1);
    assert!(count("bowshock_response_bytes_total", &["how=\"proxy\""]) > 0);
    assert!(count("bowshock_connections_total", &[]) >= 4);
    assert_eq!(count("bowshock_held_requests", &[]), 0);
    assert_eq!(count("bowshock_config_last_reload_successful", &[]), 1);
    for name in [
        "bowshock_connections",
        "bowshock_upstream_response_seconds_count",
        "bowshock_config_last_reload_success_timestamp_seconds",
        "bowshock_build_info",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(metrics.has(name), "{name} is missing");
    }
}

#[tokio::test]
async fn waiting_and_failing_show_in_the_metrics() {
    let scratch = Scratch::new();
    let mut worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    worker.kill().await;
    let request = proxy.get("/pid").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bowshock_held_requests", &["upstream=\"app\""]).round() as u32, 1);
    assert_eq!(metrics.sum("bowshock_upstream_up", &["upstream=\"app\""]).round() as u32, 0);
    assert!(metrics.sum("bowshock_upstream_connect_failures_total", &["upstream=\"app\""]) >= 1.0);
    soon_eq!(proxy.states().await, ["failing"]);
    worker.restart().await;
    request.await.unwrap().unwrap().expect(200);
    let metrics = proxy.metrics().await;
    let served = metrics.sum("bowshock_hold_outcomes_total", &["upstream=\"app\"", "outcome=\"served\""]);
    assert_eq!(served.round() as u32, 1);
    assert_eq!(metrics.sum("bowshock_hold_seconds_count", &["upstream=\"app\""]).round() as u32, 1);
    soon_eq!(proxy.states().await, ["up"]);
}

#[tokio::test]
async fn paths_and_methods_of_clients_do_not_become_labels_without_bound() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    proxy.request("FIRST", "/first").header("host", "first").await.expect(200);
    proxy.get("/metrics").await.expect(200);
    eventually("both are counted", async || {
        proxy.metrics().await.sum("bowshock_requests_total", &[]).round() as u32 == 2
    })
    .await;
    let before = proxy.admin().get("/metrics").await.text().lines().count();
    for number in 0..50 {
        proxy
            .request(&format!("M{number}"), &format!("/path{number}"))
            .header("host", &format!("h{number}"))
            .await;
    }
    let text = proxy.admin().get("/metrics").await.text();
    assert!(!text.contains("path17") && !text.contains("M17") && !text.contains("h17"), "{text}");
    assert!(text.lines().count() < before + 5, "{before} lines became {}", text.lines().count());
}

#[tokio::test]
async fn prometheus_scrapes_it() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let admin = format!("127.0.0.1:{}", free_port());
    let proxy = Proxy::to([worker.address()]).admin(&admin).start().await;
    for _ in 0..5 {
        proxy.get("/pid").await.expect(200);
    }
    let mut prometheus = Prometheus::scraping(&admin).await;
    assert_eq!(prometheus.value("bowshock_upstream_up").await.round() as u32, 1);
    assert_eq!(prometheus.value("sum(bowshock_requests_total)").await.round() as u32, 5);
    assert_eq!(prometheus.value("up").await.round() as u32, 1);
}

#[tokio::test]
async fn health_and_status_are_answered() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let mut proxy = Proxy::to([worker.address()]).start().await;
    proxy.admin().get("/health").await.expect(200);
    proxy.admin().get("/nothing").await.expect(404);
    let status = proxy.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], proxy.process().pid());
    assert_eq!(status["listeners"][0]["configured"], "127.0.0.1:0");
    let server = &status["upstreams"][0]["servers"][0];
    assert_eq!(server["address"], worker.address());
    assert_eq!(
        (&server["state"], &server["weight"], &server["backup"]),
        (&"up".into(), &1.into(), &false.into())
    );
    assert!(status["config"]["path"].as_str().unwrap().ends_with("bowshock.toml"));
    proxy.get("/metrics").await.expect(200).json(); // The application's: clients never see ours.
}

/// A proxy before a worker with an access log of this format, and the log.
async fn logging(format: &str) -> (Gunicorn, Proxy, std::path::PathBuf, Scratch) {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let path = scratch.path("access.log");
    let log = format!("[log]\naccess = {{ to = {:?}, format = {format:?} }}", path.display().to_string());
    let proxy = Proxy::to([worker.address()]).with(&log).start().await;
    (worker, proxy, path, scratch)
}

async fn lines(path: &std::path::Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually("the lines are written", async || read().lines().count() >= count).await;
    read().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_combined_access_log_is_what_log_readers_expect() {
    let (_worker, proxy, path, _scratch) = logging("combined").await;
    let request =
        proxy.get("/status?code=404").header("user-agent", "a \"b\"\\").header("referer", "http://r/");
    let answer = request.await.expect(404);
    let line = lines(&path, 1).await.remove(0);
    let pattern = r#"^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /status\?code=404 HTTP/1\.1" 404 (\d+) "http://r/" "(.*)"$"#;
    let captures = Regex::new(pattern).unwrap().captures(&line).unwrap_or_else(|| panic!("{line}"));
    assert_eq!(captures[1].parse::<usize>().unwrap(), answer.body.len());
    assert!(
        !captures[2].replace("\\\"", "").replace("\\x22", "").contains('"'),
        "quotes are escaped: {line}"
    );
}

#[tokio::test]
async fn the_json_access_log_is_one_object_for_each_line() {
    let (_worker, proxy, path, _scratch) = logging("json").await;
    let mut wire = proxy.wire().await;
    wire.send("GET /pid?x=%0a HTTP/1.1\r\nHost: x\r\nUser-Agent: a \"quoted\\\" name\r\n\r\n").await;
    let answer = wire.answer().await.expect("an answer").expect(200);
    let line: Value = serde_json::from_str(&lines(&path, 1).await[0]).unwrap();
    let object = line.as_object().unwrap();
    let has = |value: Value| object.values().any(|other| *other == value);
    assert!(has(200.into()), "the status: {line}");
    assert!(has("GET".into()), "the method: {line}");
    assert!(has(answer.header("x-request-id").into()), "the request id: {line}");
    assert!(line.to_string().contains("/pid?x="), "the path: {line}");
    assert!(has("a \"quoted\\\" name".into()), "the user agent: {line}");
}

#[tokio::test]
async fn what_is_refused_unread_is_in_the_log_too() {
    let (_worker, proxy, path, _scratch) = logging("combined").await;
    let long = "x".repeat(40_000);
    let mut expected = Vec::new();
    for (head, line, status) in [
        ("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /a HTTP/1.1", 400),
        ("GET /\" 200 1 \"\x16\\ HTTP/1.1\nHost: a\n\n", r"GET /\x22 200 1 \x22\x16\x5C HTTP/1.1", 400),
        (&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), &format!("GET /{}", &long[..1019]), 414),
        (&format!("GET /b HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)), "GET /b HTTP/1.1", 431),
        ("GET /c HTTP/2.7\r\nHost: a\r\n\r\n", "GET /c HTTP/2.7", 505),
        ("\r\n\n", "-", 400),
    ] {
        let mut wire = proxy.wire().await;
        wire.send(head).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!(answer.status, status, "{line}");
        expected.push(format!("\"{line}\" {status} {} \"-\" \"-\"", answer.body.len()));
        let lines = lines(&path, expected.len()).await;
        assert_eq!(lines.len(), expected.len());
        let (who, rest) = lines.last().unwrap().split_once("] ").unwrap();
        assert!(who.starts_with("127.0.0.1 - - ["), "{who}");
        assert_eq!(rest, expected.last().unwrap());
    }
    proxy.get("/pid").await.expect(200);
    assert!(lines(&path, expected.len() + 1).await.last().unwrap().contains("\"GET /pid HTTP/1.1\" 200 "));
    // Operators' are not.
    let mut wire = Wire::to(&proxy.admin()).await;
    wire.send("GET /bad HTTP/1.1\r\n\r\n").await;
    wire.answer().await.expect("an answer").expect(400);
    proxy.get("/pid").await.expect(200);
    assert!(!lines(&path, expected.len() + 2).await.concat().contains("/bad"));
}

#[tokio::test]
async fn a_head_that_took_too_long_is_in_the_log_as_far_as_it_came() {
    let scratch = Scratch::new();
    let path = scratch.path("access.log");
    let log = format!("[log]\naccess = {{ to = {path:?}, format = \"json\" }}");
    let text = format!("{log}\n[[site]]\nroutes = {{ \"/\" = {{ answer = 200 }} }}");
    let proxy = Proxy::toml(&text).server("client_header_timeout = \"300ms\"").start().await;
    let mut wire = proxy.wire().await;
    wire.send("GET /slow HT").await;
    let answer = wire.answer().await.expect("an answer").expect(408);
    let line: Value = serde_json::from_str(&lines(&path, 1).await[0]).unwrap();
    assert_eq!((&line["unread"], &line["status"]), (&"GET /slow HT".into(), &408.into()), "{line}");
    assert_eq!(line["bytes"], answer.body.len(), "{line}");
    assert_eq!((&line["client"], &line["method"]), (&"127.0.0.1".into(), &Value::Null), "{line}");
}

#[tokio::test]
async fn a_stream_that_is_refused_is_in_the_log_too() {
    let scratch = Scratch::new();
    let path = scratch.path("access.log");
    let text = format!("[log]\naccess = {path:?}\n[[site]]\nroutes = {{ \"/\" = {{ answer = 200 }} }}");
    let proxy = Proxy::toml(&text).secure().start().await;
    let mut client = Frames::to(&proxy.h2()).await;
    let fields = [&frames::fields("GET", "/a?b")[..], &[("host", "other")]].concat();
    let end = client.ask(1, frames::headers(1, frames::END_STREAM, &fields)).await;
    let End::Answer(400, body) = end else { panic!("{end:?}") };
    let line = lines(&path, 1).await.remove(0);
    let expected = format!("\"GET /a?b HTTP/2.0\" 400 {} \"-\" \"-\"", body.len());
    assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with(&expected), "{line}");
}

#[tokio::test]
async fn whom_a_balancer_speaks_for_is_not_guessed_when_its_word_is_not_read() {
    let scratch = Scratch::new();
    let path = scratch.path("access.log");
    let text = format!("[log]\naccess = {path:?}\n[[site]]\nroutes = {{ \"/\" = {{ answer = 200 }} }}");
    let proxy = Proxy::toml(&text).listener("trust = [\"127.0.0.0/8\"]").start().await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n").await;
    wire.answer().await.expect("an answer").expect(400);
    assert!(lines(&path, 1).await[0].starts_with("- - - ["), "the balancer has done nothing wrong");
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_log_too() {
    let (_worker, proxy, path, _scratch) = logging("json").await;
    let request = proxy.get("/slow?s=30").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    request.abort();
    assert!(lines(&path, 1).await[0].contains("/slow?s=30"));
}

#[tokio::test]
async fn each_request_has_an_id_of_its_own() {
    let scratch = Scratch::new();
    let worker = Gunicorn::member(&scratch, 0).start().await;
    let proxy = Proxy::to([worker.address()]).start().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let answer = proxy.get("/echo").header("x-request-id", "mine").await.expect(200);
        let id = answer.header("x-request-id");
        assert!(id.len() >= 16, "{id}");
        assert_ne!(id, "mine", "an untrusted client does not choose it");
        assert!(answer.text().contains(&id), "the application gets the same");
        ids.push(id);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 10);
}

#[tokio::test]
async fn the_access_log_may_go_to_standard_output() {
    let config = "[log]\naccess = \"stdout\"\n[[site]]\nroutes = { \"/\" = { answer = 200, body = \"x\" } }";
    let mut proxy = Proxy::toml(config).start().await;
    proxy.get("/here").await.expect(200);
    eventually("the line is written", async || {
        proxy.process().stdout().contains("\"GET /here HTTP/1.1\" 200 1 ")
    })
    .await;
}

#[tokio::test]
async fn messages_may_be_json() {
    let worker = Gunicorn::app().start().await;
    let config = "[log]\nlevel = \"debug\"\nformat = \"json\"";
    let mut proxy = Proxy::to([worker.address()]).with(config).start().await;
    proxy.get("/pid").await.expect(200);
    let messages = proxy.process().stderr();
    assert!(!messages.is_empty());
    for line in messages.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object()), "{line}");
    }
}

/// At `level = "debug"` the id that the client has leads through the log: route, servers, failure, retry, outcome.
#[tokio::test]
async fn one_request_is_followed_by_its_id() {
    let dying = Backend::dying().await;
    let worker = Backend::saying("ok").await;
    let config = format!(
        "[log]\nlevel = \"debug\"\nformat = \"json\"\n[[site]]\nroutes = {{ \"/\" = {{ proxy = \"app\" }} }}\n\
         [upstream.app]\nservers = [{:?}, {:?}]\nbalance = \"round_robin\"\n",
        dying.address(),
        worker.address()
    );
    let mut proxy = Proxy::toml(&config).start().await;
    // In turns: one of two requests is for the one that dies over it.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let response = proxy.get("/pid?a=b").await.expect(200);
        ids.push(response.header("x-request-id").to_owned());
    }
    let of = |messages: &str, id: &str| -> Vec<Value> {
        let lines = messages.lines().filter(|line| line.contains(id));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut lines = Vec::new();
    eventually("the retried request is done", async || {
        let messages = proxy.process().stderr();
        lines = ids.iter().map(|id| of(&messages, id)).max_by_key(Vec::len).unwrap();
        lines.last().is_some_and(|line| line["message"] == "request done")
    })
    .await;
    let told: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let attempt = ["server selected", "connected"];
    assert_eq!(told, [&["request"][..], &attempt, &["attempt failed"], &attempt, &["request done"]].concat());
    let field = |line: usize, name: &str| &lines[line][name];
    assert_eq!(field(0, "route"), "/");
    assert_eq!(*field(1, "server"), dying.address());
    assert!(field(1, "candidates").as_str().unwrap().contains(&worker.address()), "what else there was");
    assert_eq!((field(3, "failure"), field(3, "retry")), (&"BeforeResponse".into(), &true.into()));
    assert_eq!(*field(4, "server"), worker.address());
    assert_eq!((field(6, "status"), field(6, "tries")), (&200.into(), &2.into()));
}

#[tokio::test]
async fn the_access_log_is_written_in_time_under_steady_traffic() {
    let (_worker, proxy, path, _scratch) = logging("combined").await;
    let steady = async {
        loop {
            proxy.get("/pid").await.expect(200);
            pass(ms(50)).await;
        }
    };
    let written = eventually("a line is there while more are written", async || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("GET /pid"))
    });
    tokio::select! {
        () = steady => {}
        () = within(SOON, "a line on disk", written) => {}
    }
}

#[tokio::test]
async fn scrapes_at_the_same_time_do_not_add_up() {
    let backend = Backend::silent().await;
    let proxy = Proxy::to([backend.address()]).start().await;
    let requests: Vec<_> = (0..7).map(|_| proxy.get("/").spawn()).collect();
    eventually("they are in flight", async || proxy.inflight().await == [7]).await;
    let scrapes: Vec<_> = (0..20).map(|_| proxy.admin().get("/metrics").spawn()).collect();
    for scrape in scrapes {
        let text = scrape.await.unwrap().unwrap().expect(200).text();
        let line =
            text.lines().find(|line| line.contains("bowshock_connections{") && line.contains("\"active\""));
        assert!(line.unwrap().ends_with(" 7"), "{line:?}");
    }
    for request in requests {
        request.abort();
    }
}

#[tokio::test]
async fn why_a_server_is_down_is_said() {
    let scratch = Scratch::new();
    let absent = format!("unix:{}", scratch.path("absent.sock").display());
    let refused = format!("127.0.0.1:{}", free_port());
    let proxy = Proxy::to([absent, refused]).with("hold = \"100ms\"").start().await;
    proxy.get("/").await.expect(503);
    let reasons = async || {
        let status = proxy.status().await;
        let servers = status["upstreams"][0]["servers"].as_array().unwrap().clone();
        servers
            .iter()
            .map(|server| server["reason"].as_str().unwrap_or("none").to_owned())
            .collect::<Vec<_>>()
    };
    eventually("both are said", async || reasons().await == ["absent", "refused"]).await;
}

#[tokio::test]
async fn requests_that_found_a_server_down_are_counted() {
    let backend = Backend::saying("ok").await;
    let proxy = Proxy::to([backend.address()]).with("hold = \"100ms\"").start().await;
    eventually("it is up", async || proxy.states().await == ["up"]).await;
    drop(backend);
    proxy.get("/").await.expect(503);
    let failures =
        proxy.metrics().await.sum("bowshock_upstream_connect_failures_total", &["reason=\"refused\""]);
    assert_eq!(failures.round() as u32, 1);
}

#[tokio::test]
async fn a_page_of_another_name_reads_and_changes_nothing() {
    let app = Backend::saying("ok").await;
    let admin = format!("127.0.0.1:{}", free_port());
    let text = "[admin]\nlisten = \"@ADMIN@\"\nhosts = [\"bowshock.example.org\"]\n[log]\naccess = \"off\"\n\
                [[listen]]\naddress = \"127.0.0.1:0\"\n[[site]]\nroutes = { \"/\" = { proxy = \"app\" } }\n\
                [upstream.app]\nservers = [\"@SERVER@\"]\n";
    let proxy = Proxy::verbatim(text, &admin).fill("ADMIN", &admin).fill("SERVER", app.address());
    let proxy = proxy.start().await;
    let ask = async |request: &str, host: &str| {
        let mut wire = Wire::to(&proxy.admin()).await;
        let fields = "X-Bowshock: 1\r\nContent-Length: 0\r\nConnection: close";
        wire.send(format!("{request} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n\r\n")).await;
        wire.answer().await.expect("an answer")
    };
    let drain = format!("POST /drain?server={}", app.address());
    for host in [
        "evil.example",
        "evil.example:9180",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "2130706433",
    ] {
        ask(&drain, host).await.expect(421);
        ask("GET /metrics", host).await.expect(421);
        ask("GET http://evil.example/status.json", "evil.example").await.expect(421);
    }
    assert_eq!(proxy.states().await, ["up"]);
    for host in ["127.0.0.1:9180", "[::1]", "localhost", "LOCALHOST:1", "Bowshock.example.org:9180"] {
        ask("GET /metrics", host).await.expect(200);
    }
    proxy.succeed(&format!("drain {}", app.address()));
    assert_ne!(proxy.states().await, ["up"]);
}
