//! The path that routes are matched against: decoded, with empty and dot segments resolved, as nginx does.
//!
//! The upstream gets the path as the client sent it; only routing and files use this form, so that no spelling
//! (`/%5fx_accel_redirect`, `//static/../x`) goes around a route.

use std::borrow::Cow;

/// Why a path cannot be routed; the client gets 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It leads above the root.
    #[error("The path leads above the root.")]
    AboveRoot,
    /// It holds a NUL byte, which no file name can.
    #[error("The path holds a NUL byte.")]
    Nul,
    /// It does not start with `/`.
    #[error("The path does not start with a slash.")]
    Relative,
}

/// Brings the path of a request target (no query) into the form that routes are matched against.
///
/// Bytes that are not UTF-8 become U+FFFD: they can be routed by a prefix, and name no file.
///
/// # Errors
///
/// See [`BadPath`].
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if !raw.starts_with('/') {
        return Err(BadPath::Relative);
    }
    let decoded = match memchr::memchr(b'%', raw.as_bytes()) {
        Some(_) => percent_encoding::percent_decode_str(raw).decode_utf8_lossy(),
        None => raw.into(),
    };
    if memchr::memchr(b'\0', decoded.as_bytes()).is_some() {
        return Err(BadPath::Nul);
    }
    if is_plain(&decoded) {
        return Ok(decoded);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(BadPath::AboveRoot)?;
            }
            segment => segments.push(segment),
        }
    }
    let mut path = String::with_capacity(decoded.len());
    for segment in &segments {
        path.push('/');
        path.push_str(segment);
    }
    // A directory stays one: "/a/", "/a/." and "/a/b/.." all end with a slash.
    if segments.is_empty() || matches!(decoded.rsplit('/').next(), Some("" | "." | "..")) {
        path.push('/');
    }
    Ok(Cow::Owned(path))
}

/// Whether there is nothing to resolve, which is nearly always so.
fn is_plain(path: &str) -> bool {
    let mut pairs = path.as_bytes().windows(2);
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

    proptest::proptest! {
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
