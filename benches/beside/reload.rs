//! What clients see of a reload.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    options::Options,
    peer::Peer::{self, Bowshock, Haproxy, Nginx},
    rounds::in_order,
    row::Row,
    server::{Place, Server},
    traffic::{self, Outcome},
};

pub const NAME: &str = "reload";

const PEERS: &[Peer] = &[Bowshock, Nginx, Haproxy];

/// Requests a second.
const RATE: u32 = 2_000;

/// How often each run reloads, at equal distances.
const RELOADS: u32 = 3;

/// Measures it, if it is wanted: the latency that one request of a hundred exceeds, and how many
/// fail.
pub fn run(options: &Options, place: &Place, runtime: &Handle) -> Result<Vec<Row>, Box<dyn Error>> {
    if !options.wants(NAME) {
        return Ok(Vec::new());
    }
    let total = RATE as usize * options.reload_time().as_secs() as usize * options.long_rounds();
    let mut latency = Row::costs("latency over reloads, p99", "ms", PEERS);
    let mut failed = Row::failures("failed over reloads", format!("of {total} requests"), PEERS);
    let mut late = Row::remark("requests sent late, p99", "ms", PEERS);
    for round in 0..options.long_rounds() {
        for peer in in_order(PEERS, round) {
            let outcome = under_traffic(&Server::start(peer, place, 1)?, options.reload_time(), runtime)?;
            for (failure, times) in &outcome.failures {
                eprintln!("beside: {}: failed {times} times: {failure}", peer.name());
            }
            latency.add(peer, outcome.latencies.p99() * 1e3);
            late.add(peer, outcome.late.p99() * 1e3);
            failed.add(peer, outcome.failures.values().sum::<usize>() as f64);
        }
        eprintln!("beside: round {} of {}: {}", round + 1, options.long_rounds(), latency.title);
    }
    Ok(vec![latency, late, failed])
}

#[expect(clippy::disallowed_methods, reason = "the event loop is on other threads")]
fn under_traffic(server: &Server, time: Duration, runtime: &Handle) -> Result<Outcome, Box<dyn Error>> {
    let started = Instant::now();
    let traffic = runtime.spawn(traffic::run(server.address, RATE, time));
    for reload in 1..=RELOADS {
        let due = started + time * reload / (RELOADS + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        server.reload()?;
    }
    Ok(runtime.block_on(traffic)??)
}
