//! What a perfect balancer would make of the arrivals: discrete events, no network, no machine.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    arrivals::{Arrival, WORKERS},
    figures::Figures,
    worker::{SLOTS, Worker},
};

/// How requests find their worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// At once to the worker with the fewest requests; ties are broken at random.
    LeastConnections,
    /// The same while a worker has a free slot; until then all wait in one queue, the oldest first.
    CentralQueue,
}

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Self::LeastConnections => "simulated least connections",
            Self::CentralQueue => "simulated central queue",
        }
    }
}

/// How often the arrivals are simulated, each time with ties broken in another way.
const TIMES: u64 = 200;

/// The figures of each simulated run.
pub struct Simulated(Vec<Figures>);

impl Simulated {
    /// Simulates the arrivals of each fleet under `policy`.
    pub fn new(fleets: &[Arc<[Arrival]>], policy: Policy) -> Self {
        let run = |seed| fleets.iter().flat_map(|arrivals| latencies(arrivals, policy, seed)).collect();
        Self((0..TIMES).map(|seed| Figures::of(run(seed))).collect())
    }

    /// The value of a figure that `percent` of a hundred runs do not reach: 50 for what a run usually shows.
    pub fn percentile(&self, percent: usize, figure: impl Fn(&Figures) -> f64) -> f64 {
        Figures::of(self.0.iter().map(figure).collect()).percentile(percent)
    }
}

/// How long each request takes, in seconds, in the order in which they are done.
fn latencies(arrivals: &[Arrival], policy: Policy, seed: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut workers: [Worker<f64>; WORKERS] = Default::default();
    let mut queue: VecDeque<Arrival> = VecDeque::new();
    let mut latencies = Vec::with_capacity(arrivals.len());
    let mut arriving = arrivals.iter().copied().peekable();
    while latencies.len() < arrivals.len() {
        let until = arriving.peek().map_or(f64::INFINITY, |arrival| arrival.at);
        let now = if let Some((done, arrived)) = next_done(&mut workers, until) {
            latencies.push(done - arrived);
            done
        } else {
            queue.extend(arriving.next());
            until
        };
        while let Some(arrival) = queue.front().copied()
            && let Some(chosen) = choose(&workers, policy, &mut random)
        {
            queue.pop_front();
            workers[chosen].arrive(now, arrival.work, arrival.at);
        }
    }
    latencies
}

/// The next request that any worker is done with, if that is until `time`.
fn next_done(workers: &mut [Worker<f64>], time: f64) -> Option<(f64, f64)> {
    let when = |worker: &Worker<f64>| worker.next_done().unwrap_or(f64::INFINITY);
    workers.iter_mut().min_by(|a, b| when(a).total_cmp(&when(b)))?.done_until(time)
}

fn choose(workers: &[Worker<f64>], policy: Policy, random: &mut fastrand::Rng) -> Option<usize> {
    let least = workers.iter().map(Worker::inflight).min()?;
    if policy == Policy::CentralQueue && least >= SLOTS {
        return None;
    }
    let tied: Vec<usize> = (0..workers.len()).filter(|&place| workers[place].inflight() == least).collect();
    random.choice(tied)
}
