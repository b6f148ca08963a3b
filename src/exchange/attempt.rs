//! Attempts at one server after the other, until one answers or there is reason to give up.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BufMut;
use http::{StatusCode, Version, header};
use tokio::time::Instant;

use crate::{
    clock,
    downstream::Transport,
    exchange::{
        Exchange,
        failure::{self, NoConnection},
        record::Sent,
        request_body::{RequestBody, Stopped, WaitsFor},
        response_head::{self, Verdict},
        select::{self, NoSelection},
    },
    message::{EditHeaders, HeaderEdits, Inbound, MOST_INTERIM, ResponseHead, write_number},
    response::Explanation,
    upstream::{
        self, Lease, ServerConnection,
        retry::{Decision, Failure},
    },
};

/// Read at once while the head of an answer comes: with it most answers come whole.
const HEAD_READ: usize = 128 * 1024;

/// What ends an attempt without an answer to the client.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// There is to be another one.
    Again,
    /// The client is told this.
    Told(Explanation),
    /// There is nobody to tell, or the answer has begun and cannot be finished.
    Silently(Sent),
}

/// How long somebody is waited for.
#[derive(Debug, Default)]
pub(crate) struct ProgressTimeout {
    /// What had come by then, and when.
    since: Option<(u64, Instant)>,
}

impl ProgressTimeout {
    /// Ready when nothing has come for as long as `limit`; `so_far` grows with what comes.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        so_far: u64,
        limit: Duration,
    ) -> Poll<()> {
        let since = match self.since {
            Some((before, since)) if before == so_far => since,
            _ => clock::now(),
        };
        self.since = Some((so_far, since));
        transport.alarm.poll(cx, since + limit)
    }
}

impl From<Stopped> for AttemptEnd {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ClientLeft => Self::Silently(Sent::nothing()),
            Stopped::Refused(explanation) => Self::Told(explanation),
        }
    }
}

