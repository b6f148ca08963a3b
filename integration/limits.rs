//! How often a client may ask, and how many of its requests may be in progress.

use std::time::Instant;

use crate::fixtures::{
    Answer, Backend, Builder, Gate, Metrics, Proxy, Request, answers, eventually, outcome,
};

/// A site whose limits these are, and whose clients are told by `X-Forwarded-For`.
fn limited(limits: &str, used: &str, app: &Backend) -> Builder {
    Proxy::toml(&format!(
        "{limits}\n[[site]]\nlimits = [{used}]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n\
         \"/free\" = {{ proxy = \"app\", limit = \"none\" }}\n\
         \"/answer\" = {{ answer = 200 }}\n\
         [upstream.app]\nservers = [\"{}\"]\n",
        app.address()
    ))
    .listener("trust = [\"127.0.0.1/32\"]")
}

/// Five at once, then one an hour: no test sees the next.
const FIVE: &str = "[limit.api]\nkey = [\"header:x-api-key\", \"query:key\", \"cookie:galaxysession\", \"address\"]\n\
                    rate = \"1r/h\"\nburst = 4\n";

async fn app() -> Backend {
    Backend::saying("ok").await
}

fn from(request: Request, address: &str) -> Request {
    request.header("x-forwarded-for", address)
}

/// How many of `count` requests pass; the others must be 429.
async fn passed(count: usize, request: impl Fn() -> Request) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        match request().await.status {
            200 => passed += 1,
            status => assert_eq!(status, 429),
        }
    }
    passed
}

