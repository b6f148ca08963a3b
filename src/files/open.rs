//! Opening a file that may be served: a regular file that really lies where it should.

use std::{
    fs::{self, File},
    hash::{Hash, Hasher},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::HeaderValue;
use rustix::{
    fs::{AtFlags, StatxFlags, statx},
    io::Errno,
};

use super::{
    beneath::{self, RefusedPath},
    conditional::Validators,
    types,
};
use crate::{
    bulkhead::{Bulkhead, BulkheadFull, OpenFile},
    config::{Symlinks, Types},
    message::{Coding, http_date},
    response::FileIdentity,
};

/// Largest file that is read at once; larger ones are sent by the kernel. (Measured: below this, one read and one
/// write cost less than sendfile.)
pub(super) const SMALL: u64 = 32 * 1024;

/// A requested file, and the directories in which it must lie.
#[derive(Debug, Clone, Eq)]
pub struct FileRequest {
    /// Paths to try, in order.
    pub candidates: Vec<PathBuf>,
    /// Directories one of which must contain the file; empty allows any.
    pub within: Vec<PathBuf>,
    /// Symlinks that may be followed.
    pub symlinks: Symlinks,
    /// Content codings of precompressed files next to it, by preference.
    pub precompressed: Arc<[Coding]>,
    /// Content types in addition to the common ones.
    pub types: Types,
}

// Paths are equal if their bytes are; comparing components would cost more than all the rest of finding an open file.

impl PartialEq for FileRequest {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |paths: &[PathBuf], others: &[PathBuf]| {
            paths.len() == others.len()
                && paths.iter().zip(others).all(|(path, other)| path.as_os_str() == other.as_os_str())
        };
        bytes(&self.candidates, &other.candidates)
            && bytes(&self.within, &other.within)
            && self.symlinks == other.symlinks
            && self.precompressed == other.precompressed
            && (Arc::ptr_eq(&self.types, &other.types) || self.types == other.types)
    }
}

impl Hash for FileRequest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The other fields are nearly always the same for one path.
        for candidate in &self.candidates {
            state.write(candidate.as_os_str().as_bytes());
        }
    }
}

impl FileRequest {
    /// File at `path`, wherever it lies.
    pub fn file(path: PathBuf) -> Self {
        let (within, symlinks) = (Vec::new(), Symlinks::Follow);
        let (precompressed, types) = (Arc::default(), Arc::default());
        Self { candidates: vec![path], within, symlinks, precompressed, types }
    }

    /// Bulkhead for one of the paths.
    pub fn bulkhead(&self, path: &Path) -> Arc<Bulkhead> {
        let root = self.within.iter().find(|root| path.starts_with(root)).or(self.within.first());
        Bulkhead::of(root.map_or(Path::new("/"), PathBuf::as_path), path)
    }

    /// Groups consecutive candidates of the same bulkhead, in order. Nearly always there is one group.
    pub fn parts(&self) -> Vec<(Arc<Bulkhead>, Self)> {
        let mut parts: Vec<(Arc<Bulkhead>, Self)> = Vec::with_capacity(1);
        for path in &self.candidates {
            let bulkhead = self.bulkhead(path);
            match parts.last_mut() {
                Some((last, part)) if Arc::ptr_eq(last, &bulkhead) => part.candidates.push(path.clone()),
                _ => parts.push((bulkhead, Self { candidates: vec![path.clone()], ..self.clone() })),
            }
        }
        parts
    }

    #[cfg(test)]
    /// First of `candidates` that exists, within these directories.
    pub fn first_of(candidates: Vec<PathBuf>, within: Vec<PathBuf>) -> Self {
        Self { candidates, within, symlinks: Symlinks::Inside, ..Self::file(PathBuf::new()) }
    }
}

