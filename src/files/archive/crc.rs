//! Cache of CRC-32s of files, shared by all archives.
//!
//! Applications do not provide CRCs, so they are computed while a member is sent. Once the CRCs of all members are
//! known, any range of the archive can be served. A member whose transfer ended early is cached as far as it was
//! read: a client that resumes does not cause it to be read again.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::response::FileIdentity;

/// Most files of a generation; two generations are kept. A hash table doubles at this number of entries (7/8 of
/// 65,536), so both take 8 MB at most.
const GENERATION: usize = 57_344;

/// CRC-32 of the first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crc {
    /// CRC-32 of the bytes read so far.
    pub value: u32,
    /// Number of bytes read so far.
    pub bytes: u64,
}

impl Crc {
    /// Adds the bytes that follow.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial_len(self.value, self.bytes);
        hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.value = hasher.finalize();
    }
}

/// CRCs of the files read most recently: at least the last 57,344, at most twice as many.
#[derive(Debug, Default)]
pub struct Crcs(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<FileIdentity, Crc>,
    old: HashMap<FileIdentity, Crc>,
}

impl Crcs {
    /// CRC of a file, as far as it has been read; of 0 bytes if the file is not cached.
    pub fn get(&self, file: &FileIdentity) -> Crc {
        let generations = self.lock();
        generations.young.get(file).or_else(|| generations.old.get(file)).copied().unwrap_or_default()
    }

    /// Caches the CRC of what was read of a file, unless more is cached. Must not be called for a file that was
    /// [fresh](FileIdentity::is_fresh) when it was opened.
    pub fn put(&self, file: FileIdentity, crc: Crc) {
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
        // A panic cannot leave a map half changed: each step leaves it valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64) -> FileIdentity {
        FileIdentity::sample(inode)
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
}
