//! What a health question says about a worker.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use crate::fixtures::{Backend, Gate, Proxy, eventually, ms, pass, vacant};

const ASKED: &str = "path = \"/health\", every = \"100ms\", timeout = \"300ms\"";

/// Answers `/health` with a status that the test changes, or not at all while it is 0; everything else with `body`.
async fn patient(address: &str, status: &Arc<AtomicU16>, body: &'static str) -> Backend {
    let status = Arc::clone(status);
    Backend::serving_at(address, move |mut wire, heads| {
        let status = Arc::clone(&status);
        async move {
            while let Some((head, _)) = wire.request().await {
                let code = if head.contains(" /health ") { status.load(Ordering::SeqCst) } else { 200 };
                heads.lock().unwrap().push(head);
                if code == 0 {
                    // Nobody opens this one.
                    Gate::shut().passed().await;
                }
                let answer = format!("HTTP/1.1 {code} So\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if wire.try_send(answer).await.is_err() {
                    break;
                }
            }
        }
    })
    .await
}

fn health(more: &str) -> String {
    format!("health = {{ {ASKED}{more} }}")
}

async fn assert_only(proxy: &Proxy, body: &str) {
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.expect(200).text(), body);
    }
}

#[tokio::test]
async fn any_2xx_is_well_unless_told_otherwise() {
    for (answered, expect, state) in [
        (200, "", "up"),
        (204, "", "up"),
        (302, "", "failing"),
        (401, "", "failing"),
        (401, ", expect = 401", "up"),
        (200, ", expect = 401", "failing"),
        (204, ", expect = [200, 204]", "up"),
        (201, ", expect = [200, 204]", "failing"),
    ] {
        let status = Arc::new(AtomicU16::new(answered));
        let backend = patient(&vacant(), &status, "x").await;
        let proxy = Proxy::to([backend.address()]).with(&health(expect)).start().await;
        let what = format!("{answered} with {expect:?} is {state}");
        eventually(&what, async || proxy.states().await == [state]).await;
    }
}

#[tokio::test]
async fn why_a_server_fails_is_said() {
    let status = Arc::new(AtomicU16::new(503));
    let (sick, well) = (patient(&vacant(), &status, "x").await, Backend::saying("well").await);
    let proxy = Proxy::to([sick.address(), vacant(), well.address()]).with(&health("")).start().await;
    eventually("two fail", async || proxy.states().await == ["failing", "failing", "up"]).await;
    let servers = proxy.servers().await;
    assert!(servers[0]["reason"].as_str().unwrap().contains("503"), "{servers:?}");
    assert!(servers[1]["reason"].as_str().unwrap().contains("refused"), "{servers:?}");
    assert!(servers[2]["reason"].is_null(), "{servers:?}");
    status.store(200, Ordering::SeqCst);
    eventually("it is well again", async || proxy.states().await[0] == "up").await;
    assert!(proxy.servers().await[0]["reason"].is_null());
}

#[tokio::test]
async fn a_server_that_was_up_and_leaves_the_question_open_is_silent_and_others_are_preferred() {
    let status = Arc::new(AtomicU16::new(200));
    let (busy, well) = (patient(&vacant(), &status, "busy").await, Backend::saying("well").await);
    let proxy = Proxy::to([busy.address(), well.address()]).with(&health("")).start().await;
    eventually("both are up", async || proxy.states().await == ["up", "up"]).await;
    status.store(0, Ordering::SeqCst);
    eventually("it is silent", async || proxy.states().await == ["silent", "up"]).await;
    assert_only(&proxy, "well").await;
    status.store(200, Ordering::SeqCst);
    eventually("both are up", async || proxy.states().await == ["up", "up"]).await;
    eventually("it gets requests", async || proxy.get("/").await.expect(200).text() == "busy").await;
}

#[tokio::test]
async fn a_silent_server_is_used_when_it_is_the_last() {
    let status = Arc::new(AtomicU16::new(200));
    let busy = patient(&vacant(), &status, "busy").await;
    let well = Backend::saying("well").await;
    let proxy = Proxy::to([busy.address(), well.address()]).with(&health("")).start().await;
    eventually("both are up", async || proxy.states().await == ["up", "up"]).await;
    status.store(0, Ordering::SeqCst);
    eventually("it is silent", async || proxy.states().await == ["silent", "up"]).await;
    well.end().await;
    assert_only(&proxy, "busy").await;
    assert_ne!(proxy.states().await[0], "failing");
    soon_eq!(proxy.waiting().await, 0);
}

#[tokio::test]
async fn a_server_that_was_failing_and_leaves_the_question_open_goes_on_failing() {
    let address = vacant();
    let status = Arc::new(AtomicU16::new(0));
    let proxy = Proxy::to([&address]).with(&health("")).start().await;
    eventually("it fails", async || proxy.states().await == ["failing"]).await;
    let loading = patient(&address, &status, "loaded").await;
    let request = proxy.get("/").spawn();
    eventually("it is asked", async || loading.paths().len() >= 2).await;
    pass(ms(500)).await;
    soon_eq!(proxy.states().await, ["failing"]);
    soon_eq!(proxy.waiting().await, 1, "nobody is sent there");
    status.store(200, Ordering::SeqCst);
    assert_eq!(request.await.unwrap().unwrap().expect(200).text(), "loaded");
}

#[tokio::test]
async fn a_server_that_refuses_or_answers_wrongly_gets_nothing_even_when_it_is_the_last() {
    let status = Arc::new(AtomicU16::new(200));
    let backend = patient(&vacant(), &status, "x").await;
    let proxy = Proxy::to([backend.address()]).with(&health("")).start().await;
    eventually("it is up", async || proxy.states().await == ["up"]).await;
    status.store(500, Ordering::SeqCst);
    eventually("it fails", async || proxy.states().await == ["failing"]).await;
    let request = proxy.get("/").spawn();
    eventually("it waits", async || proxy.waiting().await == 1).await;
    pass(ms(300)).await;
    assert!(backend.paths().iter().all(|path| path == "/health"), "{:?}", backend.paths());
    status.store(200, Ordering::SeqCst);
    request.await.unwrap().unwrap().expect(200);
}

#[tokio::test]
async fn a_probe_can_look_like_a_request() {
    // As Django does whose ALLOWED_HOSTS names the site alone.
    let app = Backend::answering(|head| {
        let lower = head.to_ascii_lowercase();
        let wanted = ["host: galaxy.example.org:8443", "x-forwarded-proto: https", "user-agent: probe/1"];
        let fits = !lower.contains("bowshock-health") && wanted.iter().all(|field| lower.contains(field));
        let status = if fits || lower.contains("get / ") { "200 OK" } else { "400 Bad Request" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
    })
    .await;
    let health = "health = { path = \"/health\", host = \"galaxy.example.org:8443\", headers = { X-Forwarded-Proto = \
                  \"https\", User-Agent = \"probe/1\" } }";
    let proxy = Proxy::to([app.address()]).with(health).start().await;
    proxy.get("/").await.expect(200);
    assert_eq!(proxy.states().await, ["up"]);
}
