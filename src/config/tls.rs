//! `tls` of sites and listeners, and what leads clients there.

use std::path::PathBuf;

use super::{
    acme::{self, Acme},
    diagnostic::Problem,
    model::{ClientTls, ListenTls, RedirectHttps, Tls, TlsVersion, UpstreamTls},
    paths,
    read::{REDIRECT_HTTPS, TLS, UPSTREAM_TLS, Value},
    site::Names,
};

const CERT: &str = "\"/etc/ssl/galaxy/fullchain.pem\"";
const KEY: &str = "\"/etc/ssl/galaxy/privkey.pem\"";
const EXAMPLE: &str =
    "tls = { cert = \"/etc/ssl/galaxy/fullchain.pem\", key = \"/etc/ssl/galaxy/privkey.pem\" }";

/// Names of versions.
pub const VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];

/// Names of how much a certificate of the client matters.
pub const VERIFY: [(&str, bool); 2] = [("require", true), ("optional", false)];

/// Reads `tls` of a site with these names.
pub fn read_site(value: Value<'_>, names: &Names<'_>, authority: &Acme) -> Option<Tls> {
    read(value, Some((names, authority)))
}

/// The same of a site, or of a listener, which has no names.
fn read(value: Value<'_>, site: Option<(&Names<'_>, &Acme)>) -> Option<Tls> {
    if value.as_table().is_none() {
        return value.wanted("a table with a certificate and its key", EXAMPLE);
    }
    let mut table = value.table(&TLS, "tls")?;
    let beside = table.which(&["cert", "key"]);
    let acme_value = table.take("acme");
    let acme = acme_value.and_then(|value| acme::read_site(value, site.map(|(names, _)| names)));
    if let (Some(value), Some(key)) = (acme_value, beside.first()) {
        let problem =
            Problem::new(format!("`acme` beside `{}`", key.text), "the certificate comes from a CA");
        value.error(problem.also(key.span(), "and from a file").help("take one of them out"));
    }
    let (cert, key) = match acme_value {
        None => (table.required("cert", CERT, file), table.required("key", KEY, file)),
        // Where they will be.
        Some(_) => {
            let stored = acme.as_ref().zip(site).map(|(acme, (_, authority))| authority.file(acme));
            let _ = (table.take("cert"), table.take("key"));
            (stored.clone(), stored)
        }
    };
    let min_version = table.optional("min_version", |value| value.choice(&VERSIONS, &[]));
    let ca_value = table.take("client_ca");
    let ca = ca_value.and_then(file);
    let verify = table.take("client_verify");
    let required = verify.and_then(|value| value.choice(&VERIFY, &[]));
    if let (None, Some(verify)) = (ca_value, verify) {
        let problem =
            Problem::new("`client_verify` without `client_ca`", "nobody says which certificates are good");
        verify.error(problem.help("add `client_ca = \"/etc/ssl/galaxy/clients.pem\"`"));
    }
    table.finish();
    let system = value.context.system;
    if let (Some(value), Some(path)) = (ca_value, &ca)
        && let Err(reason) = system.authorities(path)
    {
        value.error(Problem::new(reason, "cannot be used"));
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
    let client = ca.map(|ca| ClientTls { ca, required: required.unwrap_or(true) });
    Some(Tls { cert, key, acme, min_version: min_version.unwrap_or(TlsVersion::Tls12), client })
}

/// Reads `tls` of a listener: `true`, or the certificate for names that no site has.
pub fn read_listen(value: Value<'_>) -> Option<Option<ListenTls>> {
    match value.as_bool() {
        Some(true) => Some(Some(ListenTls { own: None })),
        Some(false) => Some(None),
        None if value.as_table().is_some() => read(value, None).map(|own| Some(ListenTls { own: Some(own) })),
        None => value.wanted("`true`, or a table with a certificate and its key", "tls = true"),
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
        return value.wanted("`true`, or a table", "redirect_https = { hsts = \"365d\" }");
    }
    let mut table = value.table(&REDIRECT_HTTPS, "redirect_https")?;
    let hsts = table.optional("hsts", Value::duration);
    let subdomains = table.optional("subdomains", Value::boolean);
    table.finish();
    Some(Some(RedirectHttps { hsts, subdomains: subdomains.unwrap_or(false) }))
}

/// What holds of servers under TLS where nothing is said.
pub const UPSTREAM: UpstreamTls = UpstreamTls { server_name: None, ca: None, verify: true };

/// Reads `tls` of an upstream.
pub fn read_upstream(value: Value<'_>) -> Option<UpstreamTls> {
    let example = "tls = { ca = \"/etc/ssl/galaxy/workers.pem\" }";
    let mut table = value.table(&UPSTREAM_TLS, example)?;
    let server_name = table.optional("server_name", |value| {
        let name = value.string("server_name = \"galaxy.example.org\"")?;
        if rustls::pki_types::ServerName::try_from(name).is_err() {
            value.error(Problem::new(
                format!("{name:?} is not the name of a server"),
                "a name or an address, without a port",
            ));
            return None;
        }
        Some(name.to_owned())
    });
    let ca = table.optional("ca", |value| {
        let path = file(value)?;
        if let Err(reason) = value.context.system.authorities(&path) {
            value.error(Problem::new(reason, "cannot be used"));
        }
        Some(path)
    });
    let verify = table.optional("verify", Value::boolean).unwrap_or(true);
    table.finish();
    Some(UpstreamTls { server_name, ca, verify })
}

fn file(value: Value<'_>) -> Option<PathBuf> {
    let path = value.parse(value.string(CERT)?, |text| paths::absolute(text, "/etc/ssl/galaxy"))?;
    paths::need_something(value, &path);
    Some(path)
}
