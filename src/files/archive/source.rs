//! Generates the bytes of an archive in batches. Blocks on files: not for the event loop.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Archive, MemberPlace,
    crc::{Crc, Crcs},
    plan::place,
    walk::{Walk, WalkStep},
    zip::Record,
};
use crate::{
    bulkhead::{Bulkhead, BulkheadPermit, OpenFile},
    files::{
        FileRequest,
        open::{SMALL, locate},
        range::ByteSpan,
    },
    response::{FileIdentity, Piece},
};

/// Size of a batch in bytes; a file that the kernel sends may exceed it.
const BATCH: u64 = 256 * 1024;

/// Most files opened for a batch: each open may wait for a network.
const OPENED: usize = 64;

/// Bytes read for a CRC alone per batch, so that a disconnected client is noticed.
const UNSENT: u64 = 16 * 1024 * 1024;

/// An archive and the position in it.
#[derive(Debug)]
pub struct MemberSource {
    archive: Archive,
    walk: Walk,
    next: Option<NextFile>,
    open: Option<OpenMember>,
    stream: Option<Streamed>,
}

/// File of a member, to be opened.
#[derive(Debug)]
struct NextFile {
    member: usize,
    wanted: FileRequest,
    bulkhead: Arc<Bulkhead>,
}

/// Content of a member, arriving from an upstream.
struct Streamed {
    member: usize,
    body: Box<dyn Read + Send>,
    crc: Crc,
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamed").field("member", &self.member).finish_non_exhaustive()
    }
}

/// Consecutive pieces of an archive.
#[derive(Debug, Default)]
pub struct Batch {
    /// Pieces in order; empty if there was more to read than to send.
    pub pieces: VecDeque<Piece>,
    /// Whether this is the last batch.
    pub is_last: bool,
    /// Bulkhead whose permit the next batch needs.
    pub needs: Option<Arc<Bulkhead>>,
}

/// Open file of a member.
#[derive(Debug)]
struct OpenMember {
    member: usize,
    file: Arc<OpenFile>,
    identity: FileIdentity,
    /// CRC of what has been read.
    crc: Crc,
    /// Cache for the CRC.
    crcs: Option<Arc<Crcs>>,
}

impl Drop for OpenMember {
    fn drop(&mut self) {
        if let Some(crcs) = &self.crcs {
            crcs.put(self.identity, self.crc);
        }
    }
}

/// A batch under construction.
#[derive(Debug, Default)]
struct Work {
    pieces: VecDeque<Piece>,
    /// Bytes that follow the pieces.
    buffer: Vec<u8>,
    bytes: u64,
    opened: usize,
    unsent: u64,
}

impl Work {
    fn has_room(&self) -> bool {
        self.bytes + (self.buffer.len() as u64) < BATCH && self.opened < OPENED && self.unsent < UNSENT
    }

    /// Turns the buffer into a piece.
    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.bytes += self.buffer.len() as u64;
            self.pieces.push_back(Piece::Bytes(std::mem::take(&mut self.buffer).into()));
        }
    }

    fn file(&mut self, file: Arc<OpenFile>, part: ByteSpan) {
        self.flush();
        self.bytes += part.length;
        self.pieces.push_back(Piece::File { file, offset: part.start, length: part.length });
    }

    /// Reads a part of a file.
    fn read(&mut self, file: &File, part: ByteSpan) -> io::Result<&[u8]> {
        let at = self.buffer.len();
        self.buffer.resize(at + part.length as usize, 0);
        file.read_exact_at(&mut self.buffer[at..], part.start)?;
        Ok(&self.buffer[at..])
    }
}

impl MemberSource {
    /// Creates a source for a span of an archive.
    pub fn new(archive: Archive, span: ByteSpan) -> Self {
        Self { walk: Walk::new(&archive.table, span), archive, next: None, open: None, stream: None }
    }

