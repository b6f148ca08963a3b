//! Scheme, host and port as forwarded by a trusted peer: `X-Forwarded-*` with its synonyms, and `Forwarded` (RFC
//! 7239).
//!
//! Each of these may be a list with an entry for each proxy on the way. As with addresses, only entries written by
//! trusted proxies count.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use http::{HeaderName, header};

use super::{X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, address};
use crate::message::{RawHeaders, text};

static PROTO: HeaderName = X_FORWARDED_PROTO;
static HOST: HeaderName = X_FORWARDED_HOST;
static PORT: HeaderName = X_FORWARDED_PORT;

/// Headers for the client's scheme beside `X-Forwarded-Proto`, the better known first.
pub(super) static SYNONYMS: [HeaderName; 5] = [
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-url-scheme"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("front-end-https"),
];

/// Scheme, host and port of the client's request, as a trusted peer forwards them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ForwardedClaims {
    pub(super) https: Option<bool>,
    /// Name or address, with an optional port.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    /// Whether one of [`SYNONYMS`] contradicts `https`.
    pub(super) is_contradicted: bool,
}

impl ForwardedClaims {
    /// Reads the entries written by the first of `hops` trusted proxies, the nearest of which is the peer.
    pub(super) fn read(request: &RawHeaders, forwarded: &[Element], hops: usize) -> Self {
        let mut claims = Self::default();
        let entry = |name| pick(request, name, hops);
        for value in entry(&PROTO).into_iter().chain(SYNONYMS.iter().filter_map(entry)) {
            let read = scheme(value);
            if read.is_none() {
                warn_once(&UNKNOWN_SCHEME, || format!("a trusted peer names an unknown scheme: {value:?}"));
            }
            claims.https = claims.https.or(read);
        }
        claims.host = pick(request, &HOST, hops).map(str::to_owned);
        claims.port = pick(request, &PORT, hops).and_then(port);

        // A later proxy may give what the one that saw the client left out.
        let trusted = &forwarded[forwarded.len().saturating_sub(hops)..];
        let https = trusted.iter().find_map(|element| element.https);
        let host = trusted.iter().find_map(|element| element.host.as_ref());
        let differs = claims.https.is_some() && https.is_some() && claims.https != https
            || host.is_some_and(|host| claims.host.as_ref().is_some_and(|other| other != host));
        if differs {
            warn_disagreement();
        }
        claims.https = claims.https.or(https);
        claims.host = claims.host.or_else(|| host.cloned());
        let contradicts = |name| entry(name).is_some_and(|value| scheme(value) != claims.https);
        claims.is_contradicted = SYNONYMS.iter().any(contradicts);
        claims
    }

    /// The port that the client connected to, as far as it is known: a host without a port means the scheme's
    /// default.
    pub(super) fn port(&self, https: bool) -> Option<u16> {
        let of_host = || self.host.as_ref().map(|host| port_of(host).unwrap_or_else(|| usual_port(https)));
        self.port.or_else(of_host)
    }
}

/// The entry of the first of `hops` proxies, or the first entry when there are fewer.
fn pick<'r>(request: &'r RawHeaders, name: &'r HeaderName, hops: usize) -> Option<&'r str> {
    let values = || request.values(name).filter_map(text).flat_map(entries);
    let (mut last, mut count) = (None, 0_usize);
    for value in values() {
        count += 1;
        last = Some(value);
    }
    // Nearly always there is a single entry.
    if count > 1 { values().nth(count.saturating_sub(hops)) } else { last }
}

/// The entries of a list, without quotes; empty ones are skipped (RFC 9110 §5.6.1.2).
pub(super) fn entries(list: &str) -> impl DoubleEndedIterator<Item = &str> {
    list.split(',').map(|entry| bare(entry.trim())).filter(|entry| !entry.is_empty())
}

fn bare(entry: &str) -> &str {
    entry.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(entry)
}

