//! What the configuration says of TLS and of certificates.

use std::{path::PathBuf, time::Duration};

use crate::config::AcmeSite;

/// `listen.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// The certificate for names that no site with one has.
    pub own: Option<Tls>,
}

/// `tls` of a site or a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and those above it, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// Both are one file, which may not be there yet: a CA gives what is in it.
    pub acme: Option<AcmeSite>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether clients show certificates of their own.
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
    /// Its name, as nginx writes it in logs.
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
    /// The authorities whose certificates are good, in PEM.
    pub ca: PathBuf,
    /// Nobody gets in without one.
    pub required: bool,
}

/// `site.redirect_https`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedirectHttps {
    /// For how long browsers come by HTTPS alone from now on (RFC 6797).
    pub hsts: Option<Duration>,
    /// That holds for the names below this one too.
    pub subdomains: bool,
}

/// `upstream.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name that servers are asked for and must have, in place of their own.
    pub server_name: Option<String>,
    /// The authorities that vouch for them, in PEM; those of the system without it.
    pub ca: Option<PathBuf>,
    /// Whether somebody must vouch for them.
    pub verify: bool,
}
