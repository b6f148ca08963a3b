//! Certificates and keys, as they lie in files.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::provider;

/// Who a site is: its certificate with those above it, and its key.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// What rustls works with.
    pub(crate) key: Arc<CertifiedKey>,
    /// When it ends.
    pub(crate) expires: SystemTime,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} holds no {what} in PEM")]
    Missing {
        /// Which file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// What it holds is not understood.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// The two belong to others.
    #[error("the key {key} is not that of the certificate {cert}")]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// That of the key.
        key: PathBuf,
    },
}

/// Reads a certificate with those above it, and its key. Blocks.
///
/// # Errors
///
/// When a file cannot be read or used, or they do not belong together.
pub(crate) fn identity(cert: &Path, key: &Path) -> Result<Identity, CertificateError> {
    let chain = certificates(cert)?;
    let text = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&text);
    let private = private.map_err(|_| CertificateError::Missing { path: key.into(), what: "private key" })?;
    new_identity(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::Mismatch { cert: cert.into(), key: key.into() }
        }
        error => CertificateError::Unusable { path: key.into(), reason: error.to_string() },
    })
}

/// The same of what is in memory.
pub(crate) fn new_identity(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Identity, rustls::Error> {
    let expires = chain.first().map(|first| expiry(first)).unwrap_or(SystemTime::UNIX_EPOCH);
    let key = CertifiedKey::from_der(chain, key, &provider())?;
    Ok(Identity { key: Arc::new(key), expires })
}

/// Reads the certificates of authorities whose word counts. Blocks.
///
/// # Errors
///
/// When the file cannot be read, or holds none.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, CertificateError> {
    roots(path, certificates(path)?)
}

/// The authorities that these certificates, read from `path`, are.
///
/// # Errors
///
/// When one of them cannot be used.
pub(super) fn roots(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| CertificateError::Unusable { path: path.into(), reason: error.to_string() })?;
    }
    Ok(roots)
}

/// Reads all certificates of a file. Blocks.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unusable = |reason: String| CertificateError::Unusable { path: path.into(), reason };
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(CertificateError::Missing { path: path.into(), what: "certificate" });
    }
    for certificate in &chain {
        x509_parser::parse_x509_certificate(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.into(), source })
}

/// When a certificate ends; long ago for what is none.
fn expiry(certificate: &CertificateDer<'_>) -> SystemTime {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let end = parsed.map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp());
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or_default())
}
