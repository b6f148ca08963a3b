//! `[acme]`: the authority that certificates are had from (RFC 8555); and `acme` in the `tls` of a site.

use std::path::{Path, PathBuf};

use http::Uri;

use super::{
    diagnostic::{Problem, show},
    model::{HostPattern, Listen},
    paths,
    read::{ACME, Context, EAB, Value},
    site::Names,
};

/// `tls.acme`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSite {
    /// Whom the CA writes to.
    pub contact: String,
    /// The names of the certificate.
    pub names: Vec<String>,
}

/// `[acme]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The address of the CA's directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// The folder of accounts and certificates.
    pub store: PathBuf,
    /// The authorities that vouch for the CA's own server, in PEM; those of the system without it.
    pub ca: Option<PathBuf>,
    /// The account that the CA knows us by from elsewhere.
    pub eab: Option<Eab>,
    /// How it is shown that names lead here, in the order of trying.
    pub challenges: Vec<Challenge>,
}

/// `acme.eab` (RFC 8555 §7.3.4)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eab {
    /// What the CA calls it.
    pub id: String,
    /// The file of its key, in base64 for URLs.
    pub key: PathBuf,
}

/// How it is shown that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// RFC 8555 §8.3
    Http01,
    /// RFC 8737
    TlsAlpn01,
}

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

const STORE: &str = "/var/lib/bowshock/acme";

const CONTACT: &str = "tls = { acme = \"admin@example.org\" }";

/// Names of ways to show that a name leads here.
pub const CHALLENGES: [(&str, Challenge); 2] =
    [("tls-alpn-01", Challenge::TlsAlpn01), ("http-01", Challenge::Http01)];

/// The settings of a file without `[acme]`.
pub fn default() -> Acme {
    Acme { directory: DIRECTORY.into(), store: STORE.into(), ca: None, eab: None, challenges: Vec::new() }
}

/// Reads `[acme]`.
pub fn read(value: Value<'_>) -> Option<Acme> {
    let mut table = value.table(&ACME, "[acme]")?;
    let default = default();
    let acme = Acme {
        directory: table.optional("directory", directory).unwrap_or(default.directory),
        store: table
            .optional("store", |value| {
                let text = value.string(&format!("store = {STORE:?}"))?;
                let path = value.parse(text, |text| paths::absolute(text, "/var/lib/bowshock"))?;
                if let Err(error) = value.context.system.writable(&path) {
                    value.error(unwritable(&path, &error));
                }
                Some(path)
            })
            .unwrap_or_else(|| check_default_store(value.context, default.store)),
        ca: table.optional("ca", |value| {
            let text = value.string("ca = \"/etc/ssl/our-authority.pem\"")?;
            let path = value.parse(text, |text| paths::absolute(text, "/etc/ssl"))?;
            if let Err(reason) = value.context.system.authorities(&path) {
                value.error(Problem::new(reason, "cannot be used"));
            }
            Some(path)
        }),
        eab: table.optional("eab", |value| {
            let mut table = value.table(&EAB, "eab = { id = \"kid-1\", key = \"/etc/bowshock/eab.key\" }")?;
            let id =
                table.required("id", "\"kid-1\"", |value| value.string("id = \"kid-1\"").map(str::to_owned));
            let key = table.required("key", "\"/etc/bowshock/eab.key\"", |value| {
                let text = value.string("key = \"/etc/bowshock/eab.key\"")?;
                let path = value.parse(text, |text| paths::absolute(text, "/etc/bowshock"))?;
                paths::need_something(value, &path);
                Some(path)
            });
            table.finish();
            Some(Eab { id: id?, key: key? })
        }),
        challenges: table.optional("challenges", challenges).unwrap_or_default(),
    };
    table.finish();
    Some(acme)
}

/// Notes when the store that nobody has written down cannot be written.
pub fn check_default_store(context: &Context<'_>, store: PathBuf) -> PathBuf {
    if let Err(error) = context.system.writable(&store) {
        context.error_of_file(unwritable(&store, &error));
    }
    store
}

fn unwritable(path: &Path, error: &std::io::Error) -> Problem {
    let path = path.display();
    Problem::new(format!("certificates cannot be stored in `{path}`: {error}"), "cannot be written").help(
        format!(
            "make it for the user that bowshock runs as: `install -d -m 700 -o bowshock {path}`, \
         or name another one: `[acme]`, `store = \"/srv/bowshock/acme\"`"
        ),
    )
}

