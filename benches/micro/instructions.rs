//! Instructions of a step, counted by valgrind: it runs this program with some repetitions of the step and with more of
//! them; the difference is what the step takes, without what prepares it.
//!
//! What the kernel does is not counted. Under valgrind the clock is one of the kernel's.

use std::{
    error::Error,
    process::{Command, Output},
};

/// The word by which the program is asked to repeat a step so many times and say nothing.
pub const COUNT: &str = "--count";

/// How much time the repetitions may take, were they not counted: as many as make what is done only sometimes (a page
/// taken from the kernel) an even share of each.
const NANOSECONDS: f64 = 10_000_000.0;
const MOST_REPETITIONS: f64 = 10_000.0;

/// Counts the instructions of a step that takes about so long.
pub fn count(step: &str, nanoseconds: f64) -> Result<f64, Box<dyn Error>> {
    let times = (NANOSECONDS / nanoseconds).clamp(1.0, MOST_REPETITIONS) as u64;
    let (some, more) = (run(step, times)?, run(step, 2 * times)?);
    Ok(more.saturating_sub(some) as f64 / times as f64)
}

/// Instructions of a whole run.
fn run(step: &str, times: u64) -> Result<u64, Box<dyn Error>> {
    let Output { status, stderr, .. } = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--bench", COUNT, step, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&stderr);
    let total = said.lines().find_map(|line| line.split_once("refs:")).filter(|_| status.success());
    let (_, total) = total.ok_or_else(|| format!("valgrind has not counted {step}:\n{said}"))?;
    Ok(total.trim().replace(',', "").parse()?)
}
