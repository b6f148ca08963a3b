//! The command line.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program speaks on both")]

mod admin;
mod convert;
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

/// Reverse proxy and load balancer for Galaxy servers: while workers restart, requests wait instead of failing.
#[derive(Parser)]
#[command(name = "bowshock", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bowshock demo                         try it, no file needed
  bowshock check -c bowshock.toml       check a configuration
  bowshock run -c bowshock.toml         run in the foreground
  bowshock status --watch               state of servers and queues, once a second
  bowshock drain unix:/run/g0.sock      no new requests to this server
  bowshock help hold                    what a key of the configuration does

Exit codes: 0 success; 1 an invalid configuration, a proxy that cannot start, or an unknown server;
2 a file that cannot be read, or a proxy that cannot be reached.
Signals of `run`: HUP reload; USR1 reopen logs; TERM, INT and QUIT graceful shutdown, a second one stops now.";

#[derive(Subcommand)]
enum Command {
    /// Run the proxy in the foreground
    #[command(after_help = "Example:\n  bowshock run -c /etc/bowshock/bowshock.toml")]
    Run(File),
    /// Run a demo: an embedded application with four workers, and the proxy in front
    #[command(after_help = "Examples:\n  bowshock demo\n  bowshock demo --listen 127.0.0.1:9000")]
    Demo {
        /// Address of the demo.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
    },
    /// Check a configuration: report each error with its place and a suggestion
    #[command(after_help = "Example:\n  bowshock check -c bowshock.toml && systemctl reload bowshock")]
    Check(File),
    /// Print the effective configuration, with all defaults
    #[command(after_help = "Example:\n  bowshock print -c bowshock.toml | less")]
    Print(File),
    /// Convert a configuration of nginx or Apache
    #[command(after_help = convert::HELP)]
    Convert(convert::Arguments),
    /// Describe a command, or a key or a table of the configuration
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
    /// Reload the configuration of the running proxy, and report the result
    #[command(after_help = "Example:\n  bowshock reload -c /etc/bowshock/bowshock.toml")]
    Reload(File),
    /// Show the servers of the running proxy: their state and load, and waiting requests
    #[command(after_help = "Examples:\n  bowshock status\n  bowshock status --watch\n  \
        bowshock status --json | jq .upstreams")]
    Status {
        #[command(flatten)]
        file: File,
        /// Print `/status.json`.
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// Update every second until interrupted.
        #[arg(long)]
        watch: bool,
    },
    /// Drain a server: it gets no new requests and finishes those in progress
    #[command(after_help = "Example, restart a worker without requests in progress:\n  \
        bowshock drain unix:/run/galaxy/gunicorn0.sock --wait\n  \
        systemctl restart galaxy-gunicorn@0\n  \
        bowshock resume unix:/run/galaxy/gunicorn0.sock\n\n\
        A server stays drained until it is resumed or leaves the configuration, or the proxy restarts.")]
    Drain {
        #[command(flatten)]
        server: ServerArgs,
        /// Wait until no request is in progress on the server.
        #[arg(long)]
        wait: bool,
    },
    /// Remove what the caches have stored for a URL
    #[command(after_help = "Example:\n  bowshock purge https://galaxy.example.org/api/version")]
    Purge {
        /// The URL, with scheme and host, as clients ask for it
        #[arg(value_name = "URL")]
        url: String,
        #[command(flatten)]
        file: File,
    },
    /// Send requests to a drained server again
    #[command(after_help = "Example:\n  bowshock resume unix:/run/galaxy/gunicorn0.sock")]
    Resume {
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Args)]
struct ServerArgs {
    /// Address as shown by `bowshock status`, or a host name with its port for all its addresses
    #[arg(value_name = "SERVER")]
    address: String,
    /// Only in this upstream [default: in all that have the server].
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    #[command(flatten)]
    file: File,
}

#[derive(Args)]
struct File {
    /// Configuration file [default: bowshock.toml in this directory, else /etc/bowshock/bowshock.toml]
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl File {
    fn path(self) -> ConfigPath {
        ConfigPath::find(self.config)
    }
}

/// Exit code for an invalid configuration, a start that failed, or an unknown server.
const REFUSED: u8 = 1;
/// Exit code for a file that cannot be read, or a proxy that cannot be reached.
const UNREACHABLE: u8 = 2;

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(file) => started(server::run(file.path())),
        Command::Demo { listen } => started(demo::run(listen)),
        Command::Check(file) => with_config(&file.path().0, |path, _| {
            println!("{} is valid.", path.display());
            ExitCode::SUCCESS
        }),
        Command::Print(file) => with_config(&file.path().0, |_, config| output(&config::print(config))),
        Command::Convert(arguments) => convert::run(&arguments),
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
        Command::Purge { url, file } => {
            with_config(&file.path().0, |_, config| admin::purge(&config.admin.listen, &url))
        }
        Command::Resume { server: ServerArgs { address, upstream, file } } => {
            with_config(&file.path().0, |_, config| {
                drain::resume(&config.admin.listen, &address, upstream.as_deref())
            })
        }
    }
}

/// Writes a long text. A reader that closes the pipe early, such as `head`, is not an error.
fn output(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("bowshock: cannot write: {error}");
            ExitCode::from(UNREACHABLE)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Waits between two queries of the running proxy.
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
