//! Heads that go on: as they came, but for what was changed.
//!
//! Fields keep their order and the spelling of their names; nothing is copied but what has changed.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::answer::{Fields, write_field};

/// A head and its changes.
#[derive(Debug)]
pub(crate) struct Edited<'a> {
    received: &'a HeaderMap,
    /// Names whose fields as they came are gone, and what is there in their place, if anything.
    changes: Vec<(HeaderName, Option<HeaderValue>)>,
}

/// Fields about one connection, which end where it does (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

impl<'a> Edited<'a> {
    pub(crate) fn new(received: &'a HeaderMap) -> Self {
        Self { received, changes: Vec::with_capacity(8) }
    }

    /// Writes the fields, of which `lines` are those that came, and no end: what frames the body may follow.
    pub(crate) fn write<'l>(&self, out: &mut BytesMut, lines: impl Iterator<Item = (&'l [u8], &'l [u8])>) {
        for (name, value) in lines {
            let is_gone = |gone: &str| name.eq_ignore_ascii_case(gone.as_bytes());
            if !HOP_BY_HOP.iter().any(|gone| is_gone(gone))
                && !self.changes.iter().any(|(gone, _)| is_gone(gone.as_str()))
            {
                out.reserve(name.len() + value.len() + 4);
                out.put_slice(name);
                out.put_slice(b": ");
                out.put_slice(value);
                out.put_slice(b"\r\n");
            }
        }
        for (name, value) in &self.changes {
            if let Some(value) = value {
                write_field(out, name, value);
            }
        }
    }

    fn is_changed(&self, name: &HeaderName) -> bool {
        self.changes.iter().any(|(changed, _)| changed == name)
    }
}

impl Fields for Edited<'_> {
    fn received(&self) -> &HeaderMap {
        self.received
    }

    fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut changes = self.changes.iter().filter(|(changed, _)| changed == name).peekable();
        if changes.peek().is_none() {
            return self.received.get(name);
        }
        changes.find_map(|(_, value)| value.as_ref())
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.changes.retain(|(changed, _)| *changed != name);
        self.changes.push((name, Some(value)));
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.is_changed(&name) {
            // Those that are there count as changed from now on.
            for there in self.received.get_all(&name) {
                self.changes.push((name.clone(), Some(there.clone())));
            }
        }
        self.changes.push((name, Some(value)));
    }

    fn remove(&mut self, name: &HeaderName) {
        self.changes.retain(|(changed, _)| changed != name);
        if self.received.contains_key(name) {
            self.changes.push((name.clone(), None));
        }
    }
}

/// Whether a field that is a list has this word in it.
pub(super) fn has_word(fields: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = fields.get_all(name).iter();
    let mut words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.any(|entry| entry.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether the other side wants the connection to end after this exchange.
pub(super) fn closes(fields: &HeaderMap) -> bool {
    has_word(fields, header::CONNECTION, "close")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [(&str, &str); 6] = [
        ("HOST", "a"),
        ("X-one", "1"),
        ("x-Two", "2"),
        ("Connection", "close"),
        ("X-One", "1b"),
        ("set-cookie", "a=b"),
    ];

    fn received() -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in LINES {
            fields.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value));
        }
        fields
    }

    fn written(edited: &Edited<'_>) -> String {
        let mut out = BytesMut::new();
        edited.write(&mut out, LINES.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
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
        assert_eq!(edited.get(&one).unwrap(), "new");
        assert_eq!(edited.get(&two), None);
        assert_eq!(written(&edited), "HOST: a\r\nX-One: new\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n");
        edited.remove(&one);
        assert_eq!(edited.get(&one), None);
    }

    #[test]
    fn words_are_found_in_lists() {
        let mut fields = HeaderMap::new();
        fields.append("connection", HeaderValue::from_static("keep-alive, Close"));
        assert!(closes(&fields));
        assert!(!has_word(&fields, header::CONNECTION, "clos"));
    }
}
