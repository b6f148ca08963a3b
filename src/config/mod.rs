//! The configuration: a file as typed, checked into types that cannot be wrong.

mod model;

pub use model::*;
