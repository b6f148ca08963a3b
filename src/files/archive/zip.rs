//! The layout of a zip archive (PKWARE's APPNOTE 6.3.10), of members that are stored as they are.
//!
//! ```text
//! head, data, tail   for each member; a tail (data descriptor) where the list gave no CRC
//! entry              for each member: the directory
//! end                with zip64's own before it where numbers are too large for the old one
//! ```
//!
//! The layout follows from the list and the files alone and never from what is known of their CRCs at the moment: a
//! client that comes back for the rest of an archive without saying which (`curl -C -`) must find the same bytes, and
//! the first archive is begun when the CRCs are not yet known.
//!
//! Some programs that read an archive as it comes, without its directory, do not take descriptors behind stored members
//! (Java's `ZipInputStream`). For them the list must have the CRCs, with mod_zip as with this.
//!
//! Nothing here reads files or keeps records: each is written when its turn comes.

use super::{list::ListLine, names::Charset, time};

/// Values of 32 bits from here on mean: see zip64.
const ZIP64: u64 = 0xFFFF_FFFF;
/// The same for the number of members, 16 bits.
const ZIP64_MEMBERS: usize = 0xFFFF;

/// Longer ones are nonsense, and could not be counted when they are longer still.
const MOST_BYTES: u64 = 1 << 62;

/// Version 4.5 has zip64, 2.0 has directories, 1.0 has the rest.
const VERSION_ZIP64: u16 = 45;
const VERSION_DIRECTORY: u16 = 20;
const VERSION_PLAIN: u16 = 10;
/// Made on Unix (so that modes count), by version 4.5.
const MADE_BY: u16 = 3 << 8 | VERSION_ZIP64;

/// The CRC follows the data.
const FLAG_DESCRIBED: u16 = 1 << 3;
/// The name is UTF-8.
const FLAG_UTF8: u16 = 1 << 11;

/// Modes are the same for all: who may read a file on the server says nothing about the client's copy.
const MODE_FILE: u32 = 0o100_644;
const MODE_DIRECTORY: u32 = 0o040_755;
/// MS-DOS' own mark for directories.
const DOS_DIRECTORY: u32 = 0x10;

/// Bytes of an extra field with a Unix time.
const TIME_EXTRA: u64 = 9;

/// A member. There may be a million of them, so it is small: 48 bytes, and its texts in [`ZipLayout::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Where its head is.
    pub offset: u64,
    /// Bytes of its data.
    pub size: u64,
    /// What its file must still be when it is opened; see [`Identity::version`](crate::response::FileIdentity::version).
    pub version: u64,
    text: u32,
    target: u16,
    name: u16,
    /// Its CRC-32, once `is_known`.
    pub crc: u32,
    /// Seconds since 1970.
    pub modified: u32,
    /// Whether the CRC is known.
    pub is_known: bool,
    /// Whether a descriptor follows the data.
    is_described: bool,
    is_directory: bool,
    is_utf8: bool,
}

impl Member {
    /// A member as listed; `content` is the size in bytes, version and time of its file, `None` a directory.
    pub(super) fn new(
        line: &ListLine,
        name: &[u8],
        charset: Charset,
        content: Option<(u64, u64, u32)>,
    ) -> Self {
        let (size, version, modified) = content.unwrap_or_default();
        // What is empty has the CRC 0.
        let crc = if size == 0 { Some(0) } else { line.crc };
        Self {
            offset: 0,
            size,
            version,
            text: line.at,
            target: line.target,
            name: line.name,
            crc: crc.unwrap_or_default(),
            modified,
            is_known: crc.is_some(),
            is_described: crc.is_none(),
            is_directory: content.is_none(),
            is_utf8: charset.marks(name),
        }
    }

    /// What its records are made of, but for its name and what follows from its file: a CRC only if the list gave it.
    pub(super) fn fixed(&self) -> (u32, u32, [bool; 3]) {
        let crc = if self.is_described { 0 } else { self.crc };
        (self.modified, crc, [self.is_described, self.is_directory, self.is_utf8])
    }

    fn flags(&self) -> u16 {
        let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
        flag(self.is_described, FLAG_DESCRIBED) | flag(self.is_utf8, FLAG_UTF8)
    }

