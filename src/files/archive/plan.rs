//! Planning an archive: before the first byte, checks that every member's file exists, may be sent, and has the
//! listed size.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Weak},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    Archive, MemberPlace, Resolve,
    crc::{Crc, Crcs},
    list::{self, ListError, ListLine, MemberList},
    names::Charset,
    zip::{Member, ZipLayout},
};
use crate::{
    bulkhead::BulkheadPermit,
    files::open::{Missing, locate},
    message::EditHeaders,
    response::FileIdentity,
};

const X_ARCHIVE_FILES: HeaderName = HeaderName::from_static("x-archive-files");
const X_ARCHIVE_CHARSET: HeaderName = HeaderName::from_static("x-archive-charset");
const X_ARCHIVE_MISSING: HeaderName = HeaderName::from_static("x-archive-missing");

/// Members that are checked between two checks whether the client is still connected.
const WINDOW: usize = 4_096;

/// Threads that check members in parallel: on network file systems each check waits for the server.
const THREADS: usize = 8;

/// Skipped members that are named in the log; the others are counted.
const NAMED: usize = 10;

/// Fewest members per thread that are worth a thread.
const FEW: usize = 64;

/// Archives that are planned at a time; each takes a thread of the blocking pool. More than the members of one file
/// system that hangs can hold up.
static PLANS: Semaphore = Semaphore::const_new(96);

/// Input for an archive.
pub struct ArchiveRequest {
    /// List from the application.
    pub list: Bytes,
    /// Encoding of the names.
    pub charset: Charset,
    /// Treatment of missing members.
    pub policy: Policy,
    /// Locates the file of a path.
    pub resolve: Resolve,
    /// Known CRCs.
    pub crcs: Arc<Crcs>,
}

impl ArchiveRequest {
    /// Builds an order from the application's list and its response headers `X-Archive-Charset` and
    /// `X-Archive-Missing`.
    pub fn new(list: Bytes, response: &HeaderMap, resolve: Resolve, crcs: Arc<Crcs>) -> Self {
        let charset = response.get(X_ARCHIVE_CHARSET).map_or(Charset::Utf8, |charset| {
            Charset::named(charset.as_bytes()).unwrap_or_else(|| {
                tracing::warn!(
                    ?charset,
                    "unknown charset in X-Archive-Charset: the names in the archive are kept as they are"
                );
                Charset::Native
            })
        });
        let policy = match response.get(X_ARCHIVE_MISSING) {
            Some(word) if word.as_bytes().eq_ignore_ascii_case(b"skip") => Policy::Skip,
            Some(_) | None => Policy::Refuse,
        };
        Self { list, charset, policy, resolve, crcs }
    }
}

/// Whether a response is the list of an archive: `X-Archive-Files: zip`.
pub(crate) fn is_list(response: &impl EditHeaders) -> bool {
    response.get(&X_ARCHIVE_FILES).is_some_and(|kind| kind.eq_ignore_ascii_case(b"zip"))
}

/// Treatment of a member whose file is missing, unreadable, or of another size than listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// No archive is sent: an incomplete one could be taken for complete.
    #[default]
    Refuse,
    /// The member is left out and its name is logged (`X-Archive-Missing: skip`).
    Skip,
}

/// Reason why a path leads to no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No internal route with files matches.
    #[error("no internal route with files matches the path")]
    NoRoute,
}

