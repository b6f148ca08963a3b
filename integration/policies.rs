//! Which server gets a request, by each way of choosing there is.

use std::collections::HashMap;

use crate::{
    balance::tally,
    fixtures::{Backend, Builder, Gate, Proxy, Request, answers, eventually, vacant},
};

const BODIES: [&str; 4] = ["one", "two", "three", "four"];

/// The first `count` of four backends that answer their own name, and a proxy before them that chooses so.
async fn several(count: usize, balance: &str) -> (Vec<Backend>, Proxy) {
    let mut backends = Vec::new();
    for body in &BODIES[..count] {
        backends.push(Backend::saying(body).await);
    }
    let proxy = before(&backends, balance).start().await;
    eventually("all are up", async || proxy.states().await.iter().all(|state| state == "up")).await;
    (backends, proxy)
}

fn before(backends: &[Backend], balance: &str) -> Builder {
    Proxy::to(backends.iter().map(Backend::address)).with(&format!("balance = \"{balance}\""))
}

/// The same, with answers held back and 40 requests on them.
async fn forty_on_four(balance: &str) -> Vec<usize> {
    let gate = Gate::shut();
    let mut backends = Vec::new();
    for body in BODIES {
        backends.push(Backend::behind(&gate, body).await);
    }
    let proxy = before(&backends, balance).start().await;
    let requests: Vec<_> = (0..40).map(|_| proxy.get("/").spawn()).collect();
    let asked = || backends.iter().map(|backend| backend.heads().len());
    eventually("all are in flight", async || asked().sum::<usize>() == 40).await;
    gate.open();
    answers(requests).await;
    asked().collect()
}

async fn one_after_the_other(proxy: &Proxy, count: usize) -> Vec<String> {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(proxy.get("/").await.expect(200).text());
    }
    answers
}

#[tokio::test]
async fn round_robin_takes_turns_exactly() {
    let (_backends, proxy) = several(3, "round_robin").await;
    let answers = one_after_the_other(&proxy, 12).await;
    assert_eq!(tally(answers[..3].to_vec()).len(), 3, "{answers:?}");
    assert!(answers.windows(4).all(|window| window[0] == window[3]), "{answers:?}");
    assert_eq!(forty_on_four("round_robin").await, [10; 4]);
}

#[tokio::test]
async fn round_robin_leaves_out_who_is_away_and_takes_it_in_again() {
    let (mut backends, proxy) = several(3, "round_robin").await;
    let address = backends[0].address();
    backends.remove(0).end().await;
    one_after_the_other(&proxy, 3).await;
    soon_eq!(proxy.states().await[0], "failing");
    let counts = tally(one_after_the_other(&proxy, 20).await);
    assert_eq!((counts.get("two"), counts.get("three")), (Some(&10), Some(&10)), "{counts:?}");
    let _back = Backend::saying_at(&address, "one").await;
    eventually("it is up again", async || proxy.states().await[0] == "up").await;
    let counts = tally(one_after_the_other(&proxy, 30).await);
    assert!(counts.values().all(|count| *count == 10), "{counts:?}");
}

#[tokio::test]
async fn weights_are_turns_of_a_round_robin() {
    let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
    let heavy = format!("{{ address = {:?}, weight = 3 }}", one.address());
    let proxy = Proxy::to([heavy, two.address()]).with("balance = \"round_robin\"").start().await;
    let answers = one_after_the_other(&proxy, 16).await;
    for four in answers.chunks(4) {
        assert_eq!(four.iter().filter(|answer| *answer == "two").count(), 1, "{answers:?}");
    }
}

#[tokio::test]
async fn random_takes_the_better_of_two() {
    let (_backends, proxy) = several(4, "random").await;
    let counts = tally(one_after_the_other(&proxy, 80).await);
    assert!(BODIES.iter().all(|body| counts[*body] >= 5), "{counts:?}");
    let counts = forty_on_four("random").await;
    assert!(counts.iter().all(|count| (6..=14).contains(count)), "{counts:?}");
}