/// Whether a scheme, or a value of a header that only says whether TLS was used, means HTTPS; `None` for any other
/// value.
fn scheme(value: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    match value {
        _ if is(&["https", "wss", "on", "ssl", "tls", "1"]) => Some(true),
        _ if is(&["http", "ws", "off", "0"]) => Some(false),
        _ => None,
    }
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

/// The port in a `Host` header.
pub(super) fn port_of(host: &str) -> Option<u16> {
    let after = host.rfind(']').map_or(host, |end| &host[end..]);
    after.rsplit_once(':').and_then(|(_, digits)| port(digits))
}

pub(super) fn usual_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// Element of `Forwarded`, written by one proxy.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// Address of the client of that proxy; `None` when the proxy hides it (RFC 7239 §6).
    pub(super) address: Option<IpAddr>,
    pub(super) https: Option<bool>,
    pub(super) host: Option<String>,
}

/// The elements of `Forwarded`, the nearest last; empty when the header is malformed.
pub(super) fn elements(request: &RawHeaders) -> Vec<Element> {
    if !request.has(header::FORWARDED) {
        return Vec::new();
    }
    let mut elements = Vec::new();
    for value in request.values(&header::FORWARDED) {
        match text(value).and_then(read_elements) {
            Some(more) => elements.extend(more),
            None => {
                warn_once(&UNREADABLE, || "a trusted peer sends a Forwarded that cannot be read".into());
                return Vec::new();
            }
        }
    }
    elements
}

/// Reads one line: `for=192.0.2.1;proto=https, for="[2001:db8::1]:80"` (RFC 7239 §4).
fn read_elements(line: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    for element in split(line, ',')? {
        let mut read = Element::default();
        let mut seen: Vec<&str> = Vec::new();
        for pair in split(element, ';')? {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').map(|(name, value)| (name.trim(), value))?;
            let value = unquote(value.trim())?;
            if seen.iter().any(|seen| seen.eq_ignore_ascii_case(name)) {
                return None;
            }
            seen.push(name);
            match name.to_ascii_lowercase().as_str() {
                "for" => read.address = node(&value),
                "proto" => {
                    read.https = scheme(&value);
                    if read.https.is_none() {
                        warn_once(&UNKNOWN_SCHEME, || {
                            format!("a trusted peer names an unknown scheme: {value:?}")
                        });
                    }
                }
                "host" => read.host = Some(value.into_owned()).filter(|host| !host.is_empty()),
                _ => {}
            }
        }
        // Empty elements of a list are skipped (RFC 9110 §5.6.1.2).
        if !seen.is_empty() {
            elements.push(read);
        }
    }
    Some(elements)
}

/// Splits at separators outside quotes, and trims spaces; `None` when a quote is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if char == separator && !quoted => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    (!quoted).then_some(parts)
}

/// A token unchanged, a quoted string without its quotes (RFC 9110 §5.6.4).
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.into());
    };
    let inner = rest.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(inner.into());
    }
    let (mut unquoted, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(char) = chars.next() {
        match char {
            '\\' => unquoted.push(chars.next()?),
            '"' => return None,
            char => unquoted.push(char),
        }
    }
    Some(unquoted.into())
}

/// The address of a node: `192.0.2.1`, `192.0.2.1:47011`, `[2001:db8::1]:_port`; `None` for `unknown` and `_hidden`.
fn node(node: &str) -> Option<IpAddr> {
    let without_hidden_port = node.rfind(":_").map_or(node, |end| &node[..end]);
    address(without_hidden_port)
}

static UNKNOWN_SCHEME: AtomicBool = AtomicBool::new(false);
static UNREADABLE: AtomicBool = AtomicBool::new(false);
static DISAGREEMENT: AtomicBool = AtomicBool::new(false);

/// Warns that both forms were sent and disagree.
pub(super) fn warn_disagreement() {
    warn_once(&DISAGREEMENT, || {
        "a trusted peer sends Forwarded and X-Forwarded-* that disagree: X-Forwarded-* is used".into()
    });
}

