//! Servers by name: a name may have several addresses, and they may change.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::fixtures::{
    Backend, Builder, Dns, Gate, Load, Proxy, Scratch, Wire, answers, eventually, free_port, ms, pass,
    received,
};

const NAME: &str = "workers.example.org";

/// Backends on the same port of 127.0.0.2, 127.0.0.3 and 127.0.0.4, each answering its address.
struct Hosts {
    backends: Vec<Backend>,
    port: u16,
    dns: Dns,
}

const ADDRESSES: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];

impl Hosts {
    async fn start(gate: &Gate) -> Self {
        let (port, mut backends) = (free_port(), Vec::new());
        for address in ADDRESSES {
            backends.push(Backend::behind_at(&format!("{address}:{port}"), gate, address).await);
        }
        Self { backends, port, dns: Dns::start().await }
    }

    async fn open() -> Self {
        let gate = Gate::shut();
        gate.open();
        Self::start(&gate).await
    }

    /// Backends that do and record what the application of the tests does with `/count`.
    async fn recording(log: &Path) -> Self {
        let mut hosts = Self { backends: Vec::new(), port: free_port(), dns: Dns::start().await };
        for address in ADDRESSES {
            let log = log.to_owned();
            let serve = move |mut wire: Wire, heads: Arc<Mutex<Vec<String>>>| {
                let log = log.clone();
                async move {
                    while let Some((head, _)) = wire.request().await {
                        let line = head.lines().find_map(|line| {
                            Some(line.to_lowercase().strip_prefix("x-id: ")?.to_uppercase())
                        });
                        let id = line.unwrap();
                        let mut file = File::options().create(true).append(true).open(&log).unwrap();
                        file.write_all(format!("{id}\n").as_bytes()).unwrap();
                        heads.lock().unwrap().push(head);
                        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{id}", id.len()))
                            .await;
                    }
                }
            };
            let backend = Backend::serving_at(&format!("{address}:{}", hosts.port), serve).await;
            hosts.backends.push(backend);
        }
        hosts
    }

    fn name(&self) -> String {
        format!("{NAME}:{}", self.port)
    }

    fn proxy(&self) -> Builder {
        Proxy::to([self.name()]).server(&self.dns.resolver())
    }

    /// How many requests each of them has read.
    fn asked(&self) -> Vec<usize> {
        self.backends.iter().map(|backend| backend.heads().len()).collect()
    }
}

/// The addresses of the servers of `app`, sorted.
async fn addresses(proxy: &Proxy) -> Vec<String> {
    let servers = proxy.servers().await;
    let mut addresses: Vec<_> =
        servers.iter().map(|server| server["address"].as_str().unwrap().to_owned()).collect();
    addresses.sort();
    addresses
}

/// Waits until these are the servers of `app`.
async fn known(proxy: &Proxy, hosts: &Hosts, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|address| format!("{address}:{}", hosts.port)).collect();
    eventually("the addresses are known", async || addresses(proxy).await == expected).await;
}

