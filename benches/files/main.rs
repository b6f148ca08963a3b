//! How much CPU does it take to send a file, beside nginx?
//!
//! nginx and bowshock serve the same files of the same memory, with two processes or threads each, one after the other:
//! each round measures both in everything, and every other round in the other order. What counts is the CPU that a
//! server takes, user and system, of all its processes and threads; how fast it is would be a matter of the machine and
//! of the client. Accelerated downloads come with a question to a backend in this process, which does not count.
//!
//! `make bench-files` runs it (about three minutes). The exit code is 0 whatever the figures are, 1 when something could
//! not be run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report, and how far it is")]

#[path = "../common/client.rs"]
mod client;
#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/family.rs"]
mod family;
mod load;
#[path = "../common/process.rs"]
mod process;
mod server;
#[path = "../common/wrk.rs"]
mod wrk;

use std::{error::Error, process::ExitCode};

use load::{Load, application};
use server::{Kind, Server};

/// How often everything is measured.
const ROUNDS: usize = 15;

fn main() -> ExitCode {
    // `cargo bench` says so; who does not, looks for tests, and there are none.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("files: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix("bow").tempdir_in("/tmp")?;
    let root = folder.path().join("files");
    std::fs::create_dir(&root)?;
    for load in Load::ALL {
        std::fs::write(root.join(load.file()), vec![b'x'; load.size()])?;
    }
    let application = application()?;
    let servers = Kind::ALL.map(|kind| Server::start(kind, folder.path(), &root, application));
    let [nginx, bowshock] = servers;
    let servers = [nginx?, bowshock?];
    // Everything once, so that nothing is measured for the first time.
    for load in Load::ALL {
        for server in &servers {
            load.cost(server)?;
        }
    }
    let mut costs = Load::ALL.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for (load, costs) in Load::ALL.into_iter().zip(&mut costs) {
            let cost = |server: usize| load.cost(&servers[server]);
            let (nginx, bowshock) = if round % 2 == 0 {
                let nginx = cost(0)?;
                (nginx, cost(1)?)
            } else {
                let bowshock = cost(1)?;
                (cost(0)?, bowshock)
            };
            costs.push((nginx, bowshock));
        }
        eprintln!("round {} of {ROUNDS}", round + 1);
    }
    println!(
        "| CPU of | nginx, median | least | bowshock, median | least | ratio, median of {ROUNDS} | of all |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (load, costs) in Load::ALL.into_iter().zip(&costs) {
        print_row(load, costs);
    }
    Ok(())
}

/// Others on the machine only ever add to the CPU that something takes, so the least tells the most; the median tells
/// what is usual, and the ratios of the rounds how much that says.
fn print_row(load: Load, costs: &[(f64, f64)]) {
    let unit = load.unit();
    let [nginx, bowshock] = [|cost: &(f64, f64)| cost.0, |cost: &(f64, f64)| cost.1].map(|one| {
        let costs = sorted(costs.iter().map(one).collect());
        format!("{:.1} {unit} | {:.1} {unit}", costs[costs.len() / 2], costs[0])
    });
    let ratios = sorted(costs.iter().map(|(nginx, bowshock)| bowshock / nginx).collect());
    let (smallest, largest) = (ratios[0], ratios[ratios.len() - 1]);
    println!(
        "| {} | {nginx} | {bowshock} | {:.2} | {smallest:.2} to {largest:.2} |",
        load.name(),
        ratios[ratios.len() / 2],
    );
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}