/// An open file, ready to be sent.
#[derive(Debug)]
pub struct Opened {
    /// Path at which it was found.
    pub path: PathBuf,
    /// Size in bytes when it was opened.
    pub size: u64,
    /// Identity and version of the file.
    identity: FileIdentity,
    /// Identity if it stands for the content that was read; `None` for a file that may change within the same clock
    /// tick.
    pub settled: Option<Arc<FileIdentity>>,
    /// Validators of the file.
    pub validators: Validators,
    /// `Last-Modified` as a header value.
    pub last_modified: Option<HeaderValue>,
    /// Content type, derived from the name.
    pub content_type: HeaderValue,
    /// Open file.
    pub file: Arc<OpenFile>,
    /// Content, if the file is small.
    pub bytes: Option<Bytes>,
    /// Same content in other codings.
    pub variants: Vec<(Coding, Opened)>,
}

/// Reason why there is nothing to send. The client gets 404 for each of them, so as not to disclose which files
/// exist; those that an operator must know about are logged.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The file does not exist, or is a directory, a device or a socket.
    #[error("no such file: {}", .0.display())]
    NotFound(PathBuf),
    /// The path is a directory.
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
    /// The file exists, and lies outside of the allowed directories.
    #[error("{} resolves to {}, which is outside of {}", path.display(), real.display(), list(within))]
    Outside {
        /// Path as requested.
        path: PathBuf,
        /// Path with symlinks resolved.
        real: PathBuf,
        /// Allowed directories.
        within: Vec<PathBuf>,
    },
    /// The system cannot open the file.
    #[error("cannot open {}: {source}", path.display())]
    Unreadable {
        /// Path as requested.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file system does not respond.
    #[error("cannot open {}: {busy}", path.display())]
    Busy {
        /// Path as requested.
        path: PathBuf,
        /// Reason.
        busy: BulkheadFull,
    },
}

fn list(directories: &[PathBuf]) -> String {
    directories.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Missing {
    /// Whether to log it for an operator: a permission or a limit blocks a file that exists.
    pub fn is_remarkable(&self) -> bool {
        // A file system that does not respond is logged once, and not for each request.
        !matches!(self, Self::NotFound(_) | Self::Directory(_) | Self::Busy { .. })
    }

    /// Whether the file may exist and only cannot be opened now (no descriptors, a broken disk).
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() != io::ErrorKind::PermissionDenied)
    }
}

/// Opens the first candidate that exists, with a permit of the bulkhead. Blocks on the file system: not for the event
/// loop.
///
/// # Errors
///
/// See [`Missing`].
pub fn open(wanted: &FileRequest, bulkhead: &Arc<Bulkhead>) -> Result<Opened, Missing> {
    first(wanted, |path, wanted| open_one(path, wanted, bulkhead))
}

/// An open file or directory in an allowed place.
#[derive(Debug)]
pub struct Located {
    /// Path at which it was found.
    pub path: PathBuf,
    /// File, open for reading.
    pub file: File,
    /// Metadata of the file.
    pub metadata: fs::Metadata,
}

/// Opens the first candidate that exists, which may be a directory. Blocks on the file system.
///
/// # Errors
///
/// See [`Missing`].
pub fn locate(wanted: &FileRequest) -> Result<Located, Missing> {
    first(wanted, locate_one)
}

/// Applies `try_one` to the first candidate that exists.
fn first<T>(
    wanted: &FileRequest,
    try_one: impl Fn(&Path, &FileRequest) -> Result<T, Missing>,
) -> Result<T, Missing> {
    let mut missing = Missing::NotFound(wanted.candidates.first().cloned().unwrap_or_default());
    for path in &wanted.candidates {
        match try_one(path, wanted) {
            Err(Missing::NotFound(_)) => {}
            Err(other) => missing = other,
            found => return found,
        }
    }
    Err(missing)
}

