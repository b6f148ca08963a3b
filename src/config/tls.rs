//! `tls` of sites and listeners, and `redirect_https`.

use std::{path::PathBuf, time::Duration};

use super::{
    acme::{self, Acme, AcmeSite},
    diagnostic::Problem,
    keys::{
        Defaulted, Is, Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{self, BOOLEAN, DURATION, Of, Reads, Shaped, Words},
    },
    paths,
    print::{Pairs, quote},
    read::Value,
    site::Names,
};

/// `listen.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// Certificate for names without a certificate of their own.
    pub own: Option<Tls>,
}

/// `tls` of a site or a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain, in PEM.
    pub cert: PathBuf,
    /// Private key, in PEM.
    pub key: PathBuf,
    /// Certificate from a CA. `cert` and `key` are then the same file, which may not exist yet.
    pub acme: Option<AcmeSite>,
    /// Oldest version of TLS that is accepted.
    pub min_version: TlsVersion,
    /// Client certificates.
    pub client: Option<ClientTls>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

impl TlsVersion {
    /// The version's name, as nginx logs it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// `tls.client_ca` and `tls.client_verify`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// CA certificates that verify client certificates, in PEM.
    pub ca: PathBuf,
    /// Whether a client without a certificate is refused.
    pub required: bool,
}

/// `site.redirect_https`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedirectHttps {
    /// Time for which browsers use HTTPS only (RFC 6797).
    pub hsts: Option<Duration>,
    /// Whether `hsts` applies to subdomains too.
    pub subdomains: bool,
}

/// The keys of `tls` of a site or a listener.
pub static KEYS: Keys = Keys {
    title: "`tls`",
    place: "[[site]]\nhost = \"galaxy.example.org\"\ntls = { … }",
    about: "The certificate of a site or a listener: from files, or from a CA by ACME. Files are read again when \
            they change.",
    groups: &[&[&CERT, &KEY, &ACME, &MIN_VERSION, &CLIENT_CA, &CLIENT_VERIFY]],
    later: &[],
};

const FILE: kind::Path = kind::Path { home: "/etc/ssl/galaxy", check: paths::need_something };

static CERT: Optional<kind::Path> = Key {
    name: "cert",
    kind: FILE,
    default: Unset("required, unless there is `acme`"),
    about: "File of the certificate chain in PEM (`fullchain.pem`).",
    example: "key = \"/etc/ssl/galaxy/privkey.pem\", cert = \"/etc/ssl/galaxy/fullchain.pem\"",
};

static KEY: Optional<kind::Path> = Key {
    name: "key",
    kind: FILE,
    default: Unset("required, unless there is `acme`"),
    about: "File of the private key, in PEM.",
    example: "cert = \"/etc/ssl/galaxy/fullchain.pem\", key = \"/etc/ssl/galaxy/privkey.pem\"",
};

static ACME: Optional<Shaped> = Key {
    name: "acme",
    kind: Shaped(|| Shape::Text(TextShape { what: "mail address", pattern: "^[^@]+@[^@]+$" })),
    default: Unset("the certificate comes from files"),
    about: "Mail address of the account at the CA of `[acme]` (Let's Encrypt by default), which issues a certificate \
            for the exact names of the site. Using it means agreeing to the terms of the CA. On sites only.",
    example: "acme = \"admin@example.org\"",
};

static MIN_VERSION: Defaulted<Words<TlsVersion>> = Key {
    name: "min_version",
    kind: Words(&[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)]),
    default: Is(|| TlsVersion::Tls12),
    about: "Oldest version of TLS that is accepted.",
    example: "acme = \"admin@example.org\", min_version = \"1.3\"",
};

static CLIENT_CA: Optional<kind::Path> = Key {
    name: "client_ca",
    kind: FILE,
    default: Unset("clients are not asked for certificates"),
    about: "CA certificates (PEM) that verify client certificates.",
    example: "acme = \"admin@example.org\", client_ca = \"/etc/ssl/galaxy/clients.pem\"",
};

static CLIENT_VERIFY: Defaulted<Words<bool>> = Key {
    name: "client_verify",
    kind: Words(&[("require", true), ("optional", false)]),
    default: Is(|| true),
    about: "Whether a client without a certificate is refused. It needs `client_ca`.",
    example: "acme = \"admin@example.org\", client_ca = \"/etc/ssl/galaxy/clients.pem\", client_verify = \"optional\"",
};

/// The keys of `redirect_https`.
pub static REDIRECT_KEYS: Keys = Keys {
    title: "`redirect_https`",
    place: "[[site]]\nhost = \"galaxy.example.org\"\ntls = { acme = \"admin@example.org\" }\nredirect_https = { … }",
    about: "Requests over HTTP are redirected to HTTPS.",
    groups: &[&[&HSTS, &SUBDOMAINS]],
    later: &[],
};

static HSTS: Optional<Of<Duration>> = Key {
    name: "hsts",
    kind: DURATION,
    default: Unset("no header"),
    about: "Time for which browsers use HTTPS only (Strict-Transport-Security, RFC 6797). Start with a short time, \
            as it cannot be revoked.",
    example: "hsts = \"365d\"",
};

