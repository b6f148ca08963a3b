//! `bowshock demo`: an application with four workers, and the proxy in front of it.

#![expect(clippy::print_stdout, reason = "the demo tells what to try")]

mod app;
mod workers;

use std::{
    fs, io,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
};

use crate::{
    config::ConfigPath,
    machine,
    observe::start_logging,
    server::{self, StartError},
};
use workers::DemoWorkers;

const CONFIG: &str = include_str!("demo.toml");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("pulse.js");

/// Bytes of the dataset for downloads.
const DATASET: usize = 64 * 1024 * 1024;

/// Runs the demo until interrupted.
///
/// # Errors
///
/// When an address is in use, or the temporary directory cannot be written.
pub(crate) fn run(listen: SocketAddr) -> Result<(), StartError> {
    let folder = tempfile::Builder::new().prefix("bowshock-demo-").tempdir()?;
    write_files(folder.path())?;
    let admin = free_neighbour(listen)?;
    let text = CONFIG
        .replace("@FOLDER@", &folder.path().display().to_string())
        .replace("@LISTEN@", &listen.to_string())
        .replace("@ADMIN@", &admin.to_string());
    let file = folder.path().join("bowshock.toml");
    fs::write(&file, &text)?;
    let config = machine::load(&file)?.config;
    let log = start_logging(&config.log)?;

    let workers = Arc::new(DemoWorkers::new(folder.path()));
    let source = ConfigPath(file.clone());
    let ready = move || {
        if let Err(error) = workers.start() {
            tracing::error!(%error, "the demo's workers cannot start");
        }
        print_instructions(listen, admin, &file);
    };
    server::run_with(source, &config, log, ready)
}

/// Address of the admin listener: the next port, so that several demos can run at once, else any free port.
fn free_neighbour(listen: SocketAddr) -> io::Result<SocketAddr> {
    let next = SocketAddr::new(listen.ip(), listen.port().wrapping_add(1));
    let free = TcpListener::bind(next).or_else(|_| TcpListener::bind(SocketAddr::new(listen.ip(), 0)))?;
    free.local_addr()
}

/// Writes the files of the demo.
fn write_files(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder.join("static"))?;
    fs::write(folder.join("static/style.css"), STYLE)?;
    fs::write(folder.join("static/pulse.js"), SCRIPT)?;
    fs::create_dir(folder.join("datasets"))?;
    let mut dataset = io::BufWriter::new(fs::File::create(folder.join("datasets/reads.fastq"))?);
    let mut random = fastrand::Rng::with_seed(1);
    let mut written = 0;
    for read in 0.. {
        let bases: String = (0..100).map(|_| random.choice(['A', 'C', 'G', 'T']).unwrap_or('N')).collect();
        let record = format!("@read{read}\n{bases}\n+\n{}\n", "I".repeat(100));
        dataset.write_all(record.as_bytes())?;
        written += record.len();
        if written >= DATASET {
            break;
        }
    }
    dataset.flush()
}

/// Prints what to try.
fn print_instructions(listen: SocketAddr, admin: SocketAddr, file: &Path) {
    let file = file.display();
    println!(
        "\
bowshock stands in front of four workers of a small application.

  Open     http://{listen}/
           and press \"Restart all workers\": requests wait, none fails.

  Or try   curl http://{listen}/whoami
           curl 'http://{listen}/slow?s=2'
           curl -o reads.fastq http://{listen}/dataset            X-Accel-Redirect, sent by the kernel
           curl -r 0-215 http://{listen}/dataset                  the first read of it
           curl -i http://{listen}/_x_accel_redirect/etc/passwd   404: nobody gets in from outside

  A restart of all workers, in a loop of requests that loses nothing:

           curl -X POST http://{listen}/restart; \\
           for i in $(seq 50); do curl -s -o /dev/null -w '%{{http_code}} after %{{time_total}} s\\n' http://{listen}/fast; done

  Look     http://{admin}/metrics
           bowshock status -c {file}
           cat {file}

Ctrl-C stops it."
    );
}
