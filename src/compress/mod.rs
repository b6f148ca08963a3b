//! Compression of responses: the decision, the coding, and encoding without blocking the event loop.

mod encoder;
mod stream;

use http::{HeaderName, HeaderValue, StatusCode, header};

pub(crate) use crate::compress::stream::{StreamEncoder, whole};

use crate::{
    config::Compress,
    message::{AcceptEncoding, Coding, EditHeaders, RequestHead, has_word},
};

/// Digests of the uncompressed content, which no longer apply (RFC 9530 §2).
const DIGESTS: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("content-md5")];

/// Decides on the coding of a response, and its level. If an encoder is available, the caller changes the headers
/// with [`set_coding_headers`]. Adds `Vary` wherever the coding depends on the request: also to a 206 and a 304, which have the
/// headers that a 200 in their place would have (RFC 9110 §15.3.7, §15.4.5).
pub(crate) fn decide(
    settings: &Compress,
    request: &RequestHead,
    status: StatusCode,
    response: &mut impl EditHeaders,
    length: Option<u64>,
) -> Option<(Coding, u32)> {
    if !may_be_coded(settings, status, response) {
        return None;
    }
    vary(response);
    if status == StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let accepted = AcceptEncoding::read(&request.headers)?;
    // A range refers to the uncompressed content.
    if request.headers.has(header::RANGE) {
        return None;
    }
    // An empty body is not encoded, whatever the client accepts.
    if length == Some(0) {
        return None;
    }
    let is_small = length.is_some_and(|length| length < settings.min_size);
    if is_small && !accepted.refuses_identity() {
        return None;
    }
    let coding = accepted.best(settings.codings.iter().map(|(coding, _)| *coding))?;
    if status == StatusCode::NOT_MODIFIED {
        // Coded content needs another entity tag, by which caches identify it.
        if response.get(&header::CONTENT_TYPE).is_some() || has_coded_etag(request, response) {
            weaken(response);
        }
        return None;
    }
    Some(settings.codings[coding])
}

/// Whether the client refers to the coded content by its entity tag.
fn has_coded_etag(request: &RequestHead, response: &impl EditHeaders) -> bool {
    let Some(tag) = response.get(&header::ETAG) else { return false };
    let weak = [b"W/", tag].concat();
    request.headers.values(&header::IF_NONE_MATCH).any(|tags| has_word(tags, &weak))
}

/// Whether the response benefits from a coding, for any client.
fn may_be_coded(settings: &Compress, status: StatusCode, response: &impl EditHeaders) -> bool {
    let has = |name: &HeaderName| response.get(name).is_some();
    let mut forbids_transform = false;
    response.each(&header::CACHE_CONTROL, |value| forbids_transform |= has_word(value, b"no-transform"));
    let kind = response.get(&header::CONTENT_TYPE).map(essence).unwrap_or_default();
    let is_compressible =
        settings.types.iter().any(|wanted| type_matches(wanted, &kind)) && kind != "text/event-stream";
    let may_be = match status.as_u16() {
        200..=203 | 400..=599 => is_compressible && !has(&header::CONTENT_RANGE),
        206 => is_compressible || kind == "multipart/byteranges",
        // Servers seldom send the type in a 304.
        304 => is_compressible || kind.is_empty(),
        _ => false,
    };
    may_be && !has(&header::CONTENT_ENCODING) && !forbids_transform
}

/// Media type without parameters, in lower case.
fn essence(value: &[u8]) -> String {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    String::from_utf8_lossy(value[..end].trim_ascii()).to_ascii_lowercase()
}

/// Whether a type matches a configured one: equal, or `text/*`.
fn type_matches(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(family) => kind.starts_with(family),
        None => kind == wanted,
    }
}

