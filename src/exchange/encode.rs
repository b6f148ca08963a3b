//! Responses of ours in a coding that the client wants: what is not too large is coded as a whole, and kept if it is a
//! file that others will ask for.

use std::{
    future::poll_fn,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use moka::sync::Cache;
use tokio::task::spawn_blocking;

use crate::{
    bulkhead::BulkheadFull,
    compress,
    config::{Action, Compress},
    exchange::serve_files::busy,
    message::{Coding, RequestHead},
    observe::BodySource,
    response::{Body, FileIdentity, Piece, Pieces, Response},
    site::Route,
};

/// Largest content that is coded as a whole; larger files are sent as they are, or lie coded beside themselves.
const MOST: u64 = 8 << 20;

/// Bytes of coded files that are kept.
const KEPT: u64 = 64 << 20;

/// Bytes of content that are in memory to be coded, for all requests together; past it responses go as they are.
const MOST_AT_ONCE: u64 = 128 << 20;

/// Bytes of content currently held for compression, across all requests.
static AT_ONCE: AtomicU64 = AtomicU64::new(0);

/// Counts content for as long as it is in memory.
struct Room(u64);

impl Room {
    fn take(length: u64) -> Option<Self> {
        let taken = AT_ONCE.fetch_add(length, Ordering::Relaxed);
        let room = Self(length);
        (taken + length <= MOST_AT_ONCE).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        AT_ONCE.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// A version of a file, and how it was coded. Never a tag or a path: an application, or a site, may give content that
/// changes the same tag.
type EncodedKey = (Arc<FileIdentity>, Coding, u32);

static CODED: LazyLock<Cache<EncodedKey, Bytes>> = LazyLock::new(|| {
    let weight = |_: &EncodedKey, coded: &Bytes| u32::try_from(coded.len()).unwrap_or(u32::MAX);
    Cache::builder().weigher(weight).max_capacity(KEPT).build()
});

/// The response in the coding that its route allows and the client likes best.
pub(crate) async fn encode(
    mut response: Response,
    route: &Route,
    settings: &Compress,
    request: &RequestHead,
) -> Response {
    let is_file = matches!(response.body, Body::Pieces { how: BodySource::Sendfile, .. });
    let length = response.body.length();
    if !(is_file || matches!(response.body, Body::Bytes(_))) || length > MOST {
        return response;
    }
    let mut headers = response.headers.clone();
    let Some((coding, level)) =
        compress::decide(settings, request, response.status, &mut headers, Some(length))
    else {
        // Others may get it otherwise.
        response.headers = headers;
        return response;
    };
    compress::set_coding_headers(&mut headers, coding);
    let is_static = matches!(route.settings.action, Action::Files(_)) && response.status == StatusCode::OK;
    let key = response.file.clone().filter(|_| is_static).map(|file| (file, coding, level));
    if let Some(known) = key.as_ref().and_then(|key| CODED.get(key)) {
        (response.headers, response.body) = (headers, Body::Bytes(known));
        return response;
    }
    let Some(_room) = Room::take(length) else { return response };
    let content = match response.body {
        Body::Bytes(content) => Ok(content),
        Body::Pieces { pieces, .. } => gather(pieces).await,
        Body::Empty => Ok(Bytes::new()),
    };
    let content = match content {
        Ok(content) => content,
        Err(error) if error.get_ref().is_some_and(|error| error.is::<BulkheadFull>()) => {
            return busy(&request.headers);
        }
        Err(error) => {
            tracing::error!(%error, "a file could not be read");
            return Response::empty(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    match compress::whole(content.clone(), coding, level).await {
        Some(coded) => {
            if let Some(key) = key {
                CODED.insert(key, coded.clone());
            }
            (response.headers, response.body) = (headers, Body::Bytes(coded));
        }
        // Too many are at it.
        None => response.body = Body::Bytes(content),
    }
    response
}

/// Collects a whole body in memory.
async fn gather(mut pieces: Box<dyn Pieces>) -> io::Result<Bytes> {
    let mut all = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| pieces.poll_next(cx)).await.transpose()? {
        match piece {
            Piece::Bytes(bytes) => all.extend_from_slice(&bytes),
            Piece::File { file, offset, length } => {
                let permit = file.bulkhead().enter().await.map_err(io::Error::other)?;
                let read = spawn_blocking(move || {
                    let _permit = permit;
                    // No more than is coded as a whole.
                    let mut content = vec![0; length as usize];
                    file.get()?.read_exact_at(&mut content, offset).map(|()| content)
                });
                all.extend_from_slice(&read.await.map_err(io::Error::other)??);
            }
        }
    }
    Ok(all.freeze())
}