#[tokio::test]
async fn a_name_with_several_addresses_is_several_servers() {
    let gate = Gate::shut();
    let hosts = Hosts::start(&gate).await;
    hosts.dns.set(NAME, &ADDRESSES);
    let proxy = hosts.proxy().start().await;
    eventually("all are up", async || proxy.states().await == ["up"; 3]).await;
    let requests: Vec<_> = (0..12).map(|_| proxy.get("/").spawn()).collect();
    eventually("each has its share", async || hosts.asked() == [4, 4, 4]).await;
    soon_eq!(proxy.inflight().await, [4, 4, 4]);
    for server in proxy.servers().await {
        assert_eq!(server["name"], hosts.name());
        assert!(ADDRESSES.iter().any(|address| server["address"] == format!("{address}:{}", hosts.port)));
    }
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn an_address_that_is_added_gets_requests_and_one_that_leaves_gets_none() {
    let hosts = Hosts::open().await;
    hosts.dns.set(NAME, &ADDRESSES[..1]);
    let proxy = hosts.proxy().start().await;
    assert_eq!(proxy.get("/").await.expect(200).text(), ADDRESSES[0]);
    hosts.dns.set(NAME, &ADDRESSES[1..]);
    known(&proxy, &hosts, &ADDRESSES[1..]).await;
    let before = hosts.asked()[0];
    for _ in 0..30 {
        proxy.get("/").await.expect(200);
    }
    let asked = hosts.asked();
    assert_eq!(asked[0], before);
    assert!(asked[1] > 3 && asked[2] > 3, "{asked:?}");
}

#[tokio::test]
async fn an_address_that_leaves_finishes_what_it_has() {
    let gate = Gate::shut();
    let hosts = Hosts::start(&gate).await;
    hosts.dns.set(NAME, &ADDRESSES[..1]);
    let proxy = hosts.proxy().start().await;
    let requests: Vec<_> = ["GET", "POST"].map(|method| proxy.request(method, "/").spawn()).into();
    eventually("both are in flight", async || hosts.asked() == [2, 0, 0]).await;
    hosts.dns.set(NAME, &ADDRESSES[1..2]);
    let more = proxy.get("/").spawn();
    eventually("new ones go to the new address", async || {
        let request = proxy.get("/").spawn();
        pass(ms(50)).await;
        request.abort();
        hosts.asked()[1] > 0
    })
    .await;
    gate.open();
    answers([more]).await;
    assert!(answers(requests).await.iter().all(|answer| answer.text() == ADDRESSES[0]));
}

#[tokio::test]
async fn what_is_in_flight_on_an_address_that_stays_is_still_counted() {
    let gate = Gate::shut();
    let hosts = Hosts::start(&gate).await;
    hosts.dns.set(NAME, &ADDRESSES[..1]);
    let proxy = hosts.proxy().start().await;
    let mut requests: Vec<_> = (0..4).map(|_| proxy.get("/").spawn()).collect();
    eventually("they are in flight", async || proxy.inflight().await == [4]).await;
    hosts.dns.set(NAME, &ADDRESSES[..2]);
    known(&proxy, &hosts, &ADDRESSES[..2]).await;
    requests.extend((0..4).map(|_| proxy.get("/").spawn()));
    eventually("the idle one gets all four", async || hosts.asked() == [4, 4, 0]).await;
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn requests_wait_until_a_name_resolves() {
    let hosts = Hosts::open().await;
    let proxy = hosts.proxy().start().await;
    let requests: Vec<_> = (0..5).map(|_| proxy.get("/").spawn()).collect();
    eventually("they wait", async || proxy.waiting().await == 5).await;
    let servers = proxy.servers().await;
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0]["address"], hosts.name());
    assert_eq!(servers[0]["name"], hosts.name());
    assert_eq!(servers[0]["state"], "failing");
    assert!(!servers[0]["reason"].as_str().unwrap().is_empty(), "{servers:?}");
    hosts.dns.set(NAME, &ADDRESSES);
    answers(requests).await;
    known(&proxy, &hosts, &ADDRESSES).await;
}

#[tokio::test]
async fn those_who_waited_for_a_name_are_shared_by_its_servers() {
    let gate = Gate::shut();
    let hosts = Hosts::start(&gate).await;
    let proxy = hosts.proxy().start().await;
    let requests: Vec<_> = (0..60).map(|_| proxy.get("/").spawn()).collect();
    eventually("they wait", async || proxy.waiting().await == 60).await;
    hosts.dns.set(NAME, &ADDRESSES);
    eventually("all are in flight", async || hosts.asked().iter().sum::<usize>() == 60).await;
    let asked = hosts.asked();
    gate.open();
    answers(requests).await;
    assert!(asked.iter().all(|asked| (10..=40).contains(asked)), "{asked:?}");
}

#[tokio::test]
async fn a_resolver_that_falls_silent_takes_no_server_away() {
    let hosts = Hosts::open().await;
    hosts.dns.set(NAME, &ADDRESSES[..2]);
    let proxy = hosts.proxy().start().await;
    known(&proxy, &hosts, &ADDRESSES[..2]).await;
    hosts.dns.fall_silent();
    pass(ms(4000)).await;
    for _ in 0..10 {
        proxy.get("/").await.expect(200);
    }
    known(&proxy, &hosts, &ADDRESSES[..2]).await;
}

