//! Several ranges in one response: `multipart/byteranges` (RFC 9110 §14.6).

use std::collections::VecDeque;

use http::{HeaderValue, header};

use super::range::ByteSpan;
use crate::{
    observe::BodySource,
    response::{Body, Piece, Response},
};

/// `Content-Range` of a part.
pub fn content_range(span: ByteSpan, size: u64) -> String {
    format!("bytes {}-{}/{size}", span.start, span.end() - 1)
}

/// Builds the response with several parts from one that has the headers of the whole.
pub fn answer(
    mut response: Response,
    spans: &[ByteSpan],
    size: u64,
    part: impl Fn(ByteSpan) -> Piece,
) -> Response {
    // Random, so that no file contains it by chance or on purpose.
    let boundary = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let kind = response.headers.remove(header::CONTENT_TYPE);
    let kind = kind.as_ref().and_then(|kind| kind.to_str().ok()).unwrap_or("application/octet-stream");
    let mut pieces = VecDeque::with_capacity(2 * spans.len() + 1);
    for span in spans {
        let range = content_range(*span, size);
        let head = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {range}\r\n\r\n");
        pieces.push_back(Piece::Bytes(head.into()));
        pieces.push_back(part(*span));
    }
    pieces.push_back(Piece::Bytes(format!("\r\n--{boundary}--\r\n").into()));
    let length = pieces.iter().map(Piece::length).sum();
    let multipart = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
    response.headers.extend(multipart.ok().map(|multipart| (header::CONTENT_TYPE, multipart)));
    response.body(Body::Pieces { pieces: Box::new(pieces), length, how: BodySource::Sendfile })
}
