//! The command line.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program speaks on both")]

mod admin;
mod status;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, Config, ConfigPath, LoadError},
    demo,
    server::{self, StartError},
};

/// The front door of a Galaxy server: a reverse proxy and load balancer that keeps clients waiting instead of
/// failing while workers restart.
#[derive(Parser)]
#[command(name = "bowshock", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bowshock demo                         see it work, no file needed
  bowshock check -c bowshock.toml       is this configuration good?
  bowshock run -c bowshock.toml         serve until told to stop
  bowshock status                       who waits where

Exit codes: 0 good, 1 refused (a bad configuration, a proxy that cannot start), 2 unreadable or unreachable.
Signals of `run`: HUP reload, USR1 reopen logs, TERM, INT and QUIT finish and stop; a second one stops now.";

#[derive(Subcommand)]
enum Command {
    /// Serve in the foreground until told to stop
    #[command(after_help = "Example:\n  bowshock run -c /etc/bowshock/bowshock.toml")]
    Run(File),
    /// Show it at work: an embedded application with four workers, and the proxy in front
    #[command(after_help = "Examples:\n  bowshock demo\n  bowshock demo --listen 127.0.0.1:9000")]
    Demo {
        /// Where the demo listens.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
    },
    /// Say whether a configuration is good, and if not, where and what to write instead
    #[command(after_help = "Example:\n  bowshock check -c bowshock.toml && systemctl reload bowshock")]
    Check(File),
    /// Print the configuration with everything that is not written in it
    #[command(after_help = "Example:\n  bowshock print -c bowshock.toml | less")]
    Print(File),
    /// Have the running proxy read its configuration again, and tell what came of it
    #[command(after_help = "Example:\n  bowshock reload -c /etc/bowshock/bowshock.toml")]
    Reload(File),
    /// Show the servers of the running proxy: who is up, who is busy, who waits
    #[command(after_help = "Examples:\n  bowshock status\n  bowshock status --json | jq .upstreams")]
    Status {
        #[command(flatten)]
        file: File,
        /// Print what `/status.json` says.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct File {
    /// The configuration [default: bowshock.toml here, else /etc/bowshock/bowshock.toml]
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    fn path(self) -> ConfigPath {
        ConfigPath::find(self.config)
    }
}

/// A configuration or a start was refused.
const REFUSED: u8 = 1;
/// A file could not be read, or a running proxy not be reached.
const UNREACHABLE: u8 = 2;

/// Does what the command line says.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(file) => started(server::run(file.path())),
        Command::Demo { listen } => started(demo::run(listen)),
        Command::Check(file) => with_config(&file.path().0, |path, _| {
            println!("{} is good.", path.display());
            ExitCode::SUCCESS
        }),
        Command::Print(file) => with_config(&file.path().0, |_, config| {
            print!("{}", config::print(config));
            ExitCode::SUCCESS
        }),
        Command::Reload(file) => with_config(&file.path().0, |_, config| admin::reload(&config.admin.listen)),
        Command::Status { file, json } => {
            with_config(&file.path().0, |_, config| status::show(&config.admin.listen, json))
        }
    }
}

fn started(result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(error)) => refused(&error),
        Err(error) => {
            eprintln!("bowshock: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

fn with_config(path: &Path, then: impl FnOnce(&Path, &Config) -> ExitCode) -> ExitCode {
    match config::load(path) {
        Ok(loaded) => {
            if let Some(warnings) = &loaded.warnings {
                eprint!("{}", warnings.render(std::io::stderr().is_terminal()));
            }
            then(path, &loaded.config)
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &LoadError) -> ExitCode {
    eprintln!("{}", error.render(std::io::stderr().is_terminal()).trim_end());
    ExitCode::from(error.exit_code())
}
