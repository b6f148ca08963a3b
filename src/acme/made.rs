//! Certificates that we make ourselves: one that stands in for that of the CA, and those of challenges.

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::tls::{Identity, new_identity};

/// A certificate for these names that nobody believes.
///
/// # Errors
///
/// When it cannot be made, as a sentence.
pub(crate) fn stand_in(names: &[String]) -> Result<Identity, String> {
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    let mut who = DistinguishedName::new();
    who.push(DnType::CommonName, "bowshock, until there is a certificate");
    params.distinguished_name = who;
    sign(&params)
}

/// The certificate that answers a challenge (RFC 8737 §3).
pub(super) fn for_challenge(name: &str, digest: &[u8]) -> Result<Identity, String> {
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|error| error.to_string())?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    sign(&params)
}

fn sign(params: &CertificateParams) -> Result<Identity, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    new_identity(vec![certificate.der().clone()], key.into()).map_err(|error| error.to_string())
}
