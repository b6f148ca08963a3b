//! What the checker asks the machine about what a file names.

use std::{io, path::Path};

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