/// Logs an error in a peer's configuration once, as each of its requests has it.
fn warn_once(logged: &AtomicBool, message: impl FnOnce() -> String) {
    if !logged.swap(true, Ordering::Relaxed) {
        tracing::warn!("{} (logged once)", message());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &[(&str, &str)], hops: usize) -> ForwardedClaims {
        let request = RawHeaders::of(fields);
        ForwardedClaims::read(&request, &elements(&request), hops)
    }

    #[test]
    fn schemes_have_synonyms_and_come_in_lists() {
        for (name, value) in [
            ("X-Forwarded-Proto", "https, https"),
            ("X-Forwarded-Proto", "HTTPS"),
            ("X-Forwarded-Proto", "\"https\""),
            ("X-Forwarded-Proto", "http,wss"),
            ("X-Forwarded-Proto", "http, https, ,"),
            ("X-Forwarded-Ssl", "on"),
            ("X-Forwarded-Scheme", "https"),
            ("X-Url-Scheme", "https"),
            ("X-Forwarded-Protocol", "ssl"),
            ("Front-End-Https", "on"),
            ("Forwarded", "proto=HTTPS"),
            ("Forwarded", "for=_hidden;Proto=\"https\""),
            ("Forwarded", "for=_hidden ; proto = https"),
        ] {
            assert_eq!(said(&[(name, value)], 1).https, Some(true), "{name}: {value}");
        }
        for (name, value) in [("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Ssl", "off")] {
            assert_eq!(said(&[(name, value)], 1).https, Some(false), "{name}: {value}");
        }
        assert_eq!(
            said(&[("X-Forwarded-Proto", "https, http")], 2).https,
            Some(true),
            "two proxies are trusted"
        );
        assert_eq!(said(&[("X-Forwarded-Proto", "htps"), ("X-Url-Scheme", "https")], 1).https, Some(true));
        for value in ["htps", "", ",", "on https"] {
            assert_eq!(said(&[("X-Forwarded-Proto", value)], 1).https, None, "{value:?}");
        }
        let both = [("X-Forwarded-Proto", "https"), ("X-Url-Scheme", "http")];
        assert!(said(&both, 1).is_contradicted && said(&both, 1).https == Some(true));
    }

    #[test]
    fn the_port_is_that_of_the_host_that_was_named() {
        let port = |fields: &[(&str, &str)]| said(fields, 1).port(true);
        assert_eq!(port(&[("X-Forwarded-Host", "h"), ("X-Forwarded-Port", "8443")]), Some(8443));
        assert_eq!(port(&[("X-Forwarded-Host", "h:444"), ("X-Forwarded-Port", "0")]), Some(444));
        assert_eq!(port(&[("X-Forwarded-Host", "a:1, [::1]:444")]), Some(444));
        assert_eq!(port(&[("Forwarded", "host=\"[::1]\"")]), Some(443));
        assert_eq!(port(&[]), None);
        assert_eq!(
            [port_of("h:1"), port_of("[::1]"), port_of("h"), port_of("h:x")],
            [Some(1), None, None, None]
        );
    }

    #[test]
    fn forwarded_is_read_as_it_is_defined() {
        let read =
            |line| read_elements(line).map(|elements| elements.into_iter().map(|element| element.address));
        let addresses = |line| read(line).map(Iterator::collect::<Vec<_>>);
        let one = |text: &str| text.parse::<IpAddr>().ok();
        for (line, expected) in [
            ("for=192.0.2.1", vec![one("192.0.2.1")]),
            ("For=\"[2001:db8::1]:4711\"", vec![one("2001:db8::1")]),
            ("for=\"192.0.2.1:_p\";by=_x", vec![one("192.0.2.1")]),
            ("for=unknown, for=_a, for=192.0.2.1", vec![None, None, one("192.0.2.1")]),
            ("for=192.0.2.1;;proto=http , ,for=\"1\\92.0.2.2\"", vec![one("192.0.2.1"), one("192.0.2.2")]),
            ("by=\"a,b;c=\\\"d\";for=192.0.2.1", vec![one("192.0.2.1")]),
        ] {
            assert_eq!(addresses(line), Some(expected), "{line}");
        }
        for line in ["for", "for=\"192.0.2.1", "for=1.1.1.1;for=2.2.2.2", "for=\"a\"b\"", "for=a\"b"] {
            assert_eq!(read_elements(line), None, "{line}");
        }
        let element = &read_elements("for=192.0.2.1;proto=https;host=\"h:8443\"").unwrap()[0];
        assert_eq!((element.https, element.host.as_deref()), (Some(true), Some("h:8443")));
    }
}
