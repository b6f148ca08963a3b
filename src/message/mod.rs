//! HTTP messages: request and response heads as they came, their edits, and where their bodies end.

mod authority;
mod chunked;
mod coding;
mod cookies;
mod date;
mod edits;
mod fields;
mod framing;
mod headers;
mod http2_body;
mod pipe;
mod query;
mod request;
mod request_id;
mod response;
mod streams;
mod target;
mod text;
mod trailers;
mod websocket;

pub(crate) use authority::Authority;

pub use coding::Coding;
pub(crate) use coding::{AcceptEncoding, choose};
pub(crate) use cookies::cookies;
pub(crate) use date::http_date;
pub(crate) use edits::{HeaderEdits, is_hop_by_hop};
pub(crate) use fields::{
    EditHeaders, has_word, named_in_connection, starts_with, write_field, write_fields, write_plain_length,
};
pub(crate) use framing::BodyFraming;
pub(crate) use headers::{RawHeaders, text};
pub(crate) use http2_body::{Http2Body, poll_send_parts};
pub(crate) use pipe::{Pipe, chunk};
pub(crate) use query::parameters;
pub(crate) use request::{Refusal, Request, RequestHead, first_line, read as read_request};
pub(crate) use request_id::{RequestId, X_REQUEST_ID};
pub(crate) use response::{MOST_INTERIM, MalformedHead, ResponseHead};
pub(crate) use streams::is_event_stream;
pub(crate) use target::NOT_IN_URIS;
#[cfg(test)]
pub(crate) use target::RequestTarget;
pub(crate) use text::{value, write_number};
pub(crate) use trailers::forwardable_trailers;
pub(crate) use websocket::{FramePosition, going_away};