    /// Generates the next batch from members whose files belong to the bulkhead of `permit`; without a permit, from
    /// records alone.
    ///
    /// # Errors
    ///
    /// A member has changed since the archive was planned. No further batch can be generated.
    pub fn batch(&mut self, permit: Option<&BulkheadPermit>) -> io::Result<Batch> {
        let mut work = Work::default();
        let mut is_last = false;
        let mut needs = permit.map(|permit| Arc::clone(permit.bulkhead()));
        while work.has_room() {
            let Some(step) = self.walk.step(&self.archive.table) else {
                is_last = true;
                break;
            };
            if let Some(member) = self.file_read_by(step) {
                let bulkhead = self.bulkhead(member).map_err(|error| self.name_member(member, &error))?;
                if !permit.is_some_and(|permit| Arc::ptr_eq(permit.bulkhead(), &bulkhead)) {
                    needs = Some(bulkhead);
                    break;
                }
            }
            let made = match step {
                WalkStep::Record(record, part) => self.record(record, part, &mut work)?,
                WalkStep::Data(member, part) => {
                    self.data(member, part, &mut work).map_err(|error| self.name_member(member, &error))?
                }
            };
            self.walk.go(made);
        }
        work.flush();
        Ok(Batch { pieces: work.pieces, is_last, needs })
    }

    /// Member whose file is opened or read in a step.
    fn file_read_by(&self, step: WalkStep) -> Option<usize> {
        let member = match step {
            WalkStep::Record(Record::Tail(member) | Record::Entry(member), _) => {
                Some(member).filter(|member| !self.archive.table.members[*member].is_known)
            }
            WalkStep::Record(..) => None,
            WalkStep::Data(member, _) => Some(member),
        };
        member.filter(|member| !self.archive.remote.contains(member))
    }

    /// Bulkhead of a member's file.
    fn bulkhead(&mut self, member: usize) -> io::Result<Arc<Bulkhead>> {
        if let Some(open) = self.open.as_ref().filter(|open| open.member == member) {
            return Ok(Arc::clone(open.file.bulkhead()));
        }
        let next = match self.next.take().filter(|next| next.member == member) {
            Some(next) => next,
            None => self.find(member)?,
        };
        let bulkhead = Arc::clone(&next.bulkhead);
        self.next = Some(next);
        Ok(bulkhead)
    }

    /// Locates the file of a member.
    fn find(&self, member: usize) -> io::Result<NextFile> {
        let Archive { table, resolve, .. } = &self.archive;
        let wanted = match place(table.target(&table.members[member]), resolve).map_err(io::Error::other)? {
            MemberPlace::File(wanted) => wanted,
            MemberPlace::Remote(_) => {
                return Err(io::Error::other("the route changed from files to an upstream"));
            }
        };
        let path = wanted.candidates.first().map_or(Path::new("/"), PathBuf::as_path);
        let bulkhead = wanted.bulkhead(path);
        Ok(NextFile { member, wanted, bulkhead })
    }

    /// Writes a record, or nothing yet if computing its CRC takes longer than one batch.
    fn record(&mut self, record: Record, part: ByteSpan, work: &mut Work) -> io::Result<u64> {
        if let Record::Tail(member) | Record::Entry(member) = record
            && !self.archive.table.members[member].is_known
        {
            let size = self.archive.table.members[member].size;
            let is_done =
                self.read_unsent(member, size, work).map_err(|error| self.name_member(member, &error))?;
            if !is_done {
                return Ok(0);
            }
        }
        let at = work.buffer.len();
        self.archive.table.write(record, &mut work.buffer);
        work.buffer.truncate(at + part.end() as usize);
        work.buffer.drain(at..at + part.start as usize);
        Ok(part.length)
    }

    /// Adds some of a member's data; returns the number of bytes.
    fn data(&mut self, member: usize, part: ByteSpan, work: &mut Work) -> io::Result<u64> {
        if self.archive.remote.contains(&member) {
            return self.stream(member, part, work);
        }
        let file = self.open(member, work)?;
        let table = &self.archive.table;
        if table.members[member].is_known || !self.walk.wants_crc(table, member) {
            if part.length > SMALL {
                work.file(file, part);
            } else {
                work.read(file.get()?, part)?;
            }
            return Ok(part.length);
        }
        if !self.read_unsent(member, part.start, work)? {
            return Ok(0);
        }
        let length = part.length.min(BATCH - work.buffer.len() as u64);
        let bytes = work.read(file.get()?, ByteSpan { length, ..part })?;
        if let Some(open) = &mut self.open {
            // A client that resumes has received less than was read for it.
            let is_read = (open.crc.bytes - part.start).min(length);
            open.crc.update(&bytes[is_read as usize..]);
        }
        self.finish(member)?;
        Ok(length)
    }

