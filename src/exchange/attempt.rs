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
        Turn,
        failure::{self, NoConnection},
        record::Sent,
        response_head::{self, Response},
        select::{self, NoPlace},
        upload::{Stopped, Upload, WaitsFor},
    },
    message::{Edited, Fields, Inbound, MOST_INTERIM, ResponseHead, write_number},
    response::Explanation,
    upstream::{
        self, Connection, Lease,
        retry::{Decision, Failure},
    },
};

/// Read at once while the head of an answer comes: with it most answers come whole.
const HEAD_READ: usize = 128 * 1024;

/// What ends an attempt without an answer to the client.
#[derive(Debug)]
pub(crate) enum Broken {
    /// There is to be another one.
    Again,
    /// The client is told this.
    Told(Explanation),
    /// There is nobody to tell, or the answer has begun and cannot be finished.
    Silently(Sent),
}

/// How long somebody is waited for.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// What had come by then, and when.
    since: Option<(u64, Instant)>,
}

impl Patience {
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

impl From<Stopped> for Broken {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ClientLeft => Self::Silently(Sent::nothing()),
            Stopped::Refused(explanation) => Self::Told(explanation),
        }
    }
}

impl Turn<'_> {
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
                Err(Broken::Again) => {}
                Err(Broken::Told(explanation)) => {
                    self.exchange.lease = None;
                    // Unless something is left to be read, or it has sent nonsense or too much, it can go on.
                    return self.explain(&explanation).await;
                }
                Err(Broken::Silently(sent)) => {
                    self.persists = false;
                    return sent;
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Sent, Broken> {
        // An attempt that failed leaves its place to others, and its body is sent from the start.
        self.exchange.lease = None;
        self.transport.rewind();
        select::select_server(self.state, self.transport, &self.request.head, self.exchange).await.map_err(
            |none| match none {
                NoPlace::ClientLeft => Broken::Silently(Sent::nothing()),
                NoPlace::Refused(explanation) => Broken::Told(explanation),
            },
        )?;
        let mut server = self.connect().await?;
        let most = self.exchange.route.as_ref().and_then(|route| route.settings.max_body);
        let mut upload = Upload::new(&self.request.body, self.length, most);
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
        let mut fields = Edited::new(&head.lines);
        let response = response_head::receive_head(
            self.state,
            self.transport,
            &self.request.head,
            has_body,
            (head.status, &mut fields),
            self.exchange,
        );
        match response.await {
            Response::PassOn => self.relay(server, upload, &head, framing, fields).await,
            Response::Instead(answer) => {
                self.leave(server, &upload, &head, framing);
                Ok(self.answer(answer).await)
            }
            Response::List => Box::pin(self.archive(server, &upload, &head, framing, &fields)).await,
            Response::Elsewhere => {
                self.leave(server, &upload, &head, framing);
                Err(Broken::Again)
            }
            Response::Refuse(explanation) => Err(Broken::Told(explanation)),
        }
    }

    /// A connection to the server on which the request has its place.
    async fn connect(&mut self) -> Result<Connection, Broken> {
        let Some(lease) = &self.exchange.lease else { return Err(Broken::Told(failure::internal())) };
        let keepalive = lease.settings().keepalive;
        let has_body = !self.request.body.is_done();
        let shares = self.exchange.may_share_connection(&self.request.head.method, has_body, keepalive);
        let kept = if shares { Connection::reuse(lease) } else { None };
        let reused = kept.is_some();
        let connection = match kept {
            Some(kept) => Ok(kept),
            // Boxed: most requests find one.
            None => Box::pin(Connection::connect(lease)).await,
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
                    Decision::Retry => Err(Broken::Again),
                    Decision::GiveUp => Err(Broken::Told(failure::explain(Failure::Connect))),
                }
            }
        }
    }

    /// Writes the head that the server gets.
    fn write_head(&self, server: &mut Connection) {
        let (parts, exchange) = (&self.request.head, &*self.exchange);
        let mut fields = Edited::new(&self.request.head.headers);
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
            out.put_slice(b"Connection: close\r\n");
        }
        out.put_slice(b"\r\n");
    }

    /// Whether the client waits for the server to ask for the body (RFC 9110 §10.1.1).
    fn expects_continue(&self) -> bool {
        let parts = &self.request.head;
        !self.spools() && parts.version != Version::HTTP_10 && parts.headers.has(header::EXPECT)
    }

    /// Sends the request, and waits for the head of an answer.
    async fn head(&mut self, server: &mut Connection, upload: &mut Upload) -> Result<ResponseHead, Broken> {
        enum End {
            Head(Box<ResponseHead>),
            Stopped(Stopped),
            Failed(Failure),
        }
        let mut patience = Patience::default();
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
                Poll::Ready(Err(stopped)) => return Poll::Ready(End::Stopped(stopped)),
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
                            return Poll::Ready(End::Head(Box::new(head)));
                        }
                        Ok(None) => {}
                        Err(malformed) => {
                            tracing::warn!(server = server.server.label, "{malformed}");
                            return Poll::Ready(End::Failed(Failure::Malformed));
                        }
                    }
                }
                match server.poll_more(cx, HEAD_READ) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(End::Failed(Failure::BeforeAnswer)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if upload.is_read() && transport.poll_gone(cx).is_ready() {
                return Poll::Ready(End::Stopped(Stopped::ClientLeft));
            }
            let (limit, end) = match (sent, upload.waits_for) {
                (true, _) => (read_timeout, End::Failed(Failure::Silence)),
                (false, WaitsFor::Server) if upload.awaits_continue() => {
                    (read_timeout, End::Failed(Failure::Silence))
                }
                (false, WaitsFor::Server) => (send_timeout(lease), End::Failed(Failure::Silence)),
                (false, WaitsFor::Client) => (
                    state.settings().client_body_timeout,
                    End::Stopped(Stopped::Refused(failure::body_timeout())),
                ),
            };
            // What the server has sent of a head does not count: it is to come as one.
            let so_far = upload.moved() + u64::from(sent);
            patience.poll(cx, transport, so_far, limit).map(|()| end)
        });
        match end.await {
            End::Head(head) => Ok(*head),
            End::Stopped(stopped) => {
                // Where its body ends cannot be trusted: what follows is no request.
                self.persists = false;
                Err(stopped.into())
            }
            End::Failed(failure) => Err(self.failed(failure)),
        }
    }
}
