//! Certificate selection by server name (SNI).

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    server::{ProducesTickets, StoresServerSessions, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};

use super::{
    CertificateError,
    certificate::{CertifiedKeyPair, certificates, roots},
    provider, read_key_pair, self_signed,
};
use crate::{
    config::{AcmeSite, Address, ClientTls, Config, Listen, Tls, TlsVersion},
    route::HostMap,
};

/// Most TLS sessions cached for clients that do not support tickets.
const SESSIONS: usize = 4096;

/// Certificates of all sites, indexed for lookup.
#[derive(Debug, Default)]
pub(crate) struct CertificateMap {
    hosts: HostMap,
    /// Certificates by index of the site in the configuration.
    sites: Vec<Option<Arc<SiteCertificate>>>,
    /// Default for names of no site with a certificate.
    default: Option<Arc<SiteCertificate>>,
    /// Defaults of listeners, which take precedence.
    listeners: HashMap<Address, Arc<SiteCertificate>>,
    /// Entries in the order of [`settings`].
    entries: Vec<Arc<SiteCertificate>>,
}

/// Certificate settings of a configuration, each with its label: first those of sites, then those of listeners.
pub(super) fn settings(config: &Config) -> impl Iterator<Item = (String, &Tls)> {
    let sites = config.sites.iter().filter_map(|site| Some((site.name.clone(), site.tls.as_ref()?)));
    sites.chain(config.listen.iter().filter_map(|listen| Some((listen.address.to_string(), own(listen)?))))
}

fn own(listen: &Listen) -> Option<&Tls> {
    listen.tls.as_ref()?.own.as_ref()
}

/// A certificate, and the settings of connections that use it.
#[derive(Debug)]
pub(crate) struct SiteCertificate {
    /// Name of the site, or address of the listener.
    pub(crate) label: String,
    pub(crate) config: Arc<ServerConfig>,
    /// Client authentication settings.
    pub(crate) client: Option<Arc<ClientTls>>,
    pub(crate) expires: SystemTime,
    /// Whether the certificate is a placeholder for one that a CA has yet to issue.
    pub(crate) is_placeholder: bool,
}

/// Session cache and ticket keys. Sessions can be resumed only under the same client authentication settings.
#[derive(Clone)]
struct Sessions {
    tickets: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
}

/// Settings that connections must share to resume each other's sessions: the least version, and the trusted CAs.
type ClientTrust = (TlsVersion, Option<(u64, bool)>);

/// Ticket keys, which live as long as the process. They are renewed every six hours, and each is valid for twelve.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<ClientTrust, Sessions>>);

impl CertificateMap {
    /// Reads the certificates of all sites and listeners. Blocks.
    ///
    /// # Errors
    ///
    /// The first certificate that cannot be used.
    pub(crate) fn read(config: &Config, tickets: &Tickets) -> Result<Self, CertificateError> {
        let entries = settings(config).map(|(label, tls)| entry(&label, tls, tickets).map(Arc::new));
        Ok(Self::new(config, entries.collect::<Result<_, _>>()?))
    }

    /// Indexes the entries of [`settings`].
    fn new(config: &Config, entries: Vec<Arc<SiteCertificate>>) -> Self {
        let hosts = HostMap::new(config.sites.iter().map(|site| &site.hosts[..]));
        let mut rest = entries.iter().cloned();
        let sites: Vec<_> =
            config.sites.iter().map(|site| site.tls.as_ref().and_then(|_| rest.next())).collect();
        let listeners = config.listen.iter().filter(|listen| own(listen).is_some());
        let listeners = listeners.map(|listen| listen.address.clone()).zip(rest).collect();
        let nameless = config.sites.iter().position(|site| site.hosts.is_empty());
        let default = nameless.and_then(|site| sites[site].clone());
        let default = default.or_else(|| sites.iter().flatten().next().cloned());
        Self { hosts, sites, default, listeners, entries }
    }

