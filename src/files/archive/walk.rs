//! The way through an archive, or through a span of it, one part after the other.

use super::zip::{Record, ZipLayout};
use crate::files::range::ByteSpan;

/// Where a span is being sent.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The next byte.
    at: u64,
    /// The place after the last one.
    end: u64,
    place: PartPlace,
}

#[derive(Debug, Clone, Copy)]
enum PartPlace {
    Member(usize),
    /// An entry of the directory, and where it begins.
    Entry(usize, u64),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkStep {
    /// These bytes of a record.
    Record(Record, ByteSpan),
    /// These bytes of a member's data.
    Data(usize, ByteSpan),
}

impl Walk {
    /// Goes through `span`, which is within the archive.
    pub fn new(table: &ZipLayout, span: ByteSpan) -> Self {
        let place = if span.start < table.directory {
            // The last one that begins before or at it.
            PartPlace::Member(table.members.partition_point(|member| member.offset <= span.start) - 1)
        } else {
            PartPlace::Entry(0, table.directory)
        };
        Self { at: span.start, end: span.end(), place }
    }

    /// The part at hand, as much of it as is wanted; `None` at the end. Stays there until it is told to
    /// [`go`](Self::go).
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

    /// Leaves this many bytes behind, not more than the part at hand has.
    pub fn go(&mut self, bytes: u64) {
        self.at += bytes;
    }

    /// Whether the CRC of a member will still be wanted: its tail or its entry is in the span.
    pub fn wants_crc(&self, table: &ZipLayout, index: usize) -> bool {
        let member = &table.members[index];
        let overlaps = |start: u64, end: u64| start < self.end && self.at < end;
        overlaps(member.tail(table), member.end(table)) || overlaps(table.directory, table.end)
    }

    /// What is left of the part from `start` to `end`, counted from its start.
    fn part(&self, start: u64, end: u64) -> ByteSpan {
        ByteSpan { start: self.at - start, length: end.min(self.end) - self.at }
    }
}
