//! A model test: random requests before random servers, with reloads in between, and a model that knows what each client
//! may see.
//!
//! Servers answer in every framing, early, late, with interim responses; they cut and reset their responses, leave bodies
//! unread, take what they left unread for the next request, close connections without a word, and redirect inside. Clients
//! pipeline, expect 100, upload slowly, and leave in the middle. What must hold:
//!
//! - A response that a client takes for complete is one that a server sent whole, for this request.
//! - A request that nothing bad happens to is answered, by the server that it reached, once.
//! - Nothing that is not safe to repeat reaches a server twice, whatever fails and whatever is reloaded.
//! - A body that a server takes for complete is the one that the client sent.
//! - At the end nothing is in flight and nobody waits.
//!
//! A seed decides the plans; the moments are the machine's. `MODEL_SEED=n` runs one seed, `MODEL_SECONDS=n` runs so long (`make soak`).

mod client;
mod plan;
mod server;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::fixtures::{Builder, Proxy, eventually, ms, pass, within};
use plan::{Account, Plan};
use server::Servers;

/// How long seeds are run where nothing else is said.
const SECONDS: u64 = 60;

/// Requests in a seed, and clients that send them at the same time.
const REQUESTS: usize = 80;
const CLIENTS: usize = 8;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_what_the_model_allows() {
    if let Some(seed) = number("MODEL_SEED") {
        return run(seed).await;
    }
    let end = Instant::now() + Duration::from_secs(number("MODEL_SECONDS").unwrap_or(SECONDS));
    let first = fastrand::u64(0..1 << 32);
    eprintln!("seeds from {first}");
    let mut seeds = first..;
    while Instant::now() < end {
        let seed = seeds.next().expect("it does not end");
        eprintln!("MODEL_SEED={seed}");
        within(Duration::from_secs(120), "the seed ends", run(seed)).await;
    }
    eprintln!("{} seeds", seeds.start - first);
}

async fn run(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let plans: Vec<Plan> = (0..REQUESTS).map(|id| Plan::draw(&mut random, id)).collect();
    let account = Arc::new(Account::new(plans));
    let servers = Servers::start(&account).await;
    let mut proxy = configuration(&servers, &mut random).start().await;

    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (account, plain, h2) = (Arc::clone(&account), proxy.target(), proxy.h2());
            let mut random = random.fork();
            tokio::spawn(async move {
                let mut ids: Vec<_> = (client..REQUESTS).step_by(CLIENTS).collect();
                while !ids.is_empty() {
                    let some = ids.split_off(ids.len().saturating_sub(random.usize(1..=4)));
                    match random.u8(0..4) {
                        0 => client::over_h2(&h2, &account, &some).await,
                        _ => client::pipelined(&plain, &account, &some, &mut random).await,
                    }
                }
            })
        })
        .collect();
    for _ in 0..random.usize(0..5) {
        pass(ms(random.u64(0..120))).await;
        proxy.reload(configuration(&servers, &mut random)).await;
    }
    for client in clients {
        client.await.expect("what a client has seen is judged at the end");
    }
    account.judge(seed);
    eventually("nothing is in flight", async || {
        let status = proxy.status().await;
        let upstreams = status["upstreams"].as_array().expect("upstreams").iter();
        let servers = upstreams.clone().flat_map(|upstream| upstream["servers"].as_array().expect("servers"));
        let waiting: u64 = upstreams.map(|upstream| upstream["waiting"].as_u64().expect("a count")).sum();
        waiting + servers.map(|server| server["inflight"].as_u64().expect("a count")).sum::<u64>() == 0
    })
    .await;
}

/// A configuration before the servers, different in what a reload may change: their order, one that nobody listens at,
/// and which of two upstreams gets what the application redirects.
fn configuration(servers: &Servers, random: &mut Rng) -> Builder {
    let mut app = servers.app.clone();
    random.shuffle(&mut app);
    if random.bool() {
        app.push(servers.nobody.clone());
    }
    let inner = if random.bool() { "one" } else { "two" };
    // At times nobody is there who could answer what the application redirects; it waits for a reload.
    let at = if random.u8(0..3) == 0 { &servers.nobody } else { &servers.inner };
    Proxy::toml(&format!(
        "[[site]]\n[site.routes]\n\"/\" = {{ proxy = \"app\" }}\n\
         \"/inner\" = {{ proxy = \"{inner}\", internal = true, hold = \"300ms\" }}\n\
         [upstream.app]\nservers = {app:?}\nkeepalive = \"1m\"\n[upstream.{inner}]\nservers = [\"{at}\"]\n",
    ))
    .secure()
}
