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
    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        engine::prepare(&self.state, session, &engine::request_head(context));
        Ok(false)
    }

    /// Selects an upstream server, waiting for one if need be.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        context: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        peer::choose(&self.state, session, context).await
    }

    /// Records the end of the request.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        context: &mut RequestContext,
    ) -> Result<()> {
        if let Some(lease) = context.lease.as_mut().filter(|_| end) {
            lease.sent();
        }
        Ok(())
    }

    /// Sets the path, and the headers that identify the client.
    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        let received = engine::request_head(context);
        exchange::prepare(request, &received, context);
        let has_path = context.route.as_ref().is_some_and(|route| route.settings.proxy.path.is_some());
        if has_path || context.tool.is_some() {
            request.set_raw_path(&exchange::target(&received, context))?;
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
        context: &mut RequestContext,
    ) -> Result<()> {
        context.tries += 1;
        context.failed_connects = 0;
        context.reused = reused;
        if let Some(lease) = &mut context.lease {
            lease.connected();
        }
        Ok(())
    }

    /// Handles the head of the server's response.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        response::receive(&self.state, session, response, context).await
    }

    /// Releases the server at the end of its response, however long the client takes to read the rest.
    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        end: bool,
        context: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if end {
            context.lease = None;
        }
        Ok(None)
    }

    /// Removes headers that clients must not see, and adds those of the route.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut RequestContext,
    ) -> Result<()> {
        response::pass_on(session, response, context);
        Ok(())
    }

    /// Handles a failed connection, after which every method may be retried.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        failure::on_connect_error(&self.state.metrics, context, error)
    }

    /// Handles a broken connection; the request is retried when that is safe.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        context: &mut RequestContext,
        _reused: bool,
    ) -> Box<Error> {
        failure::on_exchange_error(&self.state.metrics, context, error)
    }

    /// Sends an error response, if the response has not begun.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        context: &mut RequestContext,
    ) -> FailToProxy {
        failure::explain(session, error, context).await
    }

    /// Records the request when it is over.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut RequestContext) {
        context.lease = None;
        exchange::record(&self.state, &engine::request_head(context), send::sent(session, error), context);
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