impl Exchange<'_> {
    /// Has a server of the route's upstream answer.
    pub(crate) async fn proxy(&mut self) -> Sent {
        let any_method = self.exchange.repeats_any_method();
        let parts = &self.request.head;
        let spools = self.spools();
        self.begin(spools || parts.method.is_idempotent() || self.exchange.is_repeatable(&parts.headers));
        if any_method {
            self.transport.keep_request();
        }
        let mut taken = if spools { self.spool().await } else { Ok(()) };
        loop {
            let attempt = match std::mem::replace(&mut taken, Ok(())) {
                Ok(()) => self.attempt().await,
                Err(stopped) => Err(stopped),
            };
            match attempt {
                Ok(sent) => return sent,
                Err(AttemptEnd::Again) => {}
                Err(AttemptEnd::Told(explanation)) => {
                    self.exchange.lease = None;
                    // Unless something is left to be read, or it has sent nonsense or too much, it can go on.
                    return self.explain(&explanation).await;
                }
                Err(AttemptEnd::Silently(sent)) => {
                    self.persists = false;
                    return sent;
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Sent, AttemptEnd> {
        // An attempt that failed leaves its place to others, and its body is sent from the start.
        self.exchange.lease = None;
        self.transport.rewind();
        select::select_server(self.state, self.transport, &self.request.head, self.exchange).await.map_err(
            |none| match none {
                NoSelection::ClientLeft => AttemptEnd::Silently(Sent::nothing()),
                NoSelection::Refused(explanation) => AttemptEnd::Told(explanation),
            },
        )?;
        let mut server = self.connect().await?;
        let most = self.exchange.route.as_ref().and_then(|route| route.settings.max_body);
        let mut upload = RequestBody::new(&self.request.body, self.length, most);
        self.write_head(&mut server);
        if self.expects_continue() {
            upload.await_continue();
        }
        let mut interim = 0;
        let head = loop {
            let head = self.head(&mut server, &mut upload).await?;
            match head.status {
                _ if head.is_interim() && interim == MOST_INTERIM => {
                    return Err(self.failed(Failure::Malformed));
                }
                _ if head.is_interim() => {
                    if head.status == StatusCode::CONTINUE {
                        upload.continued();
                    }
                    interim += 1;
                    self.pass_on_interim(&head).await?;
                }
                // Nobody has asked for it.
                StatusCode::SWITCHING_PROTOCOLS => return Err(self.failed(Failure::Malformed)),
                _ => break head,
            }
        };
        let method = self.exchange.method(&self.request.head.method);
        let Ok(framing) = head.framing(&method) else { return Err(self.failed(Failure::Malformed)) };
        let has_body = self.request.body != Inbound::Length(0);
        let mut fields = HeaderEdits::new(&head.lines);
        let response = response_head::receive_head(
            self.state,
            self.transport,
            &self.request.head,
            has_body,
            (head.status, &mut fields),
            self.exchange,
        );
        match response.await {
            Verdict::PassOn => self.relay(server, upload, &head, framing, fields).await,
            Verdict::Instead(answer) => {
                self.leave(server, &upload, &head, framing);
                Ok(self.respond(answer).await)
            }
            Verdict::List => Box::pin(self.archive(server, &upload, &head, framing, &fields)).await,
            Verdict::Elsewhere => {
                self.leave(server, &upload, &head, framing);
                Err(AttemptEnd::Again)
            }
            Verdict::Refuse(explanation) => Err(AttemptEnd::Told(explanation)),
        }
    }

    /// A connection to the server on which the request has its place.
    async fn connect(&mut self) -> Result<ServerConnection, AttemptEnd> {
        let Some(lease) = &self.exchange.lease else { return Err(AttemptEnd::Told(failure::internal())) };
        let keepalive = lease.settings().keepalive;
        let has_body = !self.request.body.is_done();
        let shares = self.exchange.may_share_connection(&self.request.head.method, has_body, keepalive);
        let kept = if shares { ServerConnection::reuse(lease) } else { None };
        let reused = kept.is_some();
        let connection = match kept {
            Some(kept) => Ok(kept),
            // Boxed: most requests find one.
            None => Box::pin(ServerConnection::connect(lease)).await,
        };
        match connection {
            Ok(mut connection) => {
                if shares {
                    connection.may_be_kept_for(keepalive);
                }
                self.exchange.tries += 1;
                self.exchange.failed_connects = 0;
                self.exchange.reused = reused;
                if let Some(lease) = &mut self.exchange.lease {
                    lease.connected();
                }
                Ok(connection)
            }
            Err(error) => {
                let failure =
                    NoConnection { reason: upstream::why(&error), ours: upstream::is_our_own_want(&error) };
                let (metrics, request) = (&self.state.metrics, &self.request.head);
                let replayable = self.transport.is_replayable();
                match failure::connection_failed(metrics, request, replayable, failure, self.exchange) {
                    Decision::Retry => Err(AttemptEnd::Again),
                    Decision::GiveUp => Err(AttemptEnd::Told(failure::explain(Failure::Connect))),
                }
            }
        }
    }

    /// Writes the head that the server gets.
    fn write_head(&self, server: &mut ServerConnection) {
        let (parts, exchange) = (&self.request.head, &*self.exchange);
        let mut fields = HeaderEdits::new(&self.request.head.headers);
        let Some(lease) = &exchange.lease else { return };
        if let Some(client) = &exchange.client {
            upstream::prepare(&mut fields, parts, client, &exchange.id, &lease.upstream().name);
        }
        if self.spools() {
            // Nobody waits to be asked for a body that is here.
            fields.remove(&header::EXPECT);
        }
        let is_kept = server.may_be_kept();
        let out = &mut server.outbound;
        let redirect = exchange.redirect.as_ref().map(|target| target.as_str().as_bytes());
        let target = redirect.unwrap_or_else(|| parts.target.path_and_query());
        out.reserve(512 + target.len());
        out.put_slice(exchange.method(&parts.method).as_str().as_bytes());
        out.put_u8(b' ');
        if target.starts_with(b"?") {
            // The target had a host and no path.
            out.put_u8(b'/');
        }
        out.put_slice(target);
        out.put_slice(b" HTTP/1.1\r\n");
        fields.write(out);
        match (&self.request.body, self.length) {
            (Inbound::Chunked(_), None) => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
            (Inbound::Chunked(_), Some(length)) => {
                out.put_slice(b"Content-Length: ");
                write_number(out, length);
                out.put_slice(b"\r\n");
            }
            (Inbound::Length(_) | Inbound::Tunnel, _) => {}
        }
        if !is_kept {
            out.put_slice(b"ServerConnection: close\r\n");
        }
        out.put_slice(b"\r\n");
    }

    /// Whether the client waits for the server to ask for the body (RFC 9110 §10.1.1).
    fn expects_continue(&self) -> bool {
        let parts = &self.request.head;
        !self.spools() && parts.version != Version::HTTP_10 && parts.headers.has(header::EXPECT)
    }

    /// Sends the request, and waits for the head of an answer.
    async fn head(
        &mut self,
        server: &mut ServerConnection,
        upload: &mut RequestBody,
    ) -> Result<ResponseHead, AttemptEnd> {
        enum HeadEnd {
            Head(Box<ResponseHead>),
            Stopped(Stopped),
            Failed(Failure),
        }
        let mut patience = ProgressTimeout::default();
        let send_timeout = |lease: &Option<Lease>| {
            lease.as_ref().map_or(Duration::MAX, |lease| lease.settings().send_timeout)
        };
        let read_timeout = select::read_timeout(self.exchange);
        let most =
            self.exchange.lease.as_ref().map_or(usize::MAX, |lease| lease.settings().max_response_head);
        let state = self.state;
        let (transport, lease) = (&mut *self.transport, &mut self.exchange.lease);
        let end = poll_fn(|cx| {
            let sent = match upload.poll(cx, transport, server) {
                Poll::Ready(Err(stopped)) => return Poll::Ready(HeadEnd::Stopped(stopped)),
                Poll::Ready(Ok(())) => {
                    if let Some(lease) = lease {
                        lease.sent();
                    }
                    true
                }
                Poll::Pending => false,
            };
            loop {
                if !server.rest().is_empty() {
                    match ResponseHead::read(server.rest(), most) {
                        Ok(Some((head, length))) => {
                            server.advance(length);
                            return Poll::Ready(HeadEnd::Head(Box::new(head)));
                        }
                        Ok(None) => {}
                        Err(malformed) => {
                            tracing::warn!(server = server.server.label, "{malformed}");
                            return Poll::Ready(HeadEnd::Failed(Failure::Malformed));
                        }
                    }
                }
                match server.poll_more(cx, HEAD_READ) {
                    Poll::Ready(Ok(0) | Err(_)) => {
                        return Poll::Ready(HeadEnd::Failed(Failure::BeforeAnswer));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if upload.is_read() && transport.poll_gone(cx).is_ready() {
                return Poll::Ready(HeadEnd::Stopped(Stopped::ClientLeft));
            }
            let (limit, end) = match (sent, upload.waits_for) {
                (true, _) => (read_timeout, HeadEnd::Failed(Failure::Silence)),
                (false, WaitsFor::Server) if upload.awaits_continue() => {
                    (read_timeout, HeadEnd::Failed(Failure::Silence))
                }
                (false, WaitsFor::Server) => (send_timeout(lease), HeadEnd::Failed(Failure::Silence)),
                (false, WaitsFor::Client) => (
                    state.settings().client_body_timeout,
                    HeadEnd::Stopped(Stopped::Refused(failure::body_timeout())),
                ),
            };
            // What the server has sent of a head does not count: it is to come as one.
            let so_far = upload.moved() + u64::from(sent);
            patience.poll(cx, transport, so_far, limit).map(|()| end)
        });
        match end.await {
            HeadEnd::Head(head) => Ok(*head),
            HeadEnd::Stopped(stopped) => {
                // Where its body ends cannot be trusted: what follows is no request.
                self.persists = false;
                Err(stopped.into())
            }
            HeadEnd::Failed(failure) => Err(self.failed(failure)),
        }
    }
}
