//! Accelerated downloads: the application names a file in `X-Accel-Redirect`, and bowshock sends it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{FileRequest, wanted};
use crate::{
    config::Files,
    message::{EditHeaders, starts_with},
    route::PathMatch,
};

/// Response header in which the application names the file.
pub const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");

/// Response header in which the application limits the rate of the response, in bytes per second.
pub const X_ACCEL_LIMIT_RATE: HeaderName = HeaderName::from_static("x-accel-limit-rate");

/// Response header in which the application names the charset of the response.
const X_ACCEL_CHARSET: HeaderName = HeaderName::from_static("x-accel-charset");

/// Adds the charset that the application has named to `Content-Type`, unless it has one.
pub(crate) fn set_charset(response: &mut impl EditHeaders) {
    let text = |name| response.get(name).and_then(|value| std::str::from_utf8(value).ok());
    let (Some(charset), Some(kind)) = (text(&X_ACCEL_CHARSET), text(&header::CONTENT_TYPE)) else { return };
    let is_text = kind.starts_with("text/") && !kind.to_ascii_lowercase().contains("charset=");
    if is_text && let Ok(kind) = HeaderValue::try_from(format!("{kind}; charset={charset}")) {
        response.set(header::CONTENT_TYPE, kind);
    }
}

/// Response header of Apache's mod_xsendfile, in which the application names a file by its path on this machine.
pub const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// Target of an accelerated download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccelTarget<'a> {
    /// The response of a route to this path: an internal redirect.
    Route(&'a str),
    /// The file at this path, if an internal route may send it.
    File(&'a str),
}

/// Target that a response names, if any.
///
/// The value is taken as bytes: Galaxy writes names unencoded, including UTF-8.
pub(crate) fn target(response: &impl EditHeaders) -> Option<Result<AccelTarget<'_>, NotText>> {
    let value = |name: &HeaderName| response.get(name).map(std::str::from_utf8);
    match (value(&X_ACCEL_REDIRECT), value(&X_SENDFILE)) {
        (Some(path), _) => Some(path.map(AccelTarget::Route).map_err(|_| NotText)),
        (None, Some(path)) => Some(path.map(AccelTarget::File).map_err(|_| NotText)),
        (None, None) => None,
    }
}

/// The name of the file is not valid UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the application named a file that is not valid UTF-8")]
pub struct NotText;

/// File named by `rest`, the part of the path after the prefix of the internal route. Tried in order: the literal
/// name; the percent-decoded name, because some applications encode and others do not; then the same without the
/// query, because nginx treats the value as a URI, and no file has a query.
///
/// `None` if the name has a `..` segment or a NUL.
pub fn named(files: &Files, rest: &str) -> Option<FileRequest> {
    let bare = rest.split_once('?').map(|(bare, _)| bare);
    let mut found: Option<FileRequest> = None;
    for name in [Some(rest), bare].into_iter().flatten() {
        let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        for wanted in [Some(name), (decoded != name).then_some(&*decoded)].into_iter().flatten() {
            match (whole(files, wanted), &mut found) {
                (Some(first), None) => found = Some(first),
                (Some(other), Some(found)) => found.candidates.extend(other.candidates),
                (None, _) => {}
            }
        }
    }
    found
}

/// File named by its path on this machine, if this internal route may send it.
pub fn sent(files: &Files, path: &str) -> Option<FileRequest> {
    let mut wanted = whole(files, "")?;
    let is_plain =
        path.starts_with('/') && !path.contains('\0') && path.split('/').all(|segment| segment != "..");
    wanted.candidates = vec![path.into()];
    is_plain.then_some(wanted)
}

/// Whether a path for a server has a `..` segment or a NUL, as it stands or decoded.
pub(crate) fn leads_up(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    decoded.contains('\0') || decoded.split('/').any(|segment| segment == "..")
}

