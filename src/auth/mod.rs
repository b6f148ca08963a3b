//! Users by password (RFC 7617): files of hashes, and their verification away from the event loop.
//!
//! ```text
//! basic      the Authorization header
//! htpasswd   a file of users, read again when it changes
//! hash       the formats of hashes
//! verifier   the thread that verifies passwords, and what it remembers
//! ```

mod basic;
mod hash;
mod htpasswd;
mod verifier;

pub(crate) use basic::Credentials;
pub(crate) use htpasswd::Htpasswd;
pub(crate) use verifier::{Verdict, Verifier};
