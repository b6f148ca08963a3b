//! Layout of a zip archive (PKWARE's APPNOTE 6.3.10) of uncompressed members.
//!
//! ```text
//! head, data, tail   for each member; a tail (data descriptor) if the list gave no CRC
//! entry              for each member: the central directory
//! end                preceded by that of zip64 if numbers are too large for the old one
//! ```
//!
//! The layout follows from the list and the files alone, and never from which CRCs are known at the moment: a client
//! that resumes an archive without naming its version (`curl -C -`) must find the same bytes, and the first archive
//! begins before the CRCs are known.
//!
//! Some programs that read an archive as a stream, without its directory, do not accept descriptors after uncompressed
//! members (Java's `ZipInputStream`). For them the list must contain the CRCs, with mod_zip as well as here.
//!
//! This module neither reads files nor stores records: each record is written when its turn comes.

use super::{list::ListLine, names::Charset, time};

/// Marker in a field of 32 bits, for this and larger values: see zip64.
const ZIP64: u64 = 0xFFFF_FFFF;
/// Marker in the 16-bit number of members.
const ZIP64_MEMBERS: usize = 0xFFFF;

/// Limit of the length of an archive. Longer ones are absurd, and could not be counted if they were longer still.
const MOST_BYTES: u64 = 1 << 62;

/// Version 4.5 is needed for zip64, 2.0 for directories, 1.0 otherwise.
const VERSION_ZIP64: u16 = 45;
const VERSION_DIRECTORY: u16 = 20;
const VERSION_PLAIN: u16 = 10;
/// Created on Unix (so that modes count), by version 4.5.
const MADE_BY: u16 = 3 << 8 | VERSION_ZIP64;

/// Flag: the CRC follows the data.
const FLAG_DESCRIBED: u16 = 1 << 3;
/// Flag: the name is UTF-8.
const FLAG_UTF8: u16 = 1 << 11;

/// Mode of every file: the permissions on the server say nothing about the client's copy.
const MODE_FILE: u32 = 0o100_644;
const MODE_DIRECTORY: u32 = 0o040_755;
/// MS-DOS attribute of directories.
const DOS_DIRECTORY: u32 = 0x10;

/// Bytes of an extra field with a Unix time.
const TIME_EXTRA: u64 = 9;

/// A member. There may be a million of them, so it is small: 48 bytes, with its texts in [`ZipLayout::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Offset of its head.
    pub offset: u64,
    /// Bytes of its data.
    pub size: u64,
    /// Version that its file must still have when it is opened; see
    /// [`FileIdentity::version`](crate::response::FileIdentity::version).
    pub version: u64,
    text: u32,
    target: u16,
    name: u16,
    /// CRC-32, valid if `is_known`.
    pub crc: u32,
    /// Modification time in seconds since 1970.
    pub modified: u32,
    /// Whether the CRC is known.
    pub is_known: bool,
    /// Whether a data descriptor follows the data.
    is_described: bool,
    is_directory: bool,
    is_utf8: bool,
}

impl Member {
    /// Creates a member from its line; `content` is the size in bytes, version and time of its file, or `None` for a
    /// directory.
    pub(super) fn new(
        line: &ListLine,
        name: &[u8],
        charset: Charset,
        content: Option<(u64, u64, u32)>,
    ) -> Self {
        let (size, version, modified) = content.unwrap_or_default();
        // Empty data has the CRC 0.
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

    /// Values that determine its records, except its name and what follows from its file; the CRC only if listed.
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

    /// Length of the name as written, including the final `/` of a directory, which a listed file may turn out to be.
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

    /// Offset of the data.
    pub fn data(&self, table: &ZipLayout) -> u64 {
        self.offset + self.head_length(table)
    }

    /// Offset of the end of the data, where the tail begins.
    pub fn tail(&self, table: &ZipLayout) -> u64 {
        self.data(table) + self.size
    }

    /// Offset of the next member.
    pub fn end(&self, table: &ZipLayout) -> u64 {
        self.tail(table) + self.tail_length()
    }
}

/// Members of an archive and their offsets.
#[derive(Debug)]
pub struct ZipLayout {
    text: Vec<u8>,
    /// Members in order.
    pub members: Vec<Member>,
    /// Offset of the central directory.
    pub directory: u64,
    /// Offset of the end of the central directory.
    pub end: u64,
}

/// Part of an archive that is generated and not copied from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Local file header of a member.
    Head(usize),
    /// Data descriptor of a member.
    Tail(usize),
    /// Entry of a member in the central directory.
    Entry(usize),
    /// End of the central directory.
    End,
}

impl ZipLayout {
    /// Computes the offsets of all members; `None` if the archive exceeds 2^62 bytes.
    pub fn new(text: Vec<u8>, mut members: Vec<Member>) -> Option<Self> {
        // Directories have no file to take a time from, and their time must not change from day to day.
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
            // Records are below 200 KiB each, so only sizes can overflow.
            offset = (offset + records).checked_add(member.size).filter(|end| *end < MOST_BYTES)?;
            entries += member.entry_length(&table);
        }
        table.members = members;
        table.directory = offset;
        table.end = offset + entries;
        Some(table)
    }

    /// Length of the archive in bytes.
    pub fn length(&self) -> u64 {
        self.end + self.end_length()
    }

    /// Target of a member, as listed.
    pub fn target(&self, member: &Member) -> &[u8] {
        let at = member.text as usize;
        &self.text[at..at + usize::from(member.target)]
    }

    /// Name of a member, made safe.
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

    /// Length of a record in bytes.
    pub fn record_length(&self, record: Record) -> u64 {
        match record {
            Record::Head(index) => self.members[index].head_length(self),
            Record::Tail(index) => self.members[index].tail_length(),
            Record::Entry(index) => self.members[index].entry_length(self),
            Record::End => self.end_length(),
        }
    }

    /// Appends a record. For a tail or an entry, the CRC of the member must be known.
    pub fn write(&self, record: Record, out: &mut Vec<u8>) {
        match record {
            Record::Head(index) => self.head(&self.members[index], out),
            Record::Tail(index) => tail(&self.members[index], out),
            Record::Entry(index) => self.entry(&self.members[index], out),
            Record::End => self.write_end(out),
        }
    }

    /// Writes the local file header (4.3.7).
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
            // Both sizes, although the directory has them too: a streaming reader needs them here.
            zip64_extra(out, &[member.size, member.size]);
        }
    }

    /// Writes an entry of the central directory (4.3.12).
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

    /// Writes the fields that heads and entries share: method, time, CRC, sizes, length of the name.
    fn common(&self, member: &Member, crc: u32, out: &mut Vec<u8>) {
        u16(out, 0);
        u32(out, time::dos(member.modified));
        u32(out, crc);
        // With a descriptor the standard requires 0 here; the sizes are known and help readers that do not use the
        // directory.
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

    /// Writes the end of the central directory (4.3.14 to 4.3.16).
    fn write_end(&self, out: &mut Vec<u8>) {
        let (members, size) = (self.members.len(), self.end - self.directory);
        if self.needs_zip64() {
            out.extend_from_slice(b"PK\x06\x06");
            // Number of bytes of this record that follow.
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

/// Writes the data descriptor (4.3.9), with the signature that every reader expects.
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

/// Writes Info-ZIP's extended timestamp: UTC, because MS-DOS times have no zone. The directory has the modification
/// time only.
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

    /// Layout of members of these sizes, with names of one byte.
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
