//! Before the first byte: every member's file is there, may be sent, and is as long as listed.

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
    list::{self, BadList, ListLine, MemberList},
    names::Charset,
    zip::{Member, ZipLayout},
};
use crate::{
    bulkhead::Permit,
    files::open::{Missing, locate},
    message::EditHeaders,
    response::FileIdentity,
};

const X_ARCHIVE_FILES: HeaderName = HeaderName::from_static("x-archive-files");
const X_ARCHIVE_CHARSET: HeaderName = HeaderName::from_static("x-archive-charset");
const X_ARCHIVE_MISSING: HeaderName = HeaderName::from_static("x-archive-missing");

/// Members that are looked at between two looks at whether the client is still there.
const WINDOW: usize = 4_096;

/// Threads that look at them: on network file systems each one waits for the server.
const THREADS: usize = 8;

/// Members that were left out and are named in the log; of the rest there is the number.
const NAMED: usize = 10;

/// Fewer members than this per thread are not worth it.
const FEW: usize = 64;

/// Archives planned at a time; each has a thread of the blocking pool. More than the members of one file system that
/// hangs can hold up.
static PLANS: Semaphore = Semaphore::const_new(96);

/// What an archive is made of.
pub struct Order {
    /// The application's list.
    pub list: Bytes,
    /// What the bytes of its names mean.
    pub charset: Charset,
    /// What becomes of members that are missing.
    pub policy: Policy,
    /// Which file a path means.
    pub resolve: Resolve,
    /// The CRCs that are known.
    pub crcs: Arc<Crcs>,
}

