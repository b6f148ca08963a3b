//! Time of a step: of batches that are long enough for the clock, and many.

use std::time::{Duration, Instant};

use crate::steps::Repeat;

/// How long a batch takes at least, unless a single step takes longer.
const BATCH: Duration = Duration::from_millis(2);

/// For how long batches are measured.
const ALL: Duration = Duration::from_secs(1);

/// However long a step takes.
const LEAST_BATCHES: usize = 5;

/// Nanoseconds of a single step.
pub struct Time {
    pub least: f64,
    pub median: f64,
}

/// Measures a step.
pub fn measure(repeat: &mut Repeat) -> Time {
    let times = batch_size(repeat);
    let started = Instant::now();
    let mut batches = Vec::new();
    while batches.len() < LEAST_BATCHES || started.elapsed() < ALL {
        batches.push(took(repeat, times).as_nanos() as f64 / times as f64);
    }
    batches.sort_by(f64::total_cmp);
    Time { least: batches[0], median: batches[batches.len() / 2] }
}

/// How many steps take as long as a batch should; finding that out warms up what there is to warm up.
fn batch_size(repeat: &mut Repeat) -> u64 {
    let mut times = 1;
    while took(repeat, times) < BATCH {
        times *= 2;
    }
    times
}

fn took(repeat: &mut Repeat, times: u64) -> Duration {
    let started = Instant::now();
    repeat(times);
    started.elapsed()
}
