//! Files of a cache: the body of a response, then what describes it.
//!
//! A file is written under another name, synced, and renamed when it is whole; one without a right end is deleted when it
//! is found. The end has the length of the body, so that the body can be sent from the start of the file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        mpsc::{Sender, channel},
    },
    thread,
};

use super::stored::{Key, Meta, Stored, StoredBody};

/// End of a file: this word, the length of the body, the length of the description, and its checksum.
const MAGIC: &[u8; 8] = b"bowcache";
const END: usize = 8 + 8 + 4 + 4;

/// Most bytes of a description.
const MOST_META: u32 = 1 << 20;

/// Ending of the files of responses, and of those that are being written.
const ENDING: &str = "response";
const WRITING: &str = "writing";

/// A new file that is being written.
pub(super) struct NewFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl NewFile {
    /// Creates a file.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("{:032x}.{WRITING}", fastrand::u128(..)));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path, length: 0 })
    }

    /// Adds to the body.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Ends the file: from now on it is a response.
    pub(super) fn finish(mut self, key: Key, stored: &mut Stored) -> io::Result<()> {
        write_end(&mut self.file, key, stored, self.length)?;
        self.file.sync_data()?;
        let path = self.path.with_extension(ENDING);
        fs::rename(&self.path, &path)?;
        stored.body = StoredBody::File { path, length: self.length };
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the description of a response behind its body, in place of what is there.
pub(super) fn rewrite(path: &Path, key: Key, stored: &Stored) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = stored.body.length();
    file.seek(SeekFrom::Start(length))?;
    file.set_len(length)?;
    write_end(&mut file, key, stored, length)
}

fn write_end(file: &mut File, key: Key, stored: &Stored, length: u64) -> io::Result<()> {
    let meta = Meta::of(key, stored).ok_or(io::ErrorKind::InvalidData)?;
    let mut end = serde_json::to_vec(&meta)?;
    let size =
        u32::try_from(end.len()).ok().filter(|size| *size <= MOST_META).ok_or(io::ErrorKind::InvalidData)?;
    let checksum = crc32fast::hash(&end);
    end.extend_from_slice(MAGIC);
    end.extend_from_slice(&length.to_le_bytes());
    end.extend_from_slice(&size.to_le_bytes());
    end.extend_from_slice(&checksum.to_le_bytes());
    file.write_all(&end)
}

/// Reads the description of a response. Bodies of at most `most` bytes are read too.
pub(super) fn read(path: &Path, most: u64) -> io::Result<(Key, Stored)> {
    let torn = || io::Error::from(io::ErrorKind::InvalidData);
    let mut file = File::open(path)?;
    let whole = file.metadata()?.len();
    let end_at = whole.checked_sub(END as u64).ok_or_else(torn)?;
    file.seek(SeekFrom::Start(end_at))?;
    let mut end = [0; END];
    file.read_exact(&mut end)?;
    let number =
        |from: usize, to: usize| end[from..to].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let (length, size, checksum) = (number(8, 16), number(16, 20), number(20, 24));
    let is_whole =
        end[..8] == *MAGIC && length.checked_add(size) == Some(end_at) && size <= u64::from(MOST_META);
    if !is_whole {
        return Err(torn());
    }
    let mut meta = vec![0; size as usize];
    file.seek(SeekFrom::Start(length))?;
    file.read_exact(&mut meta)?;
    if u64::from(crc32fast::hash(&meta)) != checksum {
        return Err(torn());
    }
    let body = if length <= most {
        let mut body = vec![0; length as usize];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut body)?;
        StoredBody::Memory(body.into())
    } else {
        StoredBody::File { path: path.into(), length }
    };
    let meta: Meta = serde_json::from_slice(&meta)?;
    meta.into_stored(body).ok_or_else(torn)
}

/// A response found in a directory.
pub(super) struct OnDisk {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) key: Key,
    pub(super) stored: Stored,
}

/// Reads all responses of a directory, the ones that were written first at first, and deletes what is none.
pub(super) fn scan(directory: &Path, mut found: impl FnMut(OnDisk)) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.extension().and_then(|ending| ending.to_str()) {
            Some(WRITING) => remove(path),
            Some(ENDING) => {
                let about = fs::metadata(&path)?;
                files.push((about.modified()?, about.len(), path));
            }
            // Not ours.
            _ => {}
        }
    }
    files.sort_unstable();
    for (_, size, path) in files {
        match read(&path, 0) {
            Ok((key, stored)) => found(OnDisk { path, size, key, stored }),
            Err(_) => remove(path),
        }
    }
    Ok(())
}

/// Deletes a file, on a thread of its own.
pub(super) fn remove(path: PathBuf) {
    static REMOVED: LazyLock<Sender<PathBuf>> = LazyLock::new(|| {
        let (sender, paths) = channel::<PathBuf>();
        let run = move || paths.into_iter().for_each(|path| drop(fs::remove_file(path)));
        // Without the thread, the files are deleted at the next start.
        let _ = thread::Builder::new().name("cache files".into()).spawn(run);
        sender
    });
    let _ = REMOVED.send(path);
}
