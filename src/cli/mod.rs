//! The command line.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program speaks on both")]

mod admin;
mod drain;
mod help;
mod status;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{
    config::{self, Config, ConfigPath, LoadError},
    demo, machine,
    server::{self, StartError},
};

/// The front door of a Galaxy server: a reverse proxy and load balancer that keeps clients waiting instead of
/// failing while workers restart.
#[derive(Parser)]
#[command(name = "bowshock", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bowshock demo                         see it work, no file needed
  bowshock check -c bowshock.toml       is this configuration good?
  bowshock run -c bowshock.toml         serve until told to stop
  bowshock status --watch               who waits where, once a second
  bowshock drain unix:/run/g0.sock      no new requests there
  bowshock help hold                    what a key of the configuration does

Exit codes: 0 good, 1 refused (a bad configuration, a proxy that cannot start, a server that is not there),
2 unreadable or unreachable.
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
    /// Tell about a command, or about a key or a table of the configuration
    #[command(
        after_help = "Examples:\n  bowshock help run\n  bowshock help hold\n  bowshock help upstream.hold\n  \
        bowshock help upstream"
    )]
    Help {
        /// A command, a key (`hold`), a key of one table (`upstream.hold`), or a table (`upstream`).
        #[arg(value_name = "WORD")]
        word: Option<String>,
        /// Print the reference page of the documentation.
        #[arg(long, conflicts_with = "word")]
        markdown: bool,
    },
    /// Print the JSON Schema of the configuration, for editors
    #[command(after_help = "Example, with Even Better TOML or taplo:\n  \
        bowshock schema > /etc/bowshock/schema.json\n  \
        and as the first line of bowshock.toml:\n  \
        #:schema /etc/bowshock/schema.json")]
    Schema,
    /// Have the running proxy read its configuration again, and tell what came of it
    #[command(after_help = "Example:\n  bowshock reload -c /etc/bowshock/bowshock.toml")]
    Reload(File),
    /// Show the servers of the running proxy: who is up, who is busy, who waits
    #[command(after_help = "Examples:\n  bowshock status\n  bowshock status --watch\n  \
        bowshock status --json | jq .upstreams")]
    Status {
        #[command(flatten)]
        file: File,
        /// Print what `/status.json` says.
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// Show it again every second until told to stop.
        #[arg(long)]
        watch: bool,
    },
    /// Give a server no new requests; it finishes those it has
    #[command(after_help = "Example, a worker restarted with nothing in flight on it:\n  \
        bowshock drain unix:/run/galaxy/gunicorn0.sock --wait\n  \
        systemctl restart galaxy-gunicorn@0\n  \
        bowshock resume unix:/run/galaxy/gunicorn0.sock\n\n\
        A server stays drained until it is resumed or leaves the configuration, or the proxy restarts.")]
    Drain {
        #[command(flatten)]
        server: ServerArgs,
        /// Wait until nothing is in flight on it.
        #[arg(long)]
        wait: bool,
    },
    /// Give a drained server requests again
    #[command(after_help = "Example:\n  bowshock resume unix:/run/galaxy/gunicorn0.sock")]
    Resume {
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Args)]
struct ServerArgs {
    /// Its address as `bowshock status` shows it, or a host name with its port for all its addresses
    #[arg(value_name = "SERVER")]
    address: String,
    /// Only in this upstream [default: in all that have it].
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    #[command(flatten)]
    file: File,
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
        Command::Print(file) => with_config(&file.path().0, |_, config| output(&config::print(config))),
        Command::Help { word, markdown } => help::help(Cli::command(), word.as_deref(), markdown),
        Command::Schema => output(&format!("{:#}\n", config::schema())),
        Command::Reload(file) => with_config(&file.path().0, |_, config| admin::reload(&config.admin.listen)),
        Command::Status { file, json, watch } => with_config(&file.path().0, |_, config| {
            let admin = &config.admin.listen;
            if watch { status::watch(admin) } else { status::show(admin, json) }
        }),
        Command::Drain { server: ServerArgs { address, upstream, file }, wait } => {
            with_config(&file.path().0, |_, config| {
                drain::drain(&config.admin.listen, &address, upstream.as_deref(), wait)
            })
        }
        Command::Resume { server: ServerArgs { address, upstream, file } } => {
            with_config(&file.path().0, |_, config| {
                drain::resume(&config.admin.listen, &address, upstream.as_deref())
            })
        }
    }
}

/// Writes a long text. A reader that has seen enough, such as `head`, is no error.
fn output(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("bowshock: cannot write: {error}");
            ExitCode::from(UNREACHABLE)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Waits between two looks at the running proxy.
#[expect(clippy::disallowed_methods, reason = "no event loop runs in these commands")]
fn pause(time: std::time::Duration) {
    std::thread::sleep(time);
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
    match machine::load(path) {
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
