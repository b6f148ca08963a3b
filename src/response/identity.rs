//! Which file an open one is, and which version of it.

use std::{
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use rustix::fs::{Statx, StatxTimestamp};

/// A file that changed this recently may change again without a new time: kernels tick every 10 ms or faster.
const FRESH: Duration = Duration::from_millis(20);

/// By what a file is told from others and from itself before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    modified: i64,
    /// The same of the time that nobody can set: it tells of a write after which the other was set back.
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

    /// The same of a file as it is now, from what the kernel knows of it; `device` is not asked.
    pub fn of_statx(now: &Statx, device: u64) -> Self {
        let time = |time: &StatxTimestamp| {
            time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
        };
        let (modified, changed) = (time(&now.stx_mtime), time(&now.stx_ctime));
        Self { device, inode: now.stx_ino, size: now.stx_size, modified, changed }
    }

    /// Strong: it changes with every write that the file system can tell apart (RFC 9110 §8.8.1), also one that kept
    /// size and time. Numbers of inodes are nobody's business, so they are hashed. (The hash is the standard library's,
    /// whose next version may be another one: clients fetch a file anew after such an upgrade.)
    pub fn etag(&self) -> Option<HeaderValue> {
        let mut hasher = DefaultHasher::new();
        (self.inode, self.changed).hash(&mut hasher);
        HeaderValue::try_from(format!("\"{:x}-{:x}-{:x}\"", self.modified, self.size, hasher.finish())).ok()
    }

    /// The file system that it is in.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// When its metadata changed.
    pub fn changed(&self) -> i64 {
        self.changed
    }

    /// When its content changed, in nanoseconds since 1970.
    pub fn modified(&self) -> i64 {
        self.modified
    }

    #[cfg(test)]
    pub(crate) fn sample(inode: u64) -> Self {
        Self { device: 1, inode, size: 9, modified: 1, changed: 1 }
    }

    /// What stands for this version of the content: another owner or another mount does not change it.
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.inode, self.size, self.modified).hash(&mut hasher);
        hasher.finish()
    }

    /// When the content changed, in whole seconds since 1970, as far as 32 bits can say.
    pub fn modified_seconds(&self) -> u32 {
        u32::try_from(self.modified.max(0) / 1_000_000_000).unwrap_or(u32::MAX)
    }

    /// Whether it may change within the same tick of the clock of its file system: what is read of it now must not be
    /// remembered.
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
        // A busy machine may let more time pass in between, but not each time.
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
