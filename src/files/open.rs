//! Opening a file that may be served: a regular one, and really where it should be.

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
    bulkhead::{Bulkhead, Busy, OpenFile},
    config::{Symlinks, Types},
    message::{Coding, http_date},
    response::FileIdentity,
};

/// Files up to this size are read at once; larger ones are sent by the kernel. (Measured: below it one read and
/// one write cost less than sendfile.)
pub(super) const SMALL: u64 = 32 * 1024;

/// Which file is wanted, and where it must be.
#[derive(Debug, Clone, Eq)]
pub struct Wanted {
    /// Paths to try, in order.
    pub candidates: Vec<PathBuf>,
    /// The directories one of which must hold it; empty means anywhere.
    pub within: Vec<PathBuf>,
    /// Which symlinks may be on the way.
    pub symlinks: Symlinks,
    /// In which codings files beside it hold its content, by preference.
    pub precompressed: Arc<[Coding]>,
    /// Types of content beside the common ones.
    pub types: Types,
}

// Paths are the same if their bytes are; to take them apart would cost more than all the rest of finding an open file.

impl PartialEq for Wanted {
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

impl Hash for Wanted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The rest of what is wanted of a path is nearly always the same.
        for candidate in &self.candidates {
            state.write(candidate.as_os_str().as_bytes());
        }
    }
}

impl Wanted {
    /// This file, wherever it is.
    pub fn file(path: PathBuf) -> Self {
        let (within, symlinks) = (Vec::new(), Symlinks::Follow);
        let (precompressed, types) = (Arc::default(), Arc::default());
        Self { candidates: vec![path], within, symlinks, precompressed, types }
    }

    /// The bulkhead for one of the paths.
    pub fn bulkhead(&self, path: &Path) -> Arc<Bulkhead> {
        let root = self.within.iter().find(|root| path.starts_with(root)).or(self.within.first());
        Bulkhead::of(root.map_or(Path::new("/"), PathBuf::as_path), path)
    }

    /// The candidates that follow each other and have the same bulkhead, in their order. Nearly always these are all.
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
    /// The first of `candidates` that is there, within these directories.
    pub fn first_of(candidates: Vec<PathBuf>, within: Vec<PathBuf>) -> Self {
        Self { candidates, within, symlinks: Symlinks::Inside, ..Self::file(PathBuf::new()) }
    }
}

/// An open file, ready to be sent.
#[derive(Debug)]
pub struct Opened {
    /// The path it was found by.
    pub path: PathBuf,
    /// Its size in bytes when it was opened.
    pub size: u64,
    /// Which version of which file it is.
    identity: FileIdentity,
    /// The same where it stands for what was read; not of a file that may change within the same tick of a clock.
    pub settled: Option<Arc<FileIdentity>>,
    /// Its own validators.
    pub validators: Validators,
    /// `Last-Modified` as it is written.
    pub last_modified: Option<HeaderValue>,
    /// The type of its content, by its name.
    pub content_type: HeaderValue,
    /// The file.
    pub file: Arc<OpenFile>,
    /// All of it, if it is small.
    pub bytes: Option<Bytes>,
    /// Its content in other codings.
    pub variants: Vec<(Coding, Opened)>,
}

/// Why there is nothing to send. To the client each of them is 404, so that nobody learns what exists; those an
/// operator must know are logged.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// There is no such file, or it is a directory, a device, a socket.
    #[error("no such file: {}", .0.display())]
    NotFound(PathBuf),
    /// It is a directory.
    #[error("{} is a directory", .0.display())]
    Directory(PathBuf),
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
    /// Its file system does not answer.
    #[error("cannot open {}: {busy}", path.display())]
    Busy {
        /// As asked for.
        path: PathBuf,
        /// Why.
        busy: Busy,
    },
}

