//! `bowshock convert`.

use std::{
    fs,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use super::{REFUSED, UNREACHABLE, output};
use crate::convert::{self, Conversion, Disk, Unreadable, VerifyError};

pub(super) const HELP: &str = "\
Examples:
  bowshock convert /etc/nginx/nginx.conf > bowshock.toml
  bowshock convert /etc/nginx/nginx.conf -o bowshock.toml && bowshock check -c bowshock.toml
  bowshock convert /etc/nginx/nginx.conf --verify
  bowshock convert --apache /etc/apache2/sites-enabled/galaxy.conf > bowshock.toml

The result goes to standard output. Standard error has what is not carried over, each with its place, the reason and
what to do, and traps of the original.

Exit codes: 0 every directive is carried over or not needed; 1 something is reported; 2 a file cannot be read.";

#[derive(Args)]
pub(super) struct Arguments {
    /// Main configuration file of nginx; files that it includes are read too
    #[arg(value_name = "NGINX.CONF")]
    path: PathBuf,
    /// File for the result [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replay requests against nginx with the original and bowshock with the result, and print what differs.
    #[arg(long, conflicts_with_all = ["output", "reasons"])]
    verify: bool,
    /// The file is one of Apache, in the forms of Galaxy's documentation.
    #[arg(long, conflicts_with = "verify")]
    apache: bool,
    /// Say also why each other directive is not needed.
    #[arg(long)]
    reasons: bool,
}

/// Converts, writes the result, and reports.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.verify {
        return verify(&arguments.path);
    }
    let convert = if arguments.apache { convert::convert_apache } else { convert::convert };
    let Conversion { toml, summary } = match convert(&arguments.path, &Disk) {
        Ok(conversion) => conversion,
        Err(error) => return unreadable(&error),
    };
    eprint!("{}", summary.text(arguments.reasons));
    let written = match &arguments.output {
        Some(file) => write(file, &toml),
        None => output(&toml),
    };
    match written {
        ExitCode::SUCCESS if !summary.reported.is_empty() => ExitCode::from(REFUSED),
        other => other,
    }
}

/// Replays requests, and prints what differs. 0 if nothing does.
fn verify(path: &Path) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("bowshock: cannot find its own program: {error}");
            return ExitCode::from(UNREACHABLE);
        }
    };
    match convert::verify(path, &Disk, &program) {
        Ok(proof) => match output(&proof.text()) {
            ExitCode::SUCCESS if !proof.different.is_empty() => ExitCode::from(REFUSED),
            other => other,
        },
        Err(VerifyError::Unreadable(error)) => unreadable(&error),
        Err(error) => {
            eprintln!("bowshock: {error}");
            ExitCode::from(UNREACHABLE)
        }
    }
}

fn unreadable(error: &Unreadable) -> ExitCode {
    match error {
        Unreadable::Syntax(report) => eprintln!("{}", report.render(std::io::stderr().is_terminal())),
        Unreadable::File { .. } => eprintln!("bowshock: {error}"),
    }
    ExitCode::from(UNREACHABLE)
}

fn write(file: &Path, text: &str) -> ExitCode {
    match fs::write(file, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bowshock: cannot write {}: {error}", file.display());
            ExitCode::from(UNREACHABLE)
        }
    }
}
