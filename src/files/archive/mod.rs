//! Zip archives: the application sends a list of members (`X-Archive-Files: zip`, as for nginx's mod_zip), and the
//! client gets a zip archive that is generated while it is sent.
//!
//! Before the first byte the list is parsed ([`list`]) and every member is checked ([`plan()`]), so that a missing
//! one leads to an error response instead of a broken download, and the length is known. The archive is then walked
//! ([`zip`], [`walk`]) off the event loop ([`source`]), one batch of pieces ahead of what is being sent ([`stream`]).
//!
//! If an archive cannot be finished as planned after it has begun, the connection is closed. The central directory
//! comes last, so the client does not take the rest for a complete archive.

mod crc;
mod list;
mod names;
mod plan;
mod response;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod time;
mod walk;
mod zip;

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Read},
    sync::Arc,
};

use http::HeaderValue;

pub use crate::files::archive::response::answer;
pub(crate) use crate::files::archive::response::forget_list;
pub use crc::Crcs;
pub use list::MOST_LIST;
#[cfg(any(fuzzing, test))]
use names::Charset;
pub(crate) use plan::is_list;
pub use plan::{ArchiveRequest, Unresolved, plan};
#[cfg(test)]
use plan::{Policy, Unplanned};

use super::{FileRequest, range::ByteSpan};
use crate::response::Pieces;
use crc::Crc;
use source::MemberSource;
use stream::ArchiveStream;
use walk::Walk;
use zip::ZipLayout;

/// Parses a list and drops it, for cargo-fuzz.
#[cfg(any(fuzzing, test))]
pub fn read_list(list: &[u8]) {
    for charset in [Charset::Utf8, Charset::Latin1, Charset::Native] {
        let _ = list::MemberList::parse(list, charset);
    }
}

/// Locates the bytes of a member, by its decoded path without query and by the target as listed.
pub type Resolve = Arc<dyn Fn(&str, &str) -> Result<MemberPlace, Unresolved> + Send + Sync>;

/// Location of a member's bytes.
pub enum MemberPlace {
    /// A file.
    File(FileRequest),
    /// A response of an upstream.
    Remote(Box<dyn Remote>),
}

/// Content from an upstream.
pub trait Remote: Send + Sync {
    /// Sends the request. Blocks.
    ///
    /// # Errors
    ///
    /// The content is not available.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// An archive, ready to be sent.
pub struct Archive {
    table: ZipLayout,
    /// Partial CRCs, by member.
    begun: HashMap<usize, Crc>,
    etag: HeaderValue,
    /// Members from upstreams. Each can be read only once and from its start, and has no validator.
    remote: BTreeSet<usize>,
    resolve: Resolve,
    crcs: Arc<Crcs>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("members", &self.table.members.len()).finish_non_exhaustive()
    }
}

impl Archive {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.table.length()
    }

    /// Strong validator: it changes with the names, the order and the files. `None` if a member comes from an
    /// upstream.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.remote.is_empty().then_some(&self.etag)
    }

    /// Whether only the whole archive can be sent.
    pub fn is_whole_only(&self) -> bool {
        !self.remote.is_empty()
    }

    /// Whether any range can be sent without reading anything else.
    pub fn is_rangeable(&self) -> bool {
        self.remote.is_empty() && self.table.members.iter().all(|member| member.is_known)
    }

    /// Bytes of files that must be read for a span without being in it: those of members whose CRC is needed and not
    /// known.
    pub fn unsent(&self, span: ByteSpan) -> u64 {
        let walk = Walk::new(&self.table, span);
        let unknown = self.table.members.iter().enumerate().filter(|(_, member)| !member.is_known);
        let wanted = unknown.filter(|(index, _)| walk.wants_crc(&self.table, *index));
        wanted
            .map(|(index, member)| {
                let read = self.begun.get(&index).map_or(0, |crc| crc.bytes);
                let start = span.start.saturating_sub(member.data(&self.table)).min(member.size);
                start.saturating_sub(read)
            })
            .fold(0, u64::saturating_add)
    }

    /// Generates the bytes of a span, which must lie within the archive.
    pub fn body(self, span: ByteSpan) -> Box<dyn Pieces> {
        Box::new(ArchiveStream::new(MemberSource::new(self, span)))
    }
}
