//! A stored response.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest time past its lifetime for which a response is served while no server is there.
const MOST_STALE: Duration = Duration::from_secs(24 * 3600);

/// Time past its lifetime for which a response is served while it is validated, at least.
const LEAST_STALE: Duration = Duration::from_secs(60);

/// Key of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(super) [u8; 16]);

impl Key {
    /// Key of these parts.
    pub(crate) fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// Key of the response to a request with these headers, of those that differ by headers.
    pub(super) fn variant(self, vary: &Vary, request: &HeaderMap) -> Self {
        if vary.names.is_empty() {
            return self;
        }
        let salt = vary.salt.to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![&self.0, &salt];
        for name in &vary.names {
            parts.push(name.as_str().as_bytes());
            parts.extend(request.get_all(name).iter().map(HeaderValue::as_bytes));
        }
        Self::of(parts)
    }

    /// The key in hexadecimal.
    pub(super) fn text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads a key in hexadecimal.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in key.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Self(key))
    }
}

/// Request headers by which the responses of a key differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Vary {
    /// Part of the keys of the variants: with a new one, all that were stored before are out of reach.
    pub(super) salt: u64,
    pub(super) names: Vec<HeaderName>,
}

/// Header of requests, by which nothing else is named, for what a configuration adds to the key.
pub(crate) const KEY: HeaderName = HeaderName::from_static("bowshock-key");

/// Body of a stored response.
#[derive(Debug, Clone)]
pub(crate) enum StoredBody {
    /// In memory.
    Memory(Bytes),
    /// The first bytes of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Number of bytes.
        length: u64,
    },
}

impl StoredBody {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// A stored response.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    policy: CachePolicy,
    /// Time at which it was received, or last found to hold.
    received: SystemTime,
    pub(crate) status: StatusCode,
    /// Headers for clients.
    pub(crate) headers: HeaderMap,
    pub(crate) body: StoredBody,
    /// Key of all variants, and what tells them apart.
    pub(super) primary: Key,
    pub(super) vary: Vary,
}

/// Everything of a stored response but its body, as it stands in a file.
#[derive(Serialize, Deserialize)]
pub(super) struct Meta {
    key: String,
    primary: String,
    vary: Vec<String>,
    salt: u64,
    status: u16,
    headers: Vec<(String, String)>,
    policy: CachePolicy,
    received: SystemTime,
}

impl Meta {
    /// Describes a response; `None` where a header is no text.
    pub(super) fn of(key: Key, stored: &Stored) -> Option<Self> {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), std::str::from_utf8(value.as_bytes()).ok()?.to_owned()))
        };
        Some(Self {
            key: key.text(),
            primary: stored.primary.text(),
            salt: stored.vary.salt,
            vary: stored.vary.names.iter().map(|name| name.as_str().to_owned()).collect(),
            status: stored.status.as_u16(),
            headers: stored.headers.iter().map(header).collect::<Option<_>>()?,
            policy: stored.policy.clone(),
            received: stored.received,
        })
    }

    /// The response, with its key.
    pub(super) fn into_stored(self, body: StoredBody) -> Option<(Key, Stored)> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        let names =
            self.vary.into_iter().map(|name| HeaderName::try_from(name).ok()).collect::<Option<_>>()?;
        let vary = Vary { salt: self.salt, names };
        let stored = Stored {
            policy: self.policy,
            received: self.received,
            status: StatusCode::from_u16(self.status).ok()?,
            headers,
            body,
            primary: Key::parse(&self.primary)?,
            vary,
        };
        Some((Key::parse(&self.key)?, stored))
    }
}

impl Stored {
    /// A response whose body is still to come.
    pub(crate) fn new(
        primary: Key,
        policy: CachePolicy,
        (status, headers): (StatusCode, HeaderMap),
        received: SystemTime,
    ) -> Self {
        let vary = Vary { salt: 0, names: vary(&headers) };
        Self { policy, received, status, headers, body: StoredBody::Memory(Bytes::new()), primary, vary }
    }

    /// The key among the variants.
    pub(super) fn key(&self, request: &HeaderMap) -> Key {
        self.primary.variant(&self.vary, request)
    }

    /// Tells the response apart from those to requests with another value of this header too.
    pub(crate) fn vary_by(&mut self, name: HeaderName) {
        self.vary.names.push(name);
    }

    /// Whether the response may be used for a request without asking the server.
    pub(crate) fn is_fresh(&self, request: &HeaderMap, now: SystemTime) -> bool {
        matches!(self.policy.before_request(&asked(request), now), BeforeRequest::Fresh(_))
    }

    /// Whether the response is one to a request like this.
    pub(crate) fn fits(&self, request: &HeaderMap, now: SystemTime) -> bool {
        !matches!(
            self.policy.before_request(&asked(request), now),
            BeforeRequest::Stale { matches: false, .. }
        )
    }

