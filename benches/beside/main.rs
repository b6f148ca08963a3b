//! What does bowshock cost, beside the fastest of its kind?
//!
//! bowshock, nginx, haproxy, h2o, lighttpd and varnish do the same work on the same machine, each with one thread or one
//! process, one after the other: each round measures all of them in everything, and every other round in the other
//! order. What counts is the CPU that a server takes, user and system, of all its processes and threads; how fast it is
//! would be a matter of the machine and of the client. Clients come over TCP, the application (in this process, not
//! counted) listens on a unix socket, and connections are kept on both sides. Every answer's status and length is looked
//! at, and before anything is measured its bytes.
//!
//! Two more loads have servers of their own: what an idle connection occupies, and what clients see of a reload.
//!
//! `make bench` runs it (eight to ten minutes), `make bench BENCH_ARGS=--quick` in one minute, which shows that it works
//! and little more; `--only NAME,NAME` takes some of the loads. The table goes to standard output and, with a plot of the
//! ratios, to `target/bench/`. The exit code is 0 whatever the figures are, 1 when something could not be run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report, and how far it is")]

mod application;
#[path = "../common/client.rs"]
mod client;
#[path = "../common/cpu.rs"]
mod cpu;
#[path = "../common/family.rs"]
mod family;
#[path = "../common/figures.rs"]
mod figures;
mod idle;
mod load;
#[path = "../common/machine.rs"]
mod machine;
#[path = "../common/memory.rs"]
mod memory;
mod options;
mod peer;
mod plot;
#[path = "../common/process.rs"]
mod process;
mod reload;
mod rounds;
mod row;
mod server;
mod table;
mod traffic;
mod work;
#[path = "../common/wrk.rs"]
mod wrk;

use std::{error::Error, fs, path::Path, process::ExitCode};

use application::Application;
use options::Options;
use row::Row;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Place;

/// Where the table and the plot go.
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; who does not, looks for tests, and there are none.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match Options::parse(&arguments).map_err(Into::into).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beside: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    raise_file_limit()?;
    // A short path: a socket's has at most 107 bytes.
    let folder = tempfile::Builder::new().prefix("bow").tempdir_in("/tmp")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let place = Place::new(folder.path())?;
    let _application = runtime.block_on(Application::start(&place))?;
    let mut rows = rounds::run(options, &place)?;
    rows.extend(idle::run(options, &place)?);
    rows.extend(reload::run(options, &place, runtime.handle())?);
    report(&rows, options)
}

/// Thousands of idle connections have two ends each at a server that passes them on.
const FILES: u64 = 20_000;

/// As many open files as are needed, for this process and the servers that it starts.
fn raise_file_limit() -> Result<(), Box<dyn Error>> {
    let maximum = getrlimit(Resource::Nofile).maximum.map(|maximum| maximum.max(FILES));
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|error| format!("it needs {FILES} open files (ulimit -n): {error}").into())
}

fn report(rows: &[Row], options: &Options) -> Result<(), Box<dyn Error>> {
    let table = table::markdown(rows, options);
    print!("{table}");
    let results = Path::new(RESULTS);
    fs::create_dir_all(results)?;
    fs::write(results.join("table.md"), table)?;
    fs::write(results.join("ratios.svg"), plot::svg(rows))?;
    eprintln!("beside: the table and the plot are in {RESULTS}");
    Ok(())
}
