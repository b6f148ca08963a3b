//! HTTP/2 between real clients and real workers: whatever holds of HTTP/1.1 holds of it.

mod browser;
mod clients;
mod ends;
mod limits;
mod malformed;
mod streams;
mod websocket;

use crate::fixtures::{Backend, Builder, Proxy};

/// A proxy with a listener for HTTP/2 before these.
fn before(app: &Backend) -> Builder {
    Proxy::to([app.address()]).secure()
}
