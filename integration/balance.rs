//! The least loaded worker gets the request, by exact counts.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::fixtures::{Backend, Gunicorn, Proxy, Scratch, eventually, ms, pass};

fn addresses(fleet: &[Gunicorn]) -> Vec<String> {
    fleet.iter().map(Gunicorn::address).collect()
}

/// How often each text was answered.
pub fn tally(answers: impl IntoIterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn idle_workers_share_requests() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 4).await;
    let proxy = Proxy::to(addresses(&fleet)).start().await;
    let mut answers = Vec::new();
    for _ in 0..80 {
        answers.push(proxy.get("/pid").await.expect(200).text());
    }
    let counts = tally(answers);
    assert_eq!(counts.len(), 4, "every worker got some: {counts:?}");
    assert!(counts.values().all(|&count| count >= 5), "ties are broken at random: {counts:?}");
}

#[tokio::test]
async fn eight_slow_requests_are_two_for_each_of_four_workers() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 4).await;
    let proxy = Proxy::to(addresses(&fleet)).start().await;
    let requests: Vec<_> = (0..8).map(|_| proxy.get("/slow?s=1").spawn()).collect();
    eventually("each has two in flight", async || proxy.inflight().await == [2, 2, 2, 2]).await;
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.unwrap().unwrap().expect(200).text());
    }
    assert!(tally(answers).values().all(|&count| count == 2));
    eventually("nothing is in flight", async || proxy.inflight().await == [0, 0, 0, 0]).await;
}

#[tokio::test]
async fn a_busy_worker_is_avoided() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 2).await;
    let proxy = Proxy::to(addresses(&fleet)).start().await;
    let slow = proxy.get("/slow?s=1").spawn();
    eventually("one is busy", async || proxy.inflight().await.iter().sum::<u64>() == 1).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(proxy.get("/pid").await.text());
    }
    let busy = slow.await.unwrap().unwrap().text();
    assert_eq!(tally(others.clone()).len(), 1, "{others:?}");
    assert!(!others.contains(&busy));
}

#[tokio::test]
async fn a_backup_is_used_only_while_the_others_are_down() {
    let scratch = Scratch::new();
    let mut first = Gunicorn::app().unix(scratch.path("first.sock")).start().await;
    let second = Gunicorn::app().unix(scratch.path("second.sock")).start().await;
    let backup = format!("{{ address = {:?}, backup = true }}", second.address());
    let proxy = Proxy::to([first.address(), backup]).start().await;
    let (first_pid, second_pid) = (first.worker_pid().await, second.worker_pid().await);
    for _ in 0..10 {
        assert_eq!(proxy.get("/pid").await.text(), first_pid);
    }
    let slow: Vec<_> = (0..4).map(|_| proxy.get("/slow?s=0.5").spawn()).collect();
    eventually("all four go to the first", async || proxy.inflight().await == [4, 0]).await;
    for request in slow {
        request.await.unwrap().unwrap().expect(200);
    }
    first.kill().await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/pid").await.expect(200).text(), second_pid);
    }
    first.restart().await;
    eventually("the first is up again", async || proxy.states().await[0] == "up").await;
    let first_pid = first.worker_pid().await;
    for _ in 0..10 {
        assert_eq!(proxy.get("/pid").await.text(), first_pid);
    }
}

#[tokio::test]
async fn weights_are_shares_of_what_is_in_flight() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 2).await;
    let heavy = format!("{{ address = {:?}, weight = 3 }}", fleet[0].address());
    let proxy = Proxy::to([heavy, fleet[1].address()]).start().await;
    let requests: Vec<_> = (0..8).map(|_| proxy.get("/slow?s=1").spawn()).collect();
    eventually("three to one", async || proxy.inflight().await == [6, 2]).await;
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
}

