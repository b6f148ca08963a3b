//! `bowshock convert --verify`: nginx with the original and bowshock with the result, side by side.
//!
//! Both run in a scratch directory on loopback, with the same files, in front of the same recorders in place of the
//! upstream servers. Requests that are generated from the original are sent to both; what the clients and the servers
//! get is compared.

mod client;
mod compare;
mod material;
mod programs;
mod recorder;
mod requests;
mod stage;

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path, sync::Arc};

use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use toml::{Table, Value};

use super::{
    include::{self, Files, Unreadable},
    ledger::Ledger,
    map, model,
    syntax::Directive,
};
use crate::{
    config::{self, UpstreamTls},
    tls::TlsClient,
};

use compare::Verdict;
use requests::Request;
use stage::{Stage, Upstreams};

/// Most differences that are printed.
const MOST_SHOWN: usize = 40;

/// Error that keeps a configuration from being replayed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The original cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// nginx is not installed.
    #[error("nginx is not installed: the replay needs it (`apt-get install nginx-light`)")]
    NoNginx,
    /// nginx refuses the original.
    #[error("nginx does not start with the original:\n{0}")]
    Nginx(String),
    /// bowshock refuses the result.
    #[error("bowshock does not start with the result:\n{0}")]
    Refused(String),
    /// The configuration has no server that can be asked.
    #[error("the configuration has no server with a TCP socket")]
    Nothing,
    /// An error of the system.
    #[error("the replay cannot run: {0}")]
    System(#[from] io::Error),
}

/// Result of a replay.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// Requests with the same result.
    pub equal: usize,
    /// Requests that differ as intended, by reason.
    pub intended: BTreeMap<&'static str, usize>,
    /// Number of requests that differ as intended.
    pub intended_requests: usize,
    /// Other requests, with the difference.
    pub different: Vec<(Request, String)>,
    /// Directives that the installed nginx does not know.
    pub unknown: Vec<String>,
}

impl Proof {
    /// Number of requests.
    pub fn total(&self) -> usize {
        self.equal + self.intended_requests + self.different.len()
    }

    /// Share of requests that are equal or differ as intended, in percent.
    pub fn share(&self) -> f64 {
        let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        100.0 * count(self.equal + self.intended_requests) / count(self.total().max(1))
    }

    /// The report.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (request, difference) in self.different.iter().take(MOST_SHOWN) {
            let _ = writeln!(text, "different: {}\n    {}\n    {difference}", request.line(), request.about);
        }
        if let Some(more @ 1..) = self.different.len().checked_sub(MOST_SHOWN) {
            let _ = writeln!(text, "({more} more are not shown)");
        }
        for (why, count) in &self.intended {
            let _ = writeln!(text, "intended, {count} times: {why}");
        }
        if !self.unknown.is_empty() {
            let _ = writeln!(
                text,
                "left out, as the installed nginx does not know it: {}",
                self.unknown.join(", ")
            );
        }
        let _ = writeln!(
            text,
            "{} requests: {} equal, {} differ as intended, {} differ ({:.1} % equal or as intended)",
            self.total(),
            self.equal,
            self.intended_requests,
            self.different.len(),
            self.share(),
        );
        text
    }
}

/// Replays requests against the original at `path` by nginx, and its conversion by the bowshock at `program`.
///
/// # Errors
///
/// The original cannot be read, or one of the programs does not start.
pub fn verify(path: &Path, files: &dyn Files, program: &Path) -> Result<Proof, VerifyError> {
    let ledger = Ledger::default();
    let source = include::read(path, files, &ledger)?;
    let tree = stage::name_hosts(&within_http(&source.tree));
    let scratch = tempfile::Builder::new().prefix("bowshock-replay-").tempdir()?;
    let folder = scratch.path();
    let tls = certificate(folder)?;
    let mut upstreams = Upstreams::default();
    let (theirs, ours) =
        (stage::ports(&tree, &mut upstreams.ports)?, stage::ports(&tree, &mut upstreams.ports)?);
    let mut staged = |ports: &BTreeMap<(String, u16), u16>| {
        let mut stage = Stage {
            folder,
            ports: ports.clone(),
            upstreams: &mut upstreams,
            blocks: BTreeMap::new(),
            home: source.home.clone(),
        };
        stage.tree(&tree)
    };
    let (original, moved) = (staged(&theirs), staged(&ours));
    let toml = result(folder, &numbered(&moved));
    let whole = Whole::read(&toml)?;
    let mut requests = requests_of(&tree);
    requests.extend(requests::for_galaxy(&requests, &whole.added));
    material::create(folder, &whole.tables, &requests)?;
    for recorder in upstreams.recorders.values() {
        recorder::start(recorder, &tls)?;
    }
    let first =
        |ports: &BTreeMap<(String, u16), u16>| ports.values().next().copied().ok_or(VerifyError::Nothing);
    let (_nginx, unknown) = programs::start_nginx(folder, &original, first(&theirs)?)?;
    let _bowshock = programs::start_bowshock(program, folder, &toml, first(&ours)?)?;
    let mut proof = Proof { unknown, ..Proof::default() };
    replay(&requests, &theirs, &ours, &mut proof)?;
    Ok(proof)
}

