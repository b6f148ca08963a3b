//! Position in an archive, or in a span of it: yields one part after the other.

use super::zip::{Record, ZipLayout};
use crate::files::range::ByteSpan;

/// Position in a span.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// Offset of the next byte.
    at: u64,
    /// Offset after the last byte.
    end: u64,
    place: PartPlace,
}

#[derive(Debug, Clone, Copy)]
enum PartPlace {
    Member(usize),
    /// An entry of the directory, and its offset.
    Entry(usize, u64),
}

/// The next part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkStep {
    /// Span of a record.
    Record(Record, ByteSpan),
    /// Span of a member's data.
    Data(usize, ByteSpan),
}

impl Walk {
    /// Starts at the beginning of `span`, which must lie within the archive.
    pub fn new(table: &ZipLayout, span: ByteSpan) -> Self {
        let place = if span.start < table.directory {
            // The last member that begins at or before the start.
            PartPlace::Member(table.members.partition_point(|member| member.offset <= span.start) - 1)
        } else {
            PartPlace::Entry(0, table.directory)
        };
        Self { at: span.start, end: span.end(), place }
    }

    /// Current part, limited to the span; `None` at the end. Stays the same until [`go`](Self::go) is called.
    pub fn step(&mut self, table: &ZipLayout) -> Option<WalkStep> {
        if self.at == self.end {
            return None;
        }
        loop {
            match self.place {
                PartPlace::Member(index) => {
                    let Some(member) = table.members.get(index) else {
                        self.place = PartPlace::Entry(0, table.directory);
                        continue;
                    };
                    let (data, tail, end) = (member.data(table), member.tail(table), member.end(table));
                    if self.at < data {
                        return Some(WalkStep::Record(Record::Head(index), self.part(member.offset, data)));
                    } else if self.at < tail {
                        return Some(WalkStep::Data(index, self.part(data, tail)));
                    } else if self.at < end {
                        return Some(WalkStep::Record(Record::Tail(index), self.part(tail, end)));
                    }
                    self.place = PartPlace::Member(index + 1);
                }
                PartPlace::Entry(index, start) => {
                    let record = if index < table.members.len() { Record::Entry(index) } else { Record::End };
                    let end = start + table.record_length(record);
                    if self.at < end {
                        return Some(WalkStep::Record(record, self.part(start, end)));
                    }
                    self.place = PartPlace::Entry(index + 1, end);
                }
            }
        }
    }

    /// Advances by this many bytes, at most to the end of the current part.
    pub fn go(&mut self, bytes: u64) {
        self.at += bytes;
    }

    /// Whether the CRC of a member is still needed: its tail or its entry is in the rest of the span.
    pub fn wants_crc(&self, table: &ZipLayout, index: usize) -> bool {
        let member = &table.members[index];
        let overlaps = |start: u64, end: u64| start < self.end && self.at < end;
        overlaps(member.tail(table), member.end(table)) || overlaps(table.directory, table.end)
    }

    /// Rest of the part from `start` to `end`, relative to its start.
    fn part(&self, start: u64, end: u64) -> ByteSpan {
        ByteSpan { start: self.at - start, length: end.min(self.end) - self.at }
    }
}
