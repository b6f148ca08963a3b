//! Answers of ours in place of one that the engine passes on: an archive for the list of its members.
//!
//! The engine (0.9.1) sends an answer's head before its body is there. While such a body is collected our transport
//! sends nothing of it; at the end, when the engine believes that all is said, we take the transport and speak ourselves.

use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorSource, ErrorType, OkOrErr, Result};
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;

use super::{engine::asked, send::transport};
use crate::{
    answer::{self, Answer, Body},
    exchange::{Collected, Exchange},
    files::archive,
    handler::{self, Sent},
    listen::Transport,
    observe::How,
    state::State,
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

/// Nothing of the answer to the request in hand goes to the client from now on; it is collected.
pub(super) fn collect(session: &Session, fields: HeaderMap, exchange: &mut Exchange) -> Result<()> {
    transport(session)?.hush(true);
    exchange.collected = Some(Box::new(Collected { fields, body: BytesMut::new(), overflows: false }));
    Ok(())
}

/// Collects a part of the body, if it is collected.
pub(super) fn take(part: Option<&Bytes>, exchange: &mut Exchange) {
    let (Some(collected), Some(part)) = (&mut exchange.collected, part) else { return };
    if collected.overflows || collected.body.len() + part.len() > archive::MOST_LIST {
        (collected.overflows, collected.body) = (true, BytesMut::new());
    } else {
        collected.body.extend_from_slice(part);
    }
}

/// Sends what takes the place of an answer that was collected, and records it.
pub(super) async fn finish(
    state: &State,
    session: &mut Session,
    error: Option<&Error>,
    exchange: &mut Exchange,
    collected: Collected,
) {
    let request = asked(exchange);
    let left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    let sent = if left {
        // What the engine takes for sent was collected.
        Sent::nothing()
    } else {
        let is_whole = error.is_none() && !collected.overflows;
        let list = is_whole.then(|| collected.body.freeze());
        let answer =
            handler::archive(state.table(), &request, list, &collected.fields, state.crcs(), exchange).await;
        exchange.how = How::Archive;
        let answer = handler::for_client(answer, &request, exchange).await;
        match send(session, answer).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "no archive was sent");
                Sent { status: StatusCode::INTERNAL_SERVER_ERROR, bytes: 0 }
            }
        }
    };
    handler::record(state, &request, sent, exchange);
}

/// Sends `answer` in place of the one that was collected, and ends the connection.
async fn send(session: &mut Session, answer: Answer) -> Result<Sent> {
    let mut transport = take_out(session).await?;
    transport.hush(false);
    let status = answer.status;
    let result = write(&mut transport, answer).await;
    if let Err(error) = result {
        tracing::debug!(%error, "the client did not take all of its answer");
    }
    let bytes = transport.queued_bytes();
    Ok(Sent { status, bytes })
}

async fn write(transport: &mut Transport, mut answer: Answer) -> std::io::Result<()> {
    if answer.status != StatusCode::NOT_MODIFIED {
        // Of a 304 it would be that of the archive (RFC 9110 §8.6).
        answer.headers.insert(header::CONTENT_LENGTH, answer.body.length().into());
    }
    answer.headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    transport.write_all(&answer::head(answer.status, &answer.headers)).await?;
    match answer.body {
        Body::Empty => {}
        Body::Bytes(bytes) => transport.write_all(&bytes).await?,
        Body::Pieces { pieces, .. } => transport.queue(pieces),
    }
    transport.flush().await
}
