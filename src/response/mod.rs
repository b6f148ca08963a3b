//! Answers that the proxy makes itself: their heads, bodies and error pages.

mod error_page;
mod identity;
mod pieces;
mod route_headers;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::observe::How;

pub(crate) use identity::FileIdentity;
pub use pieces::{Piece, Pieces};
pub(crate) use {
    error_page::{Explanation, bare, escape, prefers_json},
    route_headers::apply_route_headers,
};

/// An answer that needs no upstream.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The fields; `Content-Length`, `Date` and `Connection` are set when it is sent.
    pub headers: HeaderMap,
    /// It is a page of ours that tells a person of an error.
    pub is_page: bool,
    /// The version of the file that the whole body is, if it is one that can be told apart from others.
    pub file: Option<Arc<FileIdentity>>,
    /// What follows the head. For `HEAD` and 304 only its length is told or nothing at all.
    pub body: Body,
}

/// The body of an [`Response`].
#[derive(Debug)]
pub enum Body {
    /// Nothing, with `Content-Length: 0` where a length is due.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// Pieces that are made while they are sent.
    Pieces {
        /// What makes them.
        pieces: Box<dyn Pieces>,
        /// Bytes in all.
        length: u64,
        /// How they are sent, for the metrics.
        how: How,
    },
}

impl Body {
    /// One piece.
    pub fn piece(piece: Piece) -> Self {
        match piece {
            Piece::Bytes(bytes) => Self::Bytes(bytes),
            Piece::File { length, .. } => {
                Self::Pieces { pieces: Box::new(VecDeque::from([piece])), length, how: How::Sendfile }
            }
        }
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pieces { length, .. } => *length,
        }
    }
}

impl Response {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), is_page: false, file: None, body: Body::Empty }
    }

    /// An answer with text in it.
    pub fn text(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self::empty(status).with(header::CONTENT_TYPE, content_type).body(Body::Bytes(body.into()))
    }

    /// JSON.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::text(status, HeaderValue::from_static("application/json"), value.to_string() + "\n")
    }

    /// A redirect; a target that cannot stand in a header is the site's mistake.
    pub fn redirect(status: StatusCode, target: &str) -> Self {
        match HeaderValue::from_str(target) {
            Ok(target) => Self::empty(status).with(header::LOCATION, target),
            Err(_) => Self::empty(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Sets a field.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}
