//! Failing fast looks like capacity: a server that fails far more than its peers gets less.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::fixtures::{Backend, Proxy, eventually, ms, pass};

/// Takes some milliseconds over good responses, and none over a 500 while it `fails`.
async fn worker(fails: &Arc<AtomicBool>) -> Backend {
    let fails = Arc::clone(fails);
    Backend::serving(move |mut wire, heads| {
        let fails = Arc::clone(&fails);
        async move {
            while let Some((head, _)) = wire.request().await {
                heads.lock().unwrap().push(head);
                let answer = if fails.load(Ordering::SeqCst) {
                    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
                } else {
                    pass(ms(5)).await;
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                };
                if wire.try_send(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// Four workers of which the first `bad` ones fail.
async fn four(bad: usize) -> (Vec<Arc<AtomicBool>>, Vec<Backend>, Proxy) {
    let fails: Vec<_> = (0..4).map(|number| Arc::new(AtomicBool::new(number < bad))).collect();
    let mut workers = Vec::new();
    for fails in &fails {
        workers.push(worker(fails).await);
    }
    let proxy = Proxy::to(workers.iter().map(Backend::address)).start().await;
    (fails, workers, proxy)
}

/// Sends requests from several clients at once, and counts those that each worker gets.
async fn shares(proxy: &Proxy, workers: &[Backend], requests: usize) -> Vec<usize> {
    let asked = || workers.iter().map(|worker| worker.heads().len());
    let before: Vec<_> = asked().collect();
    let clients = (0..8).map(|_| {
        let target = proxy.target();
        tokio::spawn(async move {
            let mut connection = target.connect().await.unwrap();
            for _ in 0..requests / 8 {
                let request = connection.get("/");
                connection.send(request).await.unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    asked().zip(before).map(|(now, before)| now - before).collect()
}

#[tokio::test]
async fn a_server_that_fails_fast_gets_less_than_its_fair_share() {
    let (fails, workers, proxy) = four(1).await;
    shares(&proxy, &workers, 200).await;
    assert_eq!(proxy.states().await, ["outlier", "up", "up", "up"]);
    assert_eq!(proxy.metrics().await.sum("bowshock_upstream_outlier", &[]).round() as u32, 1);
    let with_it = shares(&proxy, &workers, 400).await;
    assert!((1..=60).contains(&with_it[0]), "less than a fair share, and not nothing: {with_it:?}");
    // Nobody has to say that it is well again.
    fails[0].store(false, Ordering::SeqCst);
    eventually("it is trusted again", async || {
        shares(&proxy, &workers, 200).await;
        proxy.states().await[0] == "up"
    })
    .await;
}

#[tokio::test]
async fn a_server_that_breaks_connections_gets_less_though_it_takes_them() {
    let mut workers = vec![
        Backend::serving(|mut wire, heads| async move {
            if let Some((head, _)) = wire.request().await {
                heads.lock().unwrap().push(head);
            }
        })
        .await,
    ];
    for _ in 0..3 {
        workers.push(worker(&Arc::default()).await);
    }
    let proxy = Proxy::to(workers.iter().map(Backend::address)).start().await;
    shares(&proxy, &workers, 200).await;
    let with_it = shares(&proxy, &workers, 400).await;
    assert!((1..=60).contains(&with_it[0]), "less than a fair share, and not nothing: {with_it:?}");
}

#[tokio::test]
async fn nobody_is_blamed_when_all_fail() {
    let (_, workers, proxy) = four(4).await;
    shares(&proxy, &workers, 400).await;
    assert_eq!(proxy.states().await, ["up", "up", "up", "up"]);
}

#[tokio::test]
async fn a_few_odd_responses_are_no_reason() {
    let (fails, workers, proxy) = four(0).await;
    shares(&proxy, &workers, 200).await;
    fails[0].store(true, Ordering::SeqCst);
    eventually("it has failed three times", async || {
        let before = workers[0].heads().len();
        proxy.get("/").await;
        workers[0].heads().len() > before
    })
    .await;
    fails[0].store(false, Ordering::SeqCst);
    assert_eq!(proxy.states().await, ["up", "up", "up", "up"]);
}
