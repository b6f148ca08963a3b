//! `[acme]`: the certificate authority (RFC 8555); and `acme` in the `tls` of a site.

use std::path::{Path, PathBuf};

use http::Uri;

use super::{
    diagnostic::{self, Problem},
    host::HostPattern,
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{self, Kind, Of, Words},
    },
    listen::Listen,
    paths,
    print::{Out, Pairs, list, quote, word},
    read::{Context, Table, Value},
    site::Names,
};

/// `tls.acme`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSite {
    /// Mail address by which the CA reaches the account's owner.
    pub contact: String,
    /// The names of the certificate.
    pub names: Vec<String>,
}

/// `[acme]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// URL of the CA's directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// Directory of accounts and certificates.
    pub store: PathBuf,
    /// CA certificates that verify the CA's own server, in PEM; `None` takes those of the system.
    pub ca: Option<PathBuf>,
    /// External account binding.
    pub eab: Option<Eab>,
    /// Challenge types in the order of trying.
    pub challenges: Vec<Challenge>,
}

/// `acme.eab` (RFC 8555 §7.3.4)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eab {
    /// Key identifier given by the CA.
    pub id: String,
    /// File of the MAC key, in base64url.
    pub key: PathBuf,
}

/// Challenge type: a way to prove control of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// RFC 8555 §8.3
    Http01,
    /// RFC 8737
    TlsAlpn01,
}

const CONTACT: &str = "tls = { acme = \"admin@example.org\" }";

/// The keys of `[acme]`.
pub static KEYS: Keys = Keys {
    title: "`[acme]`",
    place: "[acme]\n…",
    about: "The certificate authority (RFC 8555) of sites with `tls = { acme = … }`.",
    groups: &[&[&AUTHORITY, &STORE, &CA, &EAB, &CHALLENGES]],
    later: &[],
};

static AUTHORITY: Defaulted<Of<String>> = Key {
    name: "directory",
    kind: Of {
        shape: || Shape::Text(TextShape { what: "`https://` URL", pattern: "^https://" }),
        read: directory,
        show: |url| quote(url),
    },
    // Let's Encrypt.
    default: Is(|| "https://acme-v02.api.letsencrypt.org/directory".into()),
    about: "URL of the CA's directory. Try a new site with Let's Encrypt's staging CA: its limits are higher.",
    example: "directory = \"https://acme-staging-v02.api.letsencrypt.org/directory\"",
};

static STORE: Defaulted<kind::Path> = Key {
    name: "store",
    kind: kind::Path { home: "/var/lib/bowshock", check: need_writable },
    default: Is(|| "/var/lib/bowshock/acme".into()),
    about: "Directory of accounts and certificates. Keep it: a CA limits the number of certificates that it issues.",
    example: "store = \"/srv/bowshock/acme\"",
};

static CA: Optional<kind::Path> = Key {
    name: "ca",
    kind: kind::Path { home: "/etc/ssl", check: paths::need_authorities },
    default: Unset("those of the system"),
    about: "CA certificates (PEM) that verify the CA's own server, when the system does not have them.",
    example: "ca = \"/etc/ssl/our-authority.pem\"",
};

static EAB: Optional<Of<Eab>> = Key {
    name: "eab",
    kind: Of { shape: || Shape::Table(&EAB_KEYS), read: eab, show: |eab| eab_pairs(eab).braces() },
    default: Unset("none"),
    about: "External account binding, when the CA requires one (RFC 8555 §7.3.4).",
    example: "eab = { id = \"kid-1\", key = \"/etc/bowshock/eab.key\" }",
};

static CHALLENGES: Optional<Of<Vec<Challenge>>> = Key {
    name: "challenges",
    kind: Of {
        shape: || Words(&CHALLENGE_WORDS).shape().list(),
        read: challenges,
        show: |challenges| list(challenges.iter().map(|one| word(&CHALLENGE_WORDS, one))),
    },
    default: Unset("both; `\"tls-alpn-01\"` first where something listens on port 443"),
    about: "Challenges that prove control of the names, in the order of trying. `\"tls-alpn-01\"` needs port 443, \
            `\"http-01\"` port 80.",
    example: "challenges = [\"http-01\"]",
};

/// The keys of `acme.eab`.
static EAB_KEYS: Keys = Keys {
    title: "`eab` of `[acme]`",
    place: "[acme]\neab = { … }",
    about: "External account binding.",
    groups: &[&[&EAB_ID, &EAB_KEY]],
    later: &[],
};

static EAB_ID: Required<Of<String>> = Key {
    name: "id",
    kind: kind::STRING,
    default: Needed,
    about: "Key identifier, as given by the CA.",
    example: "key = \"/etc/bowshock/eab.key\", id = \"kid-1\"",
};

static EAB_KEY: Required<kind::Path> = Key {
    name: "key",
    kind: kind::Path { home: "/etc/bowshock", check: paths::need_something },
    default: Needed,
    about: "File of the MAC key in base64url, as given by the CA.",
    example: "id = \"kid-1\", key = \"/etc/bowshock/eab.key\"",
};

const CHALLENGE_WORDS: [(&str, Challenge); 2] =
    [("tls-alpn-01", Challenge::TlsAlpn01), ("http-01", Challenge::Http01)];

/// Reads `[acme]`, or takes the defaults where the file has none.
pub fn read(context: &Context<'_>, value: Option<Value<'_>>) -> Acme {
    let table = value.and_then(|value| value.table(&KEYS));
    let mut table = table.unwrap_or_else(|| Table::absent(context, &KEYS));
    let has_store = table.has(&STORE);
    let acme = Acme {
        directory: table.read(&AUTHORITY),
        store: table.read(&STORE),
        ca: table.optional(&CA),
        eab: table.optional(&EAB),
        challenges: table.optional(&CHALLENGES).unwrap_or_default(),
    };
    if value.is_some() && !has_store {
        check_default_store(context, &acme.store);
    }
    table.finish();
    acme
}

