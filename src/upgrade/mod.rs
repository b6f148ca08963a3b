//! Connections that switch protocols: the handshake of a WebSocket, and the tunnel that it opens, by pingora.
//!
//! Each callback translates between pingora's types and ours and calls the module that knows; nothing is decided here. No
//! other module knows pingora's types.

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

/// The application that the engine calls.
struct Proxy {
    state: Arc<State>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        engine::handed_over()
    }

    /// What needs no server has been answered already.
    async fn request_filter(&self, session: &mut Session, exchange: &mut RequestContext) -> Result<bool> {
        engine::prepare(&self.state, session, &engine::asked(exchange));
        Ok(false)
    }

    /// Gets the request a place on a server, waiting for one if need be.
    async fn upstream_peer(
        &self,
        session: &mut Session,
        exchange: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        peer::choose(&self.state, session, exchange).await
    }

    /// Notes the end of the request.
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

    /// Tells the server who asks.
    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        if let (Some(client), Some(lease)) = (&exchange.client, &exchange.lease) {
            upstream::prepare(
                request,
                &engine::asked(exchange),
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

    /// Takes the head of a server's response.
    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        response::receive(&self.state, session, response, exchange).await
    }

    /// The server has done its part: its place is free, however long the client takes over the rest.
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

    /// Takes out what clients must not see, adds what the route adds.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut RequestContext,
    ) -> Result<()> {
        response::pass_on(session, response, exchange);
        Ok(())
    }

    /// No connection: another server, for every method.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut RequestContext,
        error: Box<Error>,
    ) -> Box<Error> {
        failure::at_connect(&self.state.metrics, exchange, error)
    }

    /// A connection that broke: again where that is safe.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        exchange: &mut RequestContext,
        _reused: bool,
    ) -> Box<Error> {
        failure::while_proxying(&self.state.metrics, exchange, error)
    }

    /// Tells the client what went wrong, if it can still be told.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut RequestContext,
    ) -> FailToProxy {
        failure::explain(session, error, exchange).await
    }

    /// The request is over, one way or another.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut RequestContext) {
        exchange.lease = None;
        exchange::record(&self.state, &engine::asked(exchange), send::sent(session, error), exchange);
    }

    // What these would log is in the access log and in our own messages.

    fn suppress_error_log(&self, _session: &Session, _exchange: &RequestContext, error: &Error) -> bool {
        tracing::debug!(%error, "request failed");
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &RequestContext,
        error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        tracing::debug!(%error, "trying again");
        true
    }
}
