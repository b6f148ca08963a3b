//! Compression of answers: which of them, by what coding, and how without keeping anybody waiting.

mod encoder;
mod stream;

use http::{HeaderName, HeaderValue, StatusCode, header};

pub(crate) use crate::compress::stream::{StreamEncoder, whole};

use crate::{
    config::Compress,
    message::{AcceptEncoding, Coding, EditHeaders, RequestHead, has_word},
};

/// Digests of the content as it was, which it is no longer (RFC 9530 §2).
const DIGESTS: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("content-md5")];

/// The coding of an answer and its level, if it is to have one; who has an encoder for it says so in its head ([`code`]). Says there that
/// others get it otherwise, wherever that is so: also in a 206 and a 304, which say what a 200 in their place would (RFC
/// 9110 §15.3.7, §15.4.5).
pub(crate) fn decide(
    settings: &Compress,
    request: &RequestHead,
    status: StatusCode,
    answer: &mut impl EditHeaders,
    length: Option<u64>,
) -> Option<(Coding, u32)> {
    if !may_be_coded(settings, status, answer) {
        return None;
    }
    vary(answer);
    if status == StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let accepted = AcceptEncoding::read(&request.headers)?;
    // A range is one of the content as it is.
    if request.headers.has(header::RANGE) {
        return None;
    }
    // Of nothing there is nothing to code, whatever the client thinks of it.
    if length == Some(0) {
        return None;
    }
    let is_small = length.is_some_and(|length| length < settings.min_size);
    if is_small && !accepted.refuses_identity() {
        return None;
    }
    let coding = accepted.best(settings.codings.iter().map(|(coding, _)| *coding))?;
    if status == StatusCode::NOT_MODIFIED {
        // What is coded has another tag, by which caches know what they hold of it.
        if answer.get(&header::CONTENT_TYPE).is_some() || names_coded(request, answer) {
            weaken(answer);
        }
        return None;
    }
    Some(settings.codings[coding])
}

/// Whether the client names by its tag what was coded of an answer.
fn names_coded(request: &RequestHead, answer: &impl EditHeaders) -> bool {
    let Some(tag) = answer.get(&header::ETAG) else { return false };
    let weak = [b"W/", tag].concat();
    request.headers.values(&header::IF_NONE_MATCH).any(|tags| has_word(tags, &weak))
}

/// Whether a coding would do an answer good, whoever asks.
fn may_be_coded(settings: &Compress, status: StatusCode, answer: &impl EditHeaders) -> bool {
    let has = |name: &HeaderName| answer.get(name).is_some();
    let mut is_final = false;
    answer.each(&header::CACHE_CONTROL, |value| is_final |= has_word(value, b"no-transform"));
    let kind = answer.get(&header::CONTENT_TYPE).map(essence).unwrap_or_default();
    let is_kind = settings.types.iter().any(|wanted| fits(wanted, &kind)) && kind != "text/event-stream";
    let may_be = match status.as_u16() {
        200..=203 | 400..=599 => is_kind && !has(&header::CONTENT_RANGE),
        206 => is_kind || kind == "multipart/byteranges",
        // Servers seldom say of what.
        304 => is_kind || kind.is_empty(),
        _ => false,
    };
    may_be && !has(&header::CONTENT_ENCODING) && !is_final
}

/// The type without its parameters, in lower case.
fn essence(value: &[u8]) -> String {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    String::from_utf8_lossy(value[..end].trim_ascii()).to_ascii_lowercase()
}

/// Whether a type is a wanted one: the same, or `text/*`.
fn fits(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(family) => kind.starts_with(family),
        None => kind == wanted,
    }
}

/// Caches must not give it to those who have asked otherwise (RFC 9110 §12.5.5).
fn vary(answer: &mut impl EditHeaders) {
    let names = answer.get(&header::VARY);
    let is_said = names.is_some_and(|names| has_word(names, b"accept-encoding") || has_word(names, b"*"));
    if !is_said {
        answer.add(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Says of an answer what becomes of it.
pub(crate) fn code(answer: &mut impl EditHeaders, coding: Coding) {
    answer.set(header::CONTENT_ENCODING, coding.value());
    answer.remove(&header::CONTENT_LENGTH);
    answer.remove(&header::ACCEPT_RANGES);
    for digest in &DIGESTS {
        answer.remove(digest);
    }
    weaken(answer);
}

/// The same content, and not the same bytes (RFC 9110 §8.8.1).
fn weaken(answer: &mut impl EditHeaders) {
    let weak = match answer.get(&header::ETAG) {
        Some(tag) if !tag.starts_with(b"W/") => HeaderValue::from_bytes(&[b"W/", tag].concat()).ok(),
        _ => None,
    };
    if let Some(weak) = weak {
        answer.set(header::ETAG, weak);
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
        answer: &[(&'static str, &str)],
        length: Option<u64>,
    ) -> (Option<Coding>, HeaderMap) {
        let mut fields = HeaderMap::new();
        for (name, value) in answer {
            fields.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let decided = decide(&Compress::default(), &asked(request), status, &mut fields, length);
        let coding = decided.map(|(coding, _)| coding);
        if let Some(coding) = coding {
            code(&mut fields, coding);
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
        for (request, status, answer, length) in [
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
            let (coding, fields) = decided(request, status, answer, length);
            assert_eq!(coding, None, "{request:?} {status} {answer:?}");
            assert_eq!(
                fields.contains_key("content-encoding"),
                answer.iter().any(|(name, _)| *name == "content-encoding")
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
        for (request, status, answer, vary, etag) in [
            (GZIP, 304, &[JSON, tag][..], true, "W/\"x\""),
            (&[], 304, &[JSON, tag], true, "\"x\""),
            (&known, 304, &[tag], true, "W/\"x\""),
            // It may be something else that the server has not changed.
            (GZIP, 304, &[tag], true, "\"x\""),
            (&known, 304, &[png, tag], false, "\"x\""),
            (&known, 304, &[tag, ("content-encoding", "br")], false, "\"x\""),
            (&known, 304, &[tag, ("cache-control", "no-transform")], false, "\"x\""),
            (GZIP, 206, &[JSON, tag, ("content-range", "bytes 0-1/9")], true, "\"x\""),
            (GZIP, 206, &[tag, ("content-type", "multipart/byteranges; boundary=b")], true, "\"x\""),
            (GZIP, 206, &[png, tag], false, "\"x\""),
            (GZIP, 416, &[JSON, tag, ("content-range", "bytes */9")], false, "\"x\""),
        ] {
            let (coding, fields) = decided(request, status, answer, Some(5000));
            assert_eq!((coding, &fields["etag"].to_str().unwrap()), (None, &etag), "{status} {answer:?}");
            assert_eq!(fields.contains_key("vary"), vary, "{status} {answer:?}");
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
