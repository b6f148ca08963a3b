//! Faults of HTTP/2 requests, and the sentence that tells the client.

use http::StatusCode;

use crate::message::Refusal;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    TooLarge = b'0',
    Target,
    Authority,
    Scheme,
    Name,
    Value,
    OfConnection,
    Pseudo,
    Length,
    Dependency,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::TooLarge,
        Self::Target,
        Self::Authority,
        Self::Scheme,
        Self::Name,
        Self::Value,
        Self::OfConnection,
        Self::Pseudo,
        Self::Length,
        Self::Dependency,
    ];

    /// The fault with this number.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| value == [*fault as u8])
    }

    /// Sentence for the client.
    pub(crate) fn refusal(self) -> Refusal {
        let sentence = match self {
            Self::TooLarge => return Refusal::TOO_LARGE,
            Self::Target => "The target holds a space or a control character.",
            Self::Authority => "The authority is not a name or an address.",
            Self::Scheme => "The scheme is neither http nor https.",
            Self::Name => "The name of a field has characters that no name has.",
            Self::Value => "The value of a field has a control character.",
            Self::OfConnection => "A field of the head is about a connection, which HTTP/2 has none of.",
            Self::Pseudo => "The pseudo-header fields are not those of a request.",
            Self::Length => "Content-Length is not the length of the body.",
            Self::Dependency => "A stream cannot depend on itself.",
        };
        Refusal { status: StatusCode::BAD_REQUEST, sentence }
    }

    /// Whether the request is malformed (§8.1.1), so that its stream ends with an error after the response.
    pub(crate) fn is_stream_error(self) -> bool {
        !matches!(self, Self::TooLarge | Self::Target | Self::Authority | Self::Scheme)
    }
}
