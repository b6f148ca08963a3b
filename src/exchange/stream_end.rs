//! The end of an event stream whose worker is drained, or whose proxy stops: between two events, so that the browser
//! connects again, to another worker.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, StatusCode, header};
use tokio::time::sleep;

use crate::{
    exchange::Exchange,
    message::{BodyFraming, EditHeaders, is_event_stream},
    state::STREAMS_END_OVER,
};

/// Waits for some part of a time, so that not all clients come back at once.
pub(super) async fn wait_within(time: Duration) {
    sleep(time.mul_f64(fastrand::f64())).await;
}

/// When an event stream ends before its worker ends it.
pub(super) struct StreamEnd {
    due: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_due: bool,
    /// Last bytes of what has been passed on.
    last: [u8; 4],
}

impl StreamEnd {
    /// Notes what is passed on.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(self.last.len())..] {
            self.last.rotate_left(1);
            self.last[3] = *byte;
        }
    }

    /// Ready between two events (HTML Standard, §9.2.6) once it is time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_due = self.is_due || self.due.as_mut().poll(cx).is_ready();
        let is_between = matches!(
            self.last,
            [.., b'\n', b'\n'] | [.., b'\r', b'\r'] | [b'\r', b'\n', b'\r', b'\n'] | [0, 0, 0, 0]
        );
        if self.is_due && is_between { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Exchange<'_> {
    /// The end of the response, if it is an event stream that its client may ask for again. One that answers a POST is the
    /// only answer to it.
    pub(super) fn stream_end(
        &self,
        status: StatusCode,
        fields: &impl EditHeaders,
        framing: &BodyFraming,
    ) -> Option<StreamEnd> {
        let is_stream = status == StatusCode::OK
            && self.request.head.method == Method::GET
            && !matches!(framing, BodyFraming::Length(_))
            && fields.get(&header::CONTENT_TYPE).is_some_and(is_event_stream);
        let lease = self.context.lease.as_ref().filter(|_| is_stream)?;
        let server = Arc::clone(lease.server());
        let stopping = self.state.stopping();
        let due = async move {
            let over = tokio::select! {
                () = server.drained() => STREAMS_END_OVER,
                over = stopping => over,
            };
            wait_within(over).await;
        };
        Some(StreamEnd { due: Box::pin(due), is_due: false, last: [0; 4] })
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, task::Waker};

    use super::*;

    #[test]
    fn it_ends_between_two_events_only() {
        for (text, is_between) in [
            ("", true),
            ("data: 1\n\n", true),
            ("data: 1\r\n\r\n", true),
            ("data: 1\r\r", true),
            ("data: 1\n", false),
            ("data: 1\r\n", false),
            ("data: 1\n\ndata:", false),
        ] {
            for step in [1, 3, 100] {
                let mut end = StreamEnd { due: Box::pin(ready(())), is_due: false, last: [0; 4] };
                text.as_bytes().chunks(step).for_each(|part| end.pass(part));
                let due = end.poll(&mut Context::from_waker(Waker::noop()));
                assert_eq!(due.is_ready(), is_between, "{text:?} by {step}");
            }
        }
    }
}