#[tokio::test]
async fn one_address_that_refuses_leaves_all_to_the_others() {
    let hosts = Hosts::open().await;
    hosts.dns.set(NAME, &["127.0.0.2", "127.0.0.9"]);
    let proxy = hosts.proxy().start().await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/").await.expect(200).text(), ADDRESSES[0]);
    }
}

#[tokio::test]
async fn the_hosts_file_and_plain_addresses_need_no_resolver() {
    let backend = Backend::saying("here").await;
    let port = backend.address().rsplit(':').next().unwrap().to_owned();
    let dns = Dns::start().await;
    dns.fall_silent();
    for server in [format!("localhost:{port}"), backend.address()] {
        let proxy = Proxy::to([server]).server(&dns.resolver()).start().await;
        assert_eq!(proxy.get("/").await.expect(200).text(), "here");
    }
}

#[tokio::test]
async fn the_first_resolver_that_answers_is_enough() {
    let hosts = Hosts::open().await;
    hosts.dns.set(NAME, &ADDRESSES[..1]);
    let silent = Dns::start().await;
    silent.fall_silent();
    let both = [&silent, &hosts.dns].map(|dns| dns.resolver().replace("resolver = ", "")).join(", ");
    let proxy = Proxy::to([hosts.name()]).server(&format!("resolver = [{both}]")).start().await;
    assert_eq!(proxy.get("/").await.expect(200).text(), ADDRESSES[0]);
}

#[tokio::test]
async fn a_name_that_moves_under_load_fails_no_request() {
    let scratch = Scratch::new();
    let log = scratch.path("app.log");
    let hosts = Hosts::recording(&log).await;
    hosts.dns.set(NAME, &ADDRESSES[..1]);
    let proxy = hosts.proxy().start().await;
    let load = Load::on(proxy.target(), 50);
    for addresses in [&ADDRESSES[1..], &ADDRESSES[2..], &ADDRESSES[..2]] {
        eventually("more are answered", {
            let settled = load.settled();
            let load = &load;
            async move || load.settled() > settled + 30
        })
        .await;
        hosts.dns.set(NAME, addresses);
        known(&proxy, &hosts, addresses).await;
    }
    load.stop().await.assert_none_failed(&log);
    assert!(received(&log).values().all(|times| *times == 1));
    assert!(hosts.asked().iter().all(|asked| *asked > 0), "{:?}", hosts.asked());
}

#[tokio::test]
async fn a_name_service_that_fails_for_one_kind_of_address_only_is_no_reason_to_forget_the_others() {
    let hosts = Hosts::open().await;
    hosts.dns.set(NAME, &ADDRESSES);
    let proxy = hosts.proxy().start().await;
    known(&proxy, &hosts, &ADDRESSES).await;
    hosts.dns.fail();
    pass(ms(3_000)).await;
    known(&proxy, &hosts, &ADDRESSES).await;
    proxy.get("/").await.expect(200);
}

#[tokio::test]
async fn where_one_kind_of_address_refuses_the_other_is_tried() {
    let port = free_port();
    let name = format!("localhost:{port}");
    let v6 = Backend::saying_at(&format!("[::1]:{port}"), "v6").await;
    let proxy = Proxy::to([&name]).start().await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "v6");
    assert_eq!(addresses(&proxy).await, [format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    // A host with both kinds of address is one server: it is asked at the first again when that is back.
    let _v4 = Backend::saying_at(&format!("127.0.0.1:{port}"), "v4").await;
    eventually("the first address is used", async || {
        addresses(&proxy).await == [format!("127.0.0.1:{port}")]
    })
    .await;
    assert_eq!(proxy.get("/").await.expect(200).text(), "v4");
    drop(v6);
}

#[tokio::test]
async fn a_name_that_ends_with_a_dot_is_a_whole_name() {
    let hosts = Hosts::open().await;
    hosts.dns.set(NAME, &ADDRESSES);
    let proxy = Proxy::to([format!("{NAME}.:{}", hosts.port)]).server(&hosts.dns.resolver()).start().await;
    proxy.get("/").await.expect(200);
}
