//! Mounted file systems, from `/proc/self/mountinfo`: reading it accesses none of them.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{runtime::Handle, task::spawn_blocking, time::Instant};

/// Time for which the table is cached. (With an old table, a root that has just been mounted shares a bulkhead.)
const KEPT: Duration = Duration::from_secs(10);

/// File systems whose files are closed without waiting. Others may depend on servers or programs.
const LOCAL: [&str; 14] = [
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "squashfs",
    "tmpfs", "vfat", "xfs",
];

#[derive(Debug, Default)]
struct Mounts {
    points: HashSet<Arc<Path>>,
    /// Devices, and whether each is one of [`LOCAL`].
    devices: HashMap<u64, bool>,
    read: Option<Instant>,
}

static MOUNTS: LazyLock<ArcSwap<Mounts>> = LazyLock::new(ArcSwap::default);

static READING: AtomicBool = AtomicBool::new(false);

/// Mount point of a path, according to its name; symlinks are not followed.
pub(super) fn mount_point(path: &Path) -> Arc<Path> {
    let mounts = MOUNTS.load();
    if mounts.read.is_none_or(|read| read.elapsed() > KEPT) && Handle::try_current().is_ok() {
        refresh();
    }
    mounts.point_of(path)
}

/// Whether a device is a local disk, or memory.
pub(super) fn is_local(device: u64) -> bool {
    MOUNTS.load().devices.get(&device).copied().unwrap_or_default()
}

/// Reads the table again, unless another thread does.
fn refresh() {
    if READING.swap(true, Ordering::Relaxed) {
        return;
    }
    spawn_blocking(|| {
        // Without /proc, bulkheads are distinguished by roots alone.
        let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
        MOUNTS.store(Mounts { read: Some(Instant::now()), ..Mounts::parse(&text) }.into());
        READING.store(false, Ordering::Relaxed);
    });
}

impl Mounts {
    /// Parses lines of `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw` (proc_pid_mountinfo(5)).
    fn parse(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let mut words = line.split(|byte| *byte == b' ');
            let (Some(device), Some(point)) = (words.nth(2), words.nth(1)) else { continue };
            let kind = words.skip_while(|word| *word != b"-").nth(1).unwrap_or_default();
            mounts.points.insert(unescape(point).into());
            if let Some(device) = device_number(device) {
                let is_local = LOCAL.iter().any(|local| local.as_bytes() == kind);
                mounts.devices.insert(device, is_local);
            }
        }
        mounts
    }

    fn point_of(&self, path: &Path) -> Arc<Path> {
        let point = path.ancestors().find_map(|above| self.points.get(above)).map(Arc::clone);
        point.unwrap_or_else(|| Path::new("").into())
    }
}

fn device_number(text: &[u8]) -> Option<u64> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Decodes octal escapes of spaces, tabs, newlines and backslashes.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let digits =
            more.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
        40 22 0:45 / /data rw,relatime shared:7 - nfs4 server:/data rw,vers=4.2\n\
        41 40 0:46 / /data/with\\040space rw - fuse.sshfs host: rw\nnonsense\n";

    #[test]
    fn paths_are_of_the_deepest_mount_point_above_them() {
        let mounts = Mounts::parse(TABLE);
        for (path, point) in [
            ("/srv/a", "/"),
            ("/data", "/data"),
            ("/data/a/b", "/data"),
            ("/database", "/"),
            ("/data/with space/x", "/data/with space"),
        ] {
            assert_eq!(*mounts.point_of(Path::new(path)), *Path::new(point), "{path}");
        }
    }

    #[test]
    fn disks_are_local_and_servers_are_not() {
        let mounts = Mounts::parse(TABLE);
        let kinds = [(8, 1), (0, 45), (0, 46)];
        let kinds = kinds.map(|(major, minor)| mounts.devices[&rustix::fs::makedev(major, minor)]);
        assert_eq!(kinds, [true, false, false]);
    }
}