/// The address of a CA's directory.
fn directory(value: Value<'_>) -> Option<String> {
    let text = value.string(&format!("directory = {DIRECTORY:?}"))?;
    let uri: Option<Uri> = text.parse().ok();
    let good = uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    if !good {
        let problem = Problem::new(
            format!("{} is not the directory of a CA", show(text)),
            "must be an `https://` address (RFC 8555 §6.1)",
        );
        value.error(problem.help(format!("write for example `directory = {DIRECTORY:?}`")));
        return None;
    }
    Some(text.to_owned())
}

fn challenges(value: Value<'_>) -> Option<Vec<Challenge>> {
    let mut challenges = Vec::new();
    for item in value.list("challenges = [\"http-01\"]")? {
        if item.as_str() == Some("dns-01") {
            let problem = Problem::new("`dns-01` is not offered", "bowshock changes no names");
            item.error(problem.help("write `\"http-01\"`, `\"tls-alpn-01\"` or both"));
            return None;
        }
        let challenge = item.choice(&CHALLENGES, &[])?;
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    if challenges.is_empty() {
        let problem = Problem::new("`challenges` names none", "no CA would give a certificate");
        value.error(problem.help("take it out: both are tried"));
    }
    Some(challenges)
}

/// What is tried, and in which order, where the file does not say: `tls-alpn-01` needs port 443.
pub fn default_challenges(listen: &[Listen]) -> Vec<Challenge> {
    let is_https = |listen: &Listen| listen.tls.is_some() && listen.address.port() == Some(443);
    match listen.iter().any(is_https) {
        true => vec![Challenge::TlsAlpn01, Challenge::Http01],
        false => vec![Challenge::Http01, Challenge::TlsAlpn01],
    }
}

/// Reads `acme` in the `tls` of a site with these names.
pub fn read_site(value: Value<'_>, names: Option<&Names<'_>>) -> Option<AcmeSite> {
    let text = value.string(CONTACT)?;
    let contact = text.strip_prefix("mailto:").unwrap_or(text);
    let is_address = contact.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !is_address
        || contact.contains(|c: char| c.is_whitespace() || c.is_control() || "/,<>\"\\?".contains(c))
    {
        let problem =
            Problem::new(format!("{} is no address for mail", show(text)), "whom does the CA write to?");
        value.error(problem.help(format!("write for example `{CONTACT}`")));
        return None;
    }
    let Some(names) = names else {
        let problem = Problem::new("a listener has no names that a CA could look at", "only on a site");
        value.error(problem.help("write `tls = true` here, and `acme` in the `tls` of a site"));
        return None;
    };
    if names.read.is_empty() {
        let problem =
            Problem::new("a site without `host` has no names that a CA could look at", "for which names?");
        value.error(problem.help("give the site its names: `host = \"galaxy.example.org\"`"));
        return None;
    }
    let mut exact = Vec::new();
    for (written, host) in &names.read {
        let why = match host {
            HostPattern::Exact(name)
                if name.parse::<std::net::Ipv4Addr>().is_ok() || name.starts_with('[') =>
            {
                "an address, not a name"
            }
            HostPattern::Exact(name) => {
                exact.push(name.clone());
                continue;
            }
            HostPattern::Suffix(_) => "a wildcard needs DNS-01, which is not offered",
            HostPattern::Regex(_) => "stands for names that nobody can list",
        };
        let problem = Problem::new(
            format!("no certificate can be had by ACME for {}", show(written)),
            "not for all names of this site",
        );
        let problem = match names.places.get(written) {
            Some(place) => problem.also(place.clone(), why),
            None => problem,
        };
        value.error(problem.help(
            "list exact names, or move this one to a site of its own whose `tls` has `cert` and `key`",
        ));
    }
    Some(AcmeSite { contact: contact.to_owned(), names: exact })
}

impl Acme {
    /// The folder of what this CA has given.
    pub fn folder(&self) -> PathBuf {
        let uri: Option<Uri> = self.directory.parse().ok();
        let authority = uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default();
        let sum = crc32fast::hash(self.directory.as_bytes());
        self.store.join(format!(
            "{}-{sum:08x}",
            authority.replace(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c), "_")
        ))
    }

    /// The file of the certificate of a site, its key and those above it.
    pub fn file(&self, site: &AcmeSite) -> PathBuf {
        self.folder().join(format!("{}.pem", site.names.first().map_or("none", |name| name)))
    }
}
