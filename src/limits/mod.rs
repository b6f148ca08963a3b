//! Limits on clients: request rates, requests in progress, and the memory limit.

mod key;
mod keys;
mod limiter;
mod memory;
mod rate;

pub(crate) use limiter::{InProgressGuard, Limiter, Limiters, pass};
pub(crate) use memory::{Memory, watch};
