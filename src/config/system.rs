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

    /// How many cores there are for `threads = 0`; never 0.
    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

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

    fn certificate(&self, cert: &Path, key: &Path) -> Result<(), String> {
        tls::identity(cert, key).map(|_| ()).map_err(|error| error.to_string())
    }

    fn authorities(&self, path: &Path) -> Result<(), String> {
        tls::authorities(path).map(|_| ()).map_err(|error| error.to_string())
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
}