/// Whether the error means that the path names no file that could be sent. Each of these can result from a client's
/// request, or from symlinks in a directory that others may write to.
pub(super) fn names_no_file(error: &io::Error) -> bool {
    let is_of_the_name = |error| {
        matches!(
            error,
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::NAMETOOLONG
                // A symlink to itself, or too many symlinks.
                | Errno::LOOP
                // A NUL, or characters that the file system does not support.
                | Errno::INVAL
                | Errno::ILSEQ
                // Sockets, and devices that do not exist.
                | Errno::NXIO
                | Errno::NODEV
                | Errno::OPNOTSUPP
        )
    };
    // The standard library itself refuses a NUL, without an errno.
    error.kind() == io::ErrorKind::InvalidInput || Errno::from_io_error(error).is_some_and(is_of_the_name)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Missing {
    move |source| match names_no_file(&source) {
        true => Missing::NotFound(path.into()),
        false => Missing::Unreadable { path: path.into(), source },
    }
}

fn locate_one(path: &Path, wanted: &FileRequest) -> Result<Located, Missing> {
    let file = beneath::open(path, &wanted.within, wanted.symlinks).map_err(|refused| match refused {
        RefusedPath::System(error) => failed(path)(error),
        RefusedPath::Outside(real) => {
            Missing::Outside { path: path.into(), real, within: wanted.within.clone() }
        }
    })?;
    let metadata = file.metadata().map_err(failed(path))?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(Missing::NotFound(path.into()));
    }
    Ok(Located { path: path.into(), file, metadata })
}

fn open_one(path: &Path, wanted: &FileRequest, bulkhead: &Arc<Bulkhead>) -> Result<Opened, Missing> {
    let mut opened = open_file(path, wanted, bulkhead)?;
    opened.variants = variants(&opened, wanted);
    Ok(opened)
}

fn open_file(path: &Path, wanted: &FileRequest, bulkhead: &Arc<Bulkhead>) -> Result<Opened, Missing> {
    let Located { path, mut file, metadata } = locate_one(path, wanted)?;
    if metadata.is_dir() {
        return Err(Missing::Directory(path));
    }
    // Checked before the file is read.
    let is_fresh = FileIdentity::of(&metadata).is_fresh();
    let mut bytes = None;
    if metadata.len() <= SMALL {
        let mut read = Vec::with_capacity(metadata.len() as usize);
        (&mut file).take(SMALL).read_to_end(&mut read).map_err(failed(&path))?;
        bytes = Some(Bytes::from(read));
    } else if bulkhead.is_under_pressure() {
        // A file system may open a file from its cache and hang on the first read. Finding out now allows a 503.
        file.read_at(&mut [0], 0).map_err(failed(&path))?;
    }
    // Send exactly what was read, even if the file grows meanwhile.
    let size = bytes.as_ref().map_or(metadata.len(), |bytes| bytes.len() as u64);
    let mut identity = FileIdentity::of(&metadata);
    identity.size = size;
    let validators = Validators {
        etag: identity.etag(),
        modified: metadata.modified().ok().filter(|time| is_http_date(*time)),
    };
    let settled = (!is_fresh).then(|| Arc::new(identity));
    let content_type = types::content_type(&path, &wanted.types);
    let file = Arc::new(OpenFile::new(file, metadata.dev(), Arc::clone(bulkhead)));
    let last_modified = validators.modified.map(http_date);
    let variants = Vec::new();
    Ok(Opened {
        path,
        size,
        identity,
        settled,
        validators,
        last_modified,
        content_type,
        file,
        bytes,
        variants,
    })
}

impl Opened {
    /// Whether the file and its variants are unchanged since they were opened. Does not wait for a disk or a file
    /// server: the kernel's metadata of an open file is enough.
    pub fn is_unchanged(&self) -> bool {
        let flags = AtFlags::EMPTY_PATH.union(AtFlags::STATX_DONT_SYNC);
        let wanted = StatxFlags::BASIC_STATS;
        let now = self.file.get().and_then(|file| Ok(statx(file, "", flags, wanted)?));
        let same = now.is_ok_and(|now| {
            now.stx_nlink > 0 && FileIdentity::of_statx(&now, self.identity.device()) == self.identity
        });
        same && self.variants.iter().all(|(_, variant)| variant.is_unchanged())
    }
}

/// Variants of the file in other codings: precompressed files next to it that are not older.
fn variants(original: &Opened, wanted: &FileRequest) -> Vec<(Coding, Opened)> {
    let beside = |coding: Coding| {
        let mut name = original.path.clone().into_os_string();
        name.push(coding.suffix());
        // A variant that cannot be sent is ignored: the original is there.
        let mut variant = open_file(Path::new(&name), wanted, original.file.bulkhead())
            .ok()
            .filter(|variant| variant.identity.modified() >= original.identity.modified())?;
        let etag = variant.validators.etag.as_ref().and_then(|etag| etag.to_str().ok());
        let etag = etag.map(|etag| format!("{}-{}\"", etag.trim_end_matches('"'), coding.name()));
        variant.validators.etag = etag.and_then(|etag| HeaderValue::try_from(etag).ok());
        Some((coding, variant))
    };
    wanted.precompressed.iter().copied().filter_map(beside).collect()
}