fn limited_by(metrics: &Metrics, limit: &str) -> u64 {
    metrics.sum("bowshock_limited_requests_total", &[&format!("limit=\"{limit}\"")]).round() as u64
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn a_client_that_asks_too_often_gets_429_and_others_do_not() {
    let app = app().await;
    let proxy = limited(FIVE, "\"api\"", &app).start().await;
    assert_eq!(passed(8, || from(proxy.get("/"), "10.0.0.1")).await, 5);
    assert_eq!(passed(3, || from(proxy.get("/"), "10.0.0.2")).await, 3);
    assert_eq!(app.paths().len(), 8, "no worker is asked for the others");

    let refused = from(proxy.get("/").header("accept", "application/json"), "10.0.0.1").await.expect(429);
    assert!((3500..=3600).contains(&retry_after(&refused)), "{refused:?}");
    let sentence = refused.json()["err_msg"].as_str().unwrap().to_owned();
    assert!(sentence.contains("limit api") && sentence.contains("try again"), "{sentence}");
    soon_eq!(limited_by(&proxy.metrics().await, "api"), 4);
    soon_eq!(proxy.metrics().await.sum("bowshock_limit_keys", &["limit=\"api\""]), 2.0);
}

#[tokio::test]
async fn the_first_key_that_a_request_has_tells_its_client() {
    let app = app().await;
    let proxy = limited(FIVE, "\"api\"", &app).start().await;
    let by_key = |key: &str, address: &str| from(proxy.get("/"), address).header("x-api-key", key);
    // One key from anywhere is one client.
    assert_eq!(passed(4, || by_key("secret", "10.0.0.1")).await, 4);
    assert_eq!(passed(4, || by_key("secret", "10.0.0.2")).await, 1);
    // Also as a cookie beside it, and in the query there is another.
    assert_eq!(passed(1, || by_key("secret", "10.0.0.3").header("cookie", "galaxysession=x")).await, 0);
    assert_eq!(passed(6, || from(proxy.get("/?key=secret"), "10.0.0.1")).await, 5);
    let session = |value: &str| format!("a=b; galaxysession={value}");
    assert_eq!(passed(6, || from(proxy.get("/"), "10.0.0.1").header("cookie", &session("s"))).await, 5);
    // What is empty is not there: all of these are the address.
    assert_eq!(passed(3, || by_key("", "10.0.0.1")).await, 3);
    assert_eq!(passed(3, || from(proxy.get("/?key="), "10.0.0.1")).await, 2);
    assert_eq!(passed(3, || from(proxy.get("/"), "10.0.0.1").header("cookie", &session(""))).await, 0);
    // An IPv6 client has more addresses than anybody could count.
    assert_eq!(passed(4, || from(proxy.get("/"), "2001:db8::1")).await, 4);
    assert_eq!(passed(4, || from(proxy.get("/"), "2001:db8::2")).await, 1);
}

#[tokio::test]
async fn no_key_is_told_anywhere() {
    let app = app().await;
    let mut proxy = limited(FIVE, "\"api\"", &app).start().await;
    passed(8, || proxy.get("/").header("x-api-key", "topsecret")).await;
    proxy.process().logged("a limit refuses requests").await;
    let status = proxy.status().await.to_string();
    let metrics = proxy.admin().get("/metrics").await.text();
    for text in [proxy.process().stderr(), status, metrics] {
        assert!(!text.contains("topsecret"), "{text}");
    }
}

#[tokio::test]
async fn each_limit_must_pass_and_what_one_refuses_costs_nothing_in_another() {
    let app = app().await;
    let limits = "[limit.keys]\nkey = \"header:x-api-key\"\nrate = \"1r/h\"\nburst = 9\n\
                  [limit.address]\nkey = \"address\"\nrate = \"1r/h\"\nburst = 4\n";
    let proxy = limited(limits, "\"keys\", \"address\"", &app).start().await;
    // Who invents a key for each request is still one address.
    let mut number = 0;
    let mut invented = || {
        number += 1;
        from(proxy.get("/"), "10.0.0.1").header("x-api-key", &format!("invented-{number}"))
    };
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(invented().await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    // Five pass from each of two addresses: the refusals of the first have not used up the key.
    let by_key = |address: &'static str| {
        let proxy = &proxy;
        move || from(proxy.get("/"), address).header("x-api-key", "one")
    };
    assert_eq!(passed(9, by_key("10.0.0.2")).await, 5);
    assert_eq!(passed(9, by_key("10.0.0.3")).await, 5);
    assert_eq!(passed(9, by_key("10.0.0.4")).await, 0);
    // Who has no key is none of the first's business.
    assert_eq!(passed(5, || from(proxy.get("/"), "10.0.0.5")).await, 5);
    soon_eq!(limited_by(&proxy.metrics().await, "address"), 3 + 4);
    soon_eq!(limited_by(&proxy.metrics().await, "keys"), 4 + 9);
}

#[tokio::test]
async fn a_limit_is_about_some_requests_only() {
    let app = app().await;
    let limits = "[limit.crawlers]\nkey = \"all\"\nrate = \"1r/h\"\n\
                  only = { user_agents = [\"~* bot|crawl\", \"~ ^$\"], methods = [\"GET\"] }\n\
                  except = { networks = [\"10.0.0.0/8\"], user_agents = [\"goodbot\"] }\n";
    let proxy = limited(limits, "\"crawlers\"", &app).start().await;
    let asking = |agent: &str, address: &str| from(proxy.get("/"), address).header("user-agent", agent);
    assert_eq!(passed(3, || asking("Mozilla/5.0", "192.0.2.1")).await, 3);
    // All crawlers together are one.
    assert_eq!(passed(3, || asking("ClaudeBot/1.0", "192.0.2.1")).await, 1);
    assert_eq!(passed(1, || asking("a CRAWLER", "192.0.2.2")).await, 0);
    assert_eq!(passed(1, || from(proxy.get("/"), "192.0.2.3")).await, 0, "without any user agent");
    assert_eq!(passed(3, || asking("ClaudeBot/1.0", "10.0.0.1")).await, 3);
    assert_eq!(passed(3, || asking("GoodBot", "192.0.2.1")).await, 3);
    let post = || from(proxy.post("/", "x"), "192.0.2.1").header("user-agent", "bot");
    assert_eq!(passed(3, post).await, 3);
    // What is no text is no way around.
    let mut wire = proxy.wire().await;
    wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xfebot\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n")
        .await;
    wire.answer().await.unwrap().expect(429);
}

#[tokio::test]
async fn a_route_may_have_other_limits_than_its_site_or_none() {
    let app = app().await;
    let proxy = limited(FIVE, "\"api\"", &app).start().await;
    assert_eq!(passed(9, || proxy.get("/free")).await, 9);
    assert_eq!(passed(9, || proxy.get("/answer")).await, 5, "also what no worker answers");
    assert_eq!(passed(9, || proxy.get("/")).await, 0, "one count for all routes");
}

#[tokio::test]
async fn a_dry_run_counts_and_refuses_nobody() {
    let app = app().await;
    let limits = format!("{FIVE}connections = 1\ndry_run = true\n");
    let mut proxy = limited(&limits, "\"api\"", &app).start().await;
    assert_eq!(passed(9, || proxy.get("/")).await, 9);
    let would =
        async |proxy: &Proxy| proxy.metrics().await.sum("bowshock_limited_requests_dry_run_total", &[]);
    soon_eq!(would(&proxy).await, 4.0);
    assert_eq!(limited_by(&proxy.metrics().await, "api"), 0);
    proxy.process().logged("a limit would refuse requests").await;
    // In earnest, what was counted counts.
    proxy.reload(limited(FIVE, "\"api\"", &app)).await;
    assert_eq!(passed(1, || proxy.get("/")).await, 0);
}

#[tokio::test]
async fn the_rate_is_kept_and_retry_after_is_true() {
    let app = app().await;
    let limits = "[limit.api]\nkey = \"address\"\nrate = \"10r/s\"\n";
    let proxy = limited(limits, "\"api\"", &app).start().await;
    let (start, mut passed) = (Instant::now(), 0);
    let mut connection = proxy.connect().await;
    while passed < 11 {
        let request = connection.get("/");
        let answer = connection.send(request).await.unwrap();
        if answer.status == 200 {
            passed += 1;
        } else {
            assert_eq!((answer.status, retry_after(&answer)), (429, 1));
        }
    }
    assert!(start.elapsed().as_millis() >= 1000, "{:?}", start.elapsed());
}

#[tokio::test]
async fn only_so_many_requests_of_a_client_are_in_progress() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let limits = "[limit.api]\nkey = \"address\"\nconnections = 3\n";
    let proxy = limited(limits, "\"api\"", &app).start().await;
    let one = || from(proxy.get("/"), "10.0.0.1");
    let waiting: Vec<_> = (0..3).map(|_| one().spawn()).collect();
    eventually("they are in progress", async || proxy.inflight().await == [3]).await;
    let refused = one().await.expect(429);
    assert_eq!(retry_after(&refused), 1);
    let other = from(proxy.get("/"), "10.0.0.2").spawn();
    eventually("another client's is too", async || proxy.inflight().await == [4]).await;
    let by_connections = async || {
        proxy.metrics().await.sum("bowshock_limited_requests_total", &["limit=\"api\"", "by=\"connections\""])
    };
    soon_eq!(by_connections().await, 1.0);
    gate.open();
    answers(waiting).await;
    outcome(other).await.expect(200);
    eventually("they are over", async || one().await.status == 200).await;
}

