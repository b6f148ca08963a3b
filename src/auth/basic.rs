//! The Authorization header of the Basic scheme (RFC 7617 §2).

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// User and password of a request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
}

impl Credentials {
    /// Reads the value of Authorization; `None` for other schemes, and for what is malformed.
    pub(crate) fn read(authorization: &[u8]) -> Option<Self> {
        let at = authorization.iter().position(|byte| *byte == b' ')?;
        let (scheme, encoded) = authorization.split_at(at);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let user = std::str::from_utf8(&decoded[..colon]).ok()?;
        let is_clean = !user.is_empty() && !user.chars().any(char::is_control);
        is_clean.then(|| Self { user: user.into(), password: decoded[colon + 1..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_split_at_the_first_colon() {
        let read = |text: &str| {
            let header = format!("basic {}", STANDARD.encode(text));
            let found = Credentials::read(header.as_bytes())?;
            Some((found.user, String::from_utf8(found.password).unwrap()))
        };
        assert_eq!(read("anna:se:cret"), Some(("anna".into(), "se:cret".into())));
        assert_eq!(read("ünal:"), Some(("ünal".into(), String::new())));
        assert_eq!(read("anna"), None);
        assert_eq!(read(":x"), None);
        assert_eq!(read("a\nb:x"), None);
        for bad in ["Bearer abc", "Basic", "Basic ???", ""] {
            assert!(Credentials::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
