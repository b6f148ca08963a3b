//! The exchange of one request and its response.
//!
//! [`serve`] is the life of a request: [`resolve`] finds out who asks and for what, [`admit`] may refuse it, the route's
//! action responds, or a server of the route's upstream is asked ([`attempt`]) and its response [`relay`]ed. A WebSocket that a
//! server has agreed to becomes a [`tunnel`].

mod admit;
mod attempt;
mod authenticate;
mod buffer_request;
mod cached;
mod context;
mod cors;
mod encode;
mod error;
mod error_page;
mod failure;
mod finish;
mod internal_redirect;
mod local;
mod map_back;
mod read_size;
mod record;
mod relay;
mod relay_body;
mod request_body;
mod request_head;
mod resolve;
mod respond;
mod response_head;
mod response_wait;
mod select;
mod serve_files;
mod stream_end;
mod tools;
mod trace;
mod tunnel;
mod unsent_body;
mod values;

use http::{Version, header};

use crate::{
    downstream::Transport,
    message::{Request, RequestHead, has_word},
    response::Response,
    state::State,
    upstream::ServerConnection,
};
pub(crate) use cached::key_of;
pub(crate) use context::RequestContext;
pub(crate) use error::Error;
pub(crate) use record::{Sent, record, record_refused};
#[cfg(any(feature = "benching", test))]
pub(crate) use respond::write_head;
pub(crate) use tunnel::Tunnel;

/// Outcome of a request that [`serve`] was given.
pub(crate) enum Outcome {
    /// The request is over; its connection, if it may be used again.
    Done(Option<Box<Transport>>),
    /// The connection is an open WebSocket from now on.
    Tunnel(Box<Tunnel>),
}

/// Serves one request of a site.
pub(crate) async fn serve(state: &State, mut transport: Box<Transport>, request: Box<Request>) -> Outcome {
    let mut context = RequestContext::new();
    let response = local::local_response(state, &transport.peer, &request.head, &mut context).await;
    let mut exchange = Exchange::new(state, &mut transport, &request, &mut context);
    let sent = match response {
        Some(response) => exchange.respond_without_server(response).await,
        None => match exchange.context.route.as_ref().and_then(|route| route.settings.cache.clone()) {
            Some(cache) => Box::pin(exchange.proxy_through_cache(&cache)).await,
            None => exchange.proxy().await,
        },
    };
    let (persists, switched) = (exchange.persists, exchange.switched.take());
    if let Some(server) = switched {
        return Outcome::Tunnel(Box::new(Tunnel::new(transport, server, request, Box::new(context))));
    }
    context.lease = None;
    record(state, &request.head, sent, &context);
    Outcome::Done(persists.then_some(transport))
}

/// Sends `response` for a request of no site: nothing is recorded. Returns the connection if it may be used again.
pub(crate) async fn respond(
    state: &State,
    mut transport: Box<Transport>,
    request: &Request,
    response: Response,
) -> Option<Box<Transport>> {
    let mut context = RequestContext::new();
    let mut exchange = Exchange::new(state, &mut transport, request, &mut context);
    exchange.respond_without_server(response).await;
    exchange.persists.then_some(transport)
}

/// A request, its connection, and the facts about it.
struct Exchange<'a> {
    state: &'a State,
    transport: &'a mut Transport,
    request: &'a Request,
    context: &'a mut RequestContext,
    /// Bytes of content in the body of the request, where all of it has been taken in before a server is asked.
    length: Option<u64>,
    /// Servers are known to speak HTTP/1.0: the body gets a length.
    needs_length: bool,
    /// The connection takes another request after this one, as far as can be said.
    persists: bool,
    /// The server's connection, once both have switched to another protocol.
    switched: Option<Box<ServerConnection>>,
}

impl<'a> Exchange<'a> {
    fn new(
        state: &'a State,
        transport: &'a mut Transport,
        request: &'a Request,
        context: &'a mut RequestContext,
    ) -> Self {
        let persists = is_persistent(&request.head) && transport.keeps_alive();
        Self {
            state,
            transport,
            request,
            context,
            length: None,
            needs_length: false,
            persists,
            switched: None,
        }
    }

    /// The body of the request, which `may_repeat`, comes from now on.
    fn begin(&mut self, may_repeat: bool) {
        self.transport.begin(self.request.body.clone(), may_repeat);
    }

    async fn respond_without_server(&mut self, response: Response) -> Sent {
        self.begin(false);
        self.respond(response).await
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