/// Who answers each of 100 keys, put into a request by `with`.
async fn homes(proxy: &Proxy, with: impl Fn(Request, usize) -> Request) -> HashMap<usize, String> {
    let mut homes = HashMap::new();
    for key in 0..100 {
        homes.insert(key, with(proxy.get("/"), key).await.expect(200).text());
    }
    homes
}

#[tokio::test]
async fn the_same_header_goes_to_the_same_server_as_long_as_it_is_there() {
    let (mut backends, proxy) = several(4, "hash:header:X-User").await;
    let homes = async || homes(&proxy, |request, key| request.header("x-user", &format!("user{key}"))).await;
    let first = homes().await;
    assert_eq!(homes().await, first);
    assert_eq!(tally(first.values().cloned()).len(), 4, "{first:?}");

    let address = backends[0].address();
    backends.remove(0).end().await;
    let without = homes().await;
    for (key, home) in &first {
        if home == "one" {
            assert_ne!(without[key], "one");
        } else {
            assert_eq!(without[key], *home, "only those of the lost server move");
        }
    }
    let moved = first.iter().filter(|(_, home)| *home == "one").map(|(key, _)| without[key].clone());
    assert!(tally(moved).len() > 1, "they are spread over the others");

    let _back = Backend::saying_at(&address, "one").await;
    eventually("it is up again", async || proxy.states().await[0] == "up").await;
    assert_eq!(homes().await, first);
}

#[tokio::test]
async fn a_reload_that_adds_a_server_moves_few_keys() {
    let (mut backends, mut proxy) = several(3, "hash:header:X-User").await;
    let with = |request: Request, key| request.header("x-user", &format!("user{key}"));
    let first = homes(&proxy, with).await;
    backends.push(Backend::saying("four").await);
    backends.reverse();
    proxy.reload(before(&backends, "hash:header:X-User")).await;
    for (key, home) in homes(&proxy, with).await {
        assert!(home == first[&key] || home == "four", "{key} moved from {} to {home}", first[&key]);
    }
}

#[tokio::test]
async fn a_cookie_or_an_address_may_be_the_key() {
    let (_backends, proxy) = several(4, "hash:cookie:galaxysession").await;
    let cookie = |request: Request, key| {
        request.header("cookie", &format!("a=b; galaxysession=s{key}; other={}", fastrand::u32(..)))
    };
    let first = homes(&proxy, cookie).await;
    assert_eq!(homes(&proxy, cookie).await, first);
    assert_eq!(tally(first.into_values()).len(), 4);

    let (_backends, proxy) = several(4, "hash:address").await;
    assert_eq!(tally(one_after_the_other(&proxy, 20).await).len(), 1, "it is one client");
}

#[tokio::test]
async fn the_address_is_the_one_that_is_believed() {
    let (backends, _) = several(4, "hash:address").await;
    let proxy = before(&backends, "hash:address").listener("trust = [\"127.0.0.1/32\"]").start().await;
    let from = |request: Request, key| request.header("x-forwarded-for", &format!("10.0.0.{key}"));
    let first = homes(&proxy, from).await;
    assert_eq!(homes(&proxy, from).await, first);
    assert_eq!(tally(first.into_values()).len(), 4);
}

#[tokio::test]
async fn requests_without_a_key_are_spread() {
    let (_backends, proxy) = several(4, "hash:header:X-User").await;
    let counts = tally(one_after_the_other(&proxy, 80).await);
    assert_eq!(counts.len(), 4, "{counts:?}");
}

