//! Scenarios of waiting and counting, on a paused clock.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Lease, NoServer, ResponseOutcome, Selection, Standing, Upstream, health};
use crate::{
    config::{self, Balance, QueueOrder, ServerAddress, UpstreamServer},
    observe::HoldMetrics,
};

const HOLD: Duration = Duration::from_secs(300);

pub(super) fn settings(servers: &[(&str, Option<usize>)]) -> config::UpstreamSettings {
    let server = |(path, max_requests): &(&str, Option<usize>)| UpstreamServer {
        address: ServerAddress::Unix(path.into()),
        weight: 1,
        backup: false,
        max_requests: *max_requests,
    };
    config::UpstreamSettings {
        tls: None,
        name: "galaxy".into(),
        resolver: Vec::new(),
        servers: servers.iter().map(server).collect(),
        balance: Balance::LeastConn,
        slow_start: Duration::ZERO,
        streaming_share: 20,
        load_header: None,
        hold: HOLD,
        queue: 3,
        queue_order: QueueOrder::Oldest,
        retry: config::Retry { tries: 4, budget: 20, on: Vec::new() },
        health: None,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(60),
        uwsgi: None,
        http2: false,
        send_timeout: Duration::from_secs(60),
        keepalive: Duration::from_secs(1),
        max_response_head: 64 * 1024,
    }
}

fn upstream(servers: &[(&str, Option<usize>)]) -> Arc<Upstream> {
    with(&settings(servers))
}

/// Creates an upstream whose servers are all up before a prober has run.
pub(super) fn with(settings: &config::UpstreamSettings) -> Arc<Upstream> {
    let upstream = Upstream::new(settings, HoldMetrics::unregistered(), Box::new(health::watch));
    upstream.change(settings);
    upstream.servers().iter().for_each(|standing| upstream.recovered(&standing.server));
    upstream
}

async fn acquire(upstream: &Arc<Upstream>) -> Result<Lease, NoServer> {
    upstream.acquire(&mut Selection::default(), HOLD).await
}

/// Spawns a request that waits; returns once it is in the queue.
async fn wait(upstream: &Arc<Upstream>) -> tokio::task::JoinHandle<Result<Lease, NoServer>> {
    let before = upstream.waiting();
    let task = tokio::spawn({
        let upstream = Arc::clone(upstream);
        async move { acquire(&upstream).await }
    });
    while upstream.waiting() == before && !task.is_finished() {
        tokio::task::yield_now().await;
    }
    task
}

fn inflight(upstream: &Upstream) -> Vec<usize> {
    upstream.servers().iter().map(|standing| standing.server.inflight()).collect()
}

#[tokio::test]
async fn places_go_to_the_least_loaded_and_come_back() {
    let upstream = upstream(&[("/a", None), ("/b", None)]);
    let leases = [acquire(&upstream).await.unwrap(), acquire(&upstream).await.unwrap()];
    assert_eq!(inflight(&upstream), [1, 1]);
    drop(leases);
    assert_eq!(inflight(&upstream), [0, 0]);
}

#[tokio::test]
async fn a_free_place_goes_to_the_oldest() {
    let upstream = upstream(&[("/a", Some(1))]);
    let busy = acquire(&upstream).await.unwrap();
    let first = wait(&upstream).await;
    let second = wait(&upstream).await;
    drop(busy);
    let first = first.await.unwrap().unwrap();
    assert!(!second.is_finished());
    assert_eq!((upstream.waiting(), inflight(&upstream)), (1, vec![1]));
    drop(first);
    drop(second.await.unwrap().unwrap());
    assert_eq!((upstream.waiting(), inflight(&upstream)), (0, vec![0]));
}

#[tokio::test]
async fn who_leaves_frees_its_place_in_the_queue() {
    let upstream = upstream(&[("/a", Some(1))]);
    let busy = acquire(&upstream).await.unwrap();
    let leaves = wait(&upstream).await;
    let stays = wait(&upstream).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    assert_eq!(upstream.waiting(), 1);
    drop(busy);
    assert!(stays.await.unwrap().is_ok());
}

