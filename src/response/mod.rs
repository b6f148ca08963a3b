//! Responses made by the proxy itself: heads, bodies and error pages.

mod error_page;
mod identity;
mod pieces;
mod route_headers;

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::observe::BodySource;

pub(crate) use error_page::{Explanation, error_bytes, escape, prefers_html, prefers_json};
pub(crate) use identity::FileIdentity;
pub use pieces::{Piece, Pieces};
pub(crate) use route_headers::{apply_route_headers, change_headers};

/// Response that needs no upstream.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// Headers; `Content-Length`, `Date` and `Connection` are set when it is sent.
    pub headers: HeaderMap,
    /// Whether it is an error page of the proxy, which a page of the site may replace.
    pub is_page: bool,
    /// The file that replaces it; `None` is that of the site for the status.
    pub page: Option<PathBuf>,
    /// Version of the file that the whole body consists of, if it has a reliable identity.
    pub file: Option<Arc<FileIdentity>>,
    /// Body. For `HEAD` and 304 it is not sent; at most its length is.
    pub body: Body,
}

/// Body of a [`Response`].
#[derive(Debug)]
pub enum Body {
    /// No body, with `Content-Length: 0` where a length is required.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// Pieces that are produced while the body is sent.
    Pieces {
        /// Producer of the pieces.
        pieces: Box<dyn Pieces>,
        /// Total bytes.
        length: u64,
        /// Kind of body, for metrics.
        how: BodySource,
    },
}

impl Body {
    /// A body of a single piece.
    pub fn piece(piece: Piece) -> Self {
        match piece {
            Piece::Bytes(bytes) => Self::Bytes(bytes),
            Piece::File { length, .. } => {
                Self::Pieces { pieces: Box::new(VecDeque::from([piece])), length, how: BodySource::Sendfile }
            }
        }
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pieces { length, .. } => *length,
        }
    }
}

impl Response {
    /// A response without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), is_page: false, page: None, file: None, body: Body::Empty }
    }

    /// A response with text.
    pub fn text(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self::empty(status).with(header::CONTENT_TYPE, content_type).body(Body::Bytes(body.into()))
    }

    /// A response with JSON.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::text(status, HeaderValue::from_static("application/json"), value.to_string() + "\n")
    }

    /// A redirect. A target that is not a valid header value is an error of the site's configuration.
    pub fn redirect(status: StatusCode, target: &str) -> Self {
        match HeaderValue::from_str(target) {
            Ok(target) => Self::empty(status).with(header::LOCATION, target),
            Err(_) => Self::empty(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// Sets a header.
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
