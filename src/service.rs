//! Dispatch of a connection's requests: to sites, or to the admin endpoints.

use std::sync::Arc;

use crate::{
    admin,
    downstream::{Serve, Served, Transport},
    exchange::{self, Outcome},
    listen::{OnRefused, Purpose},
    message::Request,
    state::State,
};

/// Serves the requests of connections.
pub(crate) fn service(state: &Arc<State>) -> Serve {
    let service = Arc::new(Service { state: Arc::clone(state) });
    Arc::new(move |transport, request| {
        let service = Arc::clone(&service);
        // Boxed, so that an idle connection does not keep the memory that a request needs.
        Box::pin(async move { service.serve(transport, request).await })
    })
}

/// Records requests that were refused before they were parsed.
pub(crate) fn record_refused(state: &Arc<State>) -> OnRefused {
    let state = Arc::clone(state);
    Arc::new(move |refused| exchange::record_refused(&state, refused))
}

struct Service {
    state: Arc<State>,
}

impl Service {
    /// Serves a request.
    async fn serve(&self, transport: Box<Transport>, request: Box<Request>) -> Served {
        let kept = match transport.peer.listener.purpose {
            Purpose::Admin => Box::pin(self.serve_admin(transport, request)).await,
            Purpose::Sites => match exchange::serve(&self.state, transport, request).await {
                Outcome::Done(transport) => transport,
                Outcome::Tunnel(tunnel) => {
                    return Served::Tunnel(Box::pin(tunnel.run(Arc::clone(&self.state))));
                }
            },
        };
        kept.map_or(Served::Ended, Served::Kept)
    }

    /// Serves a request to the admin listener.
    async fn serve_admin(&self, transport: Box<Transport>, request: Box<Request>) -> Option<Box<Transport>> {
        let response = admin::respond(&self.state, &transport.peer.listener, &request.head).await;
        exchange::respond(&self.state, transport, &request, response).await
    }
}