/// The configuration that bowshock runs with: the conversion of the moved original.
fn result(folder: &Path, moved: &[Directive]) -> String {
    let ledger = Ledger::default();
    let conversion = super::converted(moved, folder, &ledger);
    format!("[admin]\nlisten = \"unix:{}/admin.sock\"\n\n{}", folder.display(), conversion.toml)
}

/// A result with the routes that `[site.galaxy]` stands for.
struct Whole {
    tables: Table,
    /// Keys of those of them that lead to servers, each with the key of the route for static files.
    added: Vec<(String, String)>,
}

impl Whole {
    fn read(toml: &str) -> Result<Self, VerifyError> {
        let parse = |text: &str| {
            let refused = |error| VerifyError::Refused(format!("the result is no TOML: {error}"));
            text.parse::<Table>().map_err(refused)
        };
        let loaded =
            config::parse("replay", toml).map_err(|report| VerifyError::Refused(report.to_string()))?;
        let mut tables = parse(toml)?;
        let mut printed = parse(&config::print(&loaded.config))?;
        let mut added = Vec::new();
        let (Some(sites), Some(all)) = (sites(&mut tables), sites(&mut printed)) else {
            return Ok(Self { tables, added });
        };
        for (site, all) in sites.into_iter().zip(all) {
            let Some(Value::Table(galaxy)) = site.get("galaxy") else { continue };
            let Some(Value::Table(routes)) = all.get("routes") else { continue };
            let prefix = galaxy.get("prefix").and_then(Value::as_str).unwrap_or_default();
            let statics = format!("{prefix}/static");
            let own = site.get("routes").and_then(Value::as_table).cloned().unwrap_or_default();
            let is_added =
                |(key, route): &(&String, &Value)| !own.contains_key(*key) && route.get("proxy").is_some();
            added.extend(routes.iter().filter(is_added).map(|(key, _)| (key.clone(), statics.clone())));
            site.insert("routes".into(), routes.clone().into());
        }
        Ok(Self { tables, added })
    }
}

/// The sites of a configuration.
fn sites(tables: &mut Table) -> Option<Vec<&mut Table>> {
    let sites = tables.get_mut("site").and_then(Value::as_array_mut)?;
    Some(sites.iter_mut().filter_map(Value::as_table_mut).collect())
}

/// Directives with identities of their own: those that were added have none yet.
fn numbered(tree: &[Directive]) -> Vec<Directive> {
    fn number(tree: &mut [Directive], next: &mut usize) {
        for directive in tree {
            directive.id = *next;
            *next += 1;
            number(directive.block.as_deref_mut().unwrap_or_default(), next);
        }
    }
    let mut tree = tree.to_vec();
    number(&mut tree, &mut 0);
    tree
}

/// A file of sites-enabled by itself stands within `http`.
fn within_http(tree: &[Directive]) -> Vec<Directive> {
    match tree.iter().any(|directive| directive.name == "http") {
        true => tree.to_vec(),
        false => vec![Directive { block: Some(tree.to_vec()), ..stage::made("http", &[]) }],
    }
}

fn requests_of(tree: &[Directive]) -> Vec<Request> {
    let Some(http) = tree.iter().find(|directive| directive.name == "http") else { return Vec::new() };
    let mut servers = model::servers(http.children());
    model::share_tls(&mut servers);
    model::drop_conflicts(&mut servers);
    requests::all(&servers, &map::all(http.children()))
}

/// Sends each request to both, and compares.
fn replay(
    requests: &[Request],
    theirs: &BTreeMap<(String, u16), u16>,
    ours: &BTreeMap<(String, u16), u16>,
    proof: &mut Proof,
) -> Result<(), VerifyError> {
    let tls = TlsClient::new(&UpstreamTls { server_name: None, ca: None, verify: false });
    for request in requests {
        let (Some(their_port), Some(our_port)) = (theirs.get(&request.socket), ours.get(&request.socket))
        else {
            continue;
        };
        let session = request.tls.then_some((&tls, request.host.as_str()));
        let is_head = request.method == "HEAD";
        let send = |port: u16| client::exchange(port, session, &request.bytes(), is_head);
        let verdict = match (send(*their_port), send(*our_port)) {
            (Ok(their), Ok(our)) => compare::compare(request, &their, &our),
            (Err(error), Ok(_)) => Verdict::Different(format!("no response of nginx: {error}")),
            (Ok(_), Err(error)) => Verdict::Different(format!("no response of bowshock: {error}")),
            (Err(_), Err(_)) => Verdict::Equal,
        };
        match verdict {
            Verdict::Equal => proof.equal += 1,
            Verdict::Intended(reasons) => {
                proof.intended_requests += 1;
                reasons.into_iter().for_each(|why| *proof.intended.entry(why).or_default() += 1);
            }
            Verdict::Different(difference) => proof.different.push((request.clone(), difference)),
        }
    }
    Ok(())
}

/// Writes a certificate for both programs, and returns the settings of recorders with TLS.
fn certificate(folder: &Path) -> Result<Arc<ServerConfig>, VerifyError> {
    let names = vec!["localhost".to_owned(), "replay.example".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    fs::write(folder.join("tls.crt"), made.cert.pem())?;
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem())?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = crate::tls::provider();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
