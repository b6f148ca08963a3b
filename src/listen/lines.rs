//! A head as it came: its bytes, and where the names and values of its fields are among them.

use bytes::Bytes;
use http::HeaderName;

use crate::answer::copy;

/// A head as it came, from its first line to the empty one.
#[derive(Debug)]
pub(crate) struct Lines {
    bytes: Bytes,
    fields: Vec<(Place, Place)>,
}

/// A part of a head, which is smaller than 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    length: u32,
}

impl Place {
    fn of(self, head: &[u8]) -> &[u8] {
        &head[self.start as usize..(self.start + self.length) as usize]
    }
}

impl Lines {
    /// A copy of `head`, in which the parser has found these fields.
    pub(crate) fn new(head: &[u8], fields: &[httparse::Header<'_>]) -> Self {
        let place = |text: &[u8]| {
            let start = (text.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
            Place { start: start as u32, length: text.len() as u32 }
        };
        let fields = fields.iter().map(|field| (place(field.name.as_bytes()), place(field.value))).collect();
        Self { bytes: copy(head), fields }
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The names and values of its fields, in their order and spelling.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.of(&self.bytes), value.of(&self.bytes)))
    }

    /// The same, values as parts of the whole that can be kept.
    pub(super) fn shared(&self) -> impl Iterator<Item = (&[u8], Bytes)> {
        let part =
            |place: Place| self.bytes.slice(place.start as usize..(place.start + place.length) as usize);
        self.fields.iter().map(move |(name, value)| (name.of(&self.bytes), part(*value)))
    }

    /// The values of all fields of that name.
    pub(crate) fn values<'h>(&'h self, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let name = name.as_str().as_bytes();
        // Nearly all are told apart by their lengths.
        let same_length = self.fields.iter().filter(|(came, _)| came.length as usize == name.len());
        let same = same_length.filter(|(came, _)| came.of(&self.bytes).eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.of(&self.bytes))
    }
}
