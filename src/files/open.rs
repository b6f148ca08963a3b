//! Opening a file that may be served: a regular one, and really (symlinks followed) where it should be.
//!
//! What is checked is the open file, by its path in `/proc/self/fd`, so nothing can change in between.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::HeaderValue;
use rustix::fs::OFlags;

use super::conditional::Validators;

/// Files up to this size are read at once; larger ones are sent by the kernel. (Measured: below it one read and
/// one write cost less than sendfile.)
pub(super) const SMALL: u64 = 32 * 1024;

/// Which file is wanted, and where it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Paths to try, in order.
    pub candidates: Vec<PathBuf>,
    /// The directories one of which must hold it; empty means anywhere.
    pub within: Vec<PathBuf>,
}

/// An open file, ready to be sent.
#[derive(Debug)]
pub struct Opened {
    /// The path it was found by.
    pub path: PathBuf,
    /// Its size in bytes when it was opened.
    pub size: u64,
    /// Its own validators.
    pub validators: Validators,
    /// Its content.
    pub content: Content,
}

/// The content of an open file.
#[derive(Debug)]
pub enum Content {
    /// All of it, read.
    Read(Bytes),
    /// The file.
    File(Arc<File>),
}

/// Why there is nothing to send. To the client each of them is 404, so that nobody learns what exists; those an
/// operator must know are logged.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// There is no such file, or it is a directory, a device, a socket.
    #[error("no such file: {}", .0.display())]
    NotFound(PathBuf),
    /// It is there, and outside of where it may be.
    #[error("{} is really {}, which is outside of {}", path.display(), real.display(), list(within))]
    Outside {
        /// As asked for.
        path: PathBuf,
        /// Symlinks followed.
        real: PathBuf,
        /// Where it should have been.
        within: Vec<PathBuf>,
    },
    /// The system would not open it.
    #[error("cannot open {}: {source}", path.display())]
    Unreadable {
        /// As asked for.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

fn list(directories: &[PathBuf]) -> String {
    directories.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Missing {
    /// Whether an operator should see it: a permission or a limit that keeps back a file that exists.
    pub fn is_remarkable(&self) -> bool {
        !matches!(self, Self::NotFound(_))
    }

    /// Whether the file may be there and only the system cannot open it now (no descriptors, a broken disk).
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() != io::ErrorKind::PermissionDenied)
    }
}

/// Opens the first candidate that exists. Blocks on the file system: not for the event loop.
///
/// # Errors
///
/// See [`Missing`].
pub fn open(wanted: &Wanted) -> Result<Opened, Missing> {
    first(wanted, open_one)
}

/// A file, or a directory, that is open and where it may be.
#[derive(Debug)]
pub struct Located {
    /// The path it was found by.
    pub path: PathBuf,
    /// It, open for reading.
    pub file: File,
    /// What the system says of it.
    pub metadata: fs::Metadata,
}

/// Opens the first candidate that exists, a directory among them. Blocks on the file system.
///
/// # Errors
///
/// See [`Missing`].
pub fn locate(wanted: &Wanted) -> Result<Located, Missing> {
    first(wanted, |path, within| locate_one(path, within, |metadata| metadata.is_file() || metadata.is_dir()))
}

/// What becomes of the first candidate that exists.
fn first<T>(
    wanted: &Wanted,
    try_one: impl Fn(&Path, &[PathBuf]) -> Result<T, Missing>,
) -> Result<T, Missing> {
    let mut missing = Missing::NotFound(wanted.candidates.first().cloned().unwrap_or_default());
    for path in &wanted.candidates {
        match try_one(path, &wanted.within) {
            Err(Missing::NotFound(_)) => {}
            Err(other) => missing = other,
            found => return found,
        }
    }
    Err(missing)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Missing {
    use io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound};
    move |source| match source.kind() {
        NotFound | NotADirectory | IsADirectory | InvalidFilename | InvalidInput => {
            Missing::NotFound(path.into())
        }
        _ => Missing::Unreadable { path: path.into(), source },
    }
}

fn locate_one(
    path: &Path,
    within: &[PathBuf],
    is_wanted: fn(&fs::Metadata) -> bool,
) -> Result<Located, Missing> {
    // A pipe or device would otherwise be waited for or changed by opening it.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    if !is_wanted(&metadata) {
        return Err(Missing::NotFound(path.into()));
    }
    if !within.is_empty() {
        let real = real_path(file.as_raw_fd()).map_err(failed(path))?;
        if !within.iter().any(|directory| holds(directory, &real)) {
            return Err(Missing::Outside { path: path.into(), real, within: within.into() });
        }
    }
    Ok(Located { path: path.into(), file, metadata })
}

