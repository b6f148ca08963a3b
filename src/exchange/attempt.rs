//! Attempts at one server after the other, until one responds or there is reason to give up.

use http::{StatusCode, Version, header};

use crate::{
    exchange::{
        Error, Exchange,
        failure::{self, ConnectFailure},
        record::Sent,
        request_body::RequestBody,
        response_head::{self, Verdict},
        select,
    },
    message::{BodyFraming, HeaderEdits, MOST_INTERIM, ResponseHead},
    upstream::{
        self, ServerConnection,
        retry::{Decision, Failure},
    },
};

impl Exchange<'_> {
    /// Has a server of the route's upstream respond.
    pub(super) async fn proxy(&mut self) -> Sent {
        self.needs_length = !matches!(self.request.body, BodyFraming::Length(_))
            && self.context.upstream().is_some_and(|upstream| upstream.speaks_http_1_0());
        let is_buffered = self.buffers_request();
        // One that may not be repeated is sent again where the server did not begin with it.
        self.begin(true);
        if self.context.repeats_any_method() {
            self.transport.keep_request();
        }
        let mut result = if is_buffered { self.buffer_request().await.map(|()| None) } else { Ok(None) };
        loop {
            result = match result {
                Ok(Some(sent)) => return sent,
                Ok(None) | Err(Error::Retry) => self.attempt().await.map(Some),
                Err(Error::Refused(explanation)) => {
                    self.context.lease = None;
                    if self.context.cache.is_some()
                        && explanation.status.is_server_error()
                        && let Some(sent) = Box::pin(self.respond_stale()).await
                    {
                        return sent;
                    }
                    // The connection goes on unless something is left to be read, or it has sent nonsense or too much.
                    return self.explain(&explanation).await;
                }
                Err(Error::ClientLeft) => {
                    self.persists = false;
                    return Sent::nothing();
                }
                Err(Error::Incomplete(sent)) => {
                    self.persists = false;
                    return sent;
                }
            };
        }
    }

    /// Asks one server.
    async fn attempt(&mut self) -> Result<Sent, Error> {
        // An attempt that failed leaves its place to others, and its body is sent from the start.
        self.context.lease = None;
        self.transport.rewind();
        if self.request.head.asks_for_websocket() && self.context.asks_over_http2() {
            return Err(Error::Refused(failure::no_websocket(self.context)));
        }
        select::select_server(self.state, self.transport, &self.request.head, self.context).await?;
        let mut server = self.connect().await?;
        let most = self.context.route.as_ref().and_then(|route| route.settings.max_body);
        let mut request_body = RequestBody::new(&self.request.body, self.length, most);
        let may_repeat = self.may_repeat();
        if server.tells_what_is_read() {
            request_body.follow_head(may_repeat);
        } else if server.is_http2() {
            // It tells which requests it has not processed: they are sent again, whatever their method.
            if self.is_call() {
                request_body.outlasts_client();
            }
        } else if !may_repeat {
            self.transport.forget_recorded();
        }
        self.write_request_head(&mut server)?;
        if self.expects_continue() {
            match server.asks_for_bodies() {
                true => request_body.await_continue(),
                false => self.invite().await?,
            }
        }
        let head = self.final_head(&mut server, &mut request_body).await?;
        if self.is_handshake() && self.request.head.version == Version::HTTP_2 && head.status.is_success() {
            return Err(Error::Refused(failure::not_switched()));
        }
        let method = self.context.method(&self.request.head.method);
        let Ok(framing) = head.framing(&method) else { return Err(self.failed(Failure::Malformed)) };
        let has_body = self.request.body != BodyFraming::Length(0);
        let mut fields = HeaderEdits::new(&head.lines);
        let verdict = response_head::receive_head(
            self.state,
            self.transport,
            &self.request.head,
            has_body,
            (head.status, &mut fields),
            self.context,
        );
        match verdict.await {
            Verdict::PassOn if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(server, &head, fields).await
            }
            Verdict::PassOn => self.relay(server, request_body, &head, framing, fields).await,
            Verdict::Replace(response) => {
                self.skip_body(server, &request_body, &head, framing);
                Ok(self.respond(response).await)
            }
            Verdict::Archive => {
                Box::pin(self.send_archive(server, &request_body, &head, framing, &fields)).await
            }
            Verdict::RetryElsewhere => {
                self.skip_body(server, &request_body, &head, framing);
                Err(Error::Retry)
            }
            Verdict::Refuse(explanation) => Err(Error::Refused(explanation)),
        }
    }

    /// Whether the request may be sent again after a server may have begun with it.
    fn may_repeat(&self) -> bool {
        let request = &self.request.head;
        self.buffers_request()
            || request.method.is_idempotent()
            || self.context.is_repeatable(&request.headers)
    }

    /// Whether it is a call of gRPC, in which either side may be silent for long.
    fn is_call(&self) -> bool {
        let content_type = self.request.head.headers.get(&header::CONTENT_TYPE);
        content_type.is_some_and(|content_type| content_type.starts_with(b"application/grpc"))
    }

    /// Whether the server is asked to switch to the protocol of WebSockets. Over uwsgi nothing switches.
    pub(super) fn is_handshake(&self) -> bool {
        let speaks_uwsgi =
            || self.context.upstream().is_some_and(|upstream| upstream.settings().uwsgi.is_some());
        self.request.head.asks_for_websocket() && !speaks_uwsgi()
    }

    /// Sends the request, and waits for the head of the final response; interim ones are passed on.
    async fn final_head(
        &mut self,
        server: &mut ServerConnection,
        request_body: &mut RequestBody,
    ) -> Result<ResponseHead, Error> {
        let mut interim = 0;
        loop {
            let head = self.response_head(server, request_body).await?;
            match head.status {
                _ if head.is_interim() && interim == MOST_INTERIM => break,
                _ if head.is_interim() => {
                    if head.status == StatusCode::CONTINUE {
                        request_body.continued();
                    }
                    interim += 1;
                    self.relay_interim(&head).await?;
                }
                // Nobody switches who has not been asked to.
                StatusCode::SWITCHING_PROTOCOLS if !self.is_handshake() => break,
                _ => return Ok(head),
            }
        }
        Err(self.failed(Failure::Malformed))
    }

    /// Connects to the selected server, or takes an idle connection to it.
    async fn connect(&mut self) -> Result<ServerConnection, Error> {
        let Some(lease) = &self.context.lease else { return Err(Error::Refused(failure::internal())) };
        let keepalive = lease.settings().keepalive;
        // Nothing else uses the connection of a tunnel.
        let has_body = !self.request.body.is_done() || self.is_handshake();
        let shares = self.context.may_share_connection(&self.request.head.method, has_body, keepalive);
        let idle = if shares { ServerConnection::reuse(lease) } else { None };
        let reused = idle.is_some();
        let connection = match idle {
            Some(idle) => Ok(idle),
            // Boxed: most requests find an idle one.
            None => Box::pin(ServerConnection::connect(lease)).await,
        };
        match connection {
            Ok(mut connection) => {
                tracing::debug!(request_id = %self.context.id, server = lease.server().label, reused, "connected");
                if shares {
                    connection.allow_reuse(keepalive);
                }
                self.context.tries += 1;
                self.context.reused = reused;
                if let Some(lease) = &mut self.context.lease {
                    lease.connected();
                }
                Ok(connection)
            }
            Err(error) => {
                let server = &lease.server().label;
                tracing::debug!(request_id = %self.context.id, server, %error, "cannot connect");
                let reason = ConnectFailure {
                    reason: upstream::error_label(&error),
                    ours: upstream::is_local_shortage(&error),
                };
                let (metrics, request) = (&self.state.metrics, &self.request.head);
                let replayable = self.transport.is_replayable();
                match failure::connection_failed(metrics, request, replayable, reason, self.context) {
                    Decision::Retry => Err(Error::Retry),
                    Decision::GiveUp => Err(Error::Refused(failure::explain(Failure::Connect))),
                }
            }
        }
    }

    /// Counts a failure of the server, and decides whether another one is asked.
    pub(super) fn failed(&mut self, failure: Failure) -> Error {
        let (metrics, request) = (&self.state.metrics, &self.request.head);
        let replayable = self.transport.is_replayable();
        match failure::exchange_failed(metrics, request, replayable, failure, self.context) {
            Decision::Retry => Error::Retry,
            Decision::GiveUp => Error::Refused(failure::explain(failure)),
        }
    }
}
