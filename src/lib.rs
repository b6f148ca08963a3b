//! bowshock: a reverse proxy for Galaxy servers.
//!
//! The modules, in the order in which a request meets them:
//!
//! - [`cli`]: the command line
//! - [`server`]: the process: start, signals, shutdown
//! - [`state`]: the state of the process, and how a reload takes effect
//! - [`convert`]: a configuration of nginx as one of bowshock
//! - [`config`]: the configuration: a file as typed, checked into types whose values are valid
//! - [`machine`]: the machine that a configuration is checked against: its files, certificates and cores
//! - [`listen`]: sockets, limits of connections, worker threads
//! - [`tls`]: certificates, and TLS sessions with clients
//! - [`acme`]: certificates from a CA (RFC 8555)
//! - [`downstream`]: client connections: PROXY header, TLS, HTTP/1.1 and HTTP/2, up to the transport of a request
//! - [`service`]: dispatch of requests to sites, to the admin endpoints, or to the engine for WebSockets
//! - [`client`]: the client's address, scheme, host and port
//! - [`exchange`]: one request from its head to its end: admission, action, retries, response, access log
//! - [`site`]: sites and routes with everything a request needs of them
//! - [`route`]: lookup of a route by host and path
//! - [`auth`]: users by password: files of hashes, and their verification
//! - [`cache`]: stored responses (RFC 9111): lookup, fills, memory and disk
//! - [`tools`]: interactive tools of Galaxy: the map that says where each one listens
//! - [`limits`]: limits of requests per client, and of memory
//! - [`upstream`]: upstream servers: load balancing, holds, health checks, retries, connections
//! - [`files`]: static files, internal redirects, archives
//! - [`response`]: responses made by the proxy: bodies and error pages
//! - [`compress`]: compression of responses
//! - [`message`]: HTTP messages: heads, headers and body framing
//! - [`net`]: sockets, buffers, idle timeouts and minimum rates of connections
//! - [`observe`]: metrics, the access log, the process log
//! - [`admin`]: the admin endpoints
//! - [`bulkhead`]: bounds on blocking file operations, per root and mount point
//! - [`clock`]: the time, read once each time a task wakes
//! - [`notify`]: messages to the service manager
//! - [`demo`]: the embedded application of `bowshock demo`
//!
//! Imports go one way only: `integration/layers.rs` has the order and fails when a module imports one above it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

mod acme;
mod admin;
mod auth;
#[cfg(any(feature = "benching", test))]
#[doc(hidden)]
pub mod benching;
mod bulkhead;
mod cache;
pub mod cli;
mod client;
mod clock;
mod compress;
pub mod config;
pub mod convert;
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
mod tools;
mod upstream;
