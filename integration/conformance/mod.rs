//! HTTP/1.1 by the letter: what is malformed or ambiguous goes no further, in either direction.
//!
//! [`rfc9110`] and [`rfc9112`] go through the RFCs by section. [`malformed`] is a table of requests that somebody could
//! read in another way than we do, [`hostile`] one of answers; both sides are judged by [`strict`], a reader of its own.

mod hostile;
mod malformed;
mod recorder;
mod rfc9110;
mod rfc9112;
mod strict;
