//! Tables and verdicts, as Markdown.

use std::collections::BTreeMap;

use crate::{
    client::Outcome,
    figures::Figures,
    simulation::{Policy, Simulated},
    system::Kind,
    worker::SLOTS,
};

/// What p99 with `max_requests` may be, as a multiple of that of the simulated central queue.
const MOST: f64 = 1.05;

/// Nine of ten simulated runs lie between these percentiles.
const USUAL: [usize; 2] = [5, 95];

/// What came of one level of load.
pub struct Level {
    /// For example "70 % load".
    pub name: String,
    pub systems: Vec<Measured>,
    pub least_connections: Simulated,
    pub central_queue: Simulated,
}

/// What came of one system.
pub struct Measured {
    kind: Kind,
    figures: Figures,
    /// How long after their time requests were started.
    late: Figures,
    /// How often each failure happened.
    failures: BTreeMap<String, usize>,
}

impl Measured {
    pub fn new(kind: Kind, outcomes: Vec<Outcome>) -> Self {
        let late = Figures::of(outcomes.iter().map(|outcome| outcome.late).collect());
        let mut failures = BTreeMap::new();
        let mut latencies = Vec::new();
        for outcome in outcomes {
            match outcome.latency {
                Ok(latency) => latencies.push(latency),
                Err(failure) => *failures.entry(failure).or_default() += 1,
            }
        }
        Self { kind, figures: Figures::of(latencies), late, failures }
    }
}

impl Level {
    pub fn print(&self) {
        println!("\n## {}\n", self.name);
        println!("| system | mean | p50 | p95 | p99 | max | failed |");
        println!("|---|---:|---:|---:|---:|---:|---:|");
        for system in &self.systems {
            let failed: usize = system.failures.values().sum();
            print_row(&system.kind.name(), |figure| figure(&system.figures), &failed.to_string());
        }
        for (name, simulated) in self.simulations() {
            print_row(name, |figure| simulated.percentile(50, figure), "");
        }
        println!();
        self.print_remarks();
        self.print_mean_verdicts();
        self.print_p99_verdict();
    }

    fn simulations(&self) -> [(&'static str, &Simulated); 2] {
        [(Policy::LeastConnections, &self.least_connections), (Policy::CentralQueue, &self.central_queue)]
            .map(|(policy, simulated)| (policy.name(), simulated))
    }

    /// How far the figures can be trusted.
    fn print_remarks(&self) {
        for (name, simulated) in self.simulations() {
            let [mean, p99] = [Figures::mean, Figures::p99].map(|figure| {
                let [low, high] = USUAL.map(|percent| simulated.percentile(percent, figure));
                format!("{} to {} ms", ms(low), ms(high))
            });
            println!("- {name}: by how ties are broken, usually a mean of {mean} and a p99 of {p99}.");
        }
        let latest = |percent| {
            let each = self.systems.iter().map(|system| system.late.percentile(percent));
            each.fold(0.0, f64::max) * 1000.0
        };
        println!("- Requests were started late: p99 {:.1} ms, at most {:.1} ms.", latest(99), latest(100));
        for system in &self.systems {
            for (failure, times) in &system.failures {
                println!("- {}: failed {times} times: {failure}", system.kind.name());
            }
        }
    }

    fn print_mean_verdicts(&self) {
        let mean = |system: &&Measured| system.figures.mean();
        let peers = self.systems.iter().filter(|system| system.kind.is_peer());
        let Some(best) = peers.min_by(|a, b| mean(a).total_cmp(&mean(b))) else { return };
        let [low, high] = USUAL.map(|percent| self.least_connections.percentile(percent, Figures::mean));
        for ours in self.systems.iter().filter(|system| !system.kind.is_peer()) {
            println!(
                "- Aim: mean ≤ the best peer's. {}: {} ms, {}: {} ms; {}.",
                ours.kind.name(),
                ms(mean(&ours)),
                best.kind.name(),
                ms(mean(&best)),
                verdict(mean(&ours), mean(&best), high / low)
            );
        }
    }

    fn print_p99_verdict(&self) {
        let limited = self.systems.iter().find(|system| system.kind == Kind::BowshockMaxRequests);
        let Some(p99) = limited.map(|system| system.figures.p99()) else { return };
        let [_, high] = USUAL.map(|percent| self.central_queue.percentile(percent, Figures::p99));
        let central = self.central_queue.percentile(50, Figures::p99);
        println!(
            "- Aim: p99 with max_requests = {SLOTS} ≤ {MOST} × that of the simulated central queue. {} ms, {} ms; {}.",
            ms(p99),
            ms(central),
            verdict(p99, MOST * central, high / (MOST * central))
        );
    }
}

/// Whether `value` is at most `most`; `noise` is the ratio of two values between which ties alone make the difference.
fn verdict(value: f64, most: f64, noise: f64) -> String {
    let percent = |ratio: f64| format!("{:.1} %", (ratio - 1.0) * 100.0);
    match value / most {
        ratio if ratio <= 1.0 => "holds".into(),
        ratio if ratio <= noise => {
            format!("missed by {}, within the noise of ties, {}", percent(ratio), percent(noise))
        }
        ratio => format!("missed by {}", percent(ratio)),
    }
}

/// `value` gives the value of a figure.
fn print_row(name: &str, value: impl Fn(fn(&Figures) -> f64) -> f64, failed: &str) {
    let percentiles: [fn(&Figures) -> f64; 4] =
        [|of| of.percentile(50), |of| of.percentile(95), Figures::p99, |of| of.percentile(100)];
    let [p50, p95, p99, max] = percentiles.map(|figure| ms(value(figure)));
    println!("| {name} | {} | {p50} | {p95} | {p99} | {max} | {failed} |", ms(value(Figures::mean)));
}

/// Seconds as milliseconds.
fn ms(seconds: f64) -> String {
    format!("{:.0}", seconds * 1000.0)
}
