//! What the standards say, section by section.

mod downgrade;
mod rfc9113;