    /// Age of the response in seconds (RFC 9111 §5.1).
    pub(crate) fn age(&self, now: SystemTime) -> u64 {
        self.policy.age(now).as_secs()
    }

    /// Time for which it stays fresh.
    pub(crate) fn lifetime_left(&self, now: SystemTime) -> Duration {
        self.policy.time_to_live(now)
    }

    /// Whether the response may be served past its lifetime before it is validated (RFC 9111 §4.2.4, RFC 5861 §3): it says
    /// so, or its lifetime is one of the configuration.
    pub(crate) fn may_be_validated_later(&self, now: SystemTime) -> bool {
        let says = self.directives().any(|(name, _)| name.eq_ignore_ascii_case("stale-while-revalidate"));
        (says || !says_lifetime(&self.headers)) && self.may_be_stale(now, true)
    }

    /// Whether the response may be served past its lifetime (RFC 9111 §4.2.4): while no server is there, or with
    /// `validating` while another request validates it.
    pub(crate) fn may_be_stale(&self, now: SystemTime, validating: bool) -> bool {
        let forbidden = ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage"];
        let says = |word: &str| self.directives().any(|(name, _)| name.eq_ignore_ascii_case(word));
        if forbidden.iter().any(|word| says(word)) {
            return false;
        }
        let seconds = |word: &str| {
            let mut values = self.directives().filter(|(name, _)| name.eq_ignore_ascii_case(word));
            values.find_map(|(_, value)| value?.parse().ok()).map(Duration::from_secs)
        };
        let most = if validating {
            seconds("stale-while-revalidate").unwrap_or_else(|| self.lifetime().max(LEAST_STALE))
        } else {
            seconds("stale-if-error").unwrap_or(MOST_STALE)
        };
        self.past(now) <= most
    }

    /// Lifetime in all.
    fn lifetime(&self) -> Duration {
        self.policy.time_to_live(self.received) + self.policy.age(self.received)
    }

    /// Time since the end of its lifetime.
    fn past(&self, now: SystemTime) -> Duration {
        self.policy.age(now).saturating_sub(self.lifetime())
    }

