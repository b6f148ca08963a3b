//! Accounts and certificates on disk. Everything here blocks.

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

/// What has to be known after a restart of an order that came to nothing, in seconds since 1970. Beside the certificate;
/// without it the next order is made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    /// When it was ordered.
    pub(super) at: u64,
    /// When the CA wants to be asked again.
    pub(super) not_before: Option<u64>,
}

impl Failed {
    /// Of the certificate in this file.
    pub(super) fn read(certificate: &Path) -> Option<Self> {
        serde_json::from_str(&read(&Self::file(certificate)).ok()??).ok()
    }

    pub(super) fn write(self, certificate: &Path) -> io::Result<()> {
        write(&Self::file(certificate), &serde_json::to_string(&self)?)
    }

    pub(super) fn forget(certificate: &Path) {
        // Nearly always it is not there.
        let _ = fs::remove_file(Self::file(certificate));
    }

    fn file(certificate: &Path) -> PathBuf {
        certificate.with_extension("failed")
    }
}

/// What is known of a certificate that is there.
#[derive(Debug)]
pub(super) struct Stored {
    /// It is good from here
    pub(super) begin: SystemTime,
    /// to here.
    pub(super) end: SystemTime,
    /// It is for all names that were asked about.
    pub(super) covers: bool,
    /// Itself, without those above it.
    pub(super) leaf: CertificateDer<'static>,
}

/// Makes the folder, and sees whether files can be made in it.
///
/// # Errors
///
/// What the system says.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    tempfile::tempfile_in(folder).map(|_| ())
}

/// Writes a file that only we may read, whole or not at all.
///
/// # Errors
///
/// What the system says.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// The text of a file; `None` when it is not there.
///
/// # Errors
///
/// What else the system says.
pub(super) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The key by which a CA knows us from elsewhere.
///
/// # Errors
///
/// What the system says, or that it is no key.
pub(super) fn eab(path: &Path) -> io::Result<Vec<u8>> {
    let text = fs::read_to_string(path)?;
    // Some write the padding, which base64 for URLs has not.
    let key = BASE64_URL_SAFE_NO_PAD.decode(text.trim().trim_end_matches('='));
    key.map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("no key in base64 for URLs: {error}"))
    })
}

/// Looks at the certificate and key of a file; `None` when there are none that can be used.
pub(super) fn stored(path: &Path, names: &[String]) -> Option<Stored> {
    let identity = tls::identity(path, path).ok()?;
    let leaf = identity.key.cert.first()?.clone().into_owned();
    let (_, certificate) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    let validity = certificate.validity();
    let (begin, end) = (time(&validity.not_before), time(&validity.not_after));
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|found| found.value.general_names.clone()).unwrap_or_default();
    let has = |name: &String| {
        let is_it = |one: &GeneralName<'_>| matches!(one, GeneralName::DNSName(one) if one.eq_ignore_ascii_case(name));
        alternatives.iter().any(is_it)
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
