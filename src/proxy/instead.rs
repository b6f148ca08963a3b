//! Answers of ours in place of one that the engine passes on: an archive for the list of its members.
//!
//! The engine (0.9.1) sends an answer's head before its body is there. While such a body is collected our transport
//! sends nothing of it; at the end, when the engine believes that all is said, we take the transport and speak ourselves.

use std::io::Cursor;

use http::{HeaderMap, Method, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, OkOrErr, Result};
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;

use super::send::transport;
use crate::{
    answer::{self, Answer, Body},
    listen::Transport,
};

/// A request that nobody has sent.
const NOTHING: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Takes the transport out of the session. What stays there speaks of a request, as the engine wants it, and of nobody.
pub(super) async fn take_out(session: &mut Session) -> Result<Box<Transport>> {
    let mut nothing = ServerSession::new_http1(Box::new(Cursor::new(NOTHING.to_vec())));
    nothing.read_request().await?;
    let ServerSession::H1(before) = std::mem::replace(&mut *session.downstream_session, nothing) else {
        return Error::e_explain(ErrorType::InternalError, "only HTTP/1.1 has a transport of ours");
    };
    let stream = before.into_inner().into_any().downcast().ok();
    stream.or_err(ErrorType::InternalError, "not our transport")
}

/// An answer that is being collected, to be replaced by another.
#[derive(Debug)]
pub(crate) struct Collected {
    /// The fields that go to the client anyway.
    pub(crate) base: HeaderMap,
    /// The body so far.
    pub(crate) body: Vec<u8>,
    /// It is too large.
    pub(crate) overflows: bool,
}

/// Nothing of the answer to the request in hand goes to the client from now on; its body is collected.
pub(super) fn collect(session: &Session, base: HeaderMap) -> Result<Collected> {
    transport(session)?.hush(true);
    Ok(Collected { base, body: Vec::new(), overflows: false })
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) status: StatusCode,
    pub(super) bytes: u64,
}

/// Sends `answer` in place of the one that was collected, and ends the connection.
pub(super) async fn send(session: &mut Session, answer: Answer) -> Result<Sent> {
    let is_head = session.req_header().method == Method::HEAD;
    let mut transport = take_out(session).await?;
    transport.hush(false);
    let status = answer.status;
    let result = write(&mut transport, answer, is_head).await;
    if let Err(error) = result {
        tracing::debug!(%error, "the client did not take all of its answer");
    }
    let bytes = transport.queued_bytes();
    Ok(Sent { status, bytes })
}

async fn write(transport: &mut Transport, mut answer: Answer, is_head: bool) -> std::io::Result<()> {
    answer.headers.insert(header::CONTENT_LENGTH, answer.body.length().into());
    answer.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    transport.write_all(&answer::head(answer.status, &answer.headers)).await?;
    match answer.body {
        _ if is_head => {}
        Body::Empty => {}
        Body::Bytes(bytes) => transport.write_all(&bytes).await?,
        Body::Pieces { pieces, .. } => transport.queue(pieces),
    }
    transport.flush().await
}
