//! Accounts and certificates on disk. Every function blocks.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::{extensions::GeneralName, time::ASN1Time};

use crate::tls;

/// Record of a failed order, kept over restarts; times are in seconds since 1970. It lies next to the certificate;
/// without it the next order is made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    /// Time of the order.
    pub(super) at: u64,
    /// Time before which the CA must not be asked again.
    pub(super) not_before: Option<u64>,
}

impl Failed {
    /// Reads the record for the certificate in this file.
    pub(super) fn read(certificate: &Path) -> Option<Self> {
        serde_json::from_str(&read(&Self::file(certificate)).ok()??).ok()
    }

    pub(super) fn write(self, certificate: &Path) -> io::Result<()> {
        write(&Self::file(certificate), &serde_json::to_string(&self)?)
    }

    pub(super) fn forget(certificate: &Path) {
        // Usually the file does not exist.
        let _ = fs::remove_file(Self::file(certificate));
    }

    fn file(certificate: &Path) -> PathBuf {
        certificate.with_extension("failed")
    }
}

/// Summary of a stored certificate.
#[derive(Debug)]
pub(super) struct Stored {
    /// Start of its validity.
    pub(super) begin: SystemTime,
    /// End of its validity.
    pub(super) end: SystemTime,
    /// Whether it covers all requested names.
    pub(super) covers: bool,
    /// Leaf certificate, without its chain.
    pub(super) leaf: CertificateDer<'static>,
}

/// Creates the folder, and checks that files can be created in it.
///
/// # Errors
///
/// Error of the system.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    tempfile::tempfile_in(folder).map(|_| ())
}

/// Writes a file atomically, readable by its owner only.
///
/// # Errors
///
/// Error of the system.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Created with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Reads a text file; `None` if it does not exist.
///
/// # Errors
///
/// Any other error of the system.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Reads the key for external account binding.
///
/// # Errors
///
/// Error of the system, or the content is not a key.
pub(super) fn eab(path: &Path) -> io::Result<Vec<u8>> {
    let text = fs::read_to_string(path)?;
    // Some tools write the padding, which base64url does not have.
    let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
    key.map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("not a key in base64url: {error}"))
    })
}

/// Reads the certificate and key of a file; `None` if there is no usable one.
pub(super) fn stored(path: &Path, names: &[String]) -> Option<Stored> {
    let key_pair = tls::read_key_pair(path, path).ok()?;
    let leaf = key_pair.key.cert.first()?.clone().into_owned();
    let (_, certificate) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    let validity = certificate.validity();
    let (begin, end) = (time(&validity.not_before), time(&validity.not_after));
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|found| found.value.general_names.clone()).unwrap_or_default();
    let has = |name: &String| {
        let is_name = |one: &GeneralName<'_>| matches!(one, GeneralName::DNSName(one) if one.eq_ignore_ascii_case(name));
        alternatives.iter().any(is_name)
    };
    let covers = names.iter().all(has);
    Some(Stored { begin, end, covers, leaf })
}

fn time(time: &ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store/ca/site.pem");
        assert_eq!(read(&file).unwrap(), None);
        write(&file, "one").unwrap();
        write(&file, "two").unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("two"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&folder.path().join("store"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
        assert!(stored(&file, &[]).is_none());
    }

    #[test]
    fn a_certificate_is_for_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.pem");
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned(), "b.test".to_owned()]).unwrap();
        write(&file, &(made.signing_key.serialize_pem() + &made.cert.pem())).unwrap();
        let covers = |names: &[&str]| {
            stored(&file, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap().covers
        };
        assert!(covers(&["a.test"]) && covers(&["B.test", "a.test"]));
        assert!(!covers(&["a.test", "c.test"]));
        let stored = stored(&file, &[]).unwrap();
        assert!(stored.begin < stored.end);
    }
}