#[tokio::test]
async fn past_the_queue_requests_are_refused() {
    let upstream = upstream(&[("/a", Some(1))]);
    let _busy = acquire(&upstream).await.unwrap();
    let _waiting = [wait(&upstream).await, wait(&upstream).await, wait(&upstream).await];
    assert!(matches!(acquire(&upstream).await, Err(NoServer::QueueFull(3))));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_the_hold_is_over() {
    let upstream = upstream(&[("/a", Some(1))]);
    let _busy = acquire(&upstream).await.unwrap();
    let started = Instant::now();
    assert!(matches!(acquire(&upstream).await, Err(NoServer::Expired(_))));
    assert_eq!(started.elapsed().as_secs(), 300);
    assert_eq!(upstream.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_hold_covers_all_attempts_of_a_request() {
    let upstream = upstream(&[("/absent", None)]);
    let mut turn = Selection::default();
    let started = Instant::now();
    let lease = upstream.acquire(&mut turn, HOLD).await.unwrap();
    tokio::time::sleep(Duration::from_secs(200)).await;
    upstream.failed(lease.server(), "test");
    drop(lease);
    assert!(matches!(upstream.acquire(&mut turn, HOLD).await, Err(NoServer::Expired(_))));
    assert_eq!(started.elapsed().as_secs(), 200 + 300, "time on a server is not time in the queue");
    assert!(matches!(upstream.acquire(&mut turn, HOLD).await, Err(NoServer::Expired(_))));
    assert_eq!(started.elapsed().as_secs(), 200 + 300, "it has waited enough");
}

#[tokio::test]
async fn a_reload_brings_servers_to_those_who_wait() {
    let upstream = upstream(&[("/absent", None)]);
    upstream.failed(&upstream.servers()[0].server, "test");
    let waiting = wait(&upstream).await;
    upstream.change(&settings(&[("/new", None)]));
    let lease = waiting.await.unwrap().unwrap();
    assert_eq!(lease.server().label, "unix:/new");
}

#[tokio::test]
async fn counts_survive_a_reload_and_a_return() {
    let upstream = upstream(&[("/a", None)]);
    let lease = acquire(&upstream).await.unwrap();
    upstream.change(&settings(&[("/b", None), ("/a", None)]));
    assert_eq!(inflight(&upstream), [0, 1]);
    upstream.change(&settings(&[("/b", None)]));
    upstream.change(&settings(&[("/a", None), ("/b", None)]));
    assert_eq!(inflight(&upstream), [1, 0], "a server that comes back has its requests still");
    drop(lease);
    assert_eq!(inflight(&upstream), [0, 0]);
}

#[tokio::test]
async fn a_server_is_used_the_moment_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let upstream = upstream(&[(path.to_str().unwrap(), None)]);
    upstream.failed(&upstream.servers()[0].server, "test");
    let waiting = wait(&upstream).await;
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn who_had_a_place_in_the_queue_is_not_refused_one_when_it_comes_back() {
    let upstream = upstream(&[("/nowhere/a", None)]);
    let server = Arc::clone(&upstream.servers()[0].server);
    upstream.failed(&server, "test");
    let (mut turn, mut others) = (Selection::default(), Vec::new());
    let first = tokio::spawn({
        let upstream = Arc::clone(&upstream);
        async move {
            let lease = upstream.acquire(&mut turn, HOLD).await;
            (turn, lease)
        }
    });
    while upstream.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    upstream.recovered(&server);
    let (mut turn, lease) = first.await.unwrap();
    // The connection fails after all; meanwhile others have filled the queue.
    upstream.failed(&server, "test");
    for _ in 0..3 {
        others.push(wait(&upstream).await);
    }
    drop(lease);
    let again = tokio::time::timeout(Duration::from_millis(50), upstream.acquire(&mut turn, HOLD)).await;
    assert!(again.is_err(), "it waits again, and is not answered 503: {again:?}");
}

#[tokio::test]
async fn a_server_that_comes_and_goes_is_watched_by_one_prober() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let asking = |servers: &[(&str, Option<usize>)]| {
        let health = Some(config::Health {
            path: "/".into(),
            host: None,
            headers: Vec::new(),
            expect: Vec::new(),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        });
        config::UpstreamSettings { health, ..settings(servers) }
    };
    let both = asking(&[(path.to_str().unwrap(), None)]);
    let upstream = upstream(&[(path.to_str().unwrap(), None)]);
    upstream.change(&both);
    let lease = acquire(&upstream).await.unwrap();
    upstream.failed(lease.server(), "test");
    tokio::time::sleep(Duration::from_millis(20)).await;
    for _ in 0..10 {
        upstream.change(&asking(&[]));
        upstream.change(&both);
    }
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut asked = 0;
    let end = Instant::now() + Duration::from_secs(1);
    // Each probe gets a broken connection, so that another one follows.
    while let Ok(Ok(_)) = tokio::time::timeout_at(end, listener.accept()).await {
        asked += 1;
    }
    assert!(asked <= 12, "{asked} questions in a second, where one prober asks ten");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_finds_a_server_well_again_and_again_changes_nothing() {
    let upstream = upstream(&[("/absent/a", Some(4)), ("/absent/b", None)]);
    let [Standing { server: well, .. }, Standing { server: down, .. }] = &upstream.servers()[..] else {
        panic!("two servers")
    };
    upstream.failed(down, "test");
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(acquire(&upstream).await.unwrap());
    }
    let waiting = wait(&upstream).await;
    upstream.recovered(well);
    leases.pop();
    let lease =
        tokio::time::timeout(Duration::from_millis(1), waiting).await.expect("the free place at once");
    assert!(lease.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_nobody_waited_for_has_no_share_to_keep_to() {
    let upstream = upstream(&[("/absent/a", Some(4)), ("/absent/b", None)]);
    let [Standing { server: a, .. }, Standing { server: b, .. }] = &upstream.servers()[..] else {
        panic!("two servers")
    };
    upstream.failed(b, "test");
    upstream.failed(a, "test");
    upstream.recovered(a);
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(acquire(&upstream).await.unwrap());
    }
    let waiting = wait(&upstream).await;
    leases.pop();
    let lease =
        tokio::time::timeout(Duration::from_millis(1), waiting).await.expect("the free place at once");
    assert!(lease.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn when_the_last_server_goes_those_who_wait_get_the_backup() {
    let mut settings = settings(&[("/absent/a", Some(1)), ("/absent/b", None)]);
    settings.servers[1].backup = true;
    let upstream = with(&settings);
    let _hangs = acquire(&upstream).await.unwrap();
    let waiting = wait(&upstream).await;
    upstream.failed(&upstream.servers()[0].server, "test");
    let lease = tokio::time::timeout(Duration::from_millis(1), waiting).await.expect("the backup at once");
    assert_eq!(lease.unwrap().unwrap().server().label, "unix:/absent/b");
}

#[tokio::test(start_paused = true)]
async fn a_number_in_one_queue_is_none_in_another() {
    let (x, y) = (upstream(&[("/absent/x", None)]), upstream(&[("/absent/y", None)]));
    let (server_x, server_y) = (Arc::clone(&x.servers()[0].server), Arc::clone(&y.servers()[0].server));
    x.failed(&server_x, "test");
    y.failed(&server_y, "test");
    // The request waits at x, is served, its connection fails, and x is removed.
    let moved = tokio::spawn({
        let x = Arc::clone(&x);
        async move {
            let mut turn = Selection::default();
            drop(x.acquire(&mut turn, HOLD).await.unwrap());
            turn
        }
    });
    while x.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    x.recovered(&server_x);
    let mut turn = moved.await.unwrap();
    x.failed(&server_x, "test");
    x.retire();
    assert!(matches!(x.acquire(&mut turn, HOLD).await, Err(NoServer::Gone)));
    let first = wait(&y).await;
    let left = tokio::time::timeout(Duration::from_secs(1), y.acquire(&mut turn, HOLD)).await;
    assert!(left.is_err(), "it waits at y, until its client leaves");
    assert_eq!(y.waiting(), 1);
    assert!(!first.is_finished(), "who was there before is there still");
}

#[tokio::test]
async fn a_reload_that_asks_for_health_is_followed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let without = settings(&[(path.to_str().unwrap(), None)]);
    let upstream = with(&without);
    // Wait until its prober is idle.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let health = config::Health {
        path: "/".into(),
        host: None,
        headers: Vec::new(),
        expect: Vec::new(),
        every: Duration::from_secs(3600),
        timeout: Duration::from_secs(1),
    };
    upstream.change(&config::UpstreamSettings { health: Some(health), ..without });
    // Not only after the hour of `every`.
    assert!(tokio::time::timeout(Duration::from_secs(60), listener.accept()).await.is_ok(), "nobody asked");
}

#[tokio::test(start_paused = true)]
async fn one_slow_request_does_not_starve_its_server() {
    let upstream = upstream(&[("/absent/a", None), ("/absent/b", None)]);
    let mut slow = acquire(&upstream).await.unwrap();
    slow.connected();
    slow.sent();
    let server = Arc::clone(slow.server());
    let mut others = 0;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Two at a time, so that the busy server is as good as the other for one of them.
        let mut pair = [acquire(&upstream).await.unwrap(), acquire(&upstream).await.unwrap()];
        for lease in &mut pair {
            lease.connected();
            lease.sent();
            lease.response_begun(ResponseOutcome::Success, None);
            others += usize::from(Arc::ptr_eq(lease.server(), &server));
        }
    }
    assert!(others >= 4, "{others} of 120");
}

#[tokio::test(start_paused = true)]
async fn after_a_request_has_waited_in_vain_one_more_finds_out() {
    let upstream = upstream(&[("/absent/a", None), ("/absent/b", None)]);
    let mut lost = acquire(&upstream).await.unwrap();
    lost.connected();
    lost.sent();
    tokio::time::sleep(Duration::from_secs(180)).await;
    lost.timed_out();
    let hangs = Arc::clone(lost.server());
    drop(lost);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let mut leases = Vec::new();
    for _ in 0..20 {
        let mut lease = acquire(&upstream).await.unwrap();
        lease.connected();
        lease.sent();
        leases.push(lease);
    }
    assert_eq!(hangs.inflight(), 1, "of 20 at once");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_drained_is_not_waited_for() {
    let upstream = upstream(&[("/absent/a", None), ("/absent/b", None)]);
    let [Standing { server: a, .. }, Standing { server: b, .. }] = &upstream.servers()[..] else {
        panic!("two servers")
    };
    upstream.drain(b, true);
    upstream.failed(b, "test");
    upstream.failed(a, "test");
    let waiting = [wait(&upstream).await, wait(&upstream).await];
    upstream.recovered(a);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((upstream.waiting(), inflight(&upstream)), (0, vec![2, 0]));
    drop(waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_during_a_reload_does_not_bring_the_old_list_back() {
    let named = ServerAddress::Name("workers.test".into(), 80);
    let list = |path| {
        let mut settings = settings(&[(path, None), ("/absent/name", None)]);
        settings.servers[1].address = named.clone();
        settings
    };
    let upstream = upstream(&[]);
    upstream.change(&list("/absent/old"));
    for round in 0..5_000_u32 {
        let path = if round % 2 == 0 { "/absent/new" } else { "/absent/old" };
        let resolved = std::thread::spawn({
            let upstream = Arc::clone(&upstream);
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _runtime = runtime.enter();
                let address = std::net::Ipv4Addr::from(0x7f00_0001 + round).into();
                let found = super::names::Lookup::Found(vec![address], None, Duration::from_secs(1));
                upstream.resolved("workers.test:80", found);
            }
        });
        upstream.change(&list(path));
        resolved.join().unwrap();
        assert_eq!(upstream.servers()[0].server.label, format!("unix:{path}"), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_of_its_load_cannot_overflow() {
    let mut settings =
        settings(&[("/absent/a", Some(u32::MAX as usize)), ("/absent/b", Some(u32::MAX as usize))]);
    settings.load_header = Some(http::HeaderName::from_static("endpoint-load-metrics"));
    settings.servers.iter_mut().for_each(|server| server.weight = 1000);
    let upstream = with(&settings);
    for _ in 0..2 {
        let mut lease = acquire(&upstream).await.unwrap();
        lease.connected();
        lease.sent();
        lease.response_begun(
            ResponseOutcome::Success,
            Some(&http::HeaderValue::from_static("TEXT cpu_utilization=1000000")),
        );
    }
    assert!(acquire(&upstream).await.is_ok());
}
