//! WebSockets once they are open: bytes pass both ways, and whoever is silent costs next to nothing.

use std::{
    future::poll_fn,
    io,
    ops::Range,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use tokio::{io::AsyncWrite, time::Instant};

use crate::{
    clock,
    downstream::Transport,
    exchange::{
        context::RequestContext,
        record::{Sent, record},
        stream_end::wait_within,
    },
    message::{FramePosition, Request, going_away},
    net::{BEFORE, Buffer, ROOM},
    state::State,
    upstream::ServerConnection,
};

/// Longest wait for the answer to a Close frame of ours.
const CLOSE_ANSWER: Duration = Duration::from_secs(2);

/// Longest silence of a tunnel of which one side has ended: the other gets what is still on its way, and time to answer.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// An open tunnel between a client and a server.
pub(crate) struct Tunnel {
    transport: Box<Transport>,
    server: Box<ServerConnection>,
    request: Box<Request>,
    context: Box<RequestContext>,
    /// Place in what the client sends, and in what the server sends.
    inbound: FramePosition,
    outbound: FramePosition,
    /// Bytes passed on to the client, and in all.
    bytes: u64,
    moved: u64,
    /// Longest silence of both sides (`tunnel_idle`).
    idle: Option<Duration>,
    last: Instant,
    closing: Closing,
    /// The client has ended its side.
    client_ended: bool,
    /// The server gets nothing more; what it sends is still the client's.
    server_is_deaf: bool,
    /// The client takes nothing more; what it has sent is still the server's.
    client_is_deaf: bool,
}

/// Way of a tunnel to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// It is open.
    No,
    /// Both sides are told between two frames that this proxy is going away.
    Telling,
    /// Both sides know.
    Told(Instant),
}

impl Tunnel {
    /// A tunnel whose client has been sent the 101.
    pub(crate) fn new(
        mut transport: Box<Transport>,
        server: Box<ServerConnection>,
        request: Box<Request>,
        mut context: Box<RequestContext>,
    ) -> Self {
        transport.become_tunnel();
        server.keep_alive();
        // What only the handshake needed.
        context.matched = None;
        let idle = context.route.as_ref().and_then(|route| route.settings.proxy.tunnel_idle);
        Self {
            transport,
            server,
            request,
            context,
            inbound: FramePosition::default(),
            outbound: FramePosition::default(),
            bytes: 0,
            moved: 0,
            idle,
            last: clock::now(),
            closing: Closing::No,
            client_ended: false,
            server_is_deaf: false,
            client_is_deaf: false,
        }
    }

    /// Passes bytes on until one side ends, and records the request.
    pub(crate) async fn run(mut self, state: Arc<State>) {
        {
            let stopping = state.stopping();
            let mut goodbye = pin!(async move { wait_within(stopping.await).await });
            let mut is_due = false;
            poll_fn(|cx| {
                if !is_due && goodbye.as_mut().poll(cx).is_ready() {
                    (is_due, self.closing) = (true, Closing::Telling);
                }
                self.poll(cx)
            })
            .await;
        }
        self.context.lease = None;
        let sent = Sent { status: StatusCode::SWITCHING_PROTOCOLS, bytes: self.bytes };
        record(&state, &self.request.head, sent, &self.context);
    }