/// Reason why there is no archive. None of them is the client's fault, nor of interest to it: the status is 502.
#[derive(Debug, thiserror::Error)]
pub enum Unplanned {
    /// The list is malformed.
    #[error(transparent)]
    List(#[from] ListError),
    /// A member cannot be sent.
    #[error("line {line} of the archive's list: {target}: {problem}")]
    Member {
        /// Line of the list, from 1.
        line: u32,
        /// Target as listed.
        target: String,
        /// Error of the member.
        problem: Unfit,
    },
    /// The archive is too long to be counted.
    #[error("the archive would be longer than 2^62 bytes")]
    TooLong,
    /// The client has disconnected.
    #[error("the client disconnected")]
    Abandoned,
    /// A bug in bowshock.
    #[error("planning the archive failed: {0}")]
    Panic(#[from] tokio::task::JoinError),
}

impl Unplanned {
    /// Whether the only obstacle is a file system that does not respond.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Member { problem: Unfit::Missing(Missing::Busy { .. }), .. })
    }
}

/// Reason why a member cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The path leads to no file.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// The file cannot be opened.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The member comes from an upstream, and the list has no size.
    #[error("a member from an upstream needs its size in the list")]
    Unsized,
    /// The size of the file differs from the listed one.
    #[error("the file has {real} bytes, but the list says {listed}")]
    Size {
        /// Size of the file.
        real: u64,
        /// Listed size.
        listed: u64,
    },
}

impl Unfit {
    /// Whether only the file of this member is at fault.
    fn may_be_skipped(&self) -> bool {
        !matches!(self, Self::Unsized | Self::Missing(Missing::Busy { .. }))
    }
}

/// Parses the list and checks all files, in the blocking pool. Stops early if the future is dropped.
///
/// # Errors
///
/// See [`Unplanned`].
pub async fn plan(order: ArchiveRequest) -> Result<Archive, Unplanned> {
    // Dropped together with this future, which tells the threads to stop.
    let client = Arc::new(());
    let left = Arc::downgrade(&client);
    // The semaphore is never closed.
    let turn = PLANS.acquire().await.ok();
    let planned = spawn_blocking(move || {
        let _turn = turn;
        plan_here(order, &left)
    });
    planned.await?
}

fn plan_here(order: ArchiveRequest, client: &Weak<()>) -> Result<Archive, Unplanned> {
    let ArchiveRequest { list, charset, policy, resolve, crcs } = order;
    let parsed = MemberList::parse(&list, charset)?;
    drop(list);
    let MemberList { text, lines } = parsed;
    let mut members = Vec::with_capacity(lines.len());
    let mut begun = HashMap::new();
    let mut remote = BTreeSet::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Fits until 2106.
    let now = u32::try_from(now).unwrap_or(u32::MAX);
    let mut skipped = 0;
    // Hash of the change times, which only the kernel sets: replacing files by others makes another archive.
    let mut changes = DefaultHasher::new();
    for window in lines.chunks(WINDOW) {
        if client.strong_count() == 0 {
            return Err(Unplanned::Abandoned);
        }
        for (line, found) in window.iter().zip(check_members(window, &text, &resolve)) {
            let content = match found {
                Ok(found) => found,
                Err(problem) if policy == Policy::Skip && problem.may_be_skipped() => {
                    skipped += 1;
                    if skipped <= NAMED {
                        let member = String::from_utf8_lossy(line.name(&text));
                        tracing::warn!(line = line.number, %member, "archive member skipped: {problem}");
                    }
                    continue;
                }
                Err(problem) => {
                    let target = String::from_utf8_lossy(line.target(&text)).into_owned();
                    return Err(Unplanned::Member { line: line.number, target, problem });
                }
            };
            let sized = match content {
                FoundMember::Directory => None,
                FoundMember::File(identity, modified) => {
                    identity.changed().hash(&mut changes);
                    Some((identity.size, identity.version(), modified))
                }
                FoundMember::Remote(size) => {
                    remote.insert(members.len());
                    Some((size, 0, now))
                }
            };
            let mut member = Member::new(line, line.name(&text), charset, sized);
            if let FoundMember::File(identity, _) = content
                && !member.is_known
            {
                match crcs.get(&identity) {
                    crc if crc.bytes == identity.size => (member.crc, member.is_known) = (crc.value, true),
                    Crc { bytes: 0, .. } => {}
                    crc => {
                        begun.insert(members.len(), crc);
                    }
                }
            }
            members.push(member);
        }
    }
    if skipped > NAMED {
        tracing::warn!(members = skipped, "archive members skipped");
    }
    let table = ZipLayout::new(text, members).ok_or(Unplanned::TooLong)?;
    let etag = etag(&table, changes.finish());
    Ok(Archive { table, begun, etag, remote, resolve, crcs })
}