    /// Adds some of an upstream's content; returns the number of bytes.
    fn stream(&mut self, member: usize, part: ByteSpan, work: &mut Work) -> io::Result<u64> {
        let mut stream = match self.stream.take() {
            Some(stream) if stream.member == member => stream,
            Some(_) | None => {
                let target = self.archive.table.target(&self.archive.table.members[member]);
                let body = match place(target, &self.archive.resolve).map_err(io::Error::other)? {
                    MemberPlace::Remote(remote) => remote.open()?,
                    MemberPlace::File(_) => {
                        return Err(io::Error::other("the route changed from an upstream to files"));
                    }
                };
                Streamed { member, body, crc: Crc::default() }
            }
        };
        if stream.crc.bytes != part.start {
            return Err(io::Error::other("a member from an upstream can only be sent from its start"));
        }
        let length = part.length.min(BATCH - work.buffer.len() as u64);
        let at = work.buffer.len();
        work.buffer.resize(at + length as usize, 0);
        stream.body.read_exact(&mut work.buffer[at..])?;
        stream.crc.update(&work.buffer[at..]);
        let known = &mut self.archive.table.members[member];
        if stream.crc.bytes < known.size {
            self.stream = Some(stream);
            return Ok(length);
        }
        if stream.body.read(&mut [0])? > 0 {
            return Err(io::Error::other("the upstream sends more bytes than listed"));
        }
        if known.is_known && known.crc != stream.crc.value {
            return Err(io::Error::other("the content from the upstream does not match the listed CRC-32"));
        }
        (known.crc, known.is_known) = (stream.crc.value, true);
        Ok(length)
    }

    /// Reads a member up to `end` for its CRC. Returns false if that takes more than one batch.
    fn read_unsent(&mut self, member: usize, end: u64, work: &mut Work) -> io::Result<bool> {
        let file = self.open(member, work)?;
        let Some(open) = &mut self.open else { return Ok(true) };
        let mut buffer = Vec::new();
        while open.crc.bytes < end {
            if work.unsent >= UNSENT {
                return Ok(false);
            }
            buffer.resize(BATCH.min(end - open.crc.bytes) as usize, 0);
            file.get()?.read_exact_at(&mut buffer, open.crc.bytes)?;
            open.crc.update(&buffer);
            work.unsent += buffer.len() as u64;
        }
        self.finish(member)?;
        Ok(true)
    }

    /// Stores the CRC of a member that was read to its end and has not changed.
    fn finish(&mut self, member: usize) -> io::Result<()> {
        let known = &mut self.archive.table.members[member];
        if let Some(open) = &self.open
            && open.crc.bytes == known.size
            && !known.is_known
        {
            if FileIdentity::of(&open.file.get()?.metadata()?).version() != known.version {
                return Err(io::Error::other("the file changed while it was being read"));
            }
            (known.crc, known.is_known) = (open.crc.value, true);
        }
        Ok(())
    }

    /// Opens the file of a member, unless it is open. It must be the file that was planned.
    fn open(&mut self, member: usize, work: &mut Work) -> io::Result<Arc<OpenFile>> {
        if let Some(open) = self.open.as_ref().filter(|open| open.member == member) {
            return Ok(Arc::clone(&open.file));
        }
        // Dropping the previous file caches what was read of it.
        self.open = None;
        work.opened += 1;
        let next = match self.next.take().filter(|next| next.member == member) {
            Some(next) => next,
            None => self.find(member)?,
        };
        let NextFile { wanted, bulkhead, .. } = next;
        let Archive { table, crcs, .. } = &self.archive;
        let located = locate(&wanted).map_err(io::Error::other)?;
        let identity = FileIdentity::of(&located.metadata);
        if !located.metadata.is_file() || identity.version() != table.members[member].version {
            return Err(io::Error::other("the file has changed since the archive was planned"));
        }
        let file = Arc::new(OpenFile::new(located.file, located.metadata.dev(), bulkhead));
        let crcs = (!identity.is_fresh()).then(|| Arc::clone(crcs));
        let crc = self.archive.crcs.get(&identity);
        self.open = Some(OpenMember { member, file: Arc::clone(&file), identity, crc, crcs });
        // Another member, or another client's archive, may have read the same file.
        self.finish(member)?;
        Ok(file)
    }

    /// Adds the name of the member to an error.
    fn name_member(&self, member: usize, error: &io::Error) -> io::Error {
        let table = &self.archive.table;
        let target = String::from_utf8_lossy(table.target(&table.members[member])).into_owned();
        io::Error::new(error.kind(), format!("archive member {target}: {error}"))
    }
}