/// A proxy whose clients may have one request in progress.
async fn one_at_a_time(app: &Backend) -> Proxy {
    limited("[limit.api]\nkey = \"address\"\nconnections = 1\n", "\"api\"", app).start().await
}

#[tokio::test]
async fn who_leaves_while_it_waits_is_not_in_progress_any_more() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let proxy = one_at_a_time(&app).await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    eventually("it is in progress", async || proxy.inflight().await == [1]).await;
    proxy.get("/answer").await.expect(429);
    drop(wire);
    eventually("it is over", async || proxy.get("/answer").await.status == 200).await;
    // Also one that sends its body.
    let mut wires = Vec::new();
    eventually("it is in progress", async || {
        // The request before may be over a moment after its answer: then this one is refused, and comes again.
        let mut wire = proxy.wire().await;
        wire.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx").await;
        wires.push(wire);
        proxy.inflight().await == [1]
    })
    .await;
    proxy.get("/answer").await.expect(429);
    drop(wires);
    eventually("it is over", async || proxy.get("/answer").await.status == 200).await;
    gate.open();
}

#[tokio::test]
async fn who_takes_its_answer_slowly_is_in_progress() {
    let body = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", 64 << 20, "x".repeat(64 << 20));
    let app = Backend::answering(move |_| body.clone().into_bytes()).await;
    let proxy = one_at_a_time(&app).await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.read(1000).await;
    proxy.get("/answer").await.expect(429);
    drop(wire);
    eventually("it is over", async || proxy.get("/answer").await.status == 200).await;
}

