//! Header access for pingora's heads, which keep the spelling of names beside a map.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::message::{EditHeaders, names_if};

macro_rules! engine_head {
    ($head:ty) => {
        impl EditHeaders for $head {
            fn get(&self, name: &HeaderName) -> Option<&[u8]> {
                self.headers.get(name).map(HeaderValue::as_bytes)
            }

            fn each(&self, name: &HeaderName, take: impl FnMut(&[u8])) {
                self.headers.get_all(name).iter().map(HeaderValue::as_bytes).for_each(take);
            }

            fn set(&mut self, name: HeaderName, value: HeaderValue) {
                // Fails only for an invalid name, which `HeaderName` excludes.
                let _ = self.insert_header(name, value);
            }

            fn add(&mut self, name: HeaderName, value: HeaderValue) {
                // See `set`.
                let _ = self.append_header(name, value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }

            fn remove_if(&mut self, gone: impl Fn(&[u8]) -> bool) {
                for name in names_if(&self.headers, gone) {
                    self.remove_header(&name);
                }
            }

            fn map(&self) -> Cow<'_, HeaderMap> {
                Cow::Borrowed(&self.headers)
            }
        }
    };
}

engine_head!(RequestHeader);
engine_head!(ResponseHeader);
