//! Answering with files: of a route, or what stands for a directory.

use std::{io, path::PathBuf, sync::Arc};

use http::{HeaderMap, StatusCode};

use super::{NOT_IN_PATHS, path};
use crate::{
    answer::{Answer, Explanation},
    config::Files,
    files::{self, Missing, Opened, Wanted, listing},
    listen::{Head, Lines},
    route::{By, Table, normalize},
};

/// Answers with a file of a route, or what stands for a directory.
pub(super) async fn send(table: &Table, files: &Files, by: &By<'_>, request: &Head) -> Answer {
    let (method, headers) = (&request.method, &request.headers);
    // No file name has a slash in it: `%2F` names none, and must not name another.
    if has_encoded_slash(request) {
        return not_found(headers);
    }
    let Some(wanted) = files::wanted(files, by) else { return not_found(headers) };
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
            Answer::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{path}/{query}"))
        }
        Err(Missing::NotFound(_)) if files.listing => match files::directory(files, by) {
            Some(directory) => list(directory, wanted, request).await,
            None => not_found(headers),
        },
        Err(missing) => explain(&missing, headers),
    }
}

async fn list(directory: PathBuf, wanted: Wanted, request: &Head) -> Answer {
    let read = tokio::task::spawn_blocking(move || listing::read(&directory, &wanted)).await;
    match read {
        Ok(Ok(found)) => {
            let path = normalize(path(request)).unwrap_or_default();
            let query = request.target.query().and_then(|query| std::str::from_utf8(query).ok());
            listing::answer(found, &path, query.unwrap_or_default(), &request.headers)
        }
        Ok(Err(missing)) => explain(&missing, &request.headers),
        Err(panic) => {
            tracing::error!(%panic, "listing a directory failed");
            trouble(&request.headers)
        }
    }
}

/// Opens a file, or finds it open.
pub(super) async fn open(cache: &Arc<files::Cache>, wanted: &Wanted) -> Result<Arc<Opened>, Missing> {
    if let Some(opened) = cache.fresh(wanted) {
        return Ok(opened);
    }
    // File systems block, some of them for long; the event loop must not.
    let first = wanted.candidates.first().cloned().unwrap_or_default();
    let wanted = wanted.clone();
    let opened =
        tokio::task::spawn_blocking(move || files::open(&wanted).map(|opened| (wanted, opened))).await;
    let unreadable = |panic| Missing::Unreadable { path: first, source: io::Error::other(panic) };
    let (wanted, opened) = opened.map_err(unreadable)??;
    let opened = Arc::new(opened);
    cache.keep(wanted, Arc::clone(&opened));
    Ok(opened)
}

pub(super) fn not_found(request: &Lines) -> Answer {
    Explanation::new(StatusCode::NOT_FOUND, "There is no such file.").answer(request)
}

fn trouble(request: &Lines) -> Answer {
    let sentence = "The file cannot be opened at the moment. Please try again soon.";
    Explanation::new(StatusCode::INTERNAL_SERVER_ERROR, sentence).answer(request)
}

/// Why there is no file, for the client and, where it is their business, for operators.
pub(super) fn explain(missing: &Missing, request: &Lines) -> Answer {
    if missing.is_remarkable() {
        tracing::error!("{missing}");
    }
    if missing.is_trouble() { trouble(request) } else { not_found(request) }
}

fn has_encoded_slash(request: &Head) -> bool {
    path(request).windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"%2f"))
}