    fn is_long(&self) -> bool {
        self.size >= ZIP64
    }

    fn is_far(&self) -> bool {
        self.offset >= ZIP64
    }

    fn version_needed(&self) -> u16 {
        match (self.is_long() || self.is_far(), self.is_directory) {
            (true, _) => VERSION_ZIP64,
            (false, true) => VERSION_DIRECTORY,
            (false, false) => VERSION_PLAIN,
        }
    }

    /// The name as it is written: with a `/` at the end of a directory's, which a file may turn out to be.
    fn name_length(&self, table: &ZipLayout) -> u64 {
        table.name(self).len() as u64 + u64::from(self.lacks_slash(table))
    }

    fn lacks_slash(&self, table: &ZipLayout) -> bool {
        self.is_directory && table.name(self).last() != Some(&b'/')
    }

    /// Bytes of zip64's extra field in the directory.
    fn far_extra(&self) -> u64 {
        match 16 * u64::from(self.is_long()) + 8 * u64::from(self.is_far()) {
            0 => 0,
            values => 4 + values,
        }
    }

    fn time_extra(&self) -> u64 {
        if time::fits_extra(self.modified) { TIME_EXTRA } else { 0 }
    }

    fn head_length(&self, table: &ZipLayout) -> u64 {
        30 + self.name_length(table) + self.time_extra() + if self.is_long() { 20 } else { 0 }
    }

    fn tail_length(&self) -> u64 {
        match (self.is_described, self.is_long()) {
            (false, _) => 0,
            (true, false) => 16,
            (true, true) => 24,
        }
    }

    fn entry_length(&self, table: &ZipLayout) -> u64 {
        46 + self.name_length(table) + self.time_extra() + self.far_extra()
    }

    /// Where the data is.
    pub fn data(&self, table: &ZipLayout) -> u64 {
        self.offset + self.head_length(table)
    }

    /// Where the data ends, and the tail begins.
    pub fn tail(&self, table: &ZipLayout) -> u64 {
        self.data(table) + self.size
    }

    /// Where the next member is.
    pub fn end(&self, table: &ZipLayout) -> u64 {
        self.tail(table) + self.tail_length()
    }
}

/// All members of an archive and their places.
#[derive(Debug)]
pub struct ZipLayout {
    text: Vec<u8>,
    /// In their order.
    pub members: Vec<Member>,
    /// Where the directory begins.
    pub directory: u64,
    /// Where it ends.
    pub end: u64,
}

/// A part of an archive that is written, and not copied from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// What stands before a member's data.
    Head(usize),
    /// What stands behind it.
    Tail(usize),
    /// A member's entry in the directory.
    Entry(usize),
    /// The end.
    End,
}

impl ZipLayout {
    /// Gives all members their places; `None` when the archive is longer than anything can be (2^62 bytes).
    pub fn new(text: Vec<u8>, mut members: Vec<Member>) -> Option<Self> {
        // Directories have no file to take a time from, and must have the same one tomorrow.
        let newest = members.iter().filter(|member| !member.is_directory).map(|member| member.modified).max();
        for member in members.iter_mut().filter(|member| member.is_directory) {
            member.modified = newest.unwrap_or_default();
        }
        let mut table = Self { text, members: Vec::new(), directory: 0, end: 0 };
        let mut offset = 0_u64;
        let mut entries = 0_u64;
        for member in &mut members {
            member.offset = offset;
            let records = member.head_length(&table) + member.tail_length();
            // Records are below 200 KiB each, so only sizes can be too much.
            offset = (offset + records).checked_add(member.size).filter(|end| *end < MOST_BYTES)?;
            entries += member.entry_length(&table);
        }
        table.members = members;
        table.directory = offset;
        table.end = offset + entries;
        Some(table)
    }

    /// Bytes of the whole archive.
    pub fn length(&self) -> u64 {
        self.end + self.end_length()
    }

    /// A member's target, as it stands in the list.
    pub fn target(&self, member: &Member) -> &[u8] {
        let at = member.text as usize;
        &self.text[at..at + usize::from(member.target)]
    }

    /// A member's name, made safe.
    pub fn name(&self, member: &Member) -> &[u8] {
        let at = member.text as usize + usize::from(member.target);
        &self.text[at..at + usize::from(member.name)]
    }

