//! Responses with files: of a route, or what stands for a directory.

use std::{io, path::PathBuf, sync::Arc};

use http::{HeaderMap, StatusCode};
use tokio::task::spawn_blocking;

use crate::{
    bulkhead::Bulkhead,
    config::{Files, Name},
    exchange::{local::NOT_IN_PATHS, resolve::path, values::Values},
    files::{self, FileRequest, Missing, Opened, listing},
    message::{RawHeaders, RequestHead},
    observe::Rarely,
    response::{Explanation, Response, prefers_json},
    route::{PathMatch, normalize},
    site::SiteTable,
};

/// Responds with a file of a route, or what stands for a directory.
pub(crate) async fn send(
    table: &SiteTable,
    files: &Files,
    by: &PathMatch<'_>,
    values: &Values<'_>,
) -> Response {
    let request = values.request;
    let (method, headers) = (&request.method, &request.headers);
    // No file name has a slash in it: `%2F` names none, and must not name another.
    if has_encoded_slash(request) {
        return not_found(headers);
    }
    let write = |name: &Name, out: &mut Vec<u8>| values.write_in_path(name, out);
    let Some(wanted) = files::wanted(files, by, &write) else { return not_found(headers) };
    match open(&table.files, &wanted).await {
        Ok(opened) => files::respond(&opened, method, headers, HeaderMap::new()),
        Err(Missing::Directory(_))
            if (files.listing || !files.index.is_empty()) && !request.target.path().ends_with(b"/") =>
        {
            // What the page in it refers to is beneath it (RFC 3986 §5.2.3). As it was sent, a path that starts with
            // two slashes would lead to another host.
            let target = request.target.quoted();
            let query = target.find('?').map_or("", |at| &target[at..]);
            let path = normalize(path(request)).unwrap_or_default();
            let path = percent_encoding::utf8_percent_encode(&path, &NOT_IN_PATHS);
            Response::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{path}/{query}"))
        }
        Err(Missing::NotFound(_)) if files.listing => match files::directory(files, by, &write) {
            Some(directory) => list(directory, wanted, request).await,
            None => not_found(headers),
        },
        Err(missing) => explain(&missing, headers),
    }
}

async fn list(directory: PathBuf, wanted: FileRequest, request: &RequestHead) -> Response {
    let Ok(permit) = wanted.bulkhead(&directory).enter().await else { return busy(&request.headers) };
    let path = normalize(path(request)).unwrap_or_default().into_owned();
    let query = String::from_utf8_lossy(request.target.query().unwrap_or_default()).into_owned();
    let as_json = prefers_json(&request.headers);
    let read = spawn_blocking(move || {
        let found = listing::read(&directory, &wanted);
        drop(permit);
        found.map(|found| listing::answer(found, &path, &query, as_json))
    });
    match read.await {
        Ok(Ok(response)) => response,
        Ok(Err(missing)) => explain(&missing, &request.headers),
        Err(panic) => {
            tracing::error!(%panic, "listing a directory failed");
            trouble(&request.headers)
        }
    }
}

/// Opens a file, or finds it open.
pub(crate) async fn open(cache: &Arc<files::Cache>, wanted: &FileRequest) -> Result<Arc<Opened>, Missing> {
    if let Some(opened) = cache.fresh(wanted).filter(|opened| is_readable(opened)) {
        return Ok(opened);
    }
    let first = wanted.candidates.first().cloned().unwrap_or_default();
    let mut missing = Missing::NotFound(first);
    for (bulkhead, part) in wanted.parts() {
        match open_part(&bulkhead, part).await {
            Ok(opened) => {
                let opened = Arc::new(opened);
                cache.keep(wanted.clone(), Arc::clone(&opened));
                return Ok(opened);
            }
            Err(Missing::NotFound(_)) => {}
            Err(other) => missing = other,
        }
    }
    Err(missing)
}

/// Whether the content of an open file can be had as far as is known: it is in memory, or few wait for its file system.
fn is_readable(opened: &Opened) -> bool {
    opened.bytes.is_some() || !opened.file.bulkhead().is_under_pressure()
}

/// Opens the first of some candidates that have one bulkhead.
async fn open_part(bulkhead: &Arc<Bulkhead>, wanted: FileRequest) -> Result<Opened, Missing> {
    let path = || wanted.candidates.first().cloned().unwrap_or_default();
    let permit = bulkhead.enter().await.map_err(|busy| Missing::Busy { path: path(), busy })?;
    let (first, bulkhead) = (path(), Arc::clone(bulkhead));
    // File systems block, some of them for long; the event loop must not.
    let opened = spawn_blocking(move || {
        let _permit = permit;
        files::open(&wanted, &bulkhead)
    });
    let unreadable = |panic| Missing::Unreadable { path: first, source: io::Error::other(panic) };
    opened.await.map_err(unreadable)?
}

pub(crate) fn not_found(request: &RawHeaders) -> Response {
    Explanation::new(StatusCode::NOT_FOUND, "There is no such file.").answer(request)
}

/// Seconds after which a client may try again to get a file whose file system does not answer.
const RETRY_AFTER: u32 = 10;

/// The response to requests for files whose file system does not answer.
pub(crate) fn busy(request: &RawHeaders) -> Response {
    let sentence =
        "The disk or the file server with this file does not answer at the moment. Please try again soon.";
    Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(RETRY_AFTER).answer(request)
}

fn trouble(request: &RawHeaders) -> Response {
    let sentence = "The file cannot be opened at the moment. Please try again soon.";
    Explanation::new(StatusCode::INTERNAL_SERVER_ERROR, sentence).answer(request)
}

/// Why there is no file, for the client and, where it is their business, for operators.
pub(crate) fn explain(missing: &Missing, request: &RawHeaders) -> Response {
    remark(missing);
    match missing {
        Missing::Busy { .. } => busy(request),
        missing if missing.is_trouble() => trouble(request),
        _ => not_found(request),
    }
}

/// Tells operators of a file that is kept back, unless it is told often: clients can ask as often as they like.
fn remark(missing: &Missing) {
    static OUTSIDE: Rarely = Rarely::new(10);
    static UNREADABLE: Rarely = Rarely::new(10);
    let rarely = if matches!(missing, Missing::Outside { .. }) { &OUTSIDE } else { &UNREADABLE };
    if !missing.is_remarkable() {
        return;
    }
    match rarely.tell() {
        None => {}
        Some(0) => tracing::error!("{missing}"),
        Some(left_out) => tracing::error!(left_out, "{missing}"),
    }
}

fn has_encoded_slash(request: &RequestHead) -> bool {
    path(request).windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"%2f"))
}
