//! The client's side of an exchange: connections over HTTP/1.1 and HTTP/2, requests read, responses sent.
//!
//! A [`connection`] waits for request heads. [`Transport`] is the connection while one request is served: the bytes of
//! that request in, responses and whole files out. An HTTP/2 stream ([`http2`]) looks the same to those who serve it.

mod connection;
mod handshake;
mod http2;
mod outgoing;
#[cfg(test)]
mod panics;
mod proxy_header;
mod replay_buffer;
mod sendfile;
mod transport;
mod wire;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{listen::Connect, message::Request};

#[cfg(any(fuzzing, test))]
pub(crate) use http2::{fields, head::downgrade, rewritten};
#[cfg(any(fuzzing, test))]
pub(crate) use proxy_header::read as read_proxy_header;
pub(crate) use transport::Transport;

/// Serves one request of a connection.
pub(crate) type Serve = Arc<dyn Fn(Box<Transport>, Box<Request>) -> ServeFuture + Send + Sync>;

/// The future of one served request.
pub(crate) type ServeFuture = Pin<Box<dyn Future<Output = Served> + Send>>;

/// What becomes of the connection of a request that has been served.
pub(crate) enum Served {
    /// It may take another one.
    Kept(Box<Transport>),
    /// It ends.
    Ended,
    /// It has switched to another protocol, which this speaks to its end.
    Tunnel(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Serves the requests of accepted connections with `serve`.
pub(crate) fn connect(serve: Serve) -> Connect {
    Arc::new(move |accepted, place, limits, addresses| {
        connection::start(accepted, place, limits, Arc::clone(&serve), addresses);
    })
}
