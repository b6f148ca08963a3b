//! How much clients may ask for: rates, requests in progress, and the ceiling of memory.

mod key;
mod keys;
mod limiter;
mod memory;
mod rate;

pub(crate) use limiter::{InProgress, Limiter, Limiters, pass};
pub(crate) use memory::{Memory, watch};