fn eab(value: Value<'_>) -> Option<Eab> {
    let mut table = value.table(&EAB_KEYS)?;
    let (id, key) = (table.required(&EAB_ID), table.required(&EAB_KEY));
    table.finish();
    Some(Eab { id: id?, key: key? })
}

/// Writes `[acme]`.
pub fn show(out: &mut Out, acme: &Acme) {
    let pairs = Pairs::default()
        .key(&AUTHORITY, &acme.directory)
        .key(&STORE, &acme.store)
        .optional(&CA, acme.ca.as_ref())
        .optional(&EAB, acme.eab.as_ref())
        .key(&CHALLENGES, &acme.challenges);
    out.table("[acme]", &pairs);
}

fn eab_pairs(eab: &Eab) -> Pairs {
    Pairs::default().key(&EAB_ID, &eab.id).key(&EAB_KEY, &eab.key)
}

fn need_writable(value: Value<'_>, path: &Path) {
    if let Err(error) = value.context.system.writable(path) {
        value.error(unwritable(path, &error));
    }
}

/// Notes an error when the default store cannot be written.
pub fn check_default_store(context: &Context<'_>, store: &Path) {
    if let Err(error) = context.system.writable(store) {
        context.error_of_file(unwritable(store, &error));
    }
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

/// Reads the URL of a CA's directory.
fn directory(value: Value<'_>) -> Option<String> {
    let text = value.string()?;
    let uri: Option<Uri> = text.parse().ok();
    let good = uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some());
    if !good {
        let problem = Problem::new(
            format!("{} is not the directory of a CA", diagnostic::show(text)),
            "must be an `https://` address (RFC 8555 §6.1)",
        );
        value.error(problem.help(format!("write for example `directory = {:?}`", (AUTHORITY.default.0)())));
        return None;
    }
    Some(text.to_owned())
}

fn challenges(value: Value<'_>) -> Option<Vec<Challenge>> {
    let mut challenges = Vec::new();
    for item in value.list()? {
        if item.as_str() == Some("dns-01") {
            let problem = Problem::new("`dns-01` is not supported", "bowshock changes no DNS records");
            item.error(problem.help("write `\"http-01\"`, `\"tls-alpn-01\"` or both"));
            return None;
        }
        let challenge = item.choice(&CHALLENGE_WORDS, &[])?;
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    if challenges.is_empty() {
        let problem = Problem::new("`challenges` lists no challenge", "no CA would issue a certificate");
        value.error(problem.help("remove it: both are tried"));
    }
    Some(challenges)
}

/// Challenge types of a file without `challenges`, in the order of trying. `tls-alpn-01` needs port 443.
pub fn default_challenges(listen: &[Listen]) -> Vec<Challenge> {
    let is_https = |listen: &Listen| listen.tls.is_some() && listen.address.port() == Some(443);
    match listen.iter().any(is_https) {
        true => vec![Challenge::TlsAlpn01, Challenge::Http01],
        false => vec![Challenge::Http01, Challenge::TlsAlpn01],
    }
}

/// Reads `acme` in the `tls` of a site with these names.
pub fn read_site(value: Value<'_>, names: Option<&Names<'_>>) -> Option<AcmeSite> {
    let text = value.string_like(CONTACT)?;
    let contact = text.strip_prefix("mailto:").unwrap_or(text);
    let is_address = contact.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if !is_address
        || contact.contains(|c: char| c.is_whitespace() || c.is_control() || "/,<>\"\\?".contains(c))
    {
        let problem = Problem::new(
            format!("{} is not a mail address", diagnostic::show(text)),
            "the CA needs a mail address",
        );
        value.error(problem.help(format!("write for example `{CONTACT}`")));
        return None;
    }
    let Some(names) = names else {
        let problem = Problem::new("`acme` on a listener has no host names", "only on a site");
        value.error(problem.help("write `tls = true` here, and `acme` in the `tls` of a site"));
        return None;
    };
    if names.read.is_empty() {
        let problem = Problem::new("`acme` needs the `host` of the site", "no names for the certificate");
        value.error(problem.help("give the site its names: `host = \"galaxy.example.org\"`"));
        return None;
    }
    let mut exact = Vec::new();
    for (written, host) in &names.read {
        let why = match host {
            HostPattern::Exact(name)
                if name.parse::<std::net::Ipv4Addr>().is_ok() || name.starts_with('[') =>
            {
                "an IP address, not a name"
            }
            HostPattern::Exact(name) => {
                exact.push(name.clone());
                continue;
            }
            HostPattern::Suffix(_) => "a wildcard needs DNS-01, which is not supported",
            HostPattern::Regex(_) => "matches names that cannot be listed",
        };
        let problem = Problem::new(
            format!("no CA issues a certificate by ACME for {}", diagnostic::show(written)),
            "not possible for all names of this site",
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
    /// Directory of the account and certificates of this CA.
    pub fn folder(&self) -> PathBuf {
        let uri: Option<Uri> = self.directory.parse().ok();
        let authority = uri.and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default();
        let sum = crc32fast::hash(self.directory.as_bytes());
        self.store.join(format!(
            "{}-{sum:08x}",
            authority.replace(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c), "_")
        ))
    }

    /// File of a site's private key and certificate chain.
    pub fn file(&self, site: &AcmeSite) -> PathBuf {
        self.folder().join(format!("{}.pem", site.names.first().map_or("none", |name| name)))
    }
}
