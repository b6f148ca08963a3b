//! Fields of heads, whatever type keeps them.

use std::borrow::Cow;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::message::text::value;

/// A head whose fields can be changed. Heads on their way keep changes beside the bytes that came, and heads of our own are
/// maps; rules about fields need not know.
pub(crate) trait EditHeaders {
    /// The value of the first of that name, as it is now.
    fn get(&self, name: &HeaderName) -> Option<&[u8]>;
    /// The values of all of that name, as they are now.
    fn each(&self, name: &HeaderName, take: impl FnMut(&[u8]));
    /// Sets one, in place of all of that name.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Sets one to what `write` writes, which is visible ASCII.
    fn write(&mut self, name: HeaderName, write: impl FnOnce(&mut BytesMut)) {
        self.set(name, value(write));
    }
    /// Adds one beside those of that name.
    fn add(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all of that name.
    fn remove(&mut self, name: &HeaderName);
    /// Removes all whose names, in whatever case they came, are `gone`.
    fn remove_if(&mut self, gone: impl Fn(&[u8]) -> bool);
    /// Copies the headers as they are now.
    fn map(&self) -> Cow<'_, HeaderMap>;
}

/// Named in `Connection` or not, these belong to the message and stay (RFC 9110 §7.6.1 forbids naming them); framing
/// and upgrades are dealt with by themselves.
const KEPT: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::AUTHORIZATION,
];

/// The fields that end at us because `Connection` says so (RFC 9110 §7.6.1).
///
/// `each` hands over the values of `Connection`.
pub(crate) fn named_in_connection(each: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<HeaderName> {
    let mut names = Vec::new();
    each(&mut |value| {
        let words = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // Nearly always there is no other.
        let words = words.filter(|word| {
            ![&b"close"[..], b"keep-alive"].iter().any(|usual| word.eq_ignore_ascii_case(usual))
        });
        let named = words.filter_map(|word| HeaderName::from_bytes(word).ok());
        names.extend(named.filter(|name| !KEPT.contains(name)));
    });
    names
}

/// Writes the length of a body in digits that nobody reads in another way: `010` is eight to some.
pub(crate) fn write_plain_length(head: &mut impl EditHeaders) {
    let length = head.get(&header::CONTENT_LENGTH).filter(|length| length.len() > 1 && length[0] == b'0');
    let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse::<u64>().ok());
    if let Some(length) = length {
        head.set(header::CONTENT_LENGTH, length.into());
    }
}

/// The names in `fields` that are `gone`.
fn names_if(fields: &HeaderMap, gone: impl Fn(&[u8]) -> bool) -> Vec<HeaderName> {
    fields.keys().filter(|name| gone(name.as_str().as_bytes())).cloned().collect()
}

/// Whether a name, in whatever case it came, starts like that.
pub(crate) fn starts_with(name: &[u8], start: &[u8]) -> bool {
    name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

/// Whether a value that is a list has this word in it, in whatever case it came.
pub(crate) fn has_word(list: &[u8], word: &[u8]) -> bool {
    let is_it = |entry: &[u8]| entry.trim_ascii().eq_ignore_ascii_case(word);
    match memchr::memchr(b',', list) {
        Some(_) => list.split(|byte| *byte == b',').any(is_it),
        // Nearly always it is one word.
        None => is_it(list),
    }
}

/// Writes the fields of a head and the empty line that ends it (RFC 9112 §5).
pub(crate) fn write_fields(head: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        write_field(head, name, value);
    }
    head.extend_from_slice(b"\r\n");
}

/// Header names that most responses have.
const SPELLED: [(HeaderName, &str); 7] = [
    (header::CONTENT_TYPE, "Content-Type"),
    (header::ETAG, "ETag"),
    (header::LAST_MODIFIED, "Last-Modified"),
    (header::ACCEPT_RANGES, "Accept-Ranges"),
    (header::CACHE_CONTROL, "Cache-Control"),
    (header::EXPIRES, "Expires"),
    (header::VARY, "Vary"),
];

/// Writes a name with a capital at the start of each of its words.
fn spell(head: &mut BytesMut, name: &HeaderName) {
    let start = head.len();
    head.extend_from_slice(name.as_str().as_bytes());
    let spelled = &mut head[start..];
    for at in 0..spelled.len() {
        if at == 0 || spelled[at - 1] == b'-' {
            spelled[at].make_ascii_uppercase();
        }
    }
}

/// Writes one field, its name spelled as people know it: `Content-Type`.
pub(crate) fn write_field(head: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    head.reserve(name.as_str().len() + value.len() + 4);
    match SPELLED.iter().find(|(known, _)| known == name) {
        Some((_, spelled)) => head.extend_from_slice(spelled.as_bytes()),
        None => spell(head, name),
    }
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

impl EditHeaders for HeaderMap {
    fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        Self::get(self, name).map(HeaderValue::as_bytes)
    }

    fn each(&self, name: &HeaderName, take: impl FnMut(&[u8])) {
        self.get_all(name).iter().map(HeaderValue::as_bytes).for_each(take);
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.append(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        Self::remove(self, name);
    }

    fn remove_if(&mut self, gone: impl Fn(&[u8]) -> bool) {
        for name in names_if(self, gone) {
            Self::remove(self, name);
        }
    }

    fn map(&self) -> Cow<'_, HeaderMap> {
        Cow::Borrowed(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_fields_end_here_and_needed_ones_do_not() {
        let mut received = HeaderMap::new();
        received.append(header::CONNECTION, HeaderValue::from_static("close, X-Hop"));
        received.append(header::CONNECTION, HeaderValue::from_static("host, \"x\", Cookie"));
        assert_eq!(named_in_connection(|take| received.each(&header::CONNECTION, take)), ["x-hop", "cookie"]);
    }

    #[test]
    fn words_are_found_in_lists() {
        let values = [&b"keep-alive, Close"[..], b"x"];
        let has = |word: &[u8]| values.iter().any(|value| has_word(value, word));
        assert!(has(b"close") && has(b"x"));
        assert!(!has(b"clos"));
    }

    #[test]
    fn a_length_has_no_zeros_before_it() {
        for (came, goes) in [("0", "0"), ("000", "0"), ("010", "10"), ("10", "10")] {
            let mut head = HeaderMap::new();
            head.insert(header::CONTENT_LENGTH, HeaderValue::from_static(came));
            write_plain_length(&mut head);
            assert_eq!(head[header::CONTENT_LENGTH], goes, "{came}");
        }
    }

    #[test]
    fn names_are_spelled_as_people_know_them() {
        let mut fields = HeaderMap::new();
        fields.append("x-request-id", HeaderValue::from_static("a-b"));
        fields.append("etag", HeaderValue::from_static("c"));
        let mut head = BytesMut::new();
        write_fields(&mut head, &fields);
        assert_eq!(head, "X-Request-Id: a-b\r\nETag: c\r\n\r\n");
    }
}
