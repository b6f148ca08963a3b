//! The way of nearly every request: HTTP/1.1 spoken by ourselves, on both sides.
//!
//! What to do with a request is decided elsewhere ([`handler`]); here it is done: [`answer`] for what needs no server,
//! else an [`attempt`] at one after the other, whose answer is [`relay`]ed. Handshakes of WebSockets are for [`crate::upgrade`].

pub(crate) mod answer;
mod appetite;
mod attempt;
pub(crate) mod body;
pub(crate) mod fields;
mod relay;
pub(crate) mod response;
mod server;
mod spool;
mod upload;

use std::sync::Arc;

use http::{Version, header};

use crate::{
    answer::has_word,
    exchange::Exchange,
    handler,
    listen::{Purpose, Request, RequestHead, Serve, Transport},
    observe,
    state::State,
    upgrade::Engine,
};

/// What serves the requests of connections.
pub(crate) fn service(state: &Arc<State>) -> Serve {
    let engine = Engine::new(Arc::clone(state));
    let service = Arc::new(Service { state: Arc::clone(state), engine });
    Arc::new(move |connection, request| {
        let service = Arc::clone(&service);
        // Boxed, so that a parked connection does not keep the room that a request needs.
        Box::pin(async move { service.serve(connection, request).await })
    })
}

struct Service {
    state: Arc<State>,
    engine: Engine,
}

impl Service {
    /// Serves a request, and gives the connection back when it may be used again.
    async fn serve(&self, mut transport: Box<Transport>, request: Box<Request>) -> Option<Box<Transport>> {
        let mut exchange = Exchange::new();
        let purpose = transport.peer.listener.purpose;
        let answer = match purpose {
            Purpose::Admin => {
                let listener = &transport.peer.listener;
                Some(Box::pin(observe::admin_answer(&self.state, listener, &request.head)).await)
            }
            Purpose::Sites => {
                handler::receive(&self.state, &transport.peer, &request.head, &mut exchange).await
            }
        };
        if answer.is_none() && request.head.asks_for_websocket() {
            return self.engine.serve(transport, request, exchange).await;
        }
        let keeps_alive = transport.keeps_alive();
        let mut turn = Turn {
            state: &self.state,
            transport: &mut transport,
            request: &request,
            exchange: &mut exchange,
            length: None,
            persists: is_persistent(&request.head) && keeps_alive,
        };
        let sent = match answer {
            Some(answer) => {
                turn.begin(false);
                turn.answer(answer).await
            }
            None => turn.proxy().await,
        };
        let persists = turn.persists;
        exchange.lease = None;
        if purpose == Purpose::Sites {
            handler::record(&self.state, &request.head, sent, &exchange);
        }
        persists.then_some(transport)
    }
}

/// A request and all that its service needs.
struct Turn<'a> {
    state: &'a State,
    transport: &'a mut Transport,
    request: &'a Request,
    exchange: &'a mut Exchange,
    /// Bytes of content in the body of the request, where all of it has been taken in before a server is asked.
    length: Option<u64>,
    /// The connection takes another request after this one, as far as can be said.
    persists: bool,
}

impl Turn<'_> {
    /// The body of the request, which `may_repeat`, comes from now on.
    fn begin(&mut self, may_repeat: bool) {
        self.transport.begin(self.request.body.clone(), may_repeat);
    }
}

/// Whether the client wants to send another request on its connection (RFC 9112 §9.3).
pub(crate) fn is_persistent(request: &RequestHead) -> bool {
    let mut connection = request.headers.values(&header::CONNECTION);
    match request.version {
        Version::HTTP_10 => connection.any(|words| has_word(words, b"keep-alive")),
        _ => !connection.any(|words| has_word(words, b"close")),
    }
}
