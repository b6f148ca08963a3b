//! The machine that a configuration is checked against: its files, directories and certificates.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    config::{self, LoadError, Loaded, System},
    tls,
};

/// Reads and checks a configuration file, and the files and directories that it names.
///
/// # Errors
///
/// The file cannot be read, or has errors, all of which are returned.
pub(crate) fn load(path: &Path) -> Result<Loaded, LoadError> {
    config::load(path, &Machine)
}

/// Largest text file: millions of lines. A longer file was most likely named by mistake.
const LONGEST_TEXT: u64 = 64 << 20;

/// The machine that bowshock runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl System for Machine {
    fn exists(&self, path: &Path) -> io::Result<()> {
        fs::metadata(path).map(|_| ())
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        if fs::metadata(path)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn writable(&self, path: &Path) -> io::Result<()> {
        // A missing directory will be created in its nearest existing ancestor.
        let there = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(path);
        tempfile::tempfile_in(there).map(|_| ())
    }

    fn certificate(&self, cert: &Path, key: &Path) -> Result<(), String> {
        tls::read_key_pair(cert, key).map(|_| ()).map_err(|error| error.to_string())
    }

    fn authorities(&self, path: &Path) -> Result<(), String> {
        tls::authorities(path).map(|_| ()).map_err(|error| error.to_string())
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let pattern = pattern.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let paths = glob::glob(pattern).map_err(invalid)?;
        paths.map(|path| path.map_err(io::Error::from)).collect()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let found = fs::metadata(path)?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file"));
        }
        if found.len() > LONGEST_TEXT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 64 MiB"));
        }
        fs::read_to_string(path)
    }
}
