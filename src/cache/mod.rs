//! Stored responses of upstream servers (RFC 9111), whose rules are those of `http-cache-semantics`.
//!
//! ```text
//! store      caches by name: lookup, one fill per response, bounds
//! stored     a stored response: whether it may be used, and how it is written
//! disk       the files of a cache
//! recorder   a response on its way to a client, recorded for the cache
//! ```

mod disk;
mod recorder;
mod store;
mod stored;

pub(crate) use recorder::Recorder;
pub(crate) use store::{Begun, Caches, Fill, ResponseCache};
pub(crate) use stored::{KEY, Key, Stored, StoredBody, is_storable, policy_of};
