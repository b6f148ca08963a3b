//! Who serves the requests of a connection: sites, operators' pages, or the handshake of a WebSocket.

use std::sync::Arc;

use crate::{
    admin,
    downstream::{Serve, Transport},
    exchange::{self, Outcome},
    listen::{Noted, Purpose},
    message::Request,
    state::State,
    upgrade::Engine,
};

/// Serves the requests of connections.
pub(crate) fn service(state: &Arc<State>) -> Serve {
    let service = Arc::new(Service { state: Arc::clone(state), upgrades: Engine::new(Arc::clone(state)) });
    Arc::new(move |transport, request| {
        let service = Arc::clone(&service);
        // Boxed, so that a parked connection does not keep the room that a request needs.
        Box::pin(async move { service.serve(transport, request).await })
    })
}

/// Records requests that were refused before they were read.
pub(crate) fn noted(state: &Arc<State>) -> Noted {
    let state = Arc::clone(state);
    Arc::new(move |refused| exchange::record_refused(&state, refused))
}

struct Service {
    state: Arc<State>,
    upgrades: Engine,
}

impl Service {
    /// Serves a request, and returns the connection if it may be used again.
    async fn serve(&self, transport: Box<Transport>, request: Box<Request>) -> Option<Box<Transport>> {
        match transport.peer.listener.purpose {
            Purpose::Admin => Box::pin(self.administer(transport, request)).await,
            Purpose::Sites => match exchange::serve(&self.state, transport, request).await {
                Outcome::Done(transport) => transport,
                Outcome::Handshake(transport, request, exchange) => {
                    Box::pin(self.upgrades.serve(transport, request, *exchange)).await
                }
            },
        }
    }

    /// Responds to an operator.
    async fn administer(&self, transport: Box<Transport>, request: Box<Request>) -> Option<Box<Transport>> {
        let answer = admin::answer(&self.state, &transport.peer.listener, &request.head).await;
        exchange::respond(&self.state, transport, &request, answer).await
    }
}
