//! What the configuration says of codings.

pub use crate::message::Coding;

/// `compress`: which answers are sent in a coding, and in which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compress {
    /// Codings by preference, each with its level.
    pub codings: Vec<(Coding, u32)>,
    /// Types of content, in lower case: whole, or up to a `*` at the end.
    pub types: Vec<String>,
    /// Bytes; shorter content is sent as it is.
    pub min_size: u64,
}

impl Default for Compress {
    /// What takes the least time goes first: what is coded for one answer is coded once.
    fn default() -> Self {
        Self {
            codings: vec![(Coding::Zstd, 3), (Coding::Brotli, 4), (Coding::Gzip, 5)],
            types: COMPRESSED.map(String::from).to_vec(),
            min_size: 1024,
        }
    }
}

/// Types whose content becomes much smaller.
const COMPRESSED: [&str; 12] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "image/svg+xml",
];
