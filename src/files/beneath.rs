//! Opens a path that must lie beneath one of several directories, whatever symlinks it contains.
//!
//! With openat2(2), the kernel refuses paths that leave the directory. A symlink that it refuses may still lead back
//! inside (an absolute one does): the file is then opened, and its real path is checked in `/proc/self/fd`. In both
//! cases the file that is checked is the file that is sent, so nothing can change in between.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use crate::config::Symlinks;

/// Reason why a file is not opened.
#[derive(Debug)]
pub(super) enum RefusedPath {
    /// Error of the system.
    System(io::Error),
    /// The real path lies outside of the allowed directories.
    Outside(PathBuf),
}

impl From<io::Error> for RefusedPath {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Flags that keep opening a pipe or device from blocking or changing it.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Opens `path` if it lies in one of `within`, or anywhere if that is empty. Blocks.
pub(super) fn open(path: &Path, within: &[PathBuf], symlinks: Symlinks) -> Result<File, RefusedPath> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        // A trailing slash names a directory; splitting the path below would lose it.
        return Err(io::Error::from(Errno::NOTDIR).into());
    }
    let root = within.iter().find_map(|root| Some((root, path.strip_prefix(root).ok()?)));
    match (root, symlinks) {
        _ if within.is_empty() => Ok(plain(path)?),
        (Some(_), Symlinks::Follow) => Ok(plain(path)?),
        (None, Symlinks::Follow | Symlinks::None) => Err(RefusedPath::Outside(path.into())),
        (Some((root, rest)), Symlinks::None) => open_without_symlinks(root, rest),
        (Some((root, rest)), Symlinks::Inside) => match open_beneath(root, rest, ResolveFlags::empty()) {
            Ok(file) => Ok(file),
            Err(Errno::NOENT) => Err(io::Error::from(Errno::NOENT).into()),
            Err(_) => open_checked(path, within),
        },
        (None, Symlinks::Inside) => open_checked(path, within),
    }
}

fn plain(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
}

/// Opens `rest` without leaving `root`, which may be a symlink itself.
fn open_beneath(root: &Path, rest: &Path, more: ResolveFlags) -> Result<File, Errno> {
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    let root = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | more;
    openat2(&root, rest, FLAGS, Mode::empty(), resolve).map(File::from)
}

/// Opens `path`, then checks its real path.
fn open_checked(path: &Path, within: &[PathBuf]) -> Result<File, RefusedPath> {
    let file = plain(path)?;
    let real = real_path(file.as_raw_fd())?;
    if within.iter().any(|directory| contains(directory, &real)) {
        Ok(file)
    } else {
        Err(RefusedPath::Outside(real))
    }
}

/// Opens `rest` beneath `root` without following any symlink.
fn open_without_symlinks(root: &Path, rest: &Path) -> Result<File, RefusedPath> {
    match open_beneath(root, rest, ResolveFlags::NO_SYMLINKS) {
        Ok(file) => return Ok(file),
        Err(Errno::LOOP) => return Err(RefusedPath::Outside(root.join(rest))),
        // A kernel or a sandbox without openat2.
        Err(Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => {}
        Err(error) => return Err(io::Error::from(error).into()),
    }
    let file = plain(&root.join(rest))?;
    let real = real_path(file.as_raw_fd())?;
    let expected = fs::canonicalize(root)?.join(rest);
    if real == expected { Ok(file) } else { Err(RefusedPath::Outside(real)) }
}

/// Whether `real`, which has no symlinks, is `directory` or beneath it.
fn contains(directory: &Path, real: &Path) -> bool {
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
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_policy_about_symlinks() {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        fs::create_dir_all(at("root/sub")).unwrap();
        fs::create_dir(at("other")).unwrap();
        fs::write(at("root/a"), "a").unwrap();
        fs::write(at("other/secret"), "secret").unwrap();
        symlink(at("root/a"), at("root/absolute")).unwrap();
        symlink("../a", at("root/sub/relative")).unwrap();
        symlink(at("other/secret"), at("root/out")).unwrap();
        symlink("../other/secret", at("root/out-relative")).unwrap();
        symlink(at("other"), at("root/elsewhere")).unwrap();
        symlink(at("root"), at("link")).unwrap();
        symlink("loop", at("root/loop")).unwrap();
        let may = |path: &str, root: &str, symlinks| open(&at(path), &[at(root)], symlinks).is_ok();
        for (path, inside, none, follow) in [
            ("root/a", true, true, true),
            ("root/absolute", true, false, true),
            ("root/sub/relative", true, false, true),
            ("root/out", false, false, true),
            ("root/out-relative", false, false, true),
            ("root/elsewhere/secret", false, false, true),
            ("root/loop", false, false, false),
            ("root/nothing", false, false, false),
            ("other/secret", false, false, false),
        ] {
            assert_eq!(may(path, "root", Symlinks::Inside), inside, "{path} inside");
            assert_eq!(may(path, "root", Symlinks::None), none, "{path} none");
            assert_eq!(may(path, "root", Symlinks::Follow), follow, "{path} follow");
        }
        assert!(may("link/a", "link", Symlinks::Inside), "the root itself may be a symlink");
        assert!(may("link/a", "link", Symlinks::None), "under every policy");
        assert!(may("link/a", "root", Symlinks::Inside), "where it really is counts");
        assert!(open(&at("other/secret"), &[], Symlinks::Inside).is_ok(), "without bounds anywhere");
        assert!(
            open(&at("root/out"), &[at("root"), at("other")], Symlinks::Inside).is_ok(),
            "one of several"
        );
    }
}
