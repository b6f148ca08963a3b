//! Archives of files: the application sends a list (`X-Archive-Files: zip`, as for nginx's mod_zip), the client gets a
//! zip archive that is made while it is sent.
//!
//! The list is read ([`list`]) and every member looked at before the first byte ([`plan()`]), so that a missing one is an
//! answer of its own and not a broken download, and the length is known. Then the archive is walked through ([`zip`],
//! [`walk`]) off the event loop ([`source`]), a batch of pieces ahead of what is being sent ([`stream`]).
//!
//! Once begun, an archive that cannot be finished as planned ends the connection. Its directory comes last, so what the
//! client has then is no archive.

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
pub use plan::{Order, Unresolved, plan};
#[cfg(test)]
use plan::{Policy, Unplanned};

use super::{Wanted, range::ByteSpan};
use crate::response::Pieces;
use crc::Crc;
use source::MemberSource;
use stream::ArchiveStream;
use walk::Walk;
use zip::ZipLayout;

/// Reads a list and forgets it, for cargo-fuzz.
#[cfg(any(fuzzing, test))]
pub fn read_list(list: &[u8]) {
    for charset in [Charset::Utf8, Charset::Latin1, Charset::Native] {
        let _ = list::MemberList::parse(list, charset);
    }
}

/// Says where a member's bytes are: by its path, percent-decoded and without a query, or by all that is listed.
pub type Resolve = Arc<dyn Fn(&str, &str) -> Result<MemberPlace, Unresolved> + Send + Sync>;

/// Where the bytes of a member are.
pub enum MemberPlace {
    /// In a file.
    File(Wanted),
    /// An upstream sends them.
    Remote(Box<dyn Remote>),
}

/// Something that an upstream sends.
pub trait Remote: Send + Sync {
    /// Asks for it. Blocks.
    ///
    /// # Errors
    ///
    /// When it is not to be had.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// An archive, ready to be sent.
pub struct Archive {
    table: ZipLayout,
    /// What is known of CRCs that are not known whole, by member.
    begun: HashMap<usize, Crc>,
    etag: HeaderValue,
    /// Members that upstreams send: they can be had once, from their start, and nobody knows what they are.
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
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.table.length()
    }

    /// A strong validator: it changes with the names, the order and the files. None for what upstreams send.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.remote.is_empty().then_some(&self.etag)
    }

    /// Whether it can be sent only as a whole.
    pub fn is_whole_only(&self) -> bool {
        !self.remote.is_empty()
    }

    /// Whether any part can be sent without reading more than that part.
    pub fn is_rangeable(&self) -> bool {
        self.remote.is_empty() && self.table.members.iter().all(|member| member.is_known)
    }

    /// Bytes of files that must be read for a span and are not in it: of members whose CRCs are wanted and not known.
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

    /// Makes the bytes of a span, which is within the archive.
    pub fn body(self, span: ByteSpan) -> Box<dyn Pieces> {
        Box::new(ArchiveStream::new(MemberSource::new(self, span)))
    }
}
