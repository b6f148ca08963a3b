//! Which balancer keeps requests waiting least, when a few of them are much slower than the rest?
//!
//! nginx, haproxy and bowshock run at the same time, each in front of four simulated workers of its own, and get the
//! same requests at the same moments; so whatever disturbs the machine disturbs all of them. A request starts at its
//! scheduled time, whether those before it are answered or not, and its latency counts from that time. Beside them stand
//! two simulations of the same requests, without network or machine: plain least connections, and one central queue for
//! all slots.
//!
//! A simulated worker has the capacity of one processor, which up to four requests share equally (see [`worker`]). It
//! takes time and no CPU. Its test is in every result: the row of bowshock must agree with simulated least connections,
//! which is made of the same arithmetic, up to the time that the way through the proxy takes (about a millisecond) and
//! to the noise of ties, which the report tells. When it does not, look at how late requests were started: a machine
//! that stood still for a moment has sent them in one burst afterwards.
//!
//! Nothing is left out of the figures: all systems start empty, after one request that shows that they work, and all
//! answers are waited for.
//!
//! `make bench-balance` runs it (about six minutes), `make bench-balance BENCH_ARGS=--quick` for one minute, which shows
//! that it works and little more. The exit code is 0 whatever the figures are, 1 when something could not be run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report, and how far it is")]

mod arrivals;
mod backend;
mod client;
#[path = "../common/figures.rs"]
mod figures;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/process.rs"]
mod process;
mod report;
mod simulation;
mod system;
mod worker;

use std::{
    error::Error,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use arrivals::{Arrival, arrivals};
use machine::{BOWSHOCK, machine, version};
use report::{Level, Measured};
use simulation::{Policy, Simulated};
use system::{Kind, System};

/// Shares of what the workers can do.
const LOADS: [f64; 2] = [0.70, 0.85];

/// For how long requests arrive, in seconds, at each load.
const FULL: f64 = 165.0;
const QUICK: f64 = 22.0;

/// How many of each system run at once, each in front of workers of its own and with arrivals of its own: more requests
/// in the same time.
const FLEETS: u64 = 4;

/// How much later than the one before it a system gets all its requests: not all in the same instant, when they would
/// wait for each other.
const STAGGER: Duration = Duration::from_millis(3);

/// How often it is told how far the run is.
const PROGRESS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    // `cargo bench` says so; who does not, looks for tests, and there are none.
    if !has("--bench") {
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) =
        arguments.iter().find(|argument| !["--bench", "--quick"].contains(&argument.as_str()))
    {
        eprintln!("balance: what is {unknown}? There is only --quick.");
        return ExitCode::FAILURE;
    }
    match run(if has("--quick") { QUICK } else { FULL }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("balance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(seconds: f64) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("# Balancing: latency in ms\n");
    let versions = [version("nginx", "-v"), version("haproxy", "-v"), version(BOWSHOCK, "--version")];
    println!("{}; {}.", machine(), versions.join(", "));
    for load in LOADS {
        runtime.block_on(measure(load, seconds))?.print();
    }
    Ok(())
}

/// All systems at one level of load.
async fn measure(load: f64, seconds: f64) -> Result<Level, Box<dyn Error>> {
    // A short path: a socket's has at most 107 bytes.
    let folder = tempfile::Builder::new().prefix("bow").tempdir_in("/tmp")?;
    let fleets: Vec<Arc<[Arrival]>> =
        (0..FLEETS).map(|fleet| arrivals(load, seconds, fleet).into()).collect();
    let mut systems = Vec::new();
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let mut of_one_kind = Vec::new();
        for fleet in 0..FLEETS {
            let own = folder.path().join(format!("{number}-{fleet}"));
            std::fs::create_dir(&own)?;
            of_one_kind.push(System::start(kind, &own).await?);
        }
        systems.push(of_one_kind);
    }
    let requests: usize = fleets.iter().map(|arrivals| arrivals.len()).sum();
    let name = format!("{:.0} % load: {requests} requests for each system in {seconds:.0} s", load * 100.0);
    let progress = tokio::spawn(tell_progress(name.clone(), seconds));
    let measured = measure_all(&systems, &fleets).await;
    progress.abort();
    Ok(Level {
        name,
        systems: measured?,
        least_connections: Simulated::new(&fleets, Policy::LeastConnections),
        central_queue: Simulated::new(&fleets, Policy::CentralQueue),
    })
}

/// Sends each system the arrivals of its fleet, all at the same time.
async fn measure_all(
    systems: &[Vec<System>],
    fleets: &[Arc<[Arrival]>],
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let mut started = Instant::now();
    let mut running = Vec::new();
    for of_one_kind in systems {
        started += STAGGER;
        let run = |(system, arrivals): (&System, &Arc<[Arrival]>)| {
            tokio::spawn(client::run(system.front.clone(), Arc::clone(arrivals), started))
        };
        running.push(of_one_kind.iter().zip(fleets).map(run).collect::<Vec<_>>());
    }
    let mut measured = Vec::new();
    for (kind, runs) in Kind::ALL.into_iter().zip(running) {
        let mut outcomes = Vec::new();
        for run in runs {
            outcomes.extend(run.await??);
        }
        measured.push(Measured::new(kind, outcomes));
    }
    Ok(measured)
}

async fn tell_progress(name: String, seconds: f64) {
    let started = Instant::now();
    loop {
        match started.elapsed().as_secs_f64() {
            passed if passed < seconds => eprintln!("{name}: {passed:.0} s have passed"),
            _ => eprintln!("{name}: waiting for the last answers"),
        }
        tokio::time::sleep(PROGRESS).await;
    }
}