    /// Directives of Cache-Control, with their values.
    fn directives(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let values =
            self.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|directive| {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            (name.trim(), (!value.is_empty()).then(|| value.trim().trim_matches('"')))
        })
    }

    /// Validators for a request that asks whether the response still holds.
    pub(crate) fn validators(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let of = |name, condition| Some((condition, self.headers.get(name)?.clone()));
        let etag = of(header::ETAG, header::IF_NONE_MATCH);
        let modified = of(header::LAST_MODIFIED, header::IF_MODIFIED_SINCE);
        etag.into_iter().chain(modified)
    }

    /// The response after the server has said that it still holds (304); `None` where it has said that of another one.
    pub(crate) fn refreshed(
        &self,
        request: &HeaderMap,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Option<Self> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.headers_mut() = lower_case_control(headers);
        if !headers.contains_key(header::ETAG) && !headers.contains_key(header::LAST_MODIFIED) {
            // The request named this response only.
            for name in [header::ETAG, header::LAST_MODIFIED] {
                if let Some(value) = self.headers.get(&name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
        }
        let AfterResponse::NotModified(policy, _) =
            self.policy.after_response(&asked(request), &response, now)
        else {
            return None;
        };
        let mut fresh = Self { policy, received: now, ..self.clone() };
        // RFC 9111 §3.2.
        let kept =
            [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_RANGE, header::CONTENT_TYPE];
        for name in headers.keys().filter(|name| !kept.contains(name)) {
            fresh.headers.remove(name);
            for value in headers.get_all(name) {
                fresh.headers.append(name.clone(), value.clone());
            }
        }
        Some(fresh)
    }
}

/// Names in Vary.
fn vary(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(header::VARY).iter().filter_map(|list| list.to_str().ok());
    let mut names: Vec<HeaderName> = lists
        .flat_map(|list| list.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    names
}

/// A request as the policy takes it. Method and target are in the key, so they are always the same here.
fn asked(headers: &HeaderMap) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.headers_mut() = headers.clone();
    request
}

/// The policy of a response to a GET. `ttl` is the lifetime of a response that has none of its own.
pub(crate) fn policy_of(
    request: &HeaderMap,
    status: StatusCode,
    headers: &HeaderMap,
    ttl: Option<Duration>,
    now: SystemTime,
) -> CachePolicy {
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = lower_case_control(headers);
    if let Some(ttl) = ttl.filter(|_| !says_lifetime(headers)) {
        let value = HeaderValue::try_from(format!("max-age={}", ttl.as_secs()));
        response.headers_mut().extend(value.ok().map(|value| (header::CACHE_CONTROL, value)));
    }
    let options = CacheOptions { cache_heuristic: 0.0, ..CacheOptions::default() };
    CachePolicy::new_options(&asked(request), &response, now, options)
}

/// Headers with the directives of Cache-Control in lower case, as the policy looks for them (RFC 9111 §5.2).
fn lower_case_control(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    if let header::Entry::Occupied(mut control) = headers.entry(header::CACHE_CONTROL) {
        for value in control.iter_mut() {
            if let Ok(lower) = HeaderValue::from_bytes(&value.as_bytes().to_ascii_lowercase()) {
                *value = lower;
            }
        }
    }
    headers
}

/// Whether a response says itself for how long it may be used.
fn says_lifetime(headers: &HeaderMap) -> bool {
    let control = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let control = control.collect::<String>().to_ascii_lowercase();
    let words = ["max-age", "s-maxage", "no-cache", "no-store", "private"];
    headers.contains_key(header::EXPIRES) || words.iter().any(|word| control.contains(word))
}

/// Whether a response may be stored: by its policy, and because its headers can be told again.
pub(crate) fn is_storable(policy: &CachePolicy, headers: &HeaderMap) -> bool {
    let varies_by_all = headers.get_all(header::VARY).iter().any(|list| list.as_bytes().contains(&b'*'));
    policy.is_storable()
        && !varies_by_all
        && headers.values().all(|value| std::str::from_utf8(value.as_bytes()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    fn stored(fields: &[(&'static str, &'static str)], ttl: Option<Duration>) -> Stored {
        let (request, headers, now) = (HeaderMap::new(), headers(fields), SystemTime::now());
        let policy = policy_of(&request, StatusCode::OK, &headers, ttl, now);
        Stored::new(Key::of([&b"x"[..]]), policy, (StatusCode::OK, headers), now)
    }

    fn later(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lifetime_is_the_response_s_own_or_that_of_the_configuration() {
        let (request, ttl) = (HeaderMap::new(), Some(Duration::from_secs(100)));
        let own = stored(&[("cache-control", "Max-Age=10")], ttl);
        assert!(own.is_fresh(&request, later(9)) && !own.is_fresh(&request, later(11)));
        let configured = stored(&[], ttl);
        assert!(configured.is_fresh(&request, later(99)) && !configured.is_fresh(&request, later(101)));
        assert!(!stored(&[("cache-control", "No-Cache, max-age=10")], ttl).is_fresh(&request, later(1)));
        assert!(!stored(&[], None).is_fresh(&request, later(0)));
    }

    #[test]
    fn a_stale_response_is_served_where_that_is_permitted() {
        let plain = stored(&[("cache-control", "max-age=10")], None);
        assert!(plain.may_be_stale(later(60), true) && !plain.may_be_stale(later(90), true));
        assert!(plain.may_be_stale(later(3600), false), "while no server is there");
        assert!(!plain.may_be_validated_later(later(20)));
        assert!(stored(&[], Some(Duration::from_secs(10))).may_be_validated_later(later(20)));
        let says = stored(&[("cache-control", "max-age=10, stale-while-revalidate=30")], None);
        assert!(says.may_be_validated_later(later(30)) && !says.may_be_validated_later(later(50)));
        for word in ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"] {
            let value: &'static str = Box::leak(format!("max-age=10, {word}").into_boxed_str());
            let strict = stored(&[("cache-control", value)], None);
            assert!(!strict.may_be_stale(later(11), false), "{word}");
        }
    }

    #[test]
    fn a_response_holds_where_the_server_says_so_of_it() {
        let known = stored(&[("cache-control", "max-age=0"), ("etag", "\"1\"")], None);
        let request = HeaderMap::new();
        let renewed = |fields: &[_]| known.refreshed(&request, &headers(fields), SystemTime::now());
        let fresh = renewed(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]).unwrap();
        assert!(fresh.is_fresh(&request, later(30)));
        assert!(renewed(&[]).is_some(), "the request named one only");
        assert!(renewed(&[("etag", "\"2\"")]).is_none());
    }

    #[test]
    fn keys_are_told_apart_by_their_parts_and_variants() {
        let key = Key::of([&b"http"[..], b"a", b"/"]);
        assert_ne!(key, Key::of([&b"http"[..], b"a/", b""]));
        assert_eq!(Key::parse(&key.text()), Some(key));
        let names = vec![header::ACCEPT_LANGUAGE];
        let variant = |salt, language| {
            let request = headers(&[("accept-language", language)]);
            key.variant(&Vary { salt, names: names.clone() }, &request)
        };
        assert_ne!(variant(1, "de"), variant(1, "en"));
        assert_ne!(variant(1, "de"), variant(2, "de"));
        assert_eq!(variant(1, "de"), variant(1, "de"));
    }
}
