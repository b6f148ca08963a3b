//! The engine (pingora), run for one request at a time.

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
    /// Context of the request that is passed to the engine. The engine creates a context of its own for each request,
    /// and offers no other way to pass it one.
    static PASSED: RefCell<Option<RequestContext>>;
}

/// Takes the context of the passed request.
pub(super) fn passed_context() -> RequestContext {
    PASSED.try_with(RefCell::take).ok().flatten().unwrap_or_else(RequestContext::new)
}

/// Applies the settings of every session.
pub(super) fn prepare(state: &State, session: &mut Session, request: &RequestHead) {
    let settings = state.settings();
    session.set_read_timeout(Some(settings.client_body_timeout));
    session.set_total_drain_timeout(Some(settings.client_body_timeout));
    let keeps_alive = with_transport(session, |transport| transport.keeps_alive()).unwrap_or(false);
    if !is_persistent(request) || !keeps_alive {
        // The engine looks at a single `Connection` header only.
        session.set_keepalive(None);
    }
}

/// Head of the request.
pub(super) fn request_head(context: &RequestContext) -> Arc<RequestHead> {
    context.pingora_request.clone().unwrap_or_default()
}

/// The engine (pingora) with its configuration.
pub(crate) struct Engine {
    proxy: Arc<HttpProxy<Proxy>>,
    never_stops: watch::Receiver<bool>,
}

impl Engine {
    pub(crate) fn new(state: Arc<State>) -> Self {
        // Our own retry policy bounds the attempts; the engine's limit must not end a hold early.
        let settings =
            ServerConf { max_retries: usize::MAX, threads: state.threads(), ..ServerConf::default() };
        let proxy = Arc::new(HttpProxy::new(Proxy { state }, Arc::new(settings)));
        // The engine's shutdown closes connections that are idle in it; our idle connections are kept outside of it.
        let (_, never_stops) = watch::channel(false);
        Self { proxy, never_stops }
    }

    /// Forwards a handshake to an upstream server; returns the connection when it may be used again.
    pub(crate) async fn serve(
        &self,
        mut connection: Box<Transport>,
        request: Box<Request>,
        mut context: RequestContext,
    ) -> Option<Box<Transport>> {
        connection.hand_over(&request);
        context.pingora_request = Some(Arc::new(request.head));
        let session = ServerSession::new_http1(Box::new(ClientStream::new(connection)));
        let proxy = Arc::clone(&self.proxy);
        let serving = async move { proxy.process_new_http(session, &self.never_stops).await };
        let (stream, _) = PASSED.scope(RefCell::new(Some(context)), serving).await?.consume();
        stream.into_any().downcast::<ClientStream>().ok()?.into_transport()
    }
}