impl Order {
    /// An order by the application: its list, and the fields of its answer, `X-Archive-Charset` and
    /// `X-Archive-Missing`.
    pub fn new(list: Bytes, response: &HeaderMap, resolve: Resolve, crcs: Arc<Crcs>) -> Self {
        let charset = response.get(X_ARCHIVE_CHARSET).map_or(Charset::Utf8, |charset| {
            Charset::named(charset.as_bytes()).unwrap_or_else(|| {
                tracing::warn!(
                    ?charset,
                    "the charset of an archive's names is not known: they are kept as they are"
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

/// Whether an answer is the list of an archive: `X-Archive-Files: zip`.
pub(crate) fn is_list(response: &impl EditHeaders) -> bool {
    response.get(&X_ARCHIVE_FILES).is_some_and(|kind| kind.eq_ignore_ascii_case(b"zip"))
}

/// What becomes of an archive when a member's file is missing, cannot be read, or has another size than listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// There is no archive: an incomplete one could be taken for complete.
    #[default]
    Refuse,
    /// It is made without that member, whose name is logged (`X-Archive-Missing: skip`).
    Skip,
}

/// Why a path leads to no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No internal route with files is there.
    #[error("no route with files is there")]
    NoRoute,
}

/// Why there is no archive. None of it is the client's fault, nor its business: 502.
#[derive(Debug, thiserror::Error)]
pub enum Unplanned {
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] BadList),
    /// A member cannot be sent.
    #[error("line {line} of the archive's list: {target}: {problem}")]
    Member {
        /// Of the list, from 1.
        line: u32,
        /// As it stands there.
        target: String,
        /// What is wrong with it.
        problem: Unfit,
    },
    /// More bytes than can be counted.
    #[error("the archive would be longer than 2^62 bytes")]
    TooLong,
    /// Nobody waits for it any more.
    #[error("the client left")]
    Abandoned,
    /// A mistake of ours.
    #[error("planning the archive failed: {0}")]
    Panic(#[from] tokio::task::JoinError),
}

impl Unplanned {
    /// Whether the archive could be made but for a file system that does not answer.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Member { problem: Unfit::Missing(Missing::Busy { .. }), .. })
    }
}

/// Why a member cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Its path leads to no file.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// Its file cannot be opened.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It comes from an upstream, and the list does not say how many bytes.
    #[error("the size of what an upstream sends must be listed")]
    Unsized,
    /// Its file is not the one that was listed.
    #[error("the file has {real} bytes, and {listed} are listed")]
    Size {
        /// Of the file.
        real: u64,
        /// In the list.
        listed: u64,
    },
}

impl Unfit {
    /// Whether it is this member's file alone that is wrong.
    fn may_be_skipped(&self) -> bool {
        !matches!(self, Self::Unsized | Self::Missing(Missing::Busy { .. }))
    }
}

/// Reads the list and looks at all files, in the blocking pool. Ends early when the future is dropped.
///
/// # Errors
///
/// See [`Unplanned`].
pub async fn plan(order: Order) -> Result<Archive, Unplanned> {
    // Dropped with this future.
    let client = Arc::new(());
    let left = Arc::downgrade(&client);
    // Never closed.
    let turn = PLANS.acquire().await.ok();
    let planned = spawn_blocking(move || {
        let _turn = turn;
        plan_here(order, &left)
    });
    planned.await?
}

fn plan_here(order: Order, client: &Weak<()>) -> Result<Archive, Unplanned> {
    let Order { list, charset, policy, resolve, crcs } = order;
    let parsed = MemberList::parse(&list, charset)?;
    drop(list);
    let MemberList { text, lines } = parsed;
    let mut members = Vec::with_capacity(lines.len());
    let mut begun = HashMap::new();
    let mut remote = BTreeSet::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Until 2106.
    let now = u32::try_from(now).unwrap_or(u32::MAX);
    let mut skipped = 0;
    // Of the times of files that only the kernel sets: an archive of files in whose places others are is another one.
    let mut changes = DefaultHasher::new();
    for window in lines.chunks(WINDOW) {
        if client.strong_count() == 0 {
            return Err(Unplanned::Abandoned);
        }
        for (line, found) in window.iter().zip(look(window, &text, &resolve)) {
            let content = match found {
                Ok(found) => found,
                Err(problem) if policy == Policy::Skip && problem.may_be_skipped() => {
                    skipped += 1;
                    if skipped <= NAMED {
                        let member = String::from_utf8_lossy(line.name(&text));
                        tracing::warn!(line = line.number, %member, "left out of an archive: {problem}");
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
        tracing::warn!(members = skipped, "left out of an archive in all");
    }
    let table = ZipLayout::new(text, members).ok_or(Unplanned::TooLong)?;
    let etag = etag(&table, changes.finish());
    Ok(Archive { table, begun, etag, remote, resolve, crcs })
}

/// What a member is.
#[derive(Debug, Clone, Copy)]
enum FoundMember {
    Directory,
    /// A file, with its time in seconds since 1970.
    File(FileIdentity, u32),
    /// So many bytes, which an upstream sends.
    Remote(u64),
}

/// Looks at the files of some members, several at a time.
fn look(lines: &[ListLine], text: &[u8], resolve: &Resolve) -> Vec<Result<FoundMember, Unfit>> {
    let look = |lines: &[ListLine]| -> Vec<_> {
        let mut permit = None;
        lines.iter().map(|line| look_at(line, text, resolve, &mut permit)).collect()
    };
    if lines.len() <= FEW {
        return look(lines);
    }
    let look = &look;
    let share = lines.len().div_ceil(THREADS).max(FEW);
    thread::scope(|scope| {
        let threads: Vec<_> = lines.chunks(share).map(|share| scope.spawn(move || look(share))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Looks at the file of one member, with the permit for the one before it where it is of the same bulkhead.
fn look_at(
    line: &ListLine,
    text: &[u8],
    resolve: &Resolve,
    permit: &mut Option<Permit>,
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
            // Nobody waits with a permit in hand.
            *permit = None;
            let entered = bulkhead.enter_blocking();
            *permit = Some(entered.map_err(|busy| Missing::Busy { path: path.clone(), busy })?);
        }
    }
    let located = locate(&wanted)?;
    // Galaxy lists the directories of composite data as if they were files, with the size that stat(2) says.
    if located.metadata.is_dir() {
        return Ok(FoundMember::Directory);
    }
    let identity = FileIdentity::of(&located.metadata);
    match line.size {
        Some(listed) if listed != identity.size => Err(Unfit::Size { real: identity.size, listed }),
        _ => Ok(FoundMember::File(identity, identity.modified_seconds())),
    }
}

/// Where a target leads.
pub(super) fn place(target: &[u8], resolve: &Resolve) -> Result<MemberPlace, Unresolved> {
    // It was text when the list was read.
    let path = list::path(target).ok_or(Unresolved::NoRoute)?;
    resolve(&path, std::str::from_utf8(target).map_err(|_| Unresolved::NoRoute)?)
}

/// Made of everything that the archive's bytes are made of; the files stand for their content. (The hash is the standard
/// library's, whose next version may be another one: a download that an upgrade interrupts begins anew.)
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
