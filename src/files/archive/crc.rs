//! CRC-32s of files, remembered from one archive to the next.
//!
//! Applications do not know them, so they are computed while a member is sent. An archive of members whose CRCs are all
//! known can be asked for any part of it. A member whose sending ended early is remembered too, as far as it was read:
//! a client that comes back for the rest costs no second reading of what it has.

use std::{
    collections::HashMap,
    fs::Metadata,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    os::unix::fs::MetadataExt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Most files of a generation; two of them are kept. A hash table doubles at this number of entries (7/8 of 65,536), so
/// both take 8 MB at most.
const GENERATION: usize = 57_344;

/// A file that changed this recently may change again without a new time: kernels tick every 10 ms or faster.
const FRESH: Duration = Duration::from_millis(20);

/// By what a file is told from others and from itself before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    modified: i64,
    /// The same of the time that nobody can set: it is later when times were set back.
    changed: i64,
}

impl Identity {
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

/// The CRC-32 of the first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc {
    /// Of these.
    pub value: u32,
    /// How many.
    pub bytes: u64,
}

impl Crc {
    /// Takes in the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial_len(self.value, self.bytes);
        hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.value = hasher.finalize();
    }
}

/// The CRCs of the files that were read last: at least those of the last 57,344, and twice as many at most.
#[derive(Debug, Default)]
pub struct Crcs(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Identity, Crc>,
    old: HashMap<Identity, Crc>,
}

impl Crcs {
    /// As much of a file as has been read. Nothing, where nothing is known.
    pub fn get(&self, file: &Identity) -> Crc {
        let generations = self.lock();
        generations.young.get(file).or_else(|| generations.old.get(file)).copied().unwrap_or_default()
    }

    /// Remembers what was read of a file, unless more is known. A file that was
    /// [fresh](Identity::is_fresh) when it was opened must not come here.
    pub fn put(&self, file: Identity, crc: Crc) {
        if crc.bytes <= self.get(&file).bytes {
            return;
        }
        let mut generations = self.lock();
        if generations.young.len() >= GENERATION {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(file, crc);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Nothing panics in between, and a map is whole after every step anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64) -> Identity {
        Identity { device: 1, inode, size: 9, modified: 1, changed: 1 }
    }

    #[test]
    fn a_crc_may_be_computed_in_parts() {
        let mut crc = Crc::default();
        crc.update(b"12345");
        crc.update(b"");
        crc.update(b"6789");
        assert_eq!(crc, Crc { value: 0xcbf4_3926, bytes: 9 });
    }

    #[test]
    fn more_goes_before_less() {
        let crcs = Crcs::default();
        assert_eq!(crcs.get(&identity(1)), Crc::default());
        crcs.put(identity(1), Crc { value: 7, bytes: 5 });
        crcs.put(identity(1), Crc { value: 8, bytes: 4 });
        assert_eq!(crcs.get(&identity(1)).value, 7);
        crcs.put(identity(1), Crc { value: 9, bytes: 9 });
        assert_eq!(crcs.get(&identity(1)).value, 9);
    }

    #[test]
    fn the_last_ones_are_kept_and_no_more() {
        let crcs = Crcs::default();
        for inode in 0..3 * GENERATION as u64 {
            crcs.put(identity(inode), Crc { value: 1, bytes: 9 });
        }
        let kept = |inode| crcs.get(&identity(inode)).bytes == 9;
        assert!((2 * GENERATION as u64..3 * GENERATION as u64).all(kept));
        assert!(!kept(0));
        let generations = crcs.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn what_was_only_just_written_is_fresh() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        assert!(Identity { changed: now, ..identity(1) }.is_fresh());
        assert!(Identity { modified: now, ..identity(1) }.is_fresh());
        assert!(!identity(1).is_fresh());
    }

    #[test]
    fn a_version_is_of_the_content() {
        let version = identity(1).version();
        assert_eq!(Identity { device: 2, changed: 2, ..identity(1) }.version(), version);
        assert_ne!(Identity { modified: 2, ..identity(1) }.version(), version);
        assert_ne!(Identity { size: 2, ..identity(1) }.version(), version);
        assert_ne!(Identity { inode: 2, ..identity(1) }.version(), version);
    }
}
