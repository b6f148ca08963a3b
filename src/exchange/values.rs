//! Values of the `{names}` of a configuration for one request.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use crate::{
    config::{Name, PathPattern, Template},
    exchange::{
        RequestContext,
        local::NOT_IN_PATHS,
        resolve::{host, path},
    },
    message::{NOT_IN_URIS, RequestHead, cookies, parameters},
    route::{PathMatch, host_without_port},
    site::SiteTable,
};

/// Bytes that must not stand as they are in a parameter of a query.
const NOT_IN_PARAMETERS: AsciiSet =
    NOT_IN_PATHS.add(b'&').add(b'=').add(b'+').add(b';').add(b'\'').add(b'\\');

/// Part of the path that the pattern of a route matched, and its captures.
#[derive(Debug)]
pub(crate) struct MatchedPath {
    /// Path up to the end of the match, as sent where that has one reading.
    pub(super) prefix: Vec<u8>,
    /// Path after that.
    pub(super) rest: Vec<u8>,
    /// Captures by name, decoded; those of the route's expression go before those of the host's.
    captures: Vec<(Box<str>, Box<str>)>,
}

impl MatchedPath {
    /// Splits a path: `raw` as sent, `normalized` as it was matched `by` a pattern.
    pub(super) fn new(
        table: &SiteTable,
        pattern: &PathPattern,
        host: &str,
        (raw, normalized): (&[u8], &str),
        by: &PathMatch<'_>,
    ) -> Box<Self> {
        let end = match by {
            PathMatch::Exact => normalized.len(),
            PathMatch::Prefix(rest) => normalized.len() - rest.len(),
            PathMatch::Regex(captures) => captures.get(0).map_or(0, |all| all.end()),
        };
        let (prefix, rest) = split(raw, normalized, end);
        let captures = captures(pattern, by).chain(table.host_captures(host)).collect();
        Box::new(Self { prefix, rest, captures })
    }
}

/// Captures of a route's expression by name.
fn captures<'m>(
    pattern: &'m PathPattern,
    by: &'m PathMatch<'_>,
) -> impl Iterator<Item = (Box<str>, Box<str>)> + 'm {
    let found = match (pattern, by) {
        (PathPattern::Regex(regex), PathMatch::Regex(captures)) => Some((regex, captures)),
        _ => None,
    };
    found.into_iter().flat_map(|(regex, captures)| {
        let named = regex.capture_names().flatten();
        named.filter_map(|name| Some((name.into(), captures.name(name)?.as_str().into())))
    })
}

/// Splits a path as sent where its normalized form is split at `end`. Where the two differ in more than escapes, the
/// normalized form is split and encoded.
fn split(raw: &[u8], normalized: &str, end: usize) -> (Vec<u8>, Vec<u8>) {
    let encode = |text: &str| percent_encode(text.as_bytes(), &NOT_IN_PATHS).to_string().into_bytes();
    let is_plain = percent_decode(raw).eq(normalized.bytes());
    if !is_plain {
        return (encode(&normalized[..end]), encode(&normalized[end..]));
    }
    let (mut at, mut decoded) = (0, 0);
    while decoded < end {
        let is_escape = raw[at] == b'%'
            && raw.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        at += if is_escape { 3 } else { 1 };
        decoded += 1;
    }
    (raw[..at].to_vec(), raw[at..].to_vec())
}

