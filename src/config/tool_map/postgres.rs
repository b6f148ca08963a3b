//! URLs of PostgreSQL databases, with the TLS that libpq would use.

use std::{error::Error as _, path::PathBuf};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::config::upstream::UpstreamTls;

/// Where the database listens if its URL has no host, as for `psql` on Debian.
const SOCKETS: &str = "/run/postgresql";

/// A database, and how its server is verified if TLS is spoken.
#[derive(Debug)]
pub struct Database {
    /// Where it is, and who asks.
    pub config: Config,
    /// Verification of its certificate.
    pub tls: UpstreamTls,
}

/// Reads a URL (PostgreSQL's documentation, "Connection Strings").
///
/// # Errors
///
/// What is wrong.
pub fn read(url: &str) -> Result<Database, String> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut ca, mut others) = ("prefer", None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", value)) => mode = value,
            Some(("sslrootcert", "system")) => ca = None,
            Some(("sslrootcert", value)) => {
                let path = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                ca = Some(PathBuf::from(path.into_owned()));
            }
            _ => others.push(pair),
        }
    }
    let plain = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
    let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
        error.source().map_or(error.to_string(), ToString::to_string)
    })?;
    config.ssl_mode(match mode {
        "disable" => SslMode::Disable,
        "allow" | "prefer" => SslMode::Prefer,
        "require" | "verify-ca" | "verify-full" => SslMode::Require,
        other => return Err(format!("no `sslmode` is {other:?}")),
    });
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host_path(SOCKETS);
    }
    let is_socket = |host: &Host| matches!(host, Host::Unix(_));
    if config.get_hosts().iter().all(is_socket) && config.get_hostaddrs().is_empty() {
        // No TLS is spoken on sockets, whatever the mode.
        config.ssl_mode(SslMode::Disable);
    }
    // As libpq does, which verifies where it is told to, or given something to verify with.
    let verify = mode.starts_with("verify-") || (mode == "require" && ca.is_some());
    Ok(Database { config, tls: UpstreamTls { server_name: None, ca, verify } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_of_tls_is_that_of_libpq() {
        for (query, mode, verify, ca) in [
            ("", SslMode::Prefer, false, None),
            ("?sslmode=disable", SslMode::Disable, false, None),
            ("?sslmode=require", SslMode::Require, false, None),
            ("?sslmode=require&sslrootcert=/etc/ca%20s.pem", SslMode::Require, true, Some("/etc/ca s.pem")),
            ("?sslmode=verify-ca&connect_timeout=3", SslMode::Require, true, None),
            ("?sslrootcert=system&sslmode=verify-full", SslMode::Require, true, None),
        ] {
            let read = read(&format!("postgresql://galaxy@db/tools{query}")).unwrap();
            assert_eq!((read.config.get_ssl_mode(), read.tls.verify), (mode, verify), "{query}");
            assert_eq!(read.tls.ca.as_deref(), ca.map(std::path::Path::new), "{query}");
        }
        for url in
            ["postgresql://db/tools?sslmode=always", "postgresql://db/tools?colour=red", "postgresql://a:x/b"]
        {
            assert!(read(url).is_err(), "{url}");
        }
    }

    #[test]
    fn without_a_host_it_is_the_socket() {
        let read = read("postgresql:///tools").unwrap();
        assert_eq!(format!("{:?}", read.config.get_hosts()), r#"[Unix("/run/postgresql")]"#);
        let read = super::read("postgresql:///tools?sslmode=require").unwrap();
        assert_eq!(read.config.get_ssl_mode(), SslMode::Disable);
    }
}
