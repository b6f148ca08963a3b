//! Path normalization for route lookup: decoded, with empty and dot segments resolved, as nginx does.
//!
//! The upstream gets the path as the client sent it. Only route lookup and files use the normalized form, so that no
//! spelling (`/%5fx_accel_redirect`, `//static/../x`) evades a route. When a server could read the path as sent in a
//! way that leads to another route ([`other_readings`]), the request is refused.

use std::{borrow::Cow, iter};

/// Error for a path without a route; the client gets 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Path above the root.
    #[error("The path leads above the root.")]
    AboveRoot,
    /// Path with a NUL byte, which no file name can contain.
    #[error("The path holds a NUL byte.")]
    Nul,
    /// Path that does not start with `/`.
    #[error("The path does not start with a slash.")]
    Relative,
    /// Path that servers may read as that of another route.
    #[error("The path has dot segments, empty segments or encoded slashes that may lead elsewhere.")]
    Ambiguous,
}

/// Normalizes the path of a request target (without the query) for route lookup.
///
/// Bytes that are not UTF-8 become U+FFFD: such a path can match a prefix, and names no file.
///
/// # Errors
///
/// See [`BadPath`].
pub fn normalize<P: AsRef<[u8]> + ?Sized>(raw: &P) -> Result<Cow<'_, str>, BadPath> {
    Ok(match normalize_bytes(raw.as_ref())? {
        Cow::Borrowed(path) => String::from_utf8_lossy(path),
        Cow::Owned(path) => Cow::Owned(lossy(path)),
    })
}

/// [`normalize`], with every byte as it is: what nginx has in `$document_uri`.
///
/// # Errors
///
/// See [`BadPath`].
pub fn normalize_bytes(raw: &[u8]) -> Result<Cow<'_, [u8]>, BadPath> {
    if raw.first() != Some(&b'/') {
        return Err(BadPath::Relative);
    }
    let decoded = Cow::from(percent_encoding::percent_decode(raw));
    if memchr::memchr(b'\0', &decoded).is_some() {
        return Err(BadPath::Nul);
    }
    if is_plain(&decoded) {
        return Ok(decoded);
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop().ok_or(BadPath::AboveRoot)?;
            }
            segment => segments.push(segment),
        }
    }
    // A path to a directory keeps its slash: "/a/", "/a/." and "/a/b/.." all end with one.
    let last = decoded.rsplit(|byte| *byte == b'/').next();
    let is_directory = segments.is_empty() || matches!(last, Some(b"" | b"." | b".."));
    let end = is_directory.then_some(&b""[..]);
    let parts: Vec<&[u8]> = iter::once(&b""[..]).chain(segments).chain(end).collect();
    Ok(Cow::Owned(parts.join(&b'/')))
}

/// As text, with U+FFFD for what is none; a path that is text keeps its allocation.
fn lossy(path: Vec<u8>) -> String {
    String::from_utf8(path).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Decoded paths that a server may read `raw` as, other than the normalized one: with dot segments kept or resolved
/// before decoding, with empty segments kept (RFC 3986 §5.2.4), or with `%2F` as part of a segment.
///
/// Empty when `raw` differs from the normalized path in plain escapes only, as for nearly every request.
pub fn alternative_readings(raw: &[u8], normalized: &str) -> Vec<String> {
    if raw == normalized.as_bytes() {
        return Vec::new();
    }
    let has_encoded_slash = raw.windows(3).any(is_encoded_slash);
    if !has_encoded_slash && is_plain(decode(raw).as_bytes()) {
        return Vec::new();
    }
    let either = [true, false];
    let variants = either.into_iter().flat_map(|decodes_slash| {
        [Dots::Kept, Dots::Literal, Dots::Encoded].into_iter().flat_map(move |dots| {
            either.map(|merges_slashes| PathProcessing { decodes_slash, dots, merges_slashes })
        })
    });
    let mut readings = Vec::new();
    for reading in variants.map(|variant| variant.apply(raw)) {
        if !readings.contains(&reading) && reading != normalized {
            readings.push(reading);
        }
    }
    readings
}

/// Variant of path processing in servers.
#[derive(Clone, Copy)]
struct PathProcessing {
    /// Whether `%2F` separates segments as `/` does.
    decodes_slash: bool,
    dots: Dots,
    /// Whether empty segments are dropped.
    merges_slashes: bool,
}

/// Dot segments that a server resolves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Kept,
    /// Segments written as literal dots.
    Literal,
    /// Also segments written with `%2E`.
    Encoded,
}

impl PathProcessing {
    fn apply(self, raw: &[u8]) -> String {
        let separated = if self.decodes_slash { separate(raw) } else { Cow::Borrowed(raw) };
        let mut segments: Vec<Cow<'_, str>> = Vec::new();
        let mut is_directory = false;
        for segment in separated.split(|byte| *byte == b'/').skip(1) {
            let decoded = if self.decodes_slash { decode(segment) } else { decode_but_slashes(segment) };
            let compared = if self.dots == Dots::Literal { segment } else { decoded.as_bytes() };
            is_directory = false;
            match compared {
                b"" if self.merges_slashes => is_directory = true,
                b"." if self.dots != Dots::Kept => is_directory = true,
                b".." if self.dots != Dots::Kept => {
                    // A `..` at the root stays there (RFC 3986 §5.2.4).
                    segments.pop();
                    is_directory = true;
                }
                _ => segments.push(decoded),
            }
        }
        join(&segments, is_directory || segments.is_empty())
    }
}