/// Same checks as for a client's path, except that hidden files are allowed: they are the application's decision.
fn whole(files: &Files, rest: &str) -> Option<FileRequest> {
    if rest.contains('\0') || rest.split('/').any(|segment| segment == "..") {
        return None;
    }
    // What a request names is of no account here: the application says which file it is.
    let mut place = wanted(files, &PathMatch::Prefix(""), &|_, _| {})?;
    let root = String::from_utf8_lossy(&files.root.render(|_, _| {})).into_owned();
    place.precompressed = Arc::default();
    place.candidates = vec![format!("{}{rest}", root.trim_end_matches('/')).into()];
    Some(place)
}

/// Headers of the application's response to pass on: all but those about its (empty) body, about the connection, and
/// its instructions to the proxy.
pub fn kept_fields(response: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(response.len());
    for (name, value) in response {
        if !is_about_the_body_or_to_us(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

fn is_about_the_body_or_to_us(name: &HeaderName) -> bool {
    const CONNECTION: [HeaderName; 9] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::PROXY_AUTHENTICATE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    CONNECTION.contains(name) || *name == header::CONTENT_RANGE || is_to_us(name.as_str().as_bytes())
}

/// Whether a header is an instruction of the application to the proxy.
pub(crate) fn is_to_us(name: &[u8]) -> bool {
    starts_with(name, b"x-accel-")
        || starts_with(name, b"x-archive-")
        || name.eq_ignore_ascii_case(X_SENDFILE.as_str().as_bytes())
}

/// Removes headers that are meant for the proxy alone.
pub(crate) fn hide(response: &mut impl EditHeaders) {
    response.remove_if(is_to_us);
}

/// Removes `Last-Modified` values that are not dates; the date of the file takes their place.
pub fn drop_bad_dates(fields: &mut HeaderMap) {
    let readable =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| httpdate::parse_http_date(text).is_ok());
    if fields.get(header::LAST_MODIFIED).is_some_and(|value| !readable(value)) {
        fields.remove(header::LAST_MODIFIED);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Part, Template};

    fn files() -> Files {
        let root = Template(vec![Part::Text("/".into())]);
        Files { root, within: vec!["/data".into()], ..Files::default() }
    }

    #[test]
    fn the_literal_name_goes_before_the_decoded_one() {
        let found = named(&files(), "/data/100%41").unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/data/100%41"), PathBuf::from("/data/100A")]);
        assert_eq!(found.within, [PathBuf::from("/data")]);
        let found = named(&files(), "/data/.cache/ü.txt").unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/data/.cache/ü.txt")]);
    }

    #[test]
    fn a_query_is_of_the_name_first_and_nothing_then() {
        let found = named(&files(), "/data/a%20b?filename=../c").unwrap();
        let expected = ["/data/a%20b?filename=../c", "/data/a b?filename=../c", "/data/a%20b", "/data/a b"];
        assert_eq!(found.candidates, expected.map(PathBuf::from));
        let found = named(&files(), "/data/a?next=/../c").unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/data/a")], "the query may have anything in it");
    }

    #[test]
    fn no_name_leads_up() {
        for name in ["/data/../etc/passwd", "/..", "/data/\0", "/../a?b", "/%2e%2e/../a?b"] {
            assert_eq!(named(&files(), name), None, "{name}");
        }
        for name in ["/data/%2e%2e/etc/passwd", "/data/%00"] {
            let found = named(&files(), name).unwrap();
            assert_eq!(found.candidates, [PathBuf::from(name)], "only as it stands");
        }
    }

    #[test]
    fn the_application_keeps_its_fields() {
        let response: HeaderMap = [
            ("content-type", "text/plain"),
            ("content-length", "0"),
            ("content-disposition", "attachment"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("etag", "\"app\""),
            ("x-accel-redirect", "/x"),
            ("x-accel-buffering", "no"),
            ("connection", "close"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let kept = kept_fields(&response);
        let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["access-control-allow-origin", "content-disposition", "content-type", "etag", "set-cookie"]
        );
    }
}
