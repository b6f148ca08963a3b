//! Queries of the configuration checker about the files that a configuration names.

use std::{
    io,
    path::{Path, PathBuf},
};

/// The machine that a configuration is checked against.
pub trait System {
    /// Checks that `path` exists, following symlinks.
    ///
    /// # Errors
    ///
    /// The system's error when it does not exist or cannot be accessed.
    fn exists(&self, path: &Path) -> io::Result<()>;

    /// Checks that `path` is a directory, following symlinks.
    ///
    /// # Errors
    ///
    /// The errors of [`System::exists`], and [`io::ErrorKind::NotADirectory`].
    fn directory(&self, path: &Path) -> io::Result<()>;

    /// Checks that files can be written into the directory at `path`, which is created if missing.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn writable(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }

    /// Checks that the certificate at `cert` and the key at `key` can be used together.
    ///
    /// # Errors
    ///
    /// The reason as a sentence.
    fn certificate(&self, cert: &Path, key: &Path) -> Result<(), String> {
        let _ = (cert, key);
        Ok(())
    }

    /// Checks that the CA certificates at `path` can be used.
    ///
    /// # Errors
    ///
    /// The reason as a sentence.
    fn authorities(&self, path: &Path) -> Result<(), String> {
        let _ = path;
        Ok(())
    }

    /// Reads the text file at `path`.
    ///
    /// # Errors
    ///
    /// The errors of [`System::exists`], and [`io::ErrorKind::InvalidData`] when the file is not text, or far too long.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The files that a pattern with wildcards matches, in the order of their names.
    ///
    /// # Errors
    ///
    /// The pattern is invalid, or a directory cannot be searched.
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let _ = pattern;
        Ok(Vec::new())
    }

    /// Number of cores, for `threads = 0`; never 0.
    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// A machine where every file exists: checks the text of the configuration only.
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
