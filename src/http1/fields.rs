//! Heads that go on: as they came, but for what was changed.
//!
//! Fields keep their order and the spelling of their names; nothing is copied but what has changed.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{answer::Fields, listen::Request};

/// A head as it came.
pub(crate) trait Received {
    /// The names and values of its fields, in their order and spelling.
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
    /// The value of the first field of that name.
    fn get(&self, name: &HeaderName) -> Option<&[u8]>;
    /// All fields.
    fn map(&self) -> Cow<'_, HeaderMap>;
}

/// A head and its changes.
#[derive(Debug)]
pub(crate) struct Edited<'a, R> {
    received: &'a R,
    /// Names whose fields as they came are gone, and what is there in their place, if anything.
    changes: Vec<(HeaderName, Option<HeaderValue>)>,
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

impl<'a, R: Received> Edited<'a, R> {
    pub(crate) fn new(received: &'a R) -> Self {
        Self { received, changes: Vec::with_capacity(8) }
    }

    /// Writes the fields and no end: what frames the body may follow.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let mut field = |name: &[u8], value: &[u8]| {
            out.reserve(name.len() + value.len() + 4);
            out.put_slice(name);
            out.put_slice(b": ");
            out.put_slice(value);
            out.put_slice(b"\r\n");
        };
        for (name, value) in self.received.lines() {
            let is_it = |gone: &HeaderName| is_named(name, gone);
            if !is_hop_by_hop(name) && !self.changes.iter().any(|(gone, _)| is_it(gone)) {
                field(name, value);
            }
        }
        for (name, value) in &self.changes {
            if let Some(value) = value {
                field(name.as_str().as_bytes(), value.as_bytes());
            }
        }
    }

    fn is_changed(&self, name: &HeaderName) -> bool {
        self.changes.iter().any(|(changed, _)| changed == name)
    }
}

/// Whether a name as it came is this one.
fn is_named(came: &[u8], name: &HeaderName) -> bool {
    came.eq_ignore_ascii_case(name.as_str().as_bytes())
}

impl<R: Received> Fields for Edited<'_, R> {
    fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let mut changes = self.changes.iter().filter(|(changed, _)| changed == name).peekable();
        if changes.peek().is_none() {
            return self.received.get(name);
        }
        changes.find_map(|(_, value)| value.as_ref().map(HeaderValue::as_bytes))
    }

    fn each(&self, name: &HeaderName, mut take: impl FnMut(&[u8])) {
        if self.is_changed(name) {
            let there = self.changes.iter().filter(|(changed, _)| changed == name);
            there.filter_map(|(_, value)| value.as_ref()).for_each(|value| take(value.as_bytes()));
        } else {
            let there = self.received.lines().filter(|(came, _)| is_named(came, name));
            there.for_each(|(_, value)| take(value));
        }
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        if self.is_changed(&name) {
            self.changes.retain(|(changed, _)| *changed != name);
        }
        self.changes.push((name, Some(value)));
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.is_changed(&name) {
            // Those that are there count as changed from now on.
            let there = self.received.lines().filter(|(came, _)| is_named(came, &name));
            let there = there.filter_map(|(_, value)| HeaderValue::from_bytes(value).ok());
            self.changes.extend(there.map(|value| (name.clone(), Some(value))));
        }
        self.changes.push((name, Some(value)));
    }

    fn remove(&mut self, name: &HeaderName) {
        self.changes.retain(|(changed, _)| changed != name);
        if self.received.get(name).is_some() {
            self.changes.push((name.clone(), None));
        }
    }

    fn remove_if(&mut self, gone: impl Fn(&[u8]) -> bool) {
        self.changes.retain(|(changed, _)| !gone(changed.as_str().as_bytes()));
        let mut room = [0; 64];
        for (name, _) in self.received.lines() {
            let mut long;
            let name = match room.get_mut(..name.len()) {
                Some(room) => {
                    room.copy_from_slice(name);
                    room
                }
                None => {
                    long = name.to_vec();
                    &mut long[..]
                }
            };
            name.make_ascii_lowercase();
            if gone(name)
                && let Ok(name) = HeaderName::from_bytes(name)
            {
                self.changes.push((name, None));
            }
        }
    }

    fn map(&self) -> Cow<'_, HeaderMap> {
        self.received.map()
    }
}

/// Whether one of these values, each a list, has this word in it.
pub(super) fn has_word<'v>(mut values: impl Iterator<Item = &'v [u8]>, word: &str) -> bool {
    let mut entries = values.by_ref().flat_map(|value| value.split(|byte| *byte == b','));
    entries.any(|entry| entry.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

impl Received for Request {
    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter()
    }

    fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.parts.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn map(&self) -> Cow<'_, HeaderMap> {
        Cow::Borrowed(&self.parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::listen::read;

    fn received() -> Request {
        let head = b"GET / HTTP/1.1\r\nHOST: a\r\nX-one: 1\r\nx-Two: 2\r\nConnection: close\r\nX-One: 1b\r\n\
                     set-cookie: a=b\r\n\r\n";
        read(head, 0).unwrap().unwrap().0
    }

    fn written(edited: &Edited<'_, Request>) -> String {
        let mut out = BytesMut::new();
        edited.write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn what_is_not_changed_goes_as_it_came() {
        let received = received();
        let expected = "HOST: a\r\nX-one: 1\r\nx-Two: 2\r\nX-One: 1b\r\nset-cookie: a=b\r\n";
        assert_eq!(written(&Edited::new(&received)), expected);
    }

    #[test]
    fn changes_stand_in_the_place_of_all_of_their_name() {
        let received = received();
        let mut edited = Edited::new(&received);
        let (one, two) = (HeaderName::from_static("x-one"), HeaderName::from_static("x-two"));
        edited.set(one.clone(), HeaderValue::from_static("new"));
        edited.remove(&two);
        edited.remove(&HeaderName::from_static("x-none"));
        edited.add(header::SET_COOKIE, HeaderValue::from_static("c=d"));
        assert_eq!(edited.get(&one), Some(&b"new"[..]));
        assert_eq!(edited.get(&two), None);
        assert_eq!(edited.get(&header::HOST), Some(&b"a"[..]));
        assert_eq!(written(&edited), "HOST: a\r\nx-one: new\r\nset-cookie: a=b\r\nset-cookie: c=d\r\n");
        edited.remove(&one);
        assert_eq!(edited.get(&one), None);
        edited.remove_if(|name| name == b"set-cookie" || name == b"host");
        assert_eq!(written(&edited), "");
    }

    #[test]
    fn words_are_found_in_lists() {
        let values = || [&b"keep-alive, Close"[..], b"x"].into_iter();
        assert!(has_word(values(), "close") && has_word(values(), "x"));
        assert!(!has_word(values(), "clos"));
    }
}
