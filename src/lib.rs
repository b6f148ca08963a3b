//! bowshock: the front door of a Galaxy server.
//!
//! The map of the house, in the order of a request's life:
//!
//! - [`config`]: the file as typed, checked into types that cannot be wrong
//! - [`listen`]: sockets, connections, heads, and the transport under a request
//! - [`tls`]: certificates, and what connections agree on
//! - [`acme`]: certificates that a CA gives
//! - [`client`]: who asks
//! - [`route`]: from host and path to a route
//! - [`gate`]: what may answer before the route's action
//! - [`handler`]: the way of a request through all of these
//! - [`upstream`]: workers: balance, hold, health, retry
//! - [`files`]: static files, accelerated downloads, archives
//! - [`answer`]: answers that the proxy makes itself
//! - [`compress`]: codings of answers
//! - [`observe`]: metrics, logs, status
//! - [`http1`]: HTTP/1.1 spoken by ourselves: answers, attempts at servers, bodies both ways
//! - [`upgrade`]: handshakes of WebSockets and the tunnels that they open, by pingora, whose types are only there
//! - [`bulkhead`]: bounds on the work that blocks on files
//! - [`clock`]: the time
//! - [`notify`]: messages to the service manager
//! - [`state`]: all that lives as long as the process, and how a reload takes effect in it
//! - [`server`]: start, signals, stop
//! - [`demo`]: the embedded application
//! - [`cli`]: the command line

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

mod acme;
mod admin;
#[cfg(any(feature = "benching", test))]
#[doc(hidden)]
pub mod benching;
mod bulkhead;
pub mod cli;
mod client;
mod clock;
mod compress;
pub mod config;
mod demo;
mod downstream;
mod exchange;
mod files;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod listen;
mod machine;
mod message;
mod net;
mod notify;
mod observe;
mod response;
mod route;
mod server;
mod service;
mod site;
mod state;
mod tls;
mod upgrade;
mod upstream;
