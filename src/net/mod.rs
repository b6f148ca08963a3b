//! Sockets, buffers and timers of a connection, shared by both sides of the proxy.

mod address;
mod buffer;
mod idle_timeout;
mod min_rate;
mod pace;
pub(crate) mod page_cache;
mod socket;

pub(crate) use crate::net::idle_timeout::IdleTimeout;
pub(crate) use address::{client_prefix, site_prefix};
pub(crate) use buffer::{BEFORE, Buffer, ROOM, keep};
pub(crate) use min_rate::MinRate;
pub(crate) use pace::{Pace, SharedRate};
pub(crate) use socket::{RawSocket, Socket};
