//! Facts about one request and its response.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use tokio::time::Instant;

use crate::{
    client::Client,
    clock,
    config::{Cors, ErrorPage},
    exchange::{cached::CacheUse, tools::ToolUse, values::MatchedPath},
    limits::InProgressGuard,
    message::{RawHeaders, RequestId},
    observe::BodySource,
    site::{Route, Site},
    tls::TlsSession,
    upstream::{Lease, Selection, Server, Upstream, retry},
};

/// The state of one request.
pub struct RequestContext {
    /// Time at which the head was complete.
    pub(crate) started: Instant,
    /// Calendar time of `started`, for the access log.
    pub(crate) time: SystemTime,
    /// Request id, in logs and in `X-Request-Id`.
    pub(crate) id: RequestId,
    /// The client, once it is identified.
    pub(crate) client: Option<Client>,
    /// TLS session of the connection, if any.
    pub(crate) tls: Option<Arc<TlsSession>>,
    /// The site it is for, where that has no route for it.
    pub(crate) site: Option<Arc<Site>>,
    /// The route it takes.
    pub(crate) route: Option<Arc<Route>>,
    /// What the route's pattern matched, where a template of the route needs it.
    pub(crate) matched: Option<Box<MatchedPath>>,
    /// The interactive tool that it is for, where its route is one for these.
    pub(crate) tool: Option<Box<ToolUse>>,
    /// What it does with the cache of its route.
    pub(crate) cache: Option<Box<CacheUse>>,
    /// User that has been authenticated.
    pub(crate) user: Option<Box<str>>,
    /// Headers of the service that users are checked with, for upstream servers; `None` for one that it has not sent.
    pub(crate) auth_request: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Headers of that service for the client: cookies.
    pub(crate) auth_response: Vec<(HeaderName, HeaderValue)>,
    /// Guards that count it as in progress in its limits.
    pub(crate) in_progress: Vec<InProgressGuard>,
    /// State of the selection of a server.
    pub(crate) selection: Selection,
    /// Lease of a place on a server, while there is one.
    pub(crate) lease: Option<Lease>,
    /// From choosing the server to the head of its response.
    pub(crate) upstream_took: Option<Duration>,
    /// Attempts on which something was sent; one that met a stale kept connection is not counted.
    pub(crate) tries: u32,
    /// Whether a kept connection turned out to be closed by its server.
    pub(crate) was_stale: bool,
    /// Connections that failed in a row.
    pub(crate) failed_connects: u32,
    /// Whether the head of a response has come from the server.
    pub(crate) has_response: bool,
    /// Source of the response body, for the metrics.
    pub(crate) how: BodySource,
    /// Whether the connection to the server had served a request before.
    pub(crate) reused: bool,
    /// Target of an internal redirect, which is asked for in place of the client's.
    pub(crate) redirect: Option<PathAndQuery>,
    /// Fields of the responses that have redirected it, for the client.
    pub(crate) redirect_headers: Vec<(HeaderName, HeaderValue)>,
    /// Number of internal redirects.
    pub(crate) redirects: u8,
    /// The server that answered, or was asked last, for the log.
    pub(crate) server: Option<Arc<Server>>,
}

impl RequestContext {
    /// A request whose head has just come.
    pub(crate) fn new() -> Self {
        Self {
            started: clock::now(),
            time: clock::calendar(),
            id: RequestId::random(),
            client: None,
            tls: None,
            site: None,
            route: None,
            matched: None,
            tool: None,
            cache: None,
            user: None,
            auth_request: Vec::new(),
            auth_response: Vec::new(),
            in_progress: Vec::new(),
            selection: Selection::default(),
            lease: None,
            upstream_took: None,
            tries: 0,
            was_stale: false,
            failed_connects: 0,
            has_response: false,
            how: BodySource::Memory,
            reused: false,
            redirect: None,
            redirect_headers: Vec::new(),
            redirects: 0,
            server: None,
        }
    }

    /// Sets the route; `matched` tells what its pattern matched.
    pub(crate) fn set_route(&mut self, route: &Arc<Route>, matched: impl FnOnce() -> Box<MatchedPath>) {
        self.matched = route.uses_match.then(matched);
        self.route = Some(Arc::clone(route));
    }

    /// The method that a server is asked by for a request of this one.
    pub(crate) fn method(&self, asked: &Method) -> Method {
        if self.redirect.is_some() && *asked != Method::HEAD {
            // It is asked for what the client gets; what the client wanted done is done.
            return Method::GET;
        }
        asked.clone()
    }

    /// Whether its servers speak HTTP/2.
    pub(crate) fn asks_over_http2(&self) -> bool {
        self.upstream().is_some_and(|upstream| upstream.settings().http2)
    }

    /// Whether a request of this method may use a kept connection, and leave it for others; idle ones are kept for
    /// `keepalive`.
    ///
    /// A request with a body never does: a server that does not read the body would take it for the next request, and its
    /// response would be another client's.
    pub(crate) fn may_share_connection(&self, asked: &Method, has_body: bool, keepalive: Duration) -> bool {
        // A second try has no time for kept connections that may be stale as well.
        let is_first = self.tries == 0 && !self.was_stale;
        is_first && !has_body && !keepalive.is_zero() && !retry::needs_fresh_connection(asked)
    }

    /// Whether once is as good as twice for this request, whatever its method: its route or the client says so.
    pub(crate) fn is_repeatable(&self, fields: &RawHeaders) -> bool {
        self.repeats_any_method() || fields.has(retry::IDEMPOTENCY_KEY)
    }

    /// Whether the route has every method sent again (`retry = { unsafe = true }`).
    pub(crate) fn repeats_any_method(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.settings.proxy.retry.any_method)
    }

    /// The site it is for, if there is one for its host.
    pub(crate) fn site(&self) -> Option<&Site> {
        let site = self.route.as_ref().map(|route| &route.site);
        site.or(self.site.as_ref()).map(|site| &**site)
    }

    /// Origins whose pages may read the response.
    pub(crate) fn cors(&self) -> Option<&Cors> {
        let cors = match (&self.route, &self.site) {
            (Some(route), _) => &route.settings.cors,
            (None, Some(site)) => &site.cors,
            (None, None) => return None,
        };
        cors.as_deref()
    }

    /// The site's own page for an error.
    pub(crate) fn error_page(&self, status: StatusCode) -> Option<&ErrorPage> {
        let pages = match (&self.route, &self.site) {
            (Some(route), _) => &route.settings.errors,
            (None, Some(site)) => &site.errors,
            (None, None) => return None,
        };
        pages.get(&status.as_u16())
    }

    /// The upstream of its route, or its interactive tool as one.
    pub(crate) fn upstream(&self) -> Option<&Arc<Upstream>> {
        if let Some(tool) = &self.tool {
            return Some(tool.upstream());
        }
        self.route.as_ref().and_then(|route| route.upstream.as_ref())
    }

    /// The key of its route, `-` when it has none.
    pub(crate) fn route_key(&self) -> &str {
        self.route.as_ref().map_or("-", |route| &route.settings.key)
    }
}
