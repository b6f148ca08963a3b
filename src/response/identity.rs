//! Identity of open files, and of versions of their content.

use std::{
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use rustix::fs::{Statx, StatxTimestamp};

/// A file modified this recently may change again without a new time: kernels tick every 10 ms or faster.
const FRESH: Duration = Duration::from_millis(20);

/// Properties that tell a file from other files, and from its own earlier versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    modified: i64,
    /// Status change time in nanoseconds since 1970. No program can set it: it reveals a write after which the
    /// modification time was reset.
    changed: i64,
}

impl FileIdentity {
    /// The identity of an open file.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, more: i64| seconds.saturating_mul(1_000_000_000).saturating_add(more);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The identity of a file at present, from `statx`; `device` is passed because it is not queried.
    pub fn of_statx(now: &Statx, device: u64) -> Self {
        let time = |time: &StatxTimestamp| {
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
        };
        let (modified, changed) = (time(&now.stx_mtime), time(&now.stx_ctime));
        Self { device, inode: now.stx_ino, size: now.stx_size, modified, changed }
    }

    /// Strong entity tag: it changes with every write that the file system can tell apart (RFC 9110 §8.8.1), also one
    /// that kept size and time. Inode numbers must not be disclosed, so they are hashed. (The hash is that of the
    /// standard library, which may differ in a later version: clients then fetch a file anew after an upgrade.)
    pub fn etag(&self) -> Option<HeaderValue> {
        let mut hasher = DefaultHasher::new();
        (self.inode, self.changed).hash(&mut hasher);
        HeaderValue::try_from(format!("\"{:x}-{:x}-{:x}\"", self.modified, self.size, hasher.finish())).ok()
    }

    /// Device number of the file system.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Status change time in nanoseconds since 1970.
    pub fn changed(&self) -> i64 {
        self.changed
    }

    /// Modification time in nanoseconds since 1970.
    pub fn modified(&self) -> i64 {
        self.modified
    }

    #[cfg(test)]
    pub(crate) fn sample(inode: u64) -> Self {
        Self { device: 1, inode, size: 9, modified: 1, changed: 1 }
    }

    /// Identifies this version of the content, regardless of owner and mount.
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.inode, self.size, self.modified).hash(&mut hasher);
        hasher.finish()
    }

    /// Modification time in whole seconds since 1970, limited to 32 bits.
    pub fn modified_seconds(&self) -> u32 {
        u32::try_from(self.modified.max(0) / 1_000_000_000).unwrap_or(u32::MAX)
    }

    /// Whether the file may change again within the same tick of its file system's clock: data read now must not be
    /// cached.
    pub fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(FRESH);
        i128::from(self.changed.max(self.modified)) > now.as_nanos().cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_only_just_written_is_fresh() {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        // A busy machine may be slow between the two steps, but not each time.
        let is_once = |is_fresh: &dyn Fn() -> bool| (0..10_000).any(|_| is_fresh());
        assert!(is_once(&|| FileIdentity { changed: now(), ..FileIdentity::sample(1) }.is_fresh()));
        assert!(is_once(&|| FileIdentity { modified: now(), ..FileIdentity::sample(1) }.is_fresh()));
        assert!(!FileIdentity::sample(1).is_fresh());
    }

    #[test]
    fn a_version_is_of_the_content() {
        let version = FileIdentity::sample(1).version();
        assert_eq!(FileIdentity { device: 2, changed: 2, ..FileIdentity::sample(1) }.version(), version);
        assert_ne!(FileIdentity { modified: 2, ..FileIdentity::sample(1) }.version(), version);
        assert_ne!(FileIdentity { size: 2, ..FileIdentity::sample(1) }.version(), version);
        assert_ne!(FileIdentity { inode: 2, ..FileIdentity::sample(1) }.version(), version);
    }

    #[test]
    fn a_file_in_place_of_another_has_another_etag() {
        let etag = FileIdentity::sample(1).etag().unwrap();
        assert_eq!(
            FileIdentity { device: 2, ..FileIdentity::sample(1) }.etag().unwrap(),
            etag,
            "mounted anew"
        );
        for other in [
            FileIdentity::sample(2),
            FileIdentity { changed: 2, ..FileIdentity::sample(1) },
            FileIdentity { modified: 2, ..FileIdentity::sample(1) },
            FileIdentity { size: 2, ..FileIdentity::sample(1) },
        ] {
            assert_ne!(other.etag().unwrap(), etag, "{other:?}");
        }
    }
}
