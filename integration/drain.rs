//! A server that is drained finishes what it has and gets nothing new, until it is resumed.

use crate::fixtures::{Backend, Builder, Dns, Gate, Proxy, SOON, answers, eventually, free_port, ms, pass};

/// Two backends and a proxy before them.
struct Pair {
    one: Backend,
    two: Backend,
    proxy: Proxy,
}

impl Pair {
    async fn start() -> Self {
        let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
        let proxy = before(&[&one, &two]).start().await;
        Self { one, two, proxy }
    }
}

fn before(backends: &[&Backend]) -> Builder {
    Proxy::to(backends.iter().map(|backend| backend.address()))
}

/// Twenty requests in turn are all answered with `body`.
async fn assert_only(proxy: &Proxy, body: &str) {
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.expect(200).text(), body);
    }
}

/// Both bodies are answered again, sooner or later.
async fn assert_both(proxy: &Proxy) {
    for body in ["one", "two"] {
        eventually("both get requests", async || proxy.get("/").await.expect(200).text() == body).await;
    }
}

#[tokio::test]
async fn a_drained_server_gets_nothing_until_it_is_resumed() {
    let Pair { one, proxy, two: _two } = Pair::start().await;
    proxy.succeed(&format!("drain {}", one.address()));
    assert_only(&proxy, "two").await;
    proxy.succeed(&format!("resume {}", one.address()));
    assert_both(&proxy).await;
}

#[tokio::test]
async fn it_finishes_what_it_has() {
    let gate = Gate::shut();
    let (slow, other) = (Backend::behind(&gate, "slow").await, Backend::saying("other").await);
    let reserve = format!("{{ address = {:?}, backup = true }}", other.address());
    let proxy = Proxy::to([slow.address(), reserve]).start().await;
    let requests: Vec<_> = ["GET", "POST"].map(|method| proxy.request(method, "/").spawn()).into();
    eventually("both are in flight", async || proxy.inflight().await == [2, 0]).await;
    proxy.succeed(&format!("drain {}", slow.address()));
    assert_eq!(proxy.get("/").await.expect(200).text(), "other");
    soon_eq!(proxy.inflight().await, [2, 0]);
    gate.open();
    assert!(answers(requests).await.iter().all(|answer| answer.text() == "slow"));
    assert_eq!(slow.heads().len(), 2);
}

#[tokio::test]
async fn with_wait_the_command_ends_when_nothing_is_in_flight() {
    let gate = Gate::shut();
    let slow = Backend::behind(&gate, "slow").await;
    let proxy = Proxy::to([slow.address()]).start().await;
    let request = proxy.get("/").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    let mut drain = proxy.begin(&format!("drain {} --wait", slow.address()));
    eventually("it is drained", async || proxy.states().await == ["draining"]).await;
    pass(ms(500)).await;
    assert!(drain.running(), "one is still in flight:\n{}", drain.stderr());
    gate.open();
    assert!(drain.exited(SOON).await.success(), "{}", drain.stderr());
    answers([request]).await;
}

#[tokio::test]
async fn with_every_server_drained_requests_wait_until_one_is_resumed() {
    let Pair { one, two, proxy } = Pair::start().await;
    for backend in [&one, &two] {
        proxy.succeed(&format!("drain {}", backend.address()));
    }
    let requests: Vec<_> = (0..5).map(|_| proxy.get("/").spawn()).collect();
    eventually("they wait", async || proxy.waiting().await == 5).await;
    soon_eq!(proxy.upstream("app").await["waiting_for"], "servers");
    proxy.succeed(&format!("resume {}", two.address()));
    assert!(answers(requests).await.iter().all(|answer| answer.text() == "two"));
    assert!(one.heads().is_empty());
}

#[tokio::test]
async fn it_stays_drained_over_reloads_and_restarts() {
    let Pair { mut one, two, mut proxy } = Pair::start().await;
    proxy.succeed(&format!("drain {}", one.address()));
    proxy.reload(before(&[&one, &two]).with("hold = \"1m\"")).await;
    assert_only(&proxy, "two").await;
    let address = one.address();
    one.end().await;
    one = Backend::saying_at(&address, "one").await;
    pass(ms(300)).await;
    assert_only(&proxy, "two").await;
    soon_eq!(proxy.states().await, ["draining", "up"]);
    assert!(one.heads().is_empty());
}