fn list(directories: &[PathBuf]) -> String {
    directories.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl Missing {
    /// Whether an operator should see it: a permission or a limit that keeps back a file that exists.
    pub fn is_remarkable(&self) -> bool {
        // That a file system does not answer is logged once, and not for each request.
        !matches!(self, Self::NotFound(_) | Self::Directory(_) | Self::Busy { .. })
    }

    /// Whether the file may be there and only the system cannot open it now (no descriptors, a broken disk).
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
pub fn open(wanted: &Wanted, bulkhead: &Arc<Bulkhead>) -> Result<Opened, Missing> {
    first(wanted, |path, wanted| open_one(path, wanted, bulkhead))
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
    first(wanted, locate_one)
}

/// What becomes of the first candidate that exists.
fn first<T>(wanted: &Wanted, try_one: impl Fn(&Path, &Wanted) -> Result<T, Missing>) -> Result<T, Missing> {
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

/// Whether the system says that a name is none of a file that could be sent. All of it can come of what a client asks for,
/// and of links in a directory that others may write to.
pub(super) fn names_no_file(error: &io::Error) -> bool {
    let is_of_the_name = |error| {
        matches!(
            error,
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::NAMETOOLONG
                // A link that leads to itself, or too many.
                | Errno::LOOP
                // A NUL, and characters that the file system does not have.
                | Errno::INVAL
                | Errno::ILSEQ
                // Sockets, and devices of which there is none.
                | Errno::NXIO
                | Errno::NODEV
                | Errno::OPNOTSUPP
        )
    };
    // The standard library refuses a NUL by itself, without a number.
    error.kind() == io::ErrorKind::InvalidInput || Errno::from_io_error(error).is_some_and(is_of_the_name)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Missing {
    move |source| match names_no_file(&source) {
        true => Missing::NotFound(path.into()),
        false => Missing::Unreadable { path: path.into(), source },
    }
}

fn locate_one(path: &Path, wanted: &Wanted) -> Result<Located, Missing> {
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

fn open_one(path: &Path, wanted: &Wanted, bulkhead: &Arc<Bulkhead>) -> Result<Opened, Missing> {
    let mut opened = open_file(path, wanted, bulkhead)?;
    opened.variants = variants(&opened, wanted);
    Ok(opened)
}

fn open_file(path: &Path, wanted: &Wanted, bulkhead: &Arc<Bulkhead>) -> Result<Opened, Missing> {
    let Located { path, mut file, metadata } = locate_one(path, wanted)?;
    if metadata.is_dir() {
        return Err(Missing::Directory(path));
    }
    // Asked before it is read.
    let is_fresh = FileIdentity::of(&metadata).is_fresh();
    let mut bytes = None;
    if metadata.len() <= SMALL {
        let mut read = Vec::with_capacity(metadata.len() as usize);
        (&mut file).take(SMALL).read_to_end(&mut read).map_err(failed(&path))?;
        bytes = Some(Bytes::from(read));
    } else if bulkhead.is_under_pressure() {
        // A file system may open a file from what it knows and hang when it is read. Found out now, that is a 503.
        file.read_at(&mut [0], 0).map_err(failed(&path))?;
    }
    // What was read is what is sent, even when the file grows meanwhile.
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
    /// Whether the file and its variants are still there as they were opened. Does not wait for a disk or a server of
    /// files: what the kernel knows of an open file is enough.
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

/// The same content in other codings, where files with it lie beside this one and are not older.
fn variants(original: &Opened, wanted: &Wanted) -> Vec<(Coding, Opened)> {
    let beside = |coding: Coding| {
        let mut name = original.path.clone().into_os_string();
        name.push(coding.suffix());
        // Whatever keeps it from being sent, the original is there.
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

/// Whether a time can be written as a date of HTTP: some file systems and archives hold others.
pub(super) fn is_http_date(time: SystemTime) -> bool {
    const YEAR_10000: u64 = 253_402_300_800;
    time.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since.as_secs() < YEAR_10000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn anywhere(candidates: Vec<PathBuf>) -> Wanted {
        Wanted::first_of(candidates, Vec::new())
    }

    fn open_any(wanted: &Wanted) -> Result<Opened, Missing> {
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
        open_any(&Wanted { within, precompressed: Coding::ALL.into(), ..anywhere(vec![at(path)]) })
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