    fn needs_zip64(&self) -> bool {
        self.members.len() >= ZIP64_MEMBERS || self.end - self.directory >= ZIP64 || self.directory >= ZIP64
    }

    fn end_length(&self) -> u64 {
        if self.needs_zip64() { 56 + 20 + 22 } else { 22 }
    }

    /// Bytes of a record.
    pub fn record_length(&self, record: Record) -> u64 {
        match record {
            Record::Head(index) => self.members[index].head_length(self),
            Record::Tail(index) => self.members[index].tail_length(),
            Record::Entry(index) => self.members[index].entry_length(self),
            Record::End => self.end_length(),
        }
    }

    /// Appends a record. The CRC of a tail's or entry's member must be known.
    pub fn write(&self, record: Record, out: &mut Vec<u8>) {
        match record {
            Record::Head(index) => self.head(&self.members[index], out),
            Record::Tail(index) => tail(&self.members[index], out),
            Record::Entry(index) => self.entry(&self.members[index], out),
            Record::End => self.write_end(out),
        }
    }

    /// The local file header (4.3.7).
    fn head(&self, member: &Member, out: &mut Vec<u8>) {
        let extra = member.time_extra() + if member.is_long() { 20 } else { 0 };
        out.extend_from_slice(b"PK\x03\x04");
        u16(out, member.version_needed());
        u16(out, member.flags());
        self.common(member, if member.is_described { 0 } else { member.crc }, out);
        u16(out, extra as u16);
        self.write_name(member, out);
        write_time(member, out);
        if member.is_long() {
            // Both sizes, even though the directory has them: a reader that streams needs them here.
            zip64_extra(out, &[member.size, member.size]);
        }
    }

    /// An entry of the central directory (4.3.12).
    fn entry(&self, member: &Member, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PK\x01\x02");
        u16(out, MADE_BY);
        u16(out, member.version_needed());
        u16(out, member.flags());
        self.common(member, member.crc, out);
        u16(out, (member.time_extra() + member.far_extra()) as u16);
        // No comment, disk 0, no internal attributes.
        out.extend_from_slice(&[0; 6]);
        let attributes =
            if member.is_directory { MODE_DIRECTORY << 16 | DOS_DIRECTORY } else { MODE_FILE << 16 };
        u32(out, attributes);
        u32(out, capped(member.offset));
        self.write_name(member, out);
        write_time(member, out);
        match (member.is_long(), member.is_far()) {
            (false, false) => {}
            (true, false) => zip64_extra(out, &[member.size, member.size]),
            (false, true) => zip64_extra(out, &[member.offset]),
            (true, true) => zip64_extra(out, &[member.size, member.size, member.offset]),
        }
    }

    /// What heads and entries have in common: method, time, CRC, sizes, length of the name.
    fn common(&self, member: &Member, crc: u32, out: &mut Vec<u8>) {
        u16(out, 0);
        u32(out, time::dos(member.modified));
        u32(out, crc);
        // With a descriptor the standard says 0 here; the sizes are known and help who reads without the directory.
        u32(out, capped(member.size));
        u32(out, capped(member.size));
        u16(out, member.name_length(self) as u16);
    }

    fn write_name(&self, member: &Member, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name(member));
        if member.lacks_slash(self) {
            out.push(b'/');
        }
    }

    /// The end of the central directory (4.3.14 to 4.3.16).
    fn write_end(&self, out: &mut Vec<u8>) {
        let (members, size) = (self.members.len(), self.end - self.directory);
        if self.needs_zip64() {
            out.extend_from_slice(b"PK\x06\x06");
            // Bytes of this record that follow.
            u64(out, 44);
            u16(out, MADE_BY);
            u16(out, VERSION_ZIP64);
            u64(out, 0);
            u64(out, members as u64);
            u64(out, members as u64);
            u64(out, size);
            u64(out, self.directory);
            out.extend_from_slice(b"PK\x06\x07");
            u32(out, 0);
            u64(out, self.end);
            u32(out, 1);
        }
        out.extend_from_slice(b"PK\x05\x06");
        u32(out, 0);
        let count = members.min(ZIP64_MEMBERS) as u16;
        u16(out, count);
        u16(out, count);
        u32(out, capped(size));
        u32(out, capped(self.directory));
        u16(out, 0);
    }
}

