//! Heads that go on: as they came, but for what was changed.
//!
//! Fields keep their order and the spelling of their names; nothing is copied but what has changed.

use std::{borrow::Cow, ops::Range};

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{
    fields::EditHeaders,
    headers::{RawHeaders, is_same_name, length_bit},
};

/// Bytes of the values that are written into most heads: the client's address twice, a host, a port, an id.
const WRITTEN: usize = 192;

/// A head and its changes.
#[derive(Debug)]
pub(crate) struct HeaderEdits<'a> {
    received: &'a RawHeaders,
    /// Names whose fields as they came are gone, and what is there in their place, if anything.
    changes: Vec<(HeaderName, Change)>,
    /// Bit set of the lengths of these names.
    lengths: u64,
    /// Values that were written for it.
    written: BytesMut,
}

/// Edits of the fields that came.
#[derive(Debug)]
enum Change {
    Gone,
    Value(HeaderValue),
    /// Range of the value among those written.
    Written(Range<usize>),
}

/// Whether a field is about one connection, and ends where that does (RFC 9110 §7.6.1).
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    let named: &[&str] = match name.len() {
        2 => &["te"],
        7 => &["trailer", "upgrade"],
        10 => &["connection", "keep-alive"],
        14 => &["http2-settings"],
        16 => &["proxy-connection"],
        17 => &["transfer-encoding"],
        18 => &["proxy-authenticate"],
        _ => &[],
    };
    named.iter().any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()))
}

impl<'a> HeaderEdits<'a> {
    pub(crate) fn new(received: &'a RawHeaders) -> Self {
        Self { received, changes: Vec::with_capacity(8), lengths: 0, written: BytesMut::new() }
    }

    /// The head of a GET request with these fields.
    pub(crate) fn get_request(&self, target: &[u8]) -> BytesMut {
        let mut head = BytesMut::with_capacity(1024);
        head.put_slice(b"GET ");
        head.put_slice(target);
        head.put_slice(b" HTTP/1.1\r\n");
        self.write(&mut head);
        head.put_slice(b"\r\n");
        head
    }

    /// Writes the fields and no end: what frames the body may follow.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let lines = self.received;
        out.reserve(lines.bytes().len() + self.written.len() + 256);
        let is_changed = |name: &[u8]| {
            let mut changed = self.changes.iter().map(|(changed, _)| changed.as_str().as_bytes());
            self.lengths & length_bit(name) != 0 && changed.any(|changed| is_same_name(name, changed))
        };
        lines.write(out, |name| !is_hop_by_hop(name) && !is_changed(name));
        for (name, change) in &self.changes {
            if let Some(value) = self.value(change) {
                out.put_slice(name.as_str().as_bytes());
                out.put_slice(b": ");
                out.put_slice(value);
                out.put_slice(b"\r\n");
            }
        }
    }

    fn value<'s>(&'s self, change: &'s Change) -> Option<&'s [u8]> {
        match change {
            Change::Gone => None,
            Change::Value(value) => Some(value.as_bytes()),
            Change::Written(place) => Some(&self.written[place.clone()]),
        }
    }

    fn is_changed(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name.as_str().as_bytes()) != 0
            && self.changes.iter().any(|(changed, _)| changed == name)
    }

    fn push(&mut self, name: HeaderName, change: Change) {
        self.lengths |= length_bit(name.as_str().as_bytes());
        self.changes.push((name, change));
    }

    fn change(&mut self, name: HeaderName, change: Change) {
        if self.is_changed(&name) {
            self.changes.retain(|(changed, _)| *changed != name);
        }
        self.push(name, change);
    }
}