fn open_one(path: &Path, within: &[PathBuf]) -> Result<Opened, Missing> {
    let Located { path, mut file, metadata } = locate_one(path, within, fs::Metadata::is_file)?;
    let content = if metadata.len() <= SMALL {
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        (&mut file).take(SMALL).read_to_end(&mut bytes).map_err(failed(&path))?;
        Content::Read(bytes.into())
    } else {
        Content::File(Arc::new(file))
    };
    // What was read is what is sent, even when the file grows meanwhile.
    let size = match &content {
        Content::Read(bytes) => bytes.len() as u64,
        Content::File(_) => metadata.len(),
    };
    Ok(Opened { path, size, validators: validators(&metadata, size), content })
}

/// Strong: it changes with every write that the file system can tell apart (RFC 9110 §8.8.1).
fn validators(metadata: &fs::Metadata, size: u64) -> Validators {
    let nanoseconds = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Validators {
        etag: HeaderValue::from_str(&format!("\"{nanoseconds:x}-{size:x}\"")).ok(),
        modified: metadata.modified().ok().filter(|time| is_http_date(*time)),
    }
}

/// Whether a time can be written as a date of HTTP: some file systems and archives hold others.
fn is_http_date(time: SystemTime) -> bool {
    const YEAR_10000: u64 = 253_402_300_800;
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.as_secs() < YEAR_10000)
}

/// Whether `real`, which has no symlinks left, is `directory` or beneath it.
fn holds(directory: &Path, real: &Path) -> bool {
    let opened =
        OpenOptions::new().read(true).custom_flags(OFlags::PATH.bits().cast_signed()).open(directory);
    opened
        .and_then(|directory| real_path(directory.as_raw_fd()))
        .is_ok_and(|directory| real.starts_with(directory))
}

fn real_path(fd: RawFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{fd}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        fs::create_dir_all(at("root/sub")).unwrap();
        fs::create_dir(at("other")).unwrap();
        fs::write(at("root/a.txt"), "small").unwrap();
        fs::write(at("root/big"), vec![7; 100_000]).unwrap();
        fs::write(at("other/secret"), "secret").unwrap();
        symlink(at("other/secret"), at("root/out")).unwrap();
        symlink(at("root/a.txt"), at("root/sub/in")).unwrap();
        symlink(at("root"), at("link")).unwrap();
        tree
    }

    fn open_in(tree: &tempfile::TempDir, path: &str, within: &[&str]) -> Result<Opened, Missing> {
        let at = |name: &str| tree.path().join(name);
        let within = within.iter().map(|directory| at(directory)).collect();
        open(&Wanted { candidates: vec![at(path)], within })
    }

    #[test]
    fn small_files_are_read_and_large_ones_kept_open() {
        let tree = tree();
        let small = open_in(&tree, "root/a.txt", &["root"]).unwrap();
        assert!(matches!(small.content, Content::Read(bytes) if bytes == "small"));
        let big = open_in(&tree, "root/big", &["root"]).unwrap();
        assert_eq!(big.size, 100_000);
        assert!(matches!(big.content, Content::File(_)));
    }

    #[test]
    fn symlinks_may_stay_inside_and_not_leave() {
        let tree = tree();
        assert!(open_in(&tree, "root/sub/in", &["root"]).is_ok());
        assert!(open_in(&tree, "link/a.txt", &["link"]).is_ok(), "the root itself may be a symlink");
        assert!(matches!(open_in(&tree, "root/out", &["root"]), Err(Missing::Outside { .. })));
        assert!(open_in(&tree, "root/out", &["root", "other"]).is_ok());
        assert!(open_in(&tree, "root/out", &[]).is_ok());
        assert!(matches!(open_in(&tree, "root/../other/secret", &["root"]), Err(Missing::Outside { .. })));
    }

    #[test]
    fn only_regular_files_are_files() {
        let tree = tree();
        for path in ["root", "root/nothing", "root/a.txt/x", "root/nul\0byte"] {
            assert!(matches!(open_in(&tree, path, &[]), Err(Missing::NotFound(_))), "{path:?}");
        }
        let device = Wanted { candidates: vec!["/dev/zero".into()], within: vec![] };
        assert!(matches!(open(&device), Err(Missing::NotFound(_))));
    }

    #[test]
    fn candidates_are_tried_in_order() {
        let tree = tree();
        let candidates =
            ["root/nothing", "root/a.txt", "root/big"].map(|name| tree.path().join(name)).to_vec();
        let opened = open(&Wanted { candidates, within: vec![] }).unwrap();
        assert!(opened.path.ends_with("root/a.txt"));
    }
}