    /// Copy with the entries in `read` replaced, by index; the others stay.
    pub(super) fn with(&self, config: &Config, read: Vec<(usize, Arc<SiteCertificate>)>) -> Self {
        let mut entries = self.entries.clone();
        for (place, entry) in read {
            if let Some(old) = entries.get_mut(place) {
                *old = entry;
            }
        }
        Self::new(config, entries)
    }

    /// Entry at an index of [`settings`].
    pub(super) fn entry(&self, place: usize) -> Option<&Arc<SiteCertificate>> {
        self.entries.get(place)
    }

    /// Certificate for a client of this listener that sends this server name, or none.
    pub(crate) fn find(&self, listener: &Address, name: Option<&str>) -> Option<&Arc<SiteCertificate>> {
        let site =
            name.and_then(|name| self.hosts.find(name)).and_then(|site| self.sites.get(site)?.as_ref());
        site.or_else(|| self.listeners.get(listener)).or(self.default.as_ref())
    }

    /// Iterates over all certificates.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &SiteCertificate> {
        self.entries.iter().map(|entry| &**entry)
    }
}

pub(super) fn entry(label: &str, tls: &Tls, tickets: &Tickets) -> Result<SiteCertificate, CertificateError> {
    let (CertifiedKeyPair { key, expires }, is_placeholder) =
        match (read_key_pair(&tls.cert, &tls.key), &tls.acme) {
            (Err(error), Some(acme)) => (placeholder(label, tls, acme, &error)?, true),
            (read, _) => (read?, false),
        };
    let (verifier, client_auth) = match &tls.client {
        None => (WebPkiClientVerifier::no_client_auth(), None),
        Some(client) => {
            let (verifier, text) = verifier(client)?;
            (verifier, Some((text, client.required)))
        }
    };
    let versions: &[_] = match tls.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let unusable = |error: rustls::Error| CertificateError::Unusable {
        path: tls.cert.clone(),
        reason: error.to_string(),
    };
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let mut config = config
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    let sessions = tickets.of((tls.min_version, client_auth)).map_err(unusable)?;
    (config.ticketer, config.session_storage) = (sessions.tickets, sessions.storage);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(SiteCertificate {
        label: label.to_owned(),
        config: Arc::new(config),
        client: tls.client.clone().map(Arc::new),
        expires,
        is_placeholder,
    })
}

/// Placeholder until a CA has issued a certificate. It has expired long ago, so that metrics show that there is none.
fn placeholder(
    label: &str,
    tls: &Tls,
    acme: &AcmeSite,
    error: &CertificateError,
) -> Result<CertifiedKeyPair, CertificateError> {
    if !matches!(error, CertificateError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    {
        tracing::warn!(site = label, "{error}; ordering a new certificate");
    }
    let made = self_signed::placeholder(&acme.names);
    let unusable = |reason| CertificateError::Unusable { path: tls.cert.clone(), reason };
    made.map(|made| CertifiedKeyPair { expires: SystemTime::UNIX_EPOCH, ..made }).map_err(unusable)
}

/// Verifier of client certificates, and a number that changes with the trusted CAs.
fn verifier(client: &ClientTls) -> Result<(Arc<dyn ClientCertVerifier>, u64), CertificateError> {
    let authorities = certificates(&client.ca)?;
    let mut hasher = DefaultHasher::new();
    authorities.hash(&mut hasher);
    let roots = roots(&client.ca, authorities)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = if client.required { verifier } else { verifier.allow_unauthenticated() };
    let verifier = verifier
        .build()
        .map_err(|error| CertificateError::Unusable { path: client.ca.clone(), reason: error.to_string() })?;
    Ok((verifier, hasher.finish()))
}

impl Tickets {
    fn of(&self, trust: ClientTrust) -> Result<Sessions, rustls::Error> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sessions) = known.get(&trust) {
            return Ok(sessions.clone());
        }
        let sessions = Sessions {
            tickets: rustls::crypto::aws_lc_rs::Ticketer::new()?,
            storage: rustls::server::ServerSessionMemoryCache::new(SESSIONS),
        };
        known.insert(trust, sessions.clone());
        Ok(sessions)
    }
}