/// The data descriptor (4.3.9), with the signature that every reader expects.
fn tail(member: &Member, out: &mut Vec<u8>) {
    if !member.is_described {
        return;
    }
    out.extend_from_slice(b"PK\x07\x08");
    u32(out, member.crc);
    for _ in 0..2 {
        if member.is_long() {
            u64(out, member.size);
        } else {
            u32(out, member.size as u32);
        }
    }
}

/// Info-ZIP's extended timestamp: UTC, where MS-DOS' time has no zone. The directory has the time of change only.
fn write_time(member: &Member, out: &mut Vec<u8>) {
    if member.time_extra() > 0 {
        u16(out, 0x5455);
        u16(out, 5);
        out.push(1);
        u32(out, member.modified);
    }
}

fn zip64_extra(out: &mut Vec<u8>, values: &[u64]) {
    u16(out, 1);
    u16(out, 8 * values.len() as u16);
    for value in values {
        u64(out, *value);
    }
}

fn capped(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Members of these sizes, with names of one byte.
    fn table(sizes: &[u64], crc: Option<u32>) -> ZipLayout {
        let line = ListLine { at: 0, target: 0, name: 1, crc, size: None, number: 1 };
        let member = |size: &u64| Member::new(&line, b"a", Charset::Utf8, Some((*size, 1, 784_111_777)));
        ZipLayout::new(b"a".to_vec(), sizes.iter().map(member).collect()).unwrap()
    }

    fn records(table: &ZipLayout) -> impl Iterator<Item = Record> {
        let each = |record: fn(usize) -> Record| (0..table.members.len()).map(record);
        each(Record::Head).chain(each(Record::Tail)).chain(each(Record::Entry)).chain([Record::End])
    }

    fn written(table: &ZipLayout, record: Record) -> Vec<u8> {
        let mut out = Vec::new();
        table.write(record, &mut out);
        out
    }

    #[test]
    fn a_member_is_small() {
        assert_eq!(size_of::<Member>(), 48);
    }

    #[test]
    fn zip64_begins_where_32_bits_end() {
        let needed = |size: u64| {
            let table = table(&[size], None);
            (written(&table, Record::Head(0))[4], written(&table, Record::Tail(0)).len())
        };
        assert_eq!(needed(ZIP64 - 1), (10, 16));
        assert_eq!(needed(ZIP64), (45, 24));
        let short = table(&[ZIP64 - 1, 0], None);
        let far = written(&short, Record::Entry(1));
        assert!(short.needs_zip64() && short.members[1].is_far());
        // The last 12 bytes: zip64's extra field with nothing but the offset.
        assert_eq!(far[far.len() - 12..far.len() - 8], [1, 0, 8, 0]);
        assert_eq!(far[far.len() - 8..], short.members[1].offset.to_le_bytes());
    }

    #[test]
    fn zip64_begins_where_16_bits_end() {
        assert_eq!(table(&[0; 0xFFFE], None).end_length(), 22);
        assert_eq!(table(&[0; 0xFFFF], None).end_length(), 98);
    }

    #[test]
    fn too_long_is_too_long() {
        let line = ListLine { at: 0, target: 0, name: 0, crc: None, size: None, number: 1 };
        let member = |size| Member::new(&line, b"", Charset::Utf8, Some((size, 1, 1)));
        assert!(ZipLayout::new(vec![], vec![member(u64::MAX)]).is_none());
        assert!(ZipLayout::new(vec![], vec![member(1 << 61); 2]).is_none());
        assert!(ZipLayout::new(vec![], vec![member(1 << 61)]).is_some());
    }

    proptest! {
        #[test]
        fn records_are_as_long_as_they_say(
            sizes in prop::collection::vec(
                prop_oneof![0..100_u64, ZIP64 - 100..ZIP64 + 100, 0..1_u64 << 50], 0..20),
            crc: Option<u32>,
        ) {
            let table = table(&sizes, crc);
            let mut length = sizes.iter().sum::<u64>();
            for record in records(&table) {
                let bytes = written(&table, record).len() as u64;
                prop_assert_eq!(bytes, table.record_length(record), "{:?}", record);
                length += bytes;
            }
            prop_assert_eq!(length, table.length());
        }
    }
}