#[tokio::test]
async fn past_max_requests_the_rest_waits_in_order() {
    let scratch = Scratch::new();
    let log = scratch.path("app.log");
    let worker = Gunicorn::app().unix(scratch.path("g.sock")).log(&log).start().await;
    let proxy = Proxy::to([worker.address()]).with("max_requests = 1").start().await;
    let mut requests = Vec::new();
    for number in 0_u64..6 {
        let seconds = if number == 0 { "2" } else { "0.05" };
        let request = proxy.get(&format!("/slow?s={seconds}")).header("x-id", &number.to_string());
        requests.push(request.spawn());
        eventually("one is in flight, the rest waits", async || {
            (proxy.inflight().await, proxy.waiting().await) == (vec![1], number)
        })
        .await;
    }
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
    let lines = std::fs::read_to_string(&log).unwrap();
    let ids: Vec<_> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn max_requests_of_one_server_leaves_the_rest_to_others() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 2).await;
    let small = format!("{{ address = {:?}, max_requests = 1 }}", fleet[0].address());
    let proxy = Proxy::to([small, fleet[1].address()]).start().await;
    let requests: Vec<_> = (0..6).map(|_| proxy.get("/slow?s=1").spawn()).collect();
    eventually("one and five", async || proxy.inflight().await == [1, 5]).await;
    for request in requests {
        request.await.unwrap().unwrap().expect(200);
    }
}

#[tokio::test]
async fn a_worker_that_accepts_and_stays_silent_gets_no_new_requests() {
    let (silent, well) = (Backend::silent().await, Backend::saying("well").await);
    let proxy = Proxy::to([silent.address(), well.address()])
        .with("health = { path = \"/pid\", every = \"100ms\", timeout = \"200ms\" }")
        .start()
        .await;
    eventually("the silent one is out", async || proxy.states().await == ["failing", "up"]).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").await.expect(200).text(), "well");
    }
    assert!(silent.paths().iter().all(|path| path == "/pid"), "{:?}", silent.paths());
}

#[tokio::test]
async fn without_a_health_path_a_silent_worker_gets_no_more_than_it_had() {
    let (silent, well) = (Backend::silent().await, Backend::saying("well").await);
    let proxy = Proxy::to([silent.address(), well.address()]).start().await;
    let mut stuck = Vec::new();
    while silent.heads().is_empty() {
        stuck.push(proxy.get("/x").spawn());
        pass(ms(20)).await;
    }
    eventually("it is seen", async || proxy.states().await == ["silent", "up"]).await;
    let before = silent.heads().len();
    // Many at once: by their number alone the silent one would get some.
    let requests: Vec<_> = (0..50).map(|_| proxy.get("/x").spawn()).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().expect(200).text(), "well");
    }
    assert_eq!(silent.heads().len(), before);
}

#[tokio::test]
async fn a_client_that_leaves_is_not_in_flight_any_more() {
    let scratch = Scratch::new();
    let fleet = Gunicorn::fleet(&scratch, 1).await;
    let proxy = Proxy::to(addresses(&fleet)).start().await;
    let request = proxy.get("/slow?s=30").spawn();
    eventually("it is in flight", async || proxy.inflight().await == [1]).await;
    request.abort();
    eventually("it has left", async || proxy.inflight().await == [0]).await;
}

#[tokio::test]
async fn a_worker_that_says_it_is_not_ready_gets_no_requests_until_it_is() {
    let ready = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ready);
    let late = Backend::answering(move |head| {
        let code =
            if head.contains(" /ready ") && !seen.load(Ordering::SeqCst) { "503 Not Yet" } else { "200 OK" };
        format!("HTTP/1.1 {code}\r\nContent-Length: 4\r\n\r\nlate").into_bytes()
    })
    .await;
    let well = Backend::saying("well").await;
    let proxy = Proxy::to([late.address(), well.address()])
        .with("health = { path = \"/ready\", every = \"100ms\", timeout = \"1s\" }")
        .start()
        .await;
    eventually("the late one is out", async || proxy.states().await == ["failing", "up"]).await;
    for _ in 0..20 {
        assert_eq!(proxy.get("/x").await.expect(200).text(), "well");
    }
    ready.store(true, Ordering::SeqCst);
    eventually("the late one is in", async || proxy.states().await == ["up", "up"]).await;
    eventually("it gets requests", async || proxy.get("/x").await.expect(200).text() == "late").await;
}

#[tokio::test]
async fn a_silent_worker_gets_nothing_new_while_another_answers() {
    let (good, silent) = (Backend::saying("ok").await, Backend::silent().await);
    let proxy = Proxy::to([good.address(), silent.address()]).with("read_timeout = \"1s\"").start().await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += usize::from(proxy.get("/").send().await.unwrap().status != 200);
    }
    assert!(failed <= 1, "{failed} of 20 requests, one after the other");
}
