//! `bowshock convert`: a configuration of nginx as one of bowshock.
//!
//! ```text
//! include, syntax      nginx.conf and its includes as a tree of directives with places and comments
//! model, scope         servers, locations, and the settings in effect for each (inheritance)
//! expr, map, condition, pattern   variables, maps, conditions and expressions in bowshock's words
//! program              the ways of a request through `set`, `if`, `rewrite`, `return`
//! routes               locations as routes: one alternative for each way
//!   content, proxy, files, pages, settings, limits, exempt, auth, cache, upstreams   what a route says
//! sites, globals       servers as sites; sockets, timeouts, logs
//! galaxy               sites of a Galaxy in the words of `[site.galaxy]`
//! ledger, table, report   what became of each directive; nothing is dropped in silence
//! toml, output, comments  the text of the result
//! apache               httpd.conf, in the forms of Galaxy's documentation
//! verify               the proof: nginx and bowshock side by side
//! ```

mod apache;
mod auth;
mod cache;
mod comments;
mod condition;
mod content;
mod context;
mod exempt;
mod expr;
mod files;
mod galaxy;
mod globals;
mod include;
mod ledger;
mod limits;
mod map;
mod model;
mod output;
mod pages;
mod pattern;
mod program;
mod proxy;
mod report;
mod routes;
mod sample;
mod scope;
mod settings;
mod sites;
mod syntax;
mod table;
mod toml;
mod units;
mod upstreams;
mod verify;

use std::path::Path;

use context::Context;
use ledger::Ledger;
use output::Output;
use scope::Scope;
use syntax::Directive;

pub use apache::convert as convert_apache;
pub use include::{Disk, Files, Unreadable};
pub use report::{Reported, Summary};
pub use verify::{Proof, VerifyError, verify};

/// A converted configuration.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// The result.
    pub toml: String,
    /// What became of each directive.
    pub summary: Summary,
}

/// Converts the nginx.conf at `path`, with the files that it includes.
///
/// # Errors
///
/// The file cannot be read, or its syntax is wrong.
pub fn convert(path: &Path, files: &dyn Files) -> Result<Conversion, Unreadable> {
    let ledger = Ledger::default();
    let source = include::read(path, files, &ledger)?;
    Ok(converted(&source.tree, &source.home, &ledger))
}

/// Converts a tree of directives.
fn converted(tree: &[Directive], home: &Path, ledger: &Ledger) -> Conversion {
    let http = tree.iter().find(|directive| directive.name == "http");
    let mut output = Output::default();
    if let Some(http) = http {
        ledger.carried(http);
        fill(tree, http.children(), home, ledger, &mut output);
    } else if tree.iter().any(|directive| directive.name == "server" || directive.name == "location") {
        // A file of sites-enabled by itself is what stands within `http`.
        fill(&[], tree, home, ledger, &mut output);
    }
    table::finish(tree, ledger);
    Conversion { toml: output.text(), summary: Summary::of(tree, ledger) }
}

fn fill(tree: &[Directive], http: &[Directive], home: &Path, ledger: &Ledger, output: &mut Output) {
    let context = Context::new(http, home, ledger);
    let scope = Scope::of(http);
    let mut servers = model::servers(http);
    model::share_tls(&mut servers);
    for (server, name) in model::drop_conflicts(&mut servers) {
        let text =
            format!("another server before has the name {name} on the same socket: nginx ignores it here");
        ledger.note(server, text);
    }
    output.sections.extend(globals::server(tree, http, ledger));
    output.sections.extend(globals::log(http, ledger));
    sites::fill(&context, &scope, &servers, output);
    let Context { limits, auths, caches, upstreams, .. } = context;
    output.sections.extend(limits.into_inner().finish());
    output.sections.extend(auths.into_inner().finish());
    output.sections.extend(caches.into_inner().finish());
    output.upstreams = upstreams.into_inner().finish(ledger);
    galaxy::recognize(output, ledger);
}