static SUBDOMAINS: Defaulted<Of<bool>> = Key {
    name: "subdomains",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Whether HSTS applies to subdomains too.",
    example: "hsts = \"365d\", subdomains = true",
};

/// Reads `tls` of a site with these names.
pub fn read_site(value: Value<'_>, names: &Names<'_>, authority: &Acme) -> Option<Tls> {
    read(value, Some((names, authority)))
}

/// Reads `tls` of a site, or of a listener, which has no names.
fn read(value: Value<'_>, site: Option<(&Names<'_>, &Acme)>) -> Option<Tls> {
    if value.as_table().is_none() {
        return value
            .expected("a table with a certificate and its key", &format!("tls = {{ {} }}", KEY.example));
    }
    let mut table = value.table(&KEYS)?;
    let beside = table.present(&[&CERT, &KEY]);
    let acme_value = table.take(&ACME);
    let acme = acme_value.and_then(|value| acme::read_site(value, site.map(|(names, _)| names)));
    if let (Some(value), Some(key)) = (acme_value, beside.first()) {
        let problem =
            Problem::new(format!("`acme` beside `{}`", key.text), "the certificate comes from a CA");
        value.error(problem.also(key.span(), "and from a file").help("remove one of them"));
    }
    let (cert, key) = match acme_value {
        None => (table.required(&CERT), table.required(&KEY)),
        // The path that the file will have.
        Some(_) => {
            let stored = acme.as_ref().zip(site).map(|(acme, (_, authority))| authority.file(acme));
            let _ = (table.take(&CERT), table.take(&KEY));
            (stored.clone(), stored)
        }
    };
    let min_version = table.read(&MIN_VERSION);
    let ca_value = table.take(&CLIENT_CA);
    let ca = ca_value.and_then(|value| CLIENT_CA.kind.read(value));
    let verify = table.take(&CLIENT_VERIFY);
    let required = verify.and_then(|value| CLIENT_VERIFY.kind.read(value));
    if let (None, Some(verify)) = (ca_value, verify) {
        let problem =
            Problem::new("`client_verify` without `client_ca`", "no CA certificates to verify with");
        verify.error(problem.help("add `client_ca = \"/etc/ssl/galaxy/clients.pem\"`"));
    }
    table.finish();
    let system = value.context.system;
    if let (Some(value), Some(path)) = (ca_value, &ca) {
        paths::need_authorities(value, path);
    }
    let (cert, key) = (cert?, key?);
    if acme.is_none()
        && let Err(reason) = system.certificate(&cert, &key)
    {
        value.error(Problem::new(reason, "cannot be used").help(
            "the certificate comes first in its file and those above it follow, all in PEM; \
             the user that bowshock runs as must be able to read both",
        ));
    }
    let required = required.unwrap_or_else(CLIENT_VERIFY.default.0);
    let client = ca.map(|ca| ClientTls { ca, required });
    Some(Tls { cert, key, acme, min_version, client })
}

/// Reads `tls` of a listener: `true`, or the certificate for names without a certificate of their own.
pub fn read_listen(value: Value<'_>) -> Option<Option<ListenTls>> {
    match value.as_bool() {
        Some(true) => Some(Some(ListenTls { own: None })),
        Some(false) => Some(None),
        None if value.as_table().is_some() => read(value, None).map(|own| Some(ListenTls { own: Some(own) })),
        None => value.expected("`true`, or a table with a certificate and its key", "tls = true"),
    }
}

/// Reads `redirect_https`.
pub fn read_redirect(value: Value<'_>) -> Option<Option<RedirectHttps>> {
    match value.as_bool() {
        Some(true) => return Some(Some(RedirectHttps::default())),
        Some(false) => return Some(None),
        None => {}
    }
    if value.as_table().is_none() {
        return value.expected("`true`, or a table", "redirect_https = { hsts = \"365d\" }");
    }
    let mut table = value.table(&REDIRECT_KEYS)?;
    let redirect = RedirectHttps { hsts: table.optional(&HSTS), subdomains: table.read(&SUBDOMAINS) };
    table.finish();
    Some(Some(redirect))
}

/// The keys of `tls` with their values.
pub fn pairs(tls: &Tls) -> Pairs {
    let source = match &tls.acme {
        Some(acme) => Pairs::default().written(&ACME, quote(&acme.contact)),
        None => Pairs::default().key(&CERT, &tls.cert).key(&KEY, &tls.key),
    };
    let pairs = source.key(&MIN_VERSION, &tls.min_version);
    match &tls.client {
        Some(client) => pairs.key(&CLIENT_CA, &client.ca).key(&CLIENT_VERIFY, &client.required),
        None => pairs,
    }
}

/// Writes `tls` of a listener.
pub fn show_listen(tls: &Option<ListenTls>) -> String {
    match tls {
        None => "false".into(),
        Some(ListenTls { own: None }) => "true".into(),
        Some(ListenTls { own: Some(own) }) => pairs(own).braces(),
    }
}

/// Writes `redirect_https`.
pub fn show_redirect(redirect: &Option<RedirectHttps>) -> String {
    let Some(redirect) = redirect else { return "false".into() };
    let pairs = Pairs::default().optional(&HSTS, redirect.hsts.as_ref());
    pairs.key(&SUBDOMAINS, &redirect.subdomains).braces()
}