/// Kind of a member.
#[derive(Debug, Clone, Copy)]
enum FoundMember {
    Directory,
    /// A file, with its modification time in seconds since 1970.
    File(FileIdentity, u32),
    /// Content of an upstream, of this many bytes.
    Remote(u64),
}

/// Checks the files of some members, several at a time.
fn check_members(lines: &[ListLine], text: &[u8], resolve: &Resolve) -> Vec<Result<FoundMember, Unfit>> {
    let check = |lines: &[ListLine]| -> Vec<_> {
        let mut permit = None;
        lines.iter().map(|line| check_member(line, text, resolve, &mut permit)).collect()
    };
    if lines.len() <= FEW {
        return check(lines);
    }
    let check = &check;
    let share = lines.len().div_ceil(THREADS).max(FEW);
    thread::scope(|scope| {
        let threads: Vec<_> = lines.chunks(share).map(|share| scope.spawn(move || check(share))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Checks the file of one member, reusing the permit of the previous one if it is of the same bulkhead.
fn check_member(
    line: &ListLine,
    text: &[u8],
    resolve: &Resolve,
    permit: &mut Option<BulkheadPermit>,
) -> Result<FoundMember, Unfit> {
    if line.target == 0 {
        return Ok(FoundMember::Directory);
    }
    let wanted = match place(line.target(text), resolve)? {
        MemberPlace::File(wanted) => wanted,
        MemberPlace::Remote(_) => return line.size.map(FoundMember::Remote).ok_or(Unfit::Unsized),
    };
    if let Some(path) = wanted.candidates.first() {
        let bulkhead = wanted.bulkhead(path);
        if permit.as_ref().is_none_or(|permit| !Arc::ptr_eq(permit.bulkhead(), &bulkhead)) {
            // Release the permit before waiting for another.
            *permit = None;
            let entered = bulkhead.enter_blocking();
            *permit = Some(entered.map_err(|busy| Missing::Busy { path: path.clone(), busy })?);
        }
    }
    let located = locate(&wanted)?;
    // Galaxy lists the directories of composite data as if they were files, with the size from stat(2).
    if located.metadata.is_dir() {
        return Ok(FoundMember::Directory);
    }
    let identity = FileIdentity::of(&located.metadata);
    match line.size {
        Some(listed) if listed != identity.size => Err(Unfit::Size { real: identity.size, listed }),
        _ => Ok(FoundMember::File(identity, identity.modified_seconds())),
    }
}

/// Location of a target.
pub(super) fn place(target: &[u8], resolve: &Resolve) -> Result<MemberPlace, Unresolved> {
    // The list was checked to be valid text when it was parsed.
    let path = list::path(target).ok_or(Unresolved::NoRoute)?;
    resolve(&path, std::str::from_utf8(target).map_err(|_| Unresolved::NoRoute)?)
}

/// `ETag` of an archive: a hash of everything that determines its bytes, where the identities of files stand for
/// their content. (The hash is the standard library's, and may change with its version: a download that an upgrade
/// interrupts starts anew.)
fn etag(table: &ZipLayout, changes: u64) -> HeaderValue {
    let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
    1.hash(&mut halves[1]);
    for half in &mut halves {
        changes.hash(half);
        table.members.len().hash(half);
        for member in &table.members {
            (table.name(member), member.version, member.fixed()).hash(half);
        }
    }
    let [first, second] = halves.map(|half| half.finish());
    HeaderValue::from_str(&format!("\"{first:016x}{second:016x}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}