/// Adds `Vary`: caches must not serve the response to clients that accept other codings (RFC 9110 §12.5.5).
fn vary(response: &mut impl EditHeaders) {
    let names = response.get(&header::VARY);
    let is_present = names.is_some_and(|names| has_word(names, b"accept-encoding") || has_word(names, b"*"));
    if !is_present {
        response.add(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Changes the headers of a response for its coding.
pub(crate) fn set_coding_headers(response: &mut impl EditHeaders, coding: Coding) {
    response.set(header::CONTENT_ENCODING, coding.value());
    response.remove(&header::CONTENT_LENGTH);
    response.remove(&header::ACCEPT_RANGES);
    for digest in &DIGESTS {
        response.remove(digest);
    }
    weaken(response);
}

/// Makes the entity tag weak: equivalent content with other bytes (RFC 9110 §8.8.1).
fn weaken(response: &mut impl EditHeaders) {
    let weak = match response.get(&header::ETAG) {
        Some(tag) if !tag.starts_with(b"W/") => HeaderValue::from_bytes(&[b"W/", tag].concat()).ok(),
        _ => None,
    };
    if let Some(weak) = weak {
        response.set(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::{config::Compress, message::RawHeaders};

    fn asked(fields: &[(&str, &str)]) -> RequestHead {
        RequestHead { headers: RawHeaders::of(fields), ..RequestHead::default() }
    }

    fn decided(
        request: &[(&'static str, &str)],
        status: u16,
        response: &[(&'static str, &str)],
        length: Option<u64>,
    ) -> (Option<Coding>, HeaderMap) {
        let mut fields = HeaderMap::new();
        for (name, value) in response {
            fields.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let decided = decide(&Compress::default(), &asked(request), status, &mut fields, length);
        let coding = decided.map(|(coding, _)| coding);
        if let Some(coding) = coding {
            set_coding_headers(&mut fields, coding);
        }
        (coding, fields)
    }

    const GZIP: &[(&str, &str)] = &[("accept-encoding", "gzip")];
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    #[test]
    fn what_is_text_and_long_enough_is_coded() {
        let tagged = [JSON, ("etag", "\"x\""), ("content-length", "5000"), ("accept-ranges", "bytes")];
        let (coding, fields) = decided(GZIP, 200, &tagged, Some(5000));
        assert_eq!(coding, Some(Coding::Gzip));
        assert_eq!(fields["content-encoding"], "gzip");
        assert_eq!(fields["vary"], "Accept-Encoding");
        assert_eq!(fields["etag"], "W/\"x\"");
        assert!(!fields.contains_key("content-length") && !fields.contains_key("accept-ranges"));
        let liked = [("accept-encoding", "gzip;q=0.5, br, zstd;q=0")];
        assert_eq!(decided(&liked, 200, &[JSON], None).0, Some(Coding::Brotli));
        assert_eq!(decided(&[("accept-encoding", "*")], 404, &[JSON], None).0, Some(Coding::Zstd));
    }

    #[test]
    fn what_is_not_to_be_coded_stays_as_it_is() {
        for (request, status, response, length) in [
            (GZIP, 206, &[JSON, ("content-range", "bytes 0-1/9")][..], None),
            (GZIP, 204, &[JSON], None),
            (GZIP, 304, &[JSON], None),
            (GZIP, 200, &[JSON, ("content-encoding", "br")], None),
            (GZIP, 200, &[JSON, ("cache-control", "public, No-Transform")], None),
            (GZIP, 200, &[("content-type", "text/event-stream")], None),
            (GZIP, 200, &[("content-type", "application/octet-stream")], None),
            (GZIP, 200, &[], None),
            (GZIP, 200, &[JSON], Some(10)),
            (&[("accept-encoding", "gzip, identity;q=0")], 200, &[JSON], Some(0)),
            (&[("accept-encoding", "gzip"), ("range", "bytes=0-")], 200, &[JSON], None),
            (&[("accept-encoding", "gzip;q=0")], 200, &[JSON], None),
            (&[("accept-encoding", "identity, gzip;q=0.5")], 200, &[JSON], None),
            (&[], 200, &[JSON], None),
        ] {
            let (coding, fields) = decided(request, status, response, length);
            assert_eq!(coding, None, "{request:?} {status} {response:?}");
            assert_eq!(
                fields.contains_key("content-encoding"),
                response.iter().any(|(name, _)| *name == "content-encoding")
            );
        }
    }

    #[test]
    fn who_refuses_the_content_as_it_is_gets_even_little_of_it_coded() {
        let request = [("accept-encoding", "gzip, identity;q=0")];
        assert_eq!(decided(&request, 200, &[JSON], Some(10)).0, Some(Coding::Gzip));
        let request = [("accept-encoding", "gzip, *;q=0")];
        assert_eq!(decided(&request, 200, &[JSON], Some(10)).0, Some(Coding::Gzip));
    }

    #[test]
    fn what_stands_for_an_answer_says_of_others_what_that_would_say() {
        let known = [("accept-encoding", "gzip"), ("if-none-match", "\"a\", W/\"x\"")];
        let tag = ("etag", "\"x\"");
        let png = ("content-type", "image/png");
        for (request, status, response, vary, etag) in [
            (GZIP, 304, &[JSON, tag][..], true, "W/\"x\""),
            (&[], 304, &[JSON, tag], true, "\"x\""),
            (&known, 304, &[tag], true, "W/\"x\""),
            // The 304 may be about a type that is not compressed.
            (GZIP, 304, &[tag], true, "\"x\""),
            (&known, 304, &[png, tag], false, "\"x\""),
            (&known, 304, &[tag, ("content-encoding", "br")], false, "\"x\""),
            (&known, 304, &[tag, ("cache-control", "no-transform")], false, "\"x\""),
            (GZIP, 206, &[JSON, tag, ("content-range", "bytes 0-1/9")], true, "\"x\""),
            (GZIP, 206, &[tag, ("content-type", "multipart/byteranges; boundary=b")], true, "\"x\""),
            (GZIP, 206, &[png, tag], false, "\"x\""),
            (GZIP, 416, &[JSON, tag, ("content-range", "bytes */9")], false, "\"x\""),
        ] {
            let (coding, fields) = decided(request, status, response, Some(5000));
            assert_eq!((coding, &fields["etag"].to_str().unwrap()), (None, &etag), "{status} {response:?}");
            assert_eq!(fields.contains_key("vary"), vary, "{status} {response:?}");
        }
    }

    #[test]
    fn caches_are_told_once() {
        let varied = [JSON, ("vary", "Origin, accept-encoding")];
        let (_, fields) = decided(&[], 200, &varied, None);
        assert_eq!(fields.get_all("vary").iter().count(), 1);
        let (_, fields) = decided(&[], 200, &[JSON, ("vary", "Origin")], None);
        assert_eq!(fields.get_all("vary").iter().count(), 2);
    }
}
