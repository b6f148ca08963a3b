//! Fields of heads, whatever type keeps them.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

/// A head whose fields can be changed. The engine's own heads keep the spelling of names beside the map, so
/// they are changed through their own methods; rules about fields need not know.
pub(crate) trait Fields {
    /// The fields as they are.
    fn fields(&self) -> &HeaderMap;
    /// Sets one, in place of all of that name.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all of that name.
    fn remove(&mut self, name: &HeaderName);
}

/// Writes the fields of a head and the empty line that ends it (RFC 9112 §5).
pub(crate) fn write_fields(head: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
}

impl Fields for HeaderMap {
    fn fields(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        Self::remove(self, name);
    }
}

/// The engine's heads.
macro_rules! engine_head {
    ($head:ty) => {
        impl Fields for $head {
            fn fields(&self) -> &HeaderMap {
                &self.headers
            }

            fn set(&mut self, name: HeaderName, value: HeaderValue) {
                // Fails only for a name that is none, which this type excludes.
                let _ = self.insert_header(name, value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
        }
    };
}

engine_head!(RequestHeader);
engine_head!(ResponseHeader);
