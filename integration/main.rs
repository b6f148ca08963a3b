//! Scenarios: the built program between real clients and real workers.
//!
//! Each module is one concern and each test one promise, readable as its specification. Tests share nothing
//! and run at the same time, each in its own process; what they need is in [`fixtures`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test may fail")]
#![allow(missing_docs, reason = "names of fixtures say it; nothing here is public")]

#[macro_use]
mod fixtures;

mod accel;
mod acme;
mod alternatives;
mod archives;
mod attacks;
mod auth;
mod balance;
mod bodies;
mod cache;
mod cli;
mod cold;
mod compress;
mod conformance;
mod convert;
mod cors;
mod demo;
mod differential;
mod downloads;
mod drain;
mod error_pages;
mod examples;
mod exchange;
mod files;
mod forwarded;
mod galaxy_site;
mod gates;
mod given_up;
mod harness;
mod health;
mod hold;
mod http1;
mod http2;
mod http2_attacks;
mod http2_servers;
mod hung;
mod interactive_tools;
mod layers;
mod limits;
mod logs;
mod maintenance;
mod memory;
mod model;
mod names;
mod observe;
mod old_servers;
mod outliers;
mod policies;
mod proxy_protocol;
mod queues;
mod reload;
mod replaced;
mod resilience;
mod restarts;
mod retries;
mod rewriting;
mod routing;
mod shares;
mod shutdown;
mod streams;
mod tls;
mod unread;
mod uwsgi;
mod values;
mod websocket;
