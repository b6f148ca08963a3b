//! Certificates and keys, as they lie in files.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer},
    sign::CertifiedKey,
};

use super::{
    pem::{self, PemBlock},
    provider,
};

/// Who a site is: its certificate with those above it, and its key.
#[derive(Debug, Clone)]
pub(crate) struct CertifiedKeyPair {
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
pub(crate) fn identity(cert: &Path, key: &Path) -> Result<CertifiedKeyPair, CertificateError> {
    let chain = certificates(cert)?;
    new_identity(chain, private_key(key)?).map_err(|error| match error {
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
) -> Result<CertifiedKeyPair, rustls::Error> {
    let expires = chain.first().map(|first| expiry(first)).unwrap_or(SystemTime::UNIX_EPOCH);
    let key = CertifiedKey::from_der(chain, key, &provider())?;
    Ok(CertifiedKeyPair { key: Arc::new(key), expires })
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

const CERTIFICATE: &str = "CERTIFICATE";

/// Parts that tools write beside a certificate or a key, and nobody needs.
const NEEDLESS: [&str; 3] = ["EC PARAMETERS", "DH PARAMETERS", "X9.42 DH PARAMETERS"];

/// Reads all certificates of a file, which may hold the key too. Blocks.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let mut chain = Vec::new();
    for part in parts(path)? {
        match part.label.as_str() {
            CERTIFICATE => {
                let certificate = CertificateDer::from(part.der);
                match x509_parser::parse_x509_certificate(&certificate) {
                    Ok(([], _)) => {}
                    Ok(_) => {
                        return Err(unusable(
                            path,
                            part.line,
                            "something follows the certificate in its part",
                        ));
                    }
                    Err(error) => return Err(unusable(path, part.line, &error.to_string())),
                }
                chain.push(certificate);
            }
            label if is_key(label) || NEEDLESS.contains(&label) => {}
            label => return Err(foreign(path, part.line, label)),
        }
    }
    if chain.is_empty() {
        return Err(CertificateError::Missing { path: path.into(), what: "certificate" });
    }
    Ok(chain)
}

/// Reads the one key of a file, which may hold certificates too.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let mut found = None;
    for PemBlock { label, der, line } in parts(path)? {
        let key = match label.as_str() {
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
            "ENCRYPTED PRIVATE KEY" => {
                return Err(unusable(path, line, "the key is encrypted: write it without a passphrase"));
            }
            label if label == CERTIFICATE || NEEDLESS.contains(&label) => continue,
            label => return Err(foreign(path, line, label)),
        };
        if found.replace(key).is_some() {
            return Err(unusable(path, line, "a second key begins here: only one is used"));
        }
    }
    found.ok_or_else(|| CertificateError::Missing { path: path.into(), what: "private key" })
}

fn is_key(label: &str) -> bool {
    label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY")
}

fn parts(path: &Path) -> Result<Vec<PemBlock>, CertificateError> {
    let text = read(path)?;
    pem::read(&text).map_err(|bad| unusable(path, bad.line, &bad.reason))
}

fn unusable(path: &Path, line: usize, reason: &str) -> CertificateError {
    CertificateError::Unusable { path: path.into(), reason: format!("line {line}: {reason}") }
}

fn foreign(path: &Path, line: usize, label: &str) -> CertificateError {
    unusable(path, line, &format!("`{label}` is neither a certificate nor a key, and would not be used"))
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
