//! Fields of heads, whatever type keeps them.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// A head whose fields can be changed. The engine's own heads keep the spelling of names beside the map, and ours
/// keep changes beside the bytes that came, so they are changed through these; rules about fields need not know.
pub(crate) trait Fields {
    /// The fields as they came; changes may be seen here or not.
    fn received(&self) -> &HeaderMap;
    /// The first of that name, as it is now.
    fn get(&self, name: &HeaderName) -> Option<&HeaderValue>;
    /// Sets one, in place of all of that name.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Adds one beside those of that name.
    fn add(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all of that name.
    fn remove(&mut self, name: &HeaderName);
}

/// Writes the fields of a head and the empty line that ends it (RFC 9112 §5).
pub(crate) fn write_fields(head: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        write_field(head, name, value);
    }
    head.extend_from_slice(b"\r\n");
}

/// Writes one field, its name spelled as people know it: `Content-Type`.
pub(crate) fn write_field(head: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    head.reserve(name.as_str().len() + value.len() + 4);
    let start = head.len();
    head.extend_from_slice(name.as_str().as_bytes());
    let mut begins = true;
    for byte in &mut head[start..] {
        if begins {
            byte.make_ascii_uppercase();
        }
        begins = *byte == b'-';
    }
    head.extend_from_slice(b": ");
    head.extend_from_slice(value.as_bytes());
    head.extend_from_slice(b"\r\n");
}

impl Fields for HeaderMap {
    fn received(&self) -> &HeaderMap {
        self
    }

    fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        Self::get(self, name)
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
}

/// The engine's heads.
macro_rules! engine_head {
    ($head:ty) => {
        impl Fields for $head {
            fn received(&self) -> &HeaderMap {
                &self.headers
            }

            fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
                self.headers.get(name)
            }

            fn set(&mut self, name: HeaderName, value: HeaderValue) {
                // Fails only for a name that is none, which this type excludes.
                let _ = self.insert_header(name, value);
            }

            fn add(&mut self, name: HeaderName, value: HeaderValue) {
                // As above.
                let _ = self.append_header(name, value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
        }
    };
}

engine_head!(RequestHeader);
engine_head!(ResponseHeader);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_people_know_them() {
        let mut fields = HeaderMap::new();
        fields.append("x-request-id", HeaderValue::from_static("a-b"));
        let mut head = BytesMut::new();
        write_fields(&mut head, &fields);
        assert_eq!(head, "X-Request-Id: a-b\r\n\r\n");
    }
}
