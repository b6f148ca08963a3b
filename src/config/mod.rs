//! The configuration: a file as typed, checked into types that cannot be wrong.
//!
//! ```text
//! keys        the description of a key, and all that is told from it: help, reference, JSON Schema, suggestions
//! file        the whole file, and a module per table: types, keys, reading and printing together
//!             server, admin, log, listen, acme, limit, site, route, upstream; tls, compress, headers, access, networks
//! print       what the tables have in common when a configuration is written down again
//! read        values with their places, and a note of everything that is wrong
//! units, address, host, pattern, template, paths     what stands inside of strings
//! diagnostic  what is wrong, where, and what to write instead
//! system      what is asked of the machine
//! ```

mod access;
mod acme;
mod address;
mod admin;
mod compress;
mod diagnostic;
mod file;
mod headers;
mod host;
mod keys;
mod limit;
mod listen;
mod log;
mod networks;
mod paths;
mod pattern;
mod print;
mod read;
mod route;
mod server;
mod site;
mod system;
mod template;
#[cfg(test)]
mod tests;
mod tls;
mod units;
mod upstream;

use std::{fs, io, path::Path};

use toml::de::DeTable;

use read::Context;

pub use access::Access;
pub use acme::{Acme, AcmeSite, Challenge, Eab};
pub use admin::Admin;
pub use compress::{Coding, Compress};
pub use diagnostic::Report;
pub use file::{Config, ConfigPath};
pub use host::HostPattern;
pub use keys::{UnknownKey, help, reference, schema};
pub use limit::{Class, Limit, LimitKey, LimitNames, UserAgents};
pub use listen::{Address, Listen, Trust};
pub use log::{AccessFormat, AccessLog, AccessTarget, Level, Log, LogFormat};
pub use networks::Networks;
pub use pattern::PathPattern;
pub use print::print;
pub use route::{Action, Buffering, Files, RouteRetry, RouteSettings, Symlinks, Types};
pub use server::{Http2, ServerSettings};
pub use site::SiteSettings;
pub use system::{AnyMachine, System};
pub use template::{Part, Template};
pub use tls::{ClientTls, ListenTls, RedirectHttps, Tls, TlsVersion};
pub use units::Rate;
pub use upstream::{
    Balance, HashKey, Health, QueueOrder, Retry, ServerAddress, UpstreamServer, UpstreamSettings, UpstreamTls,
};

/// A configuration that may take effect.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the file says, with all defaults.
    pub config: Config,
    /// What somebody should look at, if anything.
    pub warnings: Option<Report>,
}

/// Why a file may not take effect.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}\n{}", advice(source))]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// It can be read, and there are mistakes in it.
    #[error("{0}")]
    Bad(Report),
}

impl LoadError {
    /// The exit code of the commands: 1 for a bad file, 2 for one that cannot be read.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bad(_) => 1,
            Self::Unreadable { .. } => 2,
        }
    }

    /// Draws it, as [`Report::render`] does.
    pub fn render(&self, color: bool) -> String {
        match self {
            Self::Bad(report) => report.render(color),
            unreadable @ Self::Unreadable { .. } => unreadable.to_string(),
        }
    }
}

/// Reads and checks a file, together with the files and directories that it names on a machine.
///
/// # Errors
/// When the file cannot be read, or holds mistakes: then all of them.
pub fn load(path: &Path, system: &dyn System) -> Result<Loaded, LoadError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| LoadError::Unreadable { path: name.clone(), source })?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(LoadError::Bad(not_utf8(&name, &error))),
    };
    parse_on(&name, &text, system).map_err(LoadError::Bad)
}

/// Checks the text of a file called `name`, believing that everything it names is there.
///
/// # Errors
/// When there are mistakes in it: all of them.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
    parse_on(name, text, &AnyMachine)
}

/// Checks the text of a file called `name` against a machine.
///
/// # Errors
/// When there are mistakes in it: all of them. While the text is no TOML, only that is told, for what follows
/// from a missing quote would be guesses.
pub fn parse_on(name: &str, text: &str, system: &dyn System) -> Result<Loaded, Report> {
    let context = Context::new(text, system);
    let (root, errors) = DeTable::parse_recoverable(text);
    context.syntax_errors(&errors);
    let config = if errors.is_empty() { Some(file::read(&context, root.get_ref())) } else { None };
    let report = Report::new(name, text, context.into_found());
    match config {
        Some(config) if report.errors() == 0 => {
            Ok(Loaded { config, warnings: (report.warnings() > 0).then_some(report) })
        }
        _ => Err(report),
    }
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Report {
    let at = error.utf8_error().valid_up_to();
    // Up to the fault the bytes stay as they are, so the place does too.
    let text = String::from_utf8_lossy(error.as_bytes());
    let context = Context::new(&text, &AnyMachine);
    context.error(
        at..at + char::REPLACEMENT_CHARACTER.len_utf8(),
        diagnostic::Problem::new("the file is not UTF-8", "this is no character")
            .help(format!("`iconv -f latin1 -t utf-8 {name}` turns an old encoding into UTF-8")),
    );
    Report::new(name, &text, context.into_found())
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "name the file with `-c FILE`, or create `bowshock.toml` here or `/etc/bowshock/bowshock.toml`"
        }
        io::ErrorKind::PermissionDenied => "run as a user who may read it, or correct its mode with `chmod`",
        io::ErrorKind::IsADirectory => "name the file inside of this directory",
        _ => "check the disk and the path",
    }
}
