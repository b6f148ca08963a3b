//! The engine, started for one request at a time.

use std::{cell::RefCell, sync::Arc};

use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession, server::configuration::ServerConf};
use pingora_proxy::{HttpProxy, Session};
use tokio::sync::watch;

use super::{
    Proxy,
    io::{ClientStream, with_transport},
};
use crate::{
    downstream::Transport,
    exchange::{RequestContext, is_persistent},
    message::{Request, RequestHead},
    state::State,
};

tokio::task_local! {
    /// The exchange of the request that the engine is given. It makes a context of its own for each request, and leaves
    /// no other way to hand it one.
    static HANDED: RefCell<Option<RequestContext>>;
}

/// The exchange of the request that was handed over.
pub(super) fn handed_over() -> RequestContext {
    HANDED.try_with(RefCell::take).ok().flatten().unwrap_or_else(RequestContext::new)
}

/// Sets what holds for every session.
pub(super) fn prepare(state: &State, session: &mut Session, asked: &RequestHead) {
    let settings = state.settings();
    session.set_read_timeout(Some(settings.client_body_timeout));
    session.set_total_drain_timeout(Some(settings.client_body_timeout));
    let keeps_alive = with_transport(session, |transport| transport.keeps_alive()).unwrap_or(false);
    if !is_persistent(asked) || !keeps_alive {
        // The engine looks at one field named Connection only.
        session.set_keepalive(None);
    }
}

/// What was asked.
pub(super) fn asked(exchange: &RequestContext) -> Arc<RequestHead> {
    exchange.asked.clone().unwrap_or_default()
}

/// The engine.
pub(crate) struct Engine {
    proxy: Arc<HttpProxy<Proxy>>,
    never_stops: watch::Receiver<bool>,
}

impl Engine {
    pub(crate) fn new(state: Arc<State>) -> Self {
        // Our own policy bounds the tries; the engine's limit must not cut a hold short.
        let settings =
            ServerConf { max_retries: usize::MAX, threads: state.threads(), ..ServerConf::default() };
        let proxy = Arc::new(HttpProxy::new(Proxy { state }, Arc::new(settings)));
        // The engine's way of stopping closes connections that are idle in it; ours are idle outside.
        let (_, never_stops) = watch::channel(false);
        Self { proxy, never_stops }
    }

    /// Has a server of its route's upstream answer a handshake; gives the connection back when it may be used again.
    pub(crate) async fn serve(
        &self,
        mut connection: Box<Transport>,
        request: Box<Request>,
        mut exchange: RequestContext,
    ) -> Option<Box<Transport>> {
        connection.hand_over(&request);
        exchange.asked = Some(Arc::new(request.head));
        let session = ServerSession::new_http1(Box::new(ClientStream::new(connection)));
        let serving = Arc::clone(&self.proxy);
        let serving = async move { serving.process_new_http(session, &self.never_stops).await };
        let (stream, _) = HANDED.scope(RefCell::new(Some(exchange)), serving).await?.consume();
        stream.into_any().downcast::<ClientStream>().ok()?.into_transport()
    }
}
