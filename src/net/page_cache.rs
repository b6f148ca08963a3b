//! Page cache: checks whether a part of a file is in memory, and reads it into memory.
//!
//! sendfile(2) waits for the disk. On the event loop that would delay every other client, so data that is not in the
//! page cache is first read by a thread of the blocking pool. If the file system does not report what is cached (NFS
//! and FUSE among others), the data that the thread has read is sent itself, because it need not stay cached.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    num::NonZeroU64,
    os::unix::fs::FileExt,
};

use bytes::Bytes;
use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, ReadWriteFlags, preadv2},
};

/// Distance between two sampled pages: readahead works in larger units than this.
const STEP: u64 = 128 * 1024;

/// Location of a part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residency {
    /// In memory.
    Memory,
    /// On a disk.
    Disk,
    /// Only reading will tell.
    Unknown,
}

/// Location of `length` bytes from `offset` on, according to samples.
pub(crate) fn place(file: &File, offset: u64, length: u64) -> Residency {
    let last = offset + length.saturating_sub(1);
    for at in (offset..=last).step_by(STEP as usize).chain([last]) {
        let mut byte = [0];
        let sample = loop {
            match preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) {
                Err(Errno::INTR) => {}
                sample => break sample,
            }
        };
        match sample {
            // A file that has become shorter is no reason to wait; sending detects it.
            Ok(_) => {}
            Err(Errno::AGAIN) => return Residency::Disk,
            Err(_) => return Residency::Unknown,
        }
    }
    Residency::Memory
}

/// Reads a part of a file, or less at the end of the file. Blocks.
pub(crate) fn read(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    will_need(file, offset, 2 * length);
    let mut buffer = vec![0; length as usize];
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(read);
    Ok(buffer.into())
}

/// Requests readahead for data that is needed soon. File systems without support ignore it.
fn will_need(file: &File, offset: u64, length: u64) {
    let _ = fadvise(file, offset, NonZeroU64::new(length), Advice::WillNeed);
}

/// Reads a part of a file into the page cache. Blocks.
pub(crate) fn warm(file: &File, offset: u64, length: u64) -> io::Result<()> {
    will_need(file, offset, 2 * length);
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
        if place(&file, 0, LENGTH) == Residency::Unknown {
            return;
        }
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert_eq!(place(&file, 0, LENGTH), Residency::Disk);
        warm(&file, 0, 1024 * 1024).unwrap();
        assert_eq!(place(&file, 0, 1024 * 1024), Residency::Memory);
    }

    #[test]
    fn the_end_of_a_file_is_no_reason_to_wait() {
        let file = tempfile::tempfile().unwrap();
        assert!(warm(&file, 0, 1000).is_ok());
        assert_eq!(read(&file, 0, 1000).unwrap(), "");
        std::fs::write(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)), "0123456789")
            .unwrap();
        assert_eq!(read(&file, 4, 1000).unwrap(), "456789");
    }
}
