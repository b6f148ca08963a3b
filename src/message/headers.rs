//! A head as it came: its bytes, and where the names and values of its fields are among them.

use std::borrow::Borrow;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A head as it came, from its first line to the empty one.
#[derive(Debug, Default)]
pub(crate) struct RawHeaders {
    bytes: Bytes,
    fields: Vec<(HeaderSpan, HeaderSpan)>,
    /// Bit set of the lengths of the names.
    lengths: u64,
}

/// A part of a head, which is smaller than 4 GiB.
#[derive(Debug, Clone, Copy)]
struct HeaderSpan {
    start: u32,
    length: u32,
}

impl HeaderSpan {
    fn of(self, head: &[u8]) -> &[u8] {
        &head[self.start as usize..(self.start + self.length) as usize]
    }
}

impl RawHeaders {
    /// A copy of `head`, in which the parser has found these fields.
    pub(crate) fn new(head: &[u8], fields: &[httparse::Header<'_>]) -> Self {
        Self::found_in(head, head, fields)
    }

    /// A copy of `kept`; the parser has found these fields at the same places of `head`.
    pub(crate) fn found_in(head: &[u8], kept: &[u8], fields: &[httparse::Header<'_>]) -> Self {
        let place = |text: &[u8]| {
            let start = (text.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
            HeaderSpan { start: start as u32, length: text.len() as u32 }
        };
        let lengths = fields.iter().fold(0, |lengths, field| lengths | length_bit(field.name.as_bytes()));
        let fields = fields.iter().map(|field| (place(field.name.as_bytes()), place(field.value))).collect();
        Self { bytes: Bytes::copy_from_slice(kept), fields, lengths }
    }

    /// A part of `head`, of which this is a copy.
    pub(crate) fn part(&self, head: &[u8], part: &[u8]) -> Bytes {
        let start = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        self.bytes.slice(start..start + part.len())
    }

    /// Bytes of the whole block.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The names and values of its fields, in their order and spelling.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.of(&self.bytes), value.of(&self.bytes)))
    }

    /// Writes the fields whose names are `kept`, each with `: ` behind its name.
    ///
    /// Nearly all came so, and are written together with their neighbours.
    pub(crate) fn write(&self, out: &mut BytesMut, kept: impl Fn(&[u8]) -> bool) {
        // What is to be written as it came.
        let mut run = 0..0;
        for (name, value) in &self.fields {
            let text = name.of(&self.bytes);
            if !kept(text) {
                continue;
            }
            let (start, end) = (name.start as usize, (value.start + value.length) as usize);
            let between = &self.bytes[start + text.len()..value.start as usize];
            if between == b": " && self.bytes[end..].starts_with(b"\r\n") {
                if run.end != start {
                    out.extend_from_slice(&self.bytes[run]);
                    run = start..start;
                }
                run.end = end + 2;
            } else {
                out.extend_from_slice(&self.bytes[std::mem::replace(&mut run, 0..0)]);
                out.extend_from_slice(text);
                out.extend_from_slice(b": ");
                out.extend_from_slice(value.of(&self.bytes));
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(&self.bytes[run]);
    }

    /// Copies the headers into a map.
    pub(crate) fn map(&self) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in self.iter() {
            // What was read is a name and a value.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    /// The value of the first field of that name.
    pub(crate) fn get(&self, name: impl Borrow<HeaderName>) -> Option<&[u8]> {
        let at = self.find(name.borrow().as_str().as_bytes(), 0)?;
        Some(self.fields[at].1.of(&self.bytes))
    }

    /// Value of a header, if it is text: visible ASCII, spaces and tabs (RFC 9110 §5.5).
    pub(crate) fn text(&self, name: impl Borrow<HeaderName>) -> Option<&str> {
        self.get(name).and_then(text)
    }

    /// Whether there is a field of that name.
    pub(crate) fn has(&self, name: impl Borrow<HeaderName>) -> bool {
        self.get(name).is_some()
    }

    /// The values of all fields of that name.
    pub(crate) fn values<'h>(&'h self, name: &'h HeaderName) -> impl Iterator<Item = &'h [u8]> {
        let name = name.as_str().as_bytes();
        let mut next = 0;
        std::iter::from_fn(move || {
            let at = self.find(name, next)?;
            next = at + 1;
            Some(self.fields[at].1.of(&self.bytes))
        })
    }

    /// The place of the first field of that name, which is in lower case, from the one at `from` on.
    fn find(&self, name: &[u8], from: usize) -> Option<usize> {
        if self.lengths & length_bit(name) == 0 {
            return None;
        }
        let rest = self.fields.get(from..)?;
        let is_it = |(came, _): &(HeaderSpan, HeaderSpan)| {
            came.length as usize == name.len() && is_same_name(came.of(&self.bytes), name)
        };
        Some(from + rest.iter().position(is_it)?)
    }
}

/// The bit of a name's length in a set of lengths, by which nearly all names are told that are not there.
pub(crate) fn length_bit(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

/// Whether a name as it came is `name`, which is in lower case. Most others of its length begin with another letter.
#[inline]
pub(crate) fn is_same_name(came: &[u8], name: &[u8]) -> bool {
    match (came, name) {
        ([one, ..], [other, ..]) => (one | 0x20) == (other | 0x20) && came.eq_ignore_ascii_case(name),
        _ => came.len() == name.len(),
    }
}

/// A value as text, if it is: visible ASCII, spaces and tabs.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    std::str::from_utf8(value).ok().filter(|_| is_text)
}

#[cfg(any(test, fuzzing))]
impl RawHeaders {
    /// Headers of a request with these fields.
    pub(crate) fn of(fields: &[(&str, &str)]) -> Self {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Self::parsed(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes())
    }

    fn parsed(head: &[u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut parsed = httparse::Request::new(&mut fields);
        assert!(parsed.parse(head).is_ok_and(|parsed| parsed.is_complete()), "{}", head.escape_ascii());
        Self::new(head, parsed.headers)
    }
}

#[cfg(any(test, fuzzing))]
impl From<&HeaderMap> for RawHeaders {
    fn from(map: &HeaderMap) -> Self {
        let mut head = BytesMut::from("GET / HTTP/1.1\r\n");
        crate::message::fields::write_fields(&mut head, map);
        Self::parsed(&head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_written_in_one_form() {
        let head = b"GET / HTTP/1.1\r\nA: 1\r\nb:2\r\nC:  3 \r\nd: 4\r\nE: 5\r\nF:\r\nG: \r\nH:\t6\r\n\r\n";
        let lines = RawHeaders::parsed(head);
        let written = |gone: &[u8]| {
            let mut out = BytesMut::new();
            lines.write(&mut out, |name| !gone.contains(&name[0]));
            String::from_utf8(out.to_vec()).unwrap()
        };
        let all = "A: 1\r\nb: 2\r\nC: 3\r\nd: 4\r\nE: 5\r\nF: \r\nG: \r\nH: 6\r\n";
        assert_eq!(written(b""), all);
        assert_eq!(written(b"bdG"), "A: 1\r\nC: 3\r\nE: 5\r\nF: \r\nH: 6\r\n");
        assert_eq!(written(b"AbCdEFGH"), "");
    }
}