/// `raw` with encoded slashes replaced by slashes.
fn separate(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.windows(3).any(is_encoded_slash) {
        return raw.into();
    }
    let (mut separated, mut at) = (Vec::with_capacity(raw.len()), 0);
    while let Some(byte) = raw.get(at) {
        let is_slash = raw.get(at..at + 3).is_some_and(is_encoded_slash);
        separated.push(if is_slash { b'/' } else { *byte });
        at += if is_slash { 3 } else { 1 };
    }
    separated.into()
}

fn is_encoded_slash(escape: &[u8]) -> bool {
    escape.eq_ignore_ascii_case(b"%2f")
}

fn decode(raw: &[u8]) -> Cow<'_, str> {
    percent_encoding::percent_decode(raw).decode_utf8_lossy()
}

/// Decodes a segment, but keeps `%2F`.
fn decode_but_slashes(segment: &[u8]) -> Cow<'_, str> {
    if !segment.windows(3).any(is_encoded_slash) {
        return decode(segment);
    }
    let (mut decoded, mut start, mut at) = (String::new(), 0, 0);
    while at < segment.len() {
        if segment.get(at..at + 3).is_some_and(is_encoded_slash) {
            decoded.push_str(&decode(&segment[start..at]));
            decoded.push_str("%2F");
            start = at + 3;
            at = start;
        } else {
            at += 1;
        }
    }
    decoded.push_str(&decode(&segment[start..]));
    decoded.into()
}

fn join(segments: &[impl AsRef<str>], is_directory: bool) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(segment.as_ref());
    }
    if is_directory {
        path.push('/');
    }
    path
}

/// Whether nothing needs resolving, the usual case.
fn is_plain(path: &[u8]) -> bool {
    let mut pairs = path.windows(2);
    !pairs.any(|pair| matches!(pair, b"//" | b"/."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_is_the_same_path() {
        for (raw, path) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/%61%2Fb", "/a/b"),
            ("/%5fx_accel_redirect", "/_x_accel_redirect"),
            ("/a/%2e%2e/b", "/b"),
            ("/a%2F..%2Fb", "/b"),
            ("/.hidden", "/.hidden"),
            ("/a%20b+c", "/a b+c"),
            ("/%ff", "/\u{fffd}"),
            ("/%zz", "/%zz"),
        ] {
            assert_eq!(normalize(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn what_leads_out_is_refused() {
        for raw in ["/..", "/../etc", "/a/../../b", "/%2e%2e/b", "/a/%2e%2e%2f%2e%2e/b"] {
            assert_eq!(normalize(raw), Err(BadPath::AboveRoot), "{raw}");
        }
        assert_eq!(normalize("/a%00b"), Err(BadPath::Nul));
        assert_eq!(normalize("*"), Err(BadPath::Relative));
    }

    /// Every path that servers may read `raw` as, the normalized one first.
    fn readings(raw: &str) -> Vec<String> {
        let path = normalize(raw).unwrap();
        let others = alternative_readings(raw.as_bytes(), &path);
        [vec![path.into_owned()], others].concat()
    }

    #[test]
    fn servers_may_read_some_paths_in_several_ways() {
        for raw in ["/a/b", "/a/", "/a%20b/c", "/%61%2eb", "/a/b.c", "/\u{e9}"] {
            assert_eq!(readings(raw).len(), 1, "{raw}");
        }
        for (raw, reading) in [
            ("/a/../b", "/a/../b"),
            ("/a/%2e%2E/b", "/a/../b"),
            ("/a%2f..%2Fb", "/a/../b"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("//a", "//a"),
            ("/a//../b", "/a/b"),
            // Dot segments resolved first, slashes decoded after that.
            ("/a/b%2Fc/../../d", "/d"),
            // Literal dot segments only.
            ("/a/../b/%2e%2e/a", "/b/../a"),
            ("/a/./b", "/a/./b"),
            ("/a/.", "/a/."),
        ] {
            assert!(readings(raw).iter().any(|path| path == reading), "{raw}: {:?}", readings(raw));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_has_one_reading_has_nothing_to_resolve(raw in "(/|%2[fF]|%2[eE]|\\.|a|b|%61){1,12}") {
            let raw = format!("/{raw}");
            if let Ok(path) = normalize(&raw) {
                let others = alternative_readings(raw.as_bytes(), &path);
                let decoded = decode(raw.as_bytes());
                let is_same = decoded == path && !raw.to_ascii_lowercase().contains("%2f");
                proptest::prop_assert_eq!(others.is_empty(), is_same, "{} {} {:?}", raw, path, others);
                proptest::prop_assert!(others.iter().all(|other| other.starts_with('/')));
            }
        }


        #[test]
        fn a_normal_path_has_nothing_left_to_resolve(raw in "/[a-c./%2eE]{0,24}") {
            if let Ok(path) = normalize(&raw) {
                proptest::prop_assert!(path.starts_with('/'));
                proptest::prop_assert!(!path.split('/').any(|segment| segment == ".."));
                proptest::prop_assert!(!path.contains("//"));
            }
        }
    }
}
