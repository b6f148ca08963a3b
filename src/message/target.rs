//! The target of a request, byte for byte as it came (RFC 9112 §3.2).
//!
//! Clients send characters raw that a URI may only have encoded (RFC 3986 §2): `{"a":1}` in a query, Latin-1 in a path.
//! Servers get them as nginx hands them over, as they came; the `http` crate's `Uri` would refuse them.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::message::{authority::Authority, request::Refusal};

/// A target.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RequestTarget {
    /// Whole target: a path and a query, `*`, or the URL of one.
    text: Bytes,
    /// Start and end of the path, behind the authority of a URL.
    path: u32,
    query: u32,
    /// Start of the authority; the same as the path's where there is none.
    authority: u32,
}

/// Bytes that cannot stand in a URI as they are (RFC 3986 §2); what is encoded already stays.
pub(crate) const NOT_IN_URIS: AsciiSet = CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

impl RequestTarget {
    /// Reads a target: a path, or a URL for the same host that `Host` names.
    ///
    /// # Errors
    ///
    /// What is no target, or that of a request that nobody here can serve.
    pub(crate) fn read(method: &Method, text: Bytes, host: Option<Authority<'_>>) -> Result<Self, Refusal> {
        if *method == Method::CONNECT {
            // Its client takes for a tunnel what follows: the connection ends.
            return Err(Refusal::NO_TUNNELS);
        }
        let starts_with =
            |scheme: &[u8]| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let scheme = [(&b"http://"[..], 80), (b"https://", 443)];
        let scheme = scheme.into_iter().find(|(scheme, _)| starts_with(scheme));
        let is_server = *text == b"*"[..] && *method == Method::OPTIONS;
        if scheme.is_none() && !is_server && text.first() != Some(&b'/') {
            return Err(Refusal::bad("The target is neither a path nor the URL of one."));
        }
        if text.contains(&b'#') {
            return Err(Refusal::bad("The target holds a fragment, which is nothing for a server."));
        }
        let (authority, path) = match scheme {
            None => (0, 0),
            Some((scheme, usual)) => {
                let length = text[scheme.len()..].iter().position(|byte| matches!(byte, b'/' | b'?'));
                let end = length.map_or(text.len(), |length| scheme.len() + length);
                // A name of somebody before the host is deceit (RFC 9110 §4.2.4); `Host` is held to the same.
                let Some(named) = Authority::read(&text[scheme.len()..end]) else {
                    return Err(Refusal::bad("The host of the target is not a name or an address."));
                };
                if host.is_some_and(|host| !host.is(named, usual)) {
                    return Err(Refusal::bad("The target and Host name different hosts."));
                }
                if *method == Method::OPTIONS && end == text.len() {
                    // About the server as a whole (RFC 9112 §3.2.4).
                    return Ok(Self::whole_server());
                }
                (scheme.len(), end)
            }
        };
        let query = memchr::memchr(b'?', &text[path..]).map_or(text.len(), |at| path + at);
        // No longer than a head.
        Ok(Self { authority: authority as u32, path: path as u32, query: query as u32, text })
    }

    /// `*`
    fn whole_server() -> Self {
        Self { text: Bytes::from_static(b"*"), authority: 0, path: 0, query: 1 }
    }

    /// The path, `/` where a URL has none.
    pub(crate) fn path(&self) -> &[u8] {
        match &self.text[self.path as usize..self.query as usize] {
            [] => b"/",
            path => path,
        }
    }

    /// Query, without the question mark.
    pub(crate) fn query(&self) -> Option<&[u8]> {
        self.text.get(self.query as usize + 1..)
    }

    /// Path and query; of a URL without a path, the query alone.
    pub(crate) fn path_and_query(&self) -> &[u8] {
        match &self.text[self.path as usize..] {
            [] => b"/",
            target => target,
        }
    }

    /// The host and port of a URL.
    pub(crate) fn authority(&self) -> Option<&str> {
        let authority = &self.text[self.authority as usize..self.path as usize];
        std::str::from_utf8(authority).ok().filter(|authority| !authority.is_empty())
    }

    /// Path and query as they can stand in a URI.
    pub(crate) fn quoted(&self) -> Cow<'_, str> {
        percent_encode(self.path_and_query(), &NOT_IN_URIS).into()
    }

    /// Path and query for people; what is not UTF-8 is encoded.
    pub(crate) fn shown(&self) -> Cow<'_, str> {
        std::str::from_utf8(self.path_and_query()).map_or_else(|_| self.quoted(), Cow::Borrowed)
    }
}

impl Default for RequestTarget {
    fn default() -> Self {
        Self { text: Bytes::from_static(b"/"), authority: 0, path: 0, query: 1 }
    }
}

impl fmt::Debug for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text.escape_ascii())
    }
}

#[cfg(test)]
impl RequestTarget {
    /// Target of a GET.
    pub(crate) fn of(text: &str) -> Self {
        Self::read(&Method::GET, Bytes::copy_from_slice(text.as_bytes()), None).unwrap()
    }
}

#[cfg(any(test, fuzzing))]
impl RequestTarget {
    /// Bytes of the whole target.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, target: &'static str) -> Result<RequestTarget, Refusal> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        RequestTarget::read(&method, Bytes::from_static(target.as_bytes()), Authority::read(b"a"))
    }

    #[test]
    fn a_target_has_parts() {
        for (target, path, query, authority) in [
            ("/", "/", None, None),
            ("/b?c?d", "/b", Some("c?d"), None),
            ("/?", "/", Some(""), None),
            ("http://a", "/", None, Some("a")),
            ("HTTP://A:80?b", "/", Some("b"), Some("A:80")),
            ("https://a/b?c", "/b", Some("c"), Some("a")),
            ("//a/b", "//a/b", None, None),
            ("/{\"a\":1}<>|^`\\é?q={\"a\":1}", "/{\"a\":1}<>|^`\\é", Some("q={\"a\":1}"), None),
        ] {
            let read = read("GET", target).unwrap();
            assert_eq!(read.path(), path.as_bytes(), "{target}");
            assert_eq!(read.query(), query.map(str::as_bytes), "{target}");
            assert_eq!(read.authority(), authority, "{target}");
        }
        assert_eq!(read("GET", "http://a?b").unwrap().path_and_query(), b"?b");
        assert_eq!(read("OPTIONS", "http://a").unwrap().path(), b"*");
        assert_eq!(read("OPTIONS", "*").unwrap().path_and_query(), b"*");
        assert_eq!(read("GET", "/a%2F\"<é?{}").unwrap().quoted(), "/a%2F%22%3C%C3%A9?%7B%7D");
        assert_eq!(read("GET", "/a\"é").unwrap().shown(), "/a\"é");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for (method, target) in [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", ""),
            ("GET", "/a#b"),
            ("GET", "http://"),
            ("GET", "http:///b"),
        ] {
            assert!(read(method, target).is_err(), "{method} {target}");
        }
        for target in ["http://b/", "http://u@a/", "https://a:80/"] {
            assert!(read("GET", target).is_err(), "{target}");
        }
    }
}
