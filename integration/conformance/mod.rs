//! HTTP by the letter: what is malformed or ambiguous goes no further, in either direction.
//!
//! [`rfc9110`], [`rfc9112`] and [`rfc9113`] go through the RFCs by section. [`malformed`] is a table of requests that
//! somebody could read in another way than we do, [`hostile`] one of answers, [`downgrade`] one of streams of HTTP/2 and
//! what becomes of them; both sides are judged by [`strict`], a reader of its own.

mod downgrade;
mod hostile;
mod malformed;
mod recorder;
mod rfc9110;
mod rfc9112;
mod rfc9113;
mod strict;