/// Values of one request.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) request: &'a RequestHead,
    pub(crate) context: &'a RequestContext,
    /// Match of the route's pattern; `None` where it is in the context, if a template needs it.
    pub(crate) by: Option<&'a PathMatch<'a>>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(request: &'a RequestHead, context: &'a RequestContext) -> Self {
        Self { request, context, by: None }
    }

    /// The value of a header; `None` where it is empty. `response` gives the headers of the response.
    pub(crate) fn header<'r>(
        &self,
        template: &Template,
        response: impl Fn(&HeaderName) -> Option<&'r [u8]>,
    ) -> Option<HeaderValue> {
        let text = template.render(|name, out| {
            let value = match name {
                Name::Response(name) => response(name).unwrap_or_default().into(),
                name => self.value(name),
            };
            // Line ends and zero bytes never reach a header.
            out.extend(percent_encode(&value, &CONTROLS_BUT_TAB).flat_map(str::bytes));
        });
        HeaderValue::from_bytes(text.trim_ascii()).ok().filter(|value| !value.is_empty())
    }

    /// A text, with values as they are.
    pub(crate) fn text(&self, template: &Template) -> Vec<u8> {
        template.render(|name, out| out.extend_from_slice(&self.value(name)))
    }

    /// A URL, or a path with a query.
    pub(crate) fn url(&self, template: &Template) -> Vec<u8> {
        template.render(|name, out| self.write_in_url(name, out))
    }

    /// Writes a value into a URL. Decoded values are encoded for their place, and what was sent in a URL stays.
    pub(super) fn write_in_url(&self, name: &Name, out: &mut Vec<u8>) {
        let value = self.value(name);
        if *name == Name::Query && value.is_empty() && matches!(out.last(), Some(b'?' | b'&')) {
            // Where no query was sent, nothing is left of `?{query}`.
            out.pop();
        }
        let set = match name {
            Name::Query => &NOT_IN_URLS,
            Name::Path | Name::Uri | Name::Rest if !out.contains(&b'?') => &NOT_IN_URLS,
            Name::Host | Name::Port | Name::Scheme | Name::Method | Name::Client | Name::RequestId => {
                out.extend_from_slice(&value);
                return;
            }
            _ if out.contains(&b'?') => &NOT_IN_PARAMETERS,
            _ => &NOT_IN_PATHS,
        };
        out.extend(percent_encode(&value, set).flat_map(str::bytes));
    }

    /// Writes a value into the path of a file, decoded.
    pub(crate) fn write_in_path(&self, name: &Name, out: &mut Vec<u8>) {
        let value = self.value(name);
        match name {
            Name::Path | Name::Uri | Name::Rest => out.extend(percent_decode(&value)),
            _ => out.extend_from_slice(&value),
        }
    }

    fn value(&self, name: &Name) -> Cow<'a, [u8]> {
        let (request, context) = (self.request, self.context);
        let client = || context.client.as_ref();
        match name {
            Name::Path => path(request).into(),
            Name::Query => request.target.query().unwrap_or_default().into(),
            Name::Uri => match request.target.path_and_query() {
                query if query.starts_with(b"?") => [b"/", query].concat().into(),
                uri => uri.into(),
            },
            Name::Rest => self.rest(),
            Name::Host => host_without_port(host(request)).as_bytes().into(),
            Name::Port => {
                client().map(|client| client.port().to_string().into_bytes()).unwrap_or_default().into()
            }
            Name::Scheme => client().map(|client| client.scheme().as_bytes()).unwrap_or_default().into(),
            Name::Method => request.method.as_str().as_bytes().into(),
            Name::Client => {
                client().map(|client| client.address.to_string().into_bytes()).unwrap_or_default().into()
            }
            Name::RequestId => context.id.as_bytes().into(),
            Name::User => context.user.as_deref().unwrap_or_default().as_bytes().into(),
            Name::Header(name) => request.headers.get(name).unwrap_or_default().into(),
            Name::Cookie(name) => cookies(&request.headers, name).next().unwrap_or_default().into(),
            Name::Parameter(name) => {
                let query = request.target.query().unwrap_or_default();
                parameters(query, name).next().unwrap_or_default()
            }
            // Known to `header` alone.
            Name::Response(_) => Cow::default(),
            Name::Capture(name) => self.capture(name),
        }
    }

    fn rest(&self) -> Cow<'a, [u8]> {
        match (self.by, &self.context.matched) {
            (_, Some(matched)) => matched.rest.as_slice().into(),
            (Some(PathMatch::Prefix(rest)), _) => rest.as_bytes().into(),
            _ => Cow::default(),
        }
    }

    fn capture(&self, name: &str) -> Cow<'a, [u8]> {
        if let Some(PathMatch::Regex(captures)) = self.by
            && let Some(capture) = captures.name(name)
        {
            return capture.as_str().as_bytes().into();
        }
        let captures = self.context.matched.iter().flat_map(|matched| &matched.captures);
        let mut named = captures.filter(|(known, _)| **known == *name);
        named.next().map(|(_, value)| value.as_bytes()).unwrap_or_default().into()
    }
}

/// Bytes that cannot stand in a header.
const CONTROLS_BUT_TAB: AsciiSet = CONTROLS.remove(b'\t');

/// Bytes that cannot stand in a path with a query; what is encoded already stays.
const NOT_IN_URLS: AsciiSet = NOT_IN_URIS.add(b'#');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_as_it_was_sent() {
        for (raw, normalized, end, prefix, rest) in [
            ("/files/a%2Fb", "/files/a/b", 6, "/files", "/a%2Fb"),
            ("/%66iles/a%20b", "/files/a b", 6, "/%66iles", "/a%20b"),
            ("/files", "/files", 6, "/files", ""),
            ("//files/./a b", "/files/a b", 6, "/files", "/a%20b"),
            ("/files/%zz", "/files/%zz", 6, "/files", "/%zz"),
        ] {
            let (before, after) = split(raw.as_bytes(), normalized, end);
            assert_eq!((&*before, &*after), (prefix.as_bytes(), rest.as_bytes()), "{raw}");
        }
    }
}