#[tokio::test]
async fn an_upgraded_connection_is_not_among_the_requests_in_progress() {
    let app = Backend::serving(|mut wire, _| async move {
        if wire.head().await.is_some() {
            wire.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            .await;
            wire.rest().await;
        }
    })
    .await;
    let proxy = one_at_a_time(&app).await;
    let mut wire = proxy.wire().await;
    wire.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    wire.read_until("101").await;
    wire.send("frames").await;
    proxy.get("/answer").await.expect(200);
}

#[tokio::test]
async fn a_worker_that_dies_leaves_nothing_in_progress() {
    let app = Backend::dying().await;
    let proxy = one_at_a_time(&app).await;
    for _ in 0..3 {
        // The one before may be over a moment after its answer.
        eventually("it has its turn", async || proxy.post("/", "x").await.status == 502).await;
        eventually("it is over", async || proxy.get("/answer").await.status == 200).await;
    }
}

#[tokio::test]
async fn a_request_that_waits_for_a_worker_has_asked_once() {
    let limits = "[limit.api]\nkey = \"address\"\nrate = \"1r/h\"\nburst = 1\nconnections = 1\n";
    let absent = crate::fixtures::vacant();
    let (app, nobody) = (app().await, Backend::saying_at(&absent, "gone").await);
    let configuration = limited(limits, "\"api\"", &nobody);
    nobody.end().await;
    let mut proxy = configuration.start().await;
    let waiting = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    proxy.get("/").await.expect(429);
    proxy.reload(limited(limits, "\"api\"", &app)).await;
    outcome(waiting).await.expect(200);
    eventually("it is over, and another may come", async || proxy.get("/").await.status == 200).await;
    proxy.get("/").await.expect(429);
}

#[tokio::test]
async fn a_reload_forgets_no_client_unless_clients_are_told_by_something_else() {
    let app = app().await;
    let mut proxy = limited(FIVE, "\"api\"", &app).start().await;
    assert_eq!(passed(9, || proxy.get("/")).await, 5);
    proxy.reload(limited(FIVE, "\"api\"", &app)).await;
    assert_eq!(passed(2, || proxy.get("/")).await, 0);
    // Two more at once: of what was counted, five are there.
    proxy.reload(limited(&FIVE.replace("burst = 4", "burst = 6"), "\"api\"", &app)).await;
    assert_eq!(passed(9, || proxy.get("/")).await, 2);
    // A much faster rate: nobody waits for what the old one owed.
    proxy.reload(limited(&FIVE.replace("1r/h", "1000r/s"), "\"api\"", &app)).await;
    eventually("it passes", async || proxy.get("/").await.status == 200).await;
    proxy.reload(limited(FIVE, "\"api\"", &app)).await;
    passed(9, || proxy.get("/")).await;
    assert_eq!(passed(2, || proxy.get("/")).await, 0);
    let by_network = FIVE.replace("\"address\"", "\"network\"");
    proxy.reload(limited(&by_network, "\"api\"", &app)).await;
    assert_eq!(passed(9, || proxy.get("/")).await, 5);
}

#[tokio::test]
async fn requests_in_progress_count_on_over_a_reload() {
    let gate = Gate::shut();
    let app = Backend::behind(&gate, "ok").await;
    let limits = "[limit.api]\nkey = \"address\"\nconnections = 1\n";
    let mut proxy = limited(limits, "\"api\"", &app).start().await;
    let request = proxy.get("/").spawn();
    eventually("it is in progress", async || proxy.inflight().await == [1]).await;
    proxy.reload(limited(limits, "\"api\"", &app)).await;
    proxy.get("/answer").await.expect(429);
    gate.open();
    outcome(request).await.expect(200);
    eventually("it is over", async || proxy.get("/answer").await.status == 200).await;
}

#[tokio::test]
async fn check_and_print_show_limits() {
    let app = app().await;
    let proxy = limited(FIVE, "\"api\"", &app).start().await;
    assert!(proxy.succeed("check").contains("is valid"));
    let printed = proxy.succeed("print");
    for line in ["[limit.api]", "rate = \"1r/h\"", "burst = 4", "limit = [\"api\"]"] {
        assert!(printed.contains(line), "{line} is missing in\n{printed}");
    }
}
