//! Self-signed certificates: placeholders, and those of TLS-ALPN-01 challenges.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use crate::tls::{
    self,
    certificate::{CertifiedKeyPair, key_pair_from_memory},
};

/// Creates a placeholder certificate for these names.
///
/// # Errors
///
/// The certificate cannot be created.
pub(crate) fn placeholder(names: &[String]) -> Result<CertifiedKeyPair, String> {
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    let mut who = DistinguishedName::new();
    who.push(DnType::CommonName, "bowshock placeholder certificate");
    params.distinguished_name = who;
    let (certificate, key) = sign(&params)?;
    key_pair_from_memory(vec![certificate], key).map_err(|error| error.to_string())
}

/// Creates the certificate for a TLS-ALPN-01 challenge (RFC 8737 §3).
pub(crate) fn for_challenge(name: &str, digest: &[u8]) -> Result<CertifiedKey, String> {
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|error| error.to_string())?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let (certificate, key) = sign(&params)?;
    // Built by hand: rustls would refuse the critical extension that it does not support.
    let key = tls::provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

fn sign(params: &CertificateParams) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}