    /// Ready when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.moved;
        if let (Poll::Ready(()), _) | (_, Poll::Ready(())) = (self.poll_inbound(cx), self.poll_outbound(cx)) {
            return Poll::Ready(());
        }
        if self.moved > before {
            self.last = clock::now();
        }
        let half_open =
            (self.client_ended || self.server_is_deaf || self.client_is_deaf).then_some(HALF_OPEN);
        let silent = self.idle.into_iter().chain(half_open).min().map(|silence| self.last + silence);
        let until = match self.closing {
            Closing::No | Closing::Telling => silent,
            Closing::Told(at) => Some(at + CLOSE_ANSWER),
        };
        let Some(until) = until else { return Poll::Pending };
        self.transport.alarm.poll(cx, until)
    }

    /// Passes on what the client sends. Ready when the tunnel is over: the server ends it, unless the client is broken.
    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.server_is_deaf {
            if self.client_ended {
                // An error says that there is nobody to be told.
                let _ = ready!(self.server.poll_shutdown(cx));
                self.server_is_deaf = true;
                break;
            }
            let unsent = self.server.outbound.len();
            let flushed = self.server.poll_flush(cx);
            self.moved += u64::from(self.server.outbound.len() < unsent);
            if ready!(flushed).is_err() {
                self.server_is_deaf = true;
                break;
            }
            self.say_goodbye(cx);
            let mut buffer = Buffer::take();
            let Ok(read) = ready!(self.transport.poll_body(cx, &mut buffer, ROOM)) else {
                return Poll::Ready(());
            };
            self.moved += 1;
            let bytes = &buffer[BEFORE..BEFORE + read];
            let was_closed = self.inbound.is_closed();
            self.inbound.pass(bytes);
            if let Closing::Told(_) = self.closing {
                if read == 0 || (self.inbound.is_closed() && !was_closed) {
                    // Its answer: both know.
                    return Poll::Ready(());
                }
                continue;
            }
            self.client_ended = read == 0;
            if let Poll::Ready(Err(_)) = self.server.poll_offer(cx, bytes) {
                self.server_is_deaf = true;
            }
        }
        Poll::Pending
    }

    /// Passes on what the server sends. Ready when the tunnel is over.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.client_is_deaf {
                let unsent = self.transport.outbound().len();
                let flushed = Pin::new(&mut *self.transport).poll_flush(cx);
                self.moved += u64::from(self.transport.outbound().len() < unsent);
                if let Err(error) = ready!(flushed)
                    && self.is_over_with(&error)
                {
                    return Poll::Ready(());
                }
            }
            self.say_goodbye(cx);
            if self.server.rest().is_empty() {
                let Ok(1..) = ready!(self.server.poll_more(cx, ROOM)) else { return Poll::Ready(()) };
            }
            let Some((buffer, range)) = self.server.take_rest() else { continue };
            self.moved += 1;
            if self.client_is_deaf || matches!(self.closing, Closing::Told(_)) {
                continue;
            }
            let passed = match self.closing {
                // Reads of a stream that does not pause hardly ever end with a frame.
                Closing::Telling => self.outbound.pass_frame(&buffer[range.clone()]),
                _ => {
                    self.outbound.pass(&buffer[range.clone()]);
                    range.len()
                }
            };
            let end = range.start + passed;
            let offered = self.pass_out(cx, &buffer, range.start..end);
            self.server.unread(buffer, end..range.end);
            if let Poll::Ready(Err(error)) = offered
                && self.is_over_with(&error)
            {
                return Poll::Ready(());
            }
        }
    }

    /// The client takes nothing more. Whether it sends nothing either, or is only too slow: then the tunnel is over.
    fn is_over_with(&mut self, error: &io::Error) -> bool {
        self.client_is_deaf = true;
        self.client_ended || error.kind() == io::ErrorKind::TimedOut
    }

    fn pass_out(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &Buffer,
        range: Range<usize>,
    ) -> Poll<io::Result<()>> {
        self.bytes += range.len() as u64;
        self.transport.poll_offer(cx, &buffer[range])
    }

    /// Tells both sides that this proxy is going away, if that is due and neither is in the middle of a frame.
    fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        let is_between = self.inbound.is_between_frames() && self.outbound.is_between_frames();
        if self.closing != Closing::Telling || !is_between {
            return;
        }
        self.closing = Closing::Told(clock::now());
        // Whoever has said goodbye expects nothing more. Errors show at the next flush.
        if !self.outbound.is_closed() {
            let _ = self.transport.poll_offer(cx, &going_away(None));
        }
        if !self.inbound.is_closed() {
            let _ = self.server.poll_offer(cx, &going_away(Some(fastrand::u32(..).to_ne_bytes())));
        }
        cx.waker().wake_by_ref();
    }
}
