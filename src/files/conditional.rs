//! Conditional requests (RFC 9110 §13): whether the client already has a representation, or requires a certain one.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, header};

use crate::{
    clock,
    message::{RawHeaders, http_date},
};

/// Validators of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`, if there is one.
    pub etag: Option<HeaderValue>,
    /// `Last-Modified`, if there is one.
    pub modified: Option<SystemTime>,
}

/// Result of a request's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The representation is sent.
    Met,
    /// The client has it: 304.
    NotModified,
    /// The client required another version: 412.
    Failed,
}

impl Validators {
    /// Validators of a response. A date later than now becomes now (RFC 9110 §8.8.2.1), and then says nothing about
    /// when the content changed.
    pub fn of(response: &mut HeaderMap) -> Self {
        let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
        let mut modified = response.get(header::LAST_MODIFIED).and_then(date);
        // The response itself is dated later than this.
        let now = clock::calendar();
        if modified.is_some_and(|modified| modified > now) {
            response.insert(header::LAST_MODIFIED, http_date(now));
            modified = None;
        }
        Self { etag: response.get(header::ETAG).cloned(), modified }
    }

    /// Evaluates the conditions of a `GET` or `HEAD` in the order of RFC 9110 §13.2.2.
    pub fn weigh(&self, request: &RawHeaders) -> Condition {
        if request.has(header::IF_MATCH) {
            if !self.matches_any(request, &header::IF_MATCH, strong_match) {
                return Condition::Failed;
            }
        } else if let Some(since) = date(request, &header::IF_UNMODIFIED_SINCE)
            && self.seconds().is_some_and(|modified| modified > since)
        {
            return Condition::Failed;
        }
        if request.has(header::IF_NONE_MATCH) {
            if self.matches_any(request, &header::IF_NONE_MATCH, weak_match) {
                return Condition::NotModified;
            }
        } else if let Some(since) = date(request, &header::IF_MODIFIED_SINCE)
            && self.seconds().is_some_and(|modified| modified <= since)
        {
            return Condition::NotModified;
        }
        Condition::Met
    }

    /// Whether `Range` applies: `If-Range` is missing or names this very version (RFC 9110 §13.1.5).
    pub fn range_applies(&self, request: &RawHeaders) -> bool {
        let Some(wanted) = request.get(header::IF_RANGE) else { return true };
        if wanted.contains(&b'"') {
            return self.etag.as_ref().is_some_and(|etag| strong_match(etag.as_bytes(), wanted));
        }
        date(request, &header::IF_RANGE).is_some_and(|wanted| self.seconds() == Some(wanted))
    }

    /// Whether one of the listed tags, or `*`, matches.
    fn matches_any(
        &self,
        request: &RawHeaders,
        name: &header::HeaderName,
        matches: fn(&[u8], &[u8]) -> bool,
    ) -> bool {
        request.values(name).any(|list| {
            list.trim_ascii() == b"*"
                || self.etag.as_ref().is_some_and(|etag| tags(list).any(|tag| matches(etag.as_bytes(), tag)))
        })
    }

    /// Date in whole seconds, as in HTTP.
    fn seconds(&self) -> Option<u64> {
        self.modified.map(seconds)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

fn date(request: &RawHeaders, name: &header::HeaderName) -> Option<u64> {
    let value = request.text(name)?;
    httpdate::parse_http_date(value).ok().map(seconds)
}

/// Tags of a list. A quoted tag may contain commas.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

fn strong_match(ours: &[u8], theirs: &[u8]) -> bool {
    ours == theirs && !ours.starts_with(b"W/")
}

fn weak_match(ours: &[u8], theirs: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_owned();
    opaque(ours) == opaque(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn weigh(etag: &'static str, conditions: &[(header::HeaderName, &str)]) -> Condition {
        let modified = httpdate::parse_http_date(DATE).unwrap() + Duration::from_millis(300);
        let validators = Validators { etag: Some(HeaderValue::from_static(etag)), modified: Some(modified) };
        validators.weigh(&request(conditions))
    }

    fn request(fields: &[(header::HeaderName, &str)]) -> RawHeaders {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        RawHeaders::of(&fields)
    }

    #[test]
    fn tags_go_before_dates() {
        use header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
        assert_eq!(weigh("\"a\"", &[(IF_NONE_MATCH, "\"a\"")]), Condition::NotModified);
        assert_eq!(weigh("\"a\"", &[(IF_NONE_MATCH, "\"x,y\", W/\"a\"")]), Condition::NotModified);
        assert_eq!(weigh("\"a\"", &[(IF_NONE_MATCH, "*")]), Condition::NotModified);
        assert_eq!(weigh("\"a\"", &[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, DATE)]), Condition::Met);
        assert_eq!(weigh("\"a\"", &[(IF_MODIFIED_SINCE, DATE)]), Condition::NotModified);
        assert_eq!(weigh("\"a\"", &[(IF_MODIFIED_SINCE, EARLIER)]), Condition::Met);
        assert_eq!(weigh("\"a\"", &[(IF_MODIFIED_SINCE, "yesterday")]), Condition::Met);
        assert_eq!(weigh("\"a\"", &[]), Condition::Met);
    }

    #[test]
    fn a_client_may_insist_on_a_version() {
        use header::{IF_MATCH, IF_UNMODIFIED_SINCE};
        assert_eq!(weigh("\"a\"", &[(IF_MATCH, "\"a\"")]), Condition::Met);
        assert_eq!(weigh("\"a\"", &[(IF_MATCH, "\"b\"")]), Condition::Failed);
        assert_eq!(weigh("W/\"a\"", &[(IF_MATCH, "W/\"a\"")]), Condition::Failed);
        assert_eq!(weigh("\"a\"", &[(IF_UNMODIFIED_SINCE, EARLIER)]), Condition::Failed);
        assert_eq!(weigh("\"a\"", &[(IF_UNMODIFIED_SINCE, DATE)]), Condition::Met);
    }

    #[test]
    fn a_range_applies_to_the_version_it_names() {
        let modified = httpdate::parse_http_date(DATE).unwrap();
        let validators =
            Validators { etag: Some(HeaderValue::from_static("\"a\"")), modified: Some(modified) };
        let applies = |value: &str| validators.range_applies(&request(&[(header::IF_RANGE, value)]));
        assert!(applies("\"a\""));
        assert!(!applies("\"b\""));
        assert!(!applies("W/\"a\""));
        assert!(applies(DATE));
        assert!(!applies(EARLIER));
        assert!(validators.range_applies(&RawHeaders::default()));
    }
}