/// Whether a time can be written as an HTTP date: some file systems and archives have others.
pub(super) fn is_http_date(time: SystemTime) -> bool {
    const YEAR_10000: u64 = 253_402_300_800;
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.as_secs() < YEAR_10000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn anywhere(candidates: Vec<PathBuf>) -> FileRequest {
        FileRequest::first_of(candidates, Vec::new())
    }

    fn open_any(wanted: &FileRequest) -> Result<Opened, Missing> {
        open(wanted, &wanted.bulkhead(&wanted.candidates[0]))
    }

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
        open_any(&FileRequest { within, precompressed: Coding::ALL.into(), ..anywhere(vec![at(path)]) })
    }

    #[test]
    fn small_files_are_read_and_large_ones_kept_open() {
        let tree = tree();
        let small = open_in(&tree, "root/a.txt", &["root"]).unwrap();
        assert_eq!(small.bytes.unwrap(), "small");
        let big = open_in(&tree, "root/big", &["root"]).unwrap();
        assert_eq!(big.size, 100_000);
        assert_eq!(big.bytes, None);
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
        assert!(matches!(open_in(&tree, "root", &[]), Err(Missing::Directory(_))));
        for path in ["root/nothing", "root/a.txt/x", "root/nul\0byte"] {
            assert!(matches!(open_in(&tree, path, &[]), Err(Missing::NotFound(_))), "{path:?}");
        }
        symlink("round", tree.path().join("root/round")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("root/socket")).unwrap();
        let long = format!("root/{}", "x".repeat(300));
        for path in ["root/round", "root/round/a", "root/socket", &long] {
            for within in [&["root"][..], &[]] {
                assert!(matches!(open_in(&tree, path, within), Err(Missing::NotFound(_))), "{path:?}");
            }
        }
        let device = anywhere(vec!["/dev/zero".into()]);
        assert!(matches!(open_any(&device), Err(Missing::NotFound(_))));
    }

    #[test]
    fn candidates_are_tried_in_order() {
        let tree = tree();
        let candidates =
            ["root/nothing", "root/a.txt", "root/big"].map(|name| tree.path().join(name)).to_vec();
        let opened = open_any(&anywhere(candidates)).unwrap();
        assert!(opened.path.ends_with("root/a.txt"));
    }

    #[test]
    fn neighbours_that_are_not_older_hold_the_content_in_other_codings() {
        let tree = tree();
        let write = |name: &str, seconds: u64| {
            let file = File::create(tree.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        write("root/a.js", 1000);
        write("root/a.js.br", 999);
        write("root/a.js.zst", 1000);
        write("root/a.js.gz", 1001);
        let opened = open_in(&tree, "root/a.js", &["root"]).unwrap();
        let codings: Vec<_> = opened.variants.iter().map(|(coding, _)| *coding).collect();
        assert_eq!(codings, [Coding::Zstd, Coding::Gzip]);
        let etags: std::collections::HashSet<_> =
            opened.variants.iter().map(|(_, one)| one.validators.etag.clone()).collect();
        assert_eq!(etags.len(), 2);
        assert!(!etags.contains(&opened.validators.etag));
    }

    #[test]
    fn a_change_is_seen_on_the_open_file() {
        let tree = tree();
        let path = tree.path().join("root/a.txt");
        let open = || open_in(&tree, "root/a.txt", &["root"]).unwrap();
        let before = open();
        assert!(before.is_unchanged());
        fs::write(&path, "larger than before").unwrap();
        assert!(!before.is_unchanged(), "written to");
        let before = open();
        fs::write(tree.path().join("new"), "larger than before").unwrap();
        fs::rename(tree.path().join("new"), &path).unwrap();
        assert!(!before.is_unchanged(), "replaced");
        let before = open();
        fs::remove_file(&path).unwrap();
        assert!(!before.is_unchanged(), "removed");
    }
}
