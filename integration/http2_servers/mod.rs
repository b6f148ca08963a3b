//! Servers that speak HTTP/2: whatever holds of HTTP/1.1 holds of them, and trailers pass both ways.

mod connections;
mod exchanges;
mod failures;
mod grpc;

use std::fmt::Display;

use crate::fixtures::{Builder, Proxy};

/// A proxy with a listener for HTTP/2 before a server that speaks HTTP/2 without TLS.
fn before(server: impl Display) -> Builder {
    Proxy::to([server]).with("protocol = \"h2c\"").secure()
}