#[tokio::test]
async fn it_is_forgotten_when_the_server_leaves_the_file() {
    let Pair { one, two, mut proxy } = Pair::start().await;
    proxy.succeed(&format!("drain {}", one.address()));
    proxy.reload(before(&[&two])).await;
    proxy.reload(before(&[&one, &two])).await;
    assert_both(&proxy).await;
}

#[tokio::test]
async fn what_is_drained_is_shown() {
    let Pair { one, proxy, two: _two } = Pair::start().await;
    assert_only_draining(&proxy, 0).await;
    proxy.succeed(&format!("drain {}", one.address()));
    assert_only_draining(&proxy, 1).await;
    soon_eq!(proxy.states().await[0], "draining");
    let table = proxy.succeed("status");
    let row = table.lines().find(|line| line.contains(&one.address())).unwrap();
    assert!(row.contains("draining"), "{table}");
    proxy.succeed(&format!("resume {}", one.address()));
    assert_only_draining(&proxy, 0).await;
    assert_ne!(proxy.states().await[0], "draining");
}

async fn assert_only_draining(proxy: &Proxy, count: u32) {
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("bowshock_upstream_draining", &["upstream=\"app\""]).round() as u32, count);
}

#[tokio::test]
async fn a_server_that_is_not_known_is_answered_with_those_that_are() {
    let Pair { one, two, proxy } = Pair::start().await;
    for word in ["drain", "resume"] {
        let (code, out, err) = proxy.ctl(&format!("{word} 10.0.0.1:8080"));
        assert_eq!(code, Some(1), "{out}{err}");
        for known in ["10.0.0.1:8080", &one.address(), &two.address()] {
            assert!(err.contains(known), "{known} is missing in\n{err}");
        }
    }
    let (code, out, err) = proxy.ctl(&format!("drain {} --upstream apq", one.address()));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("apq") && err.contains("app"), "{err}");
    assert_both(&proxy).await;
}

#[tokio::test]
async fn a_server_of_two_upstreams_may_be_drained_in_one_of_them() {
    let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
    let proxy = Proxy::toml(
        "[[site]]\n[site.routes]\n\"/a\" = { proxy = \"a\" }\n\"/b\" = { proxy = \"b\" }\n\
         [upstream.a]\nservers = [\"@ONE@\", \"@TWO@\"]\n[upstream.b]\nservers = [\"@ONE@\"]\nhold = \"100ms\"\n",
    )
    .fill("ONE", one.address())
    .fill("TWO", two.address())
    .start()
    .await;
    proxy.succeed(&format!("drain {} --upstream a", one.address()));
    for _ in 0..10 {
        assert_eq!(proxy.get("/a").await.expect(200).text(), "two");
        assert_eq!(proxy.get("/b").await.expect(200).text(), "one");
    }
    proxy.succeed(&format!("drain {}", one.address()));
    proxy.get("/b").await.expect(503);
    proxy.succeed(&format!("resume {}", one.address()));
    assert_eq!(proxy.get("/b").await.expect(200).text(), "one");
    eventually("it is back in both", async || proxy.get("/a").await.expect(200).text() == "one").await;
}

#[tokio::test]
async fn a_name_stands_for_all_its_servers() {
    let dns = Dns::start().await;
    dns.set("workers.example.org", &["127.0.0.2", "127.0.0.3"]);
    let port = free_port();
    let _two = Backend::saying_at(&format!("127.0.0.2:{port}"), "named").await;
    let _three = Backend::saying_at(&format!("127.0.0.3:{port}"), "named").await;
    let other = Backend::saying("other").await;
    let name = format!("workers.example.org:{port}");
    let proxy = Proxy::to([&name, &other.address()]).server(&dns.resolver()).start().await;
    eventually("the name is known", async || proxy.servers().await.len() == 3).await;
    proxy.succeed(&format!("drain {name}"));
    soon_eq!(proxy.states().await.iter().filter(|state| *state == "draining").count(), 2);
    assert_only(&proxy, "other").await;
    proxy.succeed(&format!("resume {name}"));
    eventually("they are back", async || proxy.get("/").await.expect(200).text() == "named").await;
}

#[tokio::test]
async fn a_watched_status_shows_what_changes() {
    let Pair { one, proxy, two: _two } = Pair::start().await;
    let watch = proxy.begin("status --watch");
    eventually("it is shown", async || watch.stdout().contains(&one.address())).await;
    assert!(!watch.stdout().contains("draining"));
    proxy.succeed(&format!("drain {}", one.address()));
    eventually("the change is shown", async || watch.stdout().contains("draining")).await;
}
