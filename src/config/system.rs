//! What the checker asks the machine about what a file names.

use std::{fs, io, path::Path};

use crate::tls;

/// The machine that a configuration is checked against.
pub trait System {
    /// Whether something is at `path`, symlinks followed.
    ///
    /// # Errors
    /// What the machine says when nothing is there or it may not be looked at.
    fn exists(&self, path: &Path) -> io::Result<()>;

    /// Whether a directory is at `path`, symlinks followed.
    ///
    /// # Errors
    /// As [`System::exists`], and [`io::ErrorKind::NotADirectory`].
    fn directory(&self, path: &Path) -> io::Result<()>;

    /// Whether files can be written into a folder at `path`, which is made when it is needed.
    ///
    /// # Errors
    /// What the machine says.
    fn writable(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }

    /// Whether the certificate at `cert` can be used with the key at `key`.
    ///
    /// # Errors
    /// Why not, as a sentence.
    fn certificate(&self, cert: &Path, key: &Path) -> Result<(), String> {
        let _ = (cert, key);
        Ok(())
    }

    /// Whether the certificates of authorities at `path` can be used.
    ///
    /// # Errors
    /// Why not, as a sentence.
    fn authorities(&self, path: &Path) -> Result<(), String> {
        let _ = path;
        Ok(())
    }

    /// The text of the file at `path`.
    ///
    /// # Errors
    /// As [`System::exists`], and [`io::ErrorKind::InvalidData`] when it is no file of text, or far too long for one.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// How many cores there are for `threads = 0`; never 0.
    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// Millions of lines: a longer file is not what somebody meant to name.
const LONGEST_TEXT: u64 = 64 << 20;

/// This machine.
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
        // What is not there is made in the nearest folder above that is.
        let there = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(path);
        tempfile::tempfile_in(there).map(|_| ())
    }

    fn certificate(&self, cert: &Path, key: &Path) -> Result<(), String> {
        tls::identity(cert, key).map(|_| ()).map_err(|error| error.to_string())
    }

    fn authorities(&self, path: &Path) -> Result<(), String> {
        tls::authorities(path).map(|_| ()).map_err(|error| error.to_string())
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

/// A machine that has every file: checks what is written and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyMachine;

impl System for AnyMachine {
    fn exists(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(String::new())
    }
}