#[tokio::test]
async fn a_key_whose_server_is_full_does_not_wait_for_it() {
    let gate = Gate::shut();
    let (one, two) = (Backend::behind(&gate, "one").await, Backend::behind(&gate, "two").await);
    let proxy = Proxy::to([one.address(), two.address()])
        .with("balance = \"hash:header:X-User\"\nmax_requests = 1")
        .start()
        .await;
    let requests: Vec<_> = (0..2).map(|_| proxy.get("/").header("x-user", "u").spawn()).collect();
    eventually("each has one", async || proxy.inflight().await == [1, 1]).await;
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn a_returned_server_starts_slowly() {
    let gate = Gate::shut();
    gate.open();
    let (one, two) = (Backend::behind(&gate, "one").await, Backend::behind(&gate, "two").await);
    let address = two.address();
    let proxy = Proxy::to([one.address(), two.address()]).with("slow_start = \"30s\"").start().await;
    two.end().await;
    eventually("its loss is seen", async || {
        proxy.get("/").await.expect(200);
        proxy.states().await == ["up", "failing"]
    })
    .await;
    let two = Backend::behind_at(&address, &gate, "two").await;
    eventually("it is back", async || proxy.states().await == ["up", "up"]).await;
    gate.close();
    let before = one.heads().len();
    let requests: Vec<_> = (0..40).map(|_| proxy.get("/").spawn()).collect();
    eventually("all are in flight", async || one.heads().len() - before + two.heads().len() == 40).await;
    let share = two.heads().len();
    gate.open();
    answers(requests).await;
    assert!(share <= 10, "{share} of 40 at once");
}

#[tokio::test]
async fn without_slow_start_a_returned_server_gets_its_share_at_once() {
    let gate = Gate::shut();
    let address = vacant();
    let one = Backend::behind(&gate, "one").await;
    let proxy = Proxy::to([one.address(), address.clone()]).start().await;
    let mut requests: Vec<_> = (0..10).map(|_| proxy.get("/").spawn()).collect();
    eventually("one has all", async || proxy.inflight().await == [10, 0]).await;
    let _two = Backend::behind_at(&address, &gate, "two").await;
    eventually("it is there", async || proxy.states().await == ["up", "up"]).await;
    requests.extend((0..10).map(|_| proxy.get("/").spawn()));
    eventually("both have the same", async || proxy.inflight().await == [10, 10]).await;
    gate.open();
    answers(requests).await;
}

#[tokio::test]
async fn two_proxies_before_the_same_workers_do_not_herd() {
    for balance in ["least_conn", "round_robin", "random"] {
        let gate = Gate::shut();
        let mut backends = Vec::new();
        for body in BODIES {
            backends.push(Backend::behind(&gate, body).await);
        }
        let proxies = [before(&backends, balance).start().await, before(&backends, balance).start().await];
        let requests: Vec<_> = (0..80).map(|number| proxies[number % 2].get("/").spawn()).collect();
        let asked = || backends.iter().map(|backend| backend.heads().len());
        eventually("all are in flight", async || asked().sum::<usize>() == 80).await;
        let shares: Vec<_> = asked().collect();
        gate.open();
        answers(requests).await;
        assert!(shares.iter().all(|share| (14..=26).contains(share)), "{balance}: {shares:?}");
    }
}

/// Of ten proxies with one request each, so many ask the same of four workers.
async fn same_choice_of_ten(balance: &str) -> usize {
    let gate = Gate::shut();
    let mut backends = Vec::new();
    for body in BODIES {
        backends.push(Backend::behind(&gate, body).await);
    }
    let (mut proxies, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let proxy = before(&backends, balance).start().await;
        requests.push(proxy.get("/").spawn());
        proxies.push(proxy);
    }
    let asked = || backends.iter().map(|backend| backend.heads().len());
    eventually("all are in flight", async || asked().sum::<usize>() == 10).await;
    gate.open();
    answers(requests).await;
    asked().max().unwrap_or_default()
}

#[tokio::test]
async fn many_proxies_do_not_all_begin_with_the_same_worker() {
    for balance in ["least_conn", "round_robin", "random"] {
        let most = same_choice_of_ten(balance).await;
        assert!(most <= 8, "{balance}: one has {most} of 10");
    }
}
