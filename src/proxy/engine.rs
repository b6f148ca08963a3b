//! The engine, started for one request at a time.

use std::sync::Arc;

use pingora_core::{apps::HttpServerApp, protocols::http::ServerSession, server::configuration::ServerConf};
use pingora_proxy::HttpProxy;
use tokio::sync::watch;

use super::Proxy;
use crate::{
    listen::{Serve, Transport},
    state::State,
};

/// What serves connections: one request at a time through the engine.
pub(crate) fn engine(state: Arc<State>) -> Serve {
    // Our own policy bounds the tries; the engine's limit must not cut a hold short.
    let settings = ServerConf { max_retries: usize::MAX, threads: state.threads(), ..ServerConf::default() };
    let engine = Arc::new(HttpProxy::new(Proxy { state }, Arc::new(settings)));
    // The engine's way of stopping closes connections that are idle in it; ours are idle outside.
    let (_, never_stops) = watch::channel(false);
    Arc::new(move |connection: Box<Transport>| {
        let engine = Arc::clone(&engine);
        let never_stops = never_stops.clone();
        Box::pin(async move {
            let session = ServerSession::new_http1(connection);
            let (stream, _) = engine.process_new_http(session, &never_stops).await?.consume();
            stream.into_any().downcast().ok()
        })
    })
}
