//! Requests that ask for something that stays open: an event stream, or a tunnel.

use http::{Method, Version, header};
use memchr::memchr2_iter;

use crate::message::{fields::has_word, request::RequestHead};

/// The media type of event streams (HTML Standard, §9.2).
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a `Content-Type` is that of an event stream.
pub(crate) fn is_event_stream(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM)
}

impl RequestHead {
    /// Whether the response is meant to stay open: an event stream (a GET whose `Accept` names that type), or a
    /// WebSocket. Whether it does only its head tells.
    pub(crate) fn asks_for_stream(&self) -> bool {
        self.asks_for_events() || self.asks_for_websocket()
    }

    fn asks_for_events(&self) -> bool {
        let is_named = |accept: &[u8]| {
            let mut ranges = accept.split(|byte| *byte == b',');
            mentions_events(accept) && ranges.any(|range| is_event_stream(range) && !is_excluded(range))
        };
        self.method == Method::GET && self.headers.values(&header::ACCEPT).any(is_named)
    }

    /// Whether it asks for its connection to become a WebSocket (RFC 6455 §4.1). To anything else nobody switches here,
    /// h2c above all: whoever asks for it gets a response in HTTP/1.1 (RFC 9110 §7.8).
    pub(crate) fn asks_for_websocket(&self) -> bool {
        let fields = &self.headers;
        if self.method != Method::GET || self.version == Version::HTTP_10 || !fields.has(header::UPGRADE) {
            return false;
        }
        let has_body = fields.values(&header::CONTENT_LENGTH).any(|length| length != b"0")
            || fields.has(header::TRANSFER_ENCODING);
        !has_body
            && fields.values(&header::UPGRADE).count() == 1
            && fields.values(&header::UPGRADE).all(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
            && fields.values(&header::CONNECTION).any(|words| has_word(words, b"upgrade"))
    }
}

/// Whether the type of event streams may be among these media ranges: nearly no request has it, and it is told by one look
/// at the bytes.
fn mentions_events(accept: &[u8]) -> bool {
    let word = &EVENT_STREAM[b"text/e".len()..];
    let is_word =
        |at: usize| accept.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word));
    memchr2_iter(b'v', b'V', accept).any(is_word)
}

/// Whether a media range has a weight of zero (RFC 9110 §12.4.2).
fn is_excluded(range: &[u8]) -> bool {
    range.split(|byte| *byte == b';').skip(1).any(|parameter| {
        let weight =
            parameter.trim_ascii().strip_prefix(b"q=").or(parameter.trim_ascii().strip_prefix(b"Q="));
        weight
            .is_some_and(|weight| weight.starts_with(b"0") && weight.iter().all(|byte| b"0.".contains(byte)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::request::read;

    fn asks(request: &str) -> bool {
        read(format!("{request}\r\nHost: x\r\n\r\n").as_bytes(), 0).unwrap().unwrap().0.head.asks_for_stream()
    }

    #[test]
    fn who_accepts_an_event_stream_asks_for_one() {
        for accept in
            ["text/event-stream", "Text/Event-Stream; charset=utf-8", "*/*;q=0.1, text/event-stream;q=0.5"]
        {
            assert!(asks(&format!("GET / HTTP/1.1\r\nAccept: {accept}")), "{accept}");
        }
        for accept in
            ["*/*", "text/html", "text/event-stream;q=0", "text/event-stream;q=0.000", "x-text/event-stream"]
        {
            assert!(!asks(&format!("GET / HTTP/1.1\r\nAccept: {accept}")), "{accept}");
        }
        assert!(!asks("POST / HTTP/1.1\r\nAccept: application/json, text/event-stream"), "it may be either");
        assert!(asks("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade"));
        assert!(!asks("GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade"));
    }

    #[test]
    fn the_type_of_an_event_stream_may_have_parameters() {
        assert!(is_event_stream(b"text/event-stream"));
        assert!(is_event_stream(b"TEXT/Event-Stream ;charset=utf-8"));
        assert!(!is_event_stream(b"text/event-stream-x"));
        assert!(!is_event_stream(b"text/html; x=text/event-stream"));
    }
}
