//! Whether a part of a file is in memory, and bringing it there.
//!
//! sendfile(2) waits for the disk. On the event loop that would make every other client wait too, so what is not in
//! the page cache is read by a thread of the blocking pool first.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    num::NonZeroU64,
    os::unix::fs::FileExt,
};

use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, ReadWriteFlags, preadv2},
};

/// Pages are looked at this far apart: readahead brings them in larger pieces than this.
const STEP: u64 = 128 * 1024;

/// Whether `length` bytes from `offset` on can be read without waiting, as far as samples tell. False where the file
/// system cannot say (NFS and FUSE among them).
pub(super) fn is_cached(file: &File, offset: u64, length: u64) -> bool {
    let last = offset + length.saturating_sub(1);
    let samples = (offset..=last).step_by(STEP as usize).chain([last]);
    samples.into_iter().all(|at| {
        let mut byte = [0];
        loop {
            match preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) {
                Err(Errno::INTR) => {}
                // The end of a file that has become shorter is no reason to wait; sending finds it out.
                result => return result.is_ok(),
            }
        }
    })
}

/// Reads a part of a file into memory. Blocks.
pub(super) fn warm(file: &File, offset: u64, length: u64) -> io::Result<()> {
    // The next part is wanted soon; a file system that takes no advice does without.
    let _ = fadvise(file, offset, NonZeroU64::new(2 * length), Advice::WillNeed);
    let mut buffer = vec![0; STEP as usize];
    let end = offset + length;
    let mut at = offset;
    while at < end {
        let most = buffer.len().min((end - at) as usize);
        match file.read_at(&mut buffer[..most], at) {
            Ok(0) => return Ok(()),
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_dropped_from_memory_is_cold_until_it_is_warmed() {
        const LENGTH: u64 = 4 * 1024 * 1024;
        // Next to the build, which lies on a disk; /tmp may be memory.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&vec![7; LENGTH as usize]).unwrap();
        file.sync_all().unwrap();
        warm(&file, 0, LENGTH).unwrap();
        if !is_cached(&file, 0, LENGTH) {
            // A file system that cannot say.
            return;
        }
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert!(!is_cached(&file, 0, LENGTH));
        warm(&file, 0, 1024 * 1024).unwrap();
        assert!(is_cached(&file, 0, 1024 * 1024));
    }

    #[test]
    fn the_end_of_a_file_is_no_reason_to_wait() {
        let file = tempfile::tempfile().unwrap();
        assert!(warm(&file, 0, 1000).is_ok());
    }
}
