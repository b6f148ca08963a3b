//! Who waits, for what, how long, and who goes first.

use std::time::Instant;

use crate::fixtures::{Backend, Gate, Pending, Proxy, SOON, answers, eventually, ms, vacant, within};

/// Sends `/0`, `/1`, … one after the other, the first of which `ahead` find a place, and sees each wait.
async fn queue_up(proxy: &Proxy, count: u64, ahead: u64) -> Vec<Pending> {
    let mut requests = Vec::new();
    for number in 0..count {
        requests.push(proxy.get(&format!("/{number}")).spawn());
        eventually("it is in flight or waits", async || {
            let inflight: u64 = proxy.inflight().await.iter().sum();
            (inflight, proxy.waiting().await) == ((number + 1).min(ahead), (number + 1).saturating_sub(ahead))
        })
        .await;
    }
    requests
}

#[tokio::test]
async fn the_newest_may_go_first() {
    let gate = Gate::shut();
    let backend = Backend::behind(&gate, "x").await;
    let proxy =
        Proxy::to([backend.address()]).with("max_requests = 1\nqueue_order = \"newest\"").start().await;
    let requests = queue_up(&proxy, 5, 1).await;
    gate.open();
    answers(requests).await;
    assert_eq!(backend.paths(), ["/0", "/4", "/3", "/2", "/1"]);
}

#[tokio::test]
async fn the_newest_may_go_first_when_a_worker_returns() {
    let address = vacant();
    let proxy = Proxy::to([&address]).with("max_requests = 1\nqueue_order = \"newest\"").start().await;
    let requests = queue_up(&proxy, 4, 0).await;
    let backend = Backend::saying_at(&address, "x").await;
    answers(requests).await;
    assert_eq!(backend.paths(), ["/3", "/2", "/1", "/0"]);
}

#[tokio::test]
async fn the_oldest_goes_first_otherwise() {
    let gate = Gate::shut();
    let backend = Backend::behind(&gate, "x").await;
    let proxy =
        Proxy::to([backend.address()]).with("max_requests = 1\nqueue_order = \"oldest\"").start().await;
    let requests = queue_up(&proxy, 5, 1).await;
    gate.open();
    answers(requests).await;
    assert_eq!(backend.paths(), ["/0", "/1", "/2", "/3", "/4"]);
}

#[tokio::test]
async fn hold_of_a_route_goes_before_that_of_its_upstream() {
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"app\" }\n\"/short\" = { proxy = \"app\", hold = \"300ms\" }\n\
         \"/none\" = { proxy = \"app\", hold = \"0s\" }\n[upstream.app]\nservers = [\"@SERVER@\"]\nhold = \"1m\"\n",
    );
    let address = vacant();
    let proxy = proxy.fill("SERVER", &address).start().await;
    let patient = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    // Each before the minute of the upstream is over.
    within(SOON, "a refusal", proxy.get("/none").send()).await.unwrap().expect(503);
    let start = Instant::now();
    within(SOON, "a refusal", proxy.get("/short").send()).await.unwrap().expect(503);
    assert!(start.elapsed() >= ms(280), "{:?}", start.elapsed());
    soon_eq!(proxy.waiting().await, 1);
    let _backend = Backend::saying_at(&address, "x").await;
    answers([patient]).await;
}

#[tokio::test]
async fn a_route_may_hold_longer_than_its_upstream() {
    let address = vacant();
    let proxy = Proxy::to([&address]).with("hold = \"0s\"").route("hold = \"1m\"").start().await;
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    let _backend = Backend::saying_at(&address, "x").await;
    answers([request]).await;
}

#[tokio::test]
async fn who_waited_too_long_is_told_nothing_of_the_upstream_and_the_log_names_it() {
    let address = vacant();
    let port = address.rsplit(':').next().unwrap().to_owned();
    let mut proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/\" = { proxy = \"secretary\" }\n[upstream.secretary]\n\
         servers = [\"@SERVER@\"]\nhold = \"200ms\"\n",
    )
    .fill("SERVER", &address)
    .start()
    .await;
    for accept in ["application/json", "text/html"] {
        let answer = proxy.get("/").header("accept", accept).await.expect(503);
        let told = format!("{:?} {}", answer.headers, answer.text());
        assert!(answer.body.len() > 20, "a sentence: {told}");
        assert!(!told.contains("secretary") && !answer.text().contains(&port), "{told}");
    }
    eventually("the log names it", async || {
        let log = proxy.process().stderr();
        log.lines().any(|line| line.contains("secretary") && line.contains("a request"))
    })
    .await;
}

#[tokio::test]
async fn what_is_waited_for_is_shown() {
    let gate = Gate::shut();
    let backend = Backend::behind(&gate, "x").await;
    let address = backend.address();
    let proxy = Proxy::to([&address]).with("max_requests = 1").start().await;
    assert!(proxy.upstream("app").await["waiting_for"].is_null());
    assert!(!proxy.succeed("status").contains("max_requests"));

    let requests = queue_up(&proxy, 3, 1).await;
    soon_eq!(proxy.upstream("app").await["waiting_for"], "places");
    let table = proxy.succeed("status");
    assert!(table.contains("max_requests"), "{table}");
    gate.open();
    answers(requests).await;
    assert!(proxy.upstream("app").await["waiting_for"].is_null());

    backend.end().await;
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    soon_eq!(proxy.upstream("app").await["waiting_for"], "servers");
    let _backend = Backend::saying_at(&address, "x").await;
    answers([request]).await;
}

#[tokio::test]
async fn what_is_known_of_a_server_is_shown() {
    let gate = Gate::shut();
    let backend = Backend::behind(&gate, "x").await;
    let server = format!("{{ address = {:?}, weight = 3, max_requests = 7 }}", backend.address());
    let proxy = Proxy::to([server]).start().await;
    let request = proxy.get("/").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    let server = proxy.servers().await.remove(0);
    let expected = serde_json::json!({
        "address": backend.address(), "name": null, "state": "up", "reason": null, "inflight": 1, "streaming": 0,
        "weight": 3, "backup": false, "max_requests": 7, "reported_load": null,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(server[key], *value, "{key} of {server}");
        assert!(server.get(key).is_some(), "{key} is missing in {server}");
    }
    gate.open();
    answers([request]).await;
}
