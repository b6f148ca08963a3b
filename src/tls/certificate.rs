//! Certificates and private keys from PEM files.

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

/// Certificate chain and private key of a site.
#[derive(Debug, Clone)]
pub(crate) struct CertifiedKeyPair {
    /// Certificate chain and key for rustls.
    pub(crate) key: Arc<CertifiedKey>,
    /// End of the certificate's validity.
    pub(crate) expires: SystemTime,
}

/// Reason why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file does not contain the expected item.
    #[error("{path} contains no {what} in PEM format")]
    Missing {
        /// Path of the file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// The content of the file is invalid.
    #[error("{path} cannot be used: {reason}")]
    Unusable {
        /// Path of the file.
        path: PathBuf,
        /// Reason, in words.
        reason: String,
    },
    /// The certificate and the key do not match.
    #[error("the private key {key} does not match the certificate {cert}")]
    Mismatch {
        /// Path of the certificate.
        cert: PathBuf,
        /// Path of the key.
        key: PathBuf,
    },
}

/// Reads a certificate chain and its private key. Blocks.
///
/// # Errors
///
/// A file cannot be read or used, or the two do not match.
pub(crate) fn read_key_pair(cert: &Path, key: &Path) -> Result<CertifiedKeyPair, CertificateError> {
    let chain = certificates(cert)?;
    key_pair_from_memory(chain, private_key(key)?).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            CertificateError::Mismatch { cert: cert.into(), key: key.into() }
        }
        error => CertificateError::Unusable { path: key.into(), reason: error.to_string() },
    })
}

/// Builds a certificate chain and key from memory.
pub(crate) fn key_pair_from_memory(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKeyPair, rustls::Error> {
    let expires = chain.first().map(|first| expiry(first)).unwrap_or(SystemTime::UNIX_EPOCH);
    let key = CertifiedKey::from_der(chain, key, &provider())?;
    Ok(CertifiedKeyPair { key: Arc::new(key), expires })
}

/// Reads the certificates of trusted CAs. Blocks.
///
/// # Errors
///
/// The file cannot be read, or contains no certificate.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, CertificateError> {
    roots(path, certificates(path)?)
}

/// Builds a root store from certificates that were read from `path`.
///
/// # Errors
///
/// A certificate cannot be used.
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

/// PEM blocks that tools write next to a certificate or key, and that are ignored.
const IGNORED: [&str; 3] = ["EC PARAMETERS", "DH PARAMETERS", "X9.42 DH PARAMETERS"];

/// Reads all certificates of a file, which may contain the key too. Blocks.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let mut chain = Vec::new();
    for block in blocks(path)? {
        match block.label.as_str() {
            CERTIFICATE => {
                let certificate = CertificateDer::from(block.der);
                match x509_parser::parse_x509_certificate(&certificate) {
                    Ok(([], _)) => {}
                    Ok(_) => {
                        return Err(unusable(
                            path,
                            block.line,
                            "extra data after the certificate in its PEM block",
                        ));
                    }
                    Err(error) => return Err(unusable(path, block.line, &error.to_string())),
                }
                chain.push(certificate);
            }
            label if is_key(label) || IGNORED.contains(&label) => {}
            label => return Err(unexpected_block(path, block.line, label)),
        }
    }
    if chain.is_empty() {
        return Err(CertificateError::Missing { path: path.into(), what: "certificate" });
    }
    Ok(chain)
}

/// Reads the only private key of a file, which may contain certificates too.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let mut found = None;
    for PemBlock { label, der, line } in blocks(path)? {
        let key = match label.as_str() {
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
            "ENCRYPTED PRIVATE KEY" => {
                return Err(unusable(
                    path,
                    line,
                    "the private key is encrypted: store it without a passphrase",
                ));
            }
            label if label == CERTIFICATE || IGNORED.contains(&label) => continue,
            label => return Err(unexpected_block(path, line, label)),
        };
        if found.replace(key).is_some() {
            return Err(unusable(
                path,
                line,
                "a second private key begins here: the file must contain only one",
            ));
        }
    }
    found.ok_or_else(|| CertificateError::Missing { path: path.into(), what: "private key" })
}

fn is_key(label: &str) -> bool {
    label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY")
}

fn blocks(path: &Path) -> Result<Vec<PemBlock>, CertificateError> {
    let text = read(path)?;
    pem::read(&text).map_err(|bad| unusable(path, bad.line, &bad.reason))
}

fn unusable(path: &Path, line: usize, reason: &str) -> CertificateError {
    CertificateError::Unusable { path: path.into(), reason: format!("line {line}: {reason}") }
}

fn unexpected_block(path: &Path, line: usize, label: &str) -> CertificateError {
    unusable(path, line, &format!("`{label}` is neither a certificate nor a private key: remove it"))
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.into(), source })
}

/// End of a certificate's validity; the epoch if it cannot be parsed.
fn expiry(certificate: &CertificateDer<'_>) -> SystemTime {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let end = parsed.map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp());
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or_default())
}
