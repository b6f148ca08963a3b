//! A name for each request, to find it again in every log.

use std::fmt;

use http::{HeaderName, HeaderValue};

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// The field that carries it, to the upstream and to the client.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: 32 hexadecimal digits, or what a trusted peer has given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    Own([u8; 32]),
    Given(HeaderValue),
}

impl RequestId {
    /// A new one, unlike all others (128 random bits).
    pub(crate) fn random() -> Self {
        let bits = fastrand::u128(..).to_be_bytes();
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bits) {
            pair.copy_from_slice(&[HEXADECIMAL[usize::from(byte >> 4)], HEXADECIMAL[usize::from(byte & 15)]]);
        }
        Self::Own(digits)
    }

    /// Takes the id that a trusted peer gives, if it can stand in a log.
    pub(crate) fn given(value: &[u8]) -> Option<Self> {
        let fits = value.len() <= 128 && value.iter().all(u8::is_ascii_graphic);
        let value = HeaderValue::from_bytes(value).ok().filter(|value| fits && !value.is_empty());
        value.map(Self::Given)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(digits) => digits,
            Self::Given(value) => value.as_bytes(),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("-")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_and_different() {
        let ids = [RequestId::random(), RequestId::random()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.as_str().len() == 32));
    }

    #[test]
    fn a_given_id_must_fit_a_log() {
        let given = |text: &str| RequestId::given(text.as_bytes());
        assert!(given("abc-123").is_some());
        assert!(given("").is_none());
        assert!(given("two words").is_none());
        assert!(given(&"x".repeat(200)).is_none());
    }
}