impl EditHeaders for HeaderEdits<'_> {
    fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        if !self.is_changed(name) {
            return self.received.get(name);
        }
        let mut changes = self.changes.iter().filter(|(changed, _)| changed == name);
        changes.find_map(|(_, change)| self.value(change))
    }

    fn each(&self, name: &HeaderName, take: impl FnMut(&[u8])) {
        if self.is_changed(name) {
            let there = self.changes.iter().filter(|(changed, _)| changed == name);
            there.filter_map(|(_, change)| self.value(change)).for_each(take);
        } else {
            self.received.values(name).for_each(take);
        }
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.change(name, Change::Value(value));
    }

    fn write(&mut self, name: HeaderName, write: impl FnOnce(&mut BytesMut)) {
        if self.written.capacity() == 0 {
            self.written.reserve(WRITTEN);
        }
        let start = self.written.len();
        write(&mut self.written);
        debug_assert!(
            HeaderValue::from_bytes(&self.written[start..]).is_ok(),
            "{name} has a value that is none"
        );
        self.change(name, Change::Written(start..self.written.len()));
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.is_changed(&name) {
            // Those that are there count as changed from now on.
            let there = self.received.values(&name);
            let there = there.filter_map(|value| HeaderValue::from_bytes(value).ok());
            self.changes.extend(there.map(|value| (name.clone(), Change::Value(value))));
        }
        self.push(name, Change::Value(value));
    }

    fn remove(&mut self, name: &HeaderName) {
        if self.is_changed(name) {
            self.changes.retain(|(changed, _)| changed != name);
        }
        if self.received.has(name) {
            self.push(name.clone(), Change::Gone);
        }
    }

    fn remove_if(&mut self, gone: impl Fn(&[u8]) -> bool) {
        self.changes.retain(|(changed, _)| !gone(changed.as_str().as_bytes()));
        for (name, _) in self.received.iter().filter(|(name, _)| gone(name)) {
            if let Ok(name) = HeaderName::from_bytes(name) {
                self.push(name, Change::Gone);
            }
        }
    }

    fn map(&self) -> Cow<'_, HeaderMap> {
        // Made when it is asked for, which most responses do not need.
        let mut map = self.received.map();
        for (name, _) in &self.changes {
            map.remove(name);
        }
        for (name, change) in &self.changes {
            if let Some(value) = self.value(change).and_then(|value| HeaderValue::from_bytes(value).ok()) {
                map.append(name.clone(), value);
            }
        }
        Cow::Owned(map)
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::message::request::{Request, read};

    fn received() -> Request {
        let head = b"GET / HTTP/1.1\r\nHOST: a\r\nX-one: 1\r\nx-Two: 2\r\nConnection: close\r\nX-One: 1b\r\n\
                     set-cookie: a=b\r\n\r\n";
        read(head, 0).unwrap().unwrap().0
    }

    fn written(edited: &HeaderEdits<'_>) -> String {
        let mut out = BytesMut::new();
        edited.write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_is_not_changed_goes_as_it_came() {
        let received = received();
        let expected = "HOST: a\r\nX-one: 1\r\nx-Two: 2\r\nX-One: 1b\r\nset-cookie: a=b\r\n";
        assert_eq!(written(&HeaderEdits::new(&received.head.headers)), expected);
    }

    #[test]
    fn changes_stand_in_the_place_of_all_of_their_name() {
        let received = received();
        let mut edited = HeaderEdits::new(&received.head.headers);
        let (one, two) = (HeaderName::from_static("x-one"), HeaderName::from_static("x-two"));
        edited.set(one.clone(), HeaderValue::from_static("new"));
        edited.remove(&two);
        edited.remove(&HeaderName::from_static("x-none"));
        edited.add(header::SET_COOKIE, HeaderValue::from_static("c=d"));
        assert_eq!(edited.get(&one), Some(&b"new"[..]));
        assert_eq!(edited.get(&two), None);
        assert_eq!(edited.get(&header::HOST), Some(&b"a"[..]));
        assert_eq!(written(&edited), "HOST: a\r\nx-one: new\r\nset-cookie: a=b\r\nset-cookie: c=d\r\n");
        let map = edited.map();
        assert_eq!(map.get_all(header::SET_COOKIE).into_iter().collect::<Vec<_>>(), ["a=b", "c=d"]);
        assert_eq!(map[&one], "new");
        assert!(!map.contains_key(&two), "the map has the changes");
        edited.remove(&one);
        assert_eq!(edited.get(&one), None);
        edited.remove_if(|name| name == b"set-cookie" || name.eq_ignore_ascii_case(b"host"));
        assert_eq!(written(&edited), "");
    }
}
