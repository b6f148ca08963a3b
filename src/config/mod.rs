//! The configuration: a file as typed, checked into types whose values are valid.
//!
//! ```text
//! keys        descriptions of keys, and what is made from them: help, reference, JSON Schema, suggestions
//! file        the whole file, and a module per table: types, keys, reading and printing together
//!             server, admin, log, listen, acme, limit, site, route, upstream; tls, compress, headers, access, networks
//! include     files of a configuration: their texts and places, and their tables together
//! galaxy      `[site.galaxy]`: routes and an upstream from galaxy.yml
//! print       the effective configuration in TOML
//! read        values with their places in the file, and the collected errors
//! tool_map    where Galaxy keeps its map of interactive tools
//! units, address, host, pattern, template, paths     the syntax of strings
//! diagnostic  errors with their place and a suggestion
//! system      queries about the machine's files
//! ```

mod access;
mod acme;
mod address;
mod admin;
mod auth;
mod cache;
mod compress;
mod cors;
mod diagnostic;
mod errors;
mod file;
mod galaxy;
mod headers;
mod host;
mod htpasswd;
mod include;
mod keys;
mod limit;
mod listen;
mod log;
mod maintenance;
mod named;
mod networks;
mod paths;
mod pattern;
mod print;
mod read;
mod redirects;
mod route;
mod server;
mod site;
mod system;
mod template;
#[cfg(test)]
mod tests;
mod tls;
mod tool_map;
mod units;
mod upstream;

use std::{fs, io, path::Path};

use toml::de::DeTable;

use include::Sources;
use read::Context;

pub use access::Access;
pub use acme::{Acme, AcmeSite, Challenge, Eab};
pub use admin::Admin;
pub use auth::{Auth, AuthMethod, Satisfy};
pub use cache::{CacheSettings, RouteCache};
pub use compress::{Coding, Compress};
pub use cors::Cors;
pub use diagnostic::Report;
pub use errors::{ErrorPage, ErrorPages};
pub use file::{Config, ConfigPath};
pub use headers::{HeaderSetting, Headers};
pub use host::HostPattern;
pub use htpasswd::{Users, read as read_htpasswd};
pub use keys::{UnknownKey, help, reference, schema};
pub use limit::{Class, Limit, LimitKey, LimitNames, UserAgents};
pub use listen::{Address, Listen, Trust};
pub use log::{AccessFormat, AccessLog, AccessTarget, Level, Log, LogFormat};
pub use maintenance::Maintenance;
pub use networks::Networks;
pub use pattern::PathPattern;
pub use print::print;
pub(crate) use print::quote;
pub use redirects::{RedirectTo, Redirects};
pub use route::{
    Action, Buffering, Files, InteractiveTools, ProxySettings, RouteRetry, RouteSettings, Symlinks, Test,
    Types, When,
};
pub use server::{Http2, ServerSettings};
pub use site::SiteSettings;
pub use system::{AnyMachine, System};
pub use template::{Name, Part, Template};
pub use tls::{ClientTls, ListenTls, RedirectHttps, Tls, TlsVersion};
pub use tool_map::ToolMap;
#[cfg(feature = "postgres")]
pub(crate) use tool_map::postgres::{Database, read as read_database};
pub use units::Rate;
pub use upstream::{
    Balance, HashKey, Health, QueueOrder, Retry, ServerAddress, UpstreamServer, UpstreamSettings,
    UpstreamTls, UwsgiParams,
};

/// A configuration that may take effect.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration, with all defaults.
    pub config: Config,
    /// Warnings of the file.
    pub warnings: Option<Report>,
}

/// Error that keeps a file from taking effect.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}\n{}", advice(source))]
    Unreadable {
        /// The file.
        path: String,
        /// Error of the system.
        source: io::Error,
    },
    /// The file has errors.
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

    /// Draws the error, as [`Report::render`] does.
    pub fn render(&self, color: bool) -> String {
        match self {
            Self::Bad(report) => report.render(color),
            unreadable @ Self::Unreadable { .. } => unreadable.to_string(),
        }
    }
}

/// Reads and checks a file, together with the files and directories on this machine that it names.
///
/// # Errors
///
/// When the file cannot be read, or contains errors: then all of them.
pub fn load(path: &Path, system: &dyn System) -> Result<Loaded, LoadError> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|source| LoadError::Unreadable { path: name.clone(), source })?;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Err(LoadError::Bad(not_utf8(&name, &error))),
    };
    parse_on(&name, &text, system).map_err(LoadError::Bad)
}

/// Checks the text of a file called `name`, assuming that every file it names exists.
///
/// # Errors
///
/// When the text contains errors: all of them.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
    parse_on(name, text, &AnyMachine)
}

/// Checks the text of a file called `name` against a machine.
///
/// # Errors
///
/// When the text contains errors: all of them. While it is not valid TOML only the syntax errors are returned,
/// because after a missing quote the rest would be guesses.
pub fn parse_on(name: &str, text: &str, system: &dyn System) -> Result<Loaded, Report> {
    let sources = Sources::read(name, text, system);
    let texts = sources.placed();
    let context = Context::new(&sources.text, system);
    let mut all = DeTable::new();
    let mut is_toml = true;
    for text in &texts {
        let (root, errors) = DeTable::parse_recoverable(text);
        context.syntax_errors(&errors);
        is_toml &= errors.is_empty();
        for (span, problem) in include::merge(&mut all, root.into_inner()) {
            context.error(span, problem);
        }
    }
    let config = is_toml.then(|| file::read(&context, &all));
    let report = Report::new(&sources, [sources.found.clone(), context.into_found()].concat());
    match config {
        Some(config) if report.errors() == 0 => {
            Ok(Loaded { config, warnings: (report.warnings() > 0).then_some(report) })
        }
        _ => Err(report),
    }
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Report {
    let at = error.utf8_error().valid_up_to();
    // Bytes before the invalid one are unchanged, so its line and column are right.
    let text = String::from_utf8_lossy(error.as_bytes());
    let context = Context::new(&text, &AnyMachine);
    context.error(
        at..at + char::REPLACEMENT_CHARACTER.len_utf8(),
        diagnostic::Problem::new("the file is not UTF-8", "invalid byte")
            .help(format!("`iconv -f latin1 -t utf-8 {name}` turns an old encoding into UTF-8")),
    );
    Report::new(&Sources::of(name, &text), context.into_found())
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
