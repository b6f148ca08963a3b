//! A name for each request, to find it again in every log.

use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::answer::value;

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// The field that carries it, to the upstream and to the client.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: 32 hexadecimal digits, or what a trusted peer has given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// A new one, unlike all others (128 random bits).
    pub(crate) fn random() -> Self {
        let bits = fastrand::u128(..).to_be_bytes();
        let mut digits = [[0; 2]; 16];
        for (pair, byte) in digits.iter_mut().zip(bits) {
            *pair = [HEXADECIMAL[usize::from(byte >> 4)], HEXADECIMAL[usize::from(byte & 15)]];
        }
        Self(value(|out| out.extend_from_slice(digits.as_flattened())))
    }

    /// One that came from a trusted peer, if it can stand in a log.
    pub(crate) fn given(value: &HeaderValue) -> Option<Self> {
        let fits = value.len() <= 128 && value.as_bytes().iter().all(|byte| byte.is_ascii_graphic());
        (fits && !value.is_empty()).then(|| Self(value.clone()))
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("-")
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
        let given = |text: &str| RequestId::given(&HeaderValue::from_str(text).unwrap());
        assert!(given("abc-123").is_some());
        assert!(given("").is_none());
        assert!(given("two words").is_none());
        assert!(given(&"x".repeat(200)).is_none());
    }
}
