//! Protocol upgrades: the handshake of a WebSocket and its tunnel, by pingora.
//!
//! Each callback translates between pingora's types and ours and calls another module, which decides. Pingora's types
//! are used in this module only.

mod connect;
mod engine;
mod failure;
mod fields;
mod io;
mod peer;
mod response;
mod send;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::{protocols::Digest, upstreams::peer::HttpPeer};
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::{sync::Arc, time::Duration};

use crate::{
    exchange::{self, RequestContext},
    state::State,
    upstream,
};
pub(crate) use engine::Engine;

/// Callbacks of the engine.
struct Proxy {
    state: Arc<State>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        engine::passed_context()
    }

    /// Applies session settings. Requests that need no upstream server never reach the engine.
    async fn request_filter(&self, session: &mut Session, exchange: &mut RequestContext) -> Result<bool> {
        engine::prepare(&self.state, session, &engine::request_head(exchange));
        Ok(false)
    }

    /// Selects an upstream server, waiting for one if need be.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        peer::choose(&self.state, session, exchange).await
    }

    /// Records the end of the request.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        if let Some(lease) = exchange.lease.as_mut().filter(|_| end) {
            lease.sent();
        }
        Ok(())
    }

    /// Sets the headers that identify the client.
    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        if let (Some(client), Some(lease)) = (&exchange.client, &exchange.lease) {
            upstream::prepare(
                request,
                &engine::request_head(exchange),
                client,
                &exchange.id,
                &lease.upstream().name,
            );
        }
        Ok(())
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        exchange.tries += 1;
        exchange.failed_connects = 0;
        exchange.reused = reused;
        if let Some(lease) = &mut exchange.lease {
            lease.connected();
        }
        Ok(())
    }

    /// Handles the head of the server's response.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        response::receive(&self.state, session, response, exchange).await
    }

    /// Releases the server at the end of its response, however long the client takes to read the rest.
    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        exchange: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if end {
            exchange.lease = None;
        }
        Ok(None)
    }

    /// Removes headers that clients must not see, and adds those of the route.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        response::pass_on(session, response, exchange);
        Ok(())
    }

    /// Handles a failed connection, after which every method may be retried.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        failure::on_connect_error(&self.state.metrics, exchange, error)
    }

    /// Handles a broken connection; the request is retried when that is safe.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        exchange: &mut RequestContext,
        _reused: bool,
    ) -> Box<Error> {
        failure::on_exchange_error(&self.state.metrics, exchange, error)
    }

    /// Sends an error response, if the response has not begun.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut RequestContext,
    ) -> FailToProxy {
        failure::explain(session, error, exchange).await
    }

    /// Records the request when it is over.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut RequestContext) {
        exchange.lease = None;
        exchange::record(&self.state, &engine::request_head(exchange), send::sent(session, error), exchange);
    }

    // The engine's messages would repeat the access log and our own messages.

    fn suppress_error_log(&self, _session: &Session, _exchange: &RequestContext, error: &Error) -> bool {
        tracing::debug!(%error, "the handshake failed");
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &RequestContext,
        error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        tracing::debug!(%error, "retrying the handshake");
        true
    }
}
