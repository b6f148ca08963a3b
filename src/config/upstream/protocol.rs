//! `upstream.protocol`: what the servers speak.

use super::UpstreamSettings;

/// The words of `protocol`.
pub(super) const PROTOCOLS: [(&str, Protocol); 5] = [
    ("http", Protocol::Http),
    ("https", Protocol::Https),
    ("uwsgi", Protocol::Uwsgi),
    ("h2", Protocol::H2),
    ("h2c", Protocol::H2c),
];

/// `upstream.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Https,
    Uwsgi,
    H2,
    H2c,
}

impl Protocol {
    /// The protocol of an upstream.
    pub(super) fn of(upstream: &UpstreamSettings) -> Self {
        match (&upstream.uwsgi, &upstream.tls) {
            (Some(_), _) => Self::Uwsgi,
            (None, Some(_)) if upstream.http2 => Self::H2,
            (None, Some(_)) => Self::Https,
            (None, None) if upstream.http2 => Self::H2c,
            (None, None) => Self::Http,
        }
    }

    pub(super) fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    pub(super) fn is_http2(self) -> bool {
        matches!(self, Self::H2 | Self::H2c)
    }
}
