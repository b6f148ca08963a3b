//! Opening a site's own page for an error.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    exchange::serve_files,
    files::{FileRequest, Missing, Opened},
    site::PageFiles,
};

/// Longest wait for a page of the site: longer than a disk takes to start turning, and than a file server's
/// hiccup lasts. After that, which may be never, a page of ours tells it as much.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest wait after a failed try: enough for a page that is there again.
const AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// Opens a page, or finds it open.
pub(crate) async fn open(pages: &PageFiles, path: &Path) -> Result<Arc<Opened>, Missing> {
    let wanted = FileRequest::file(path.into());
    if let Some(opened) = pages.files.fresh(&wanted) {
        return Ok(opened);
    }
    let unreadable = |source| Missing::Unreadable { path: path.into(), source };
    let opening = async {
        let turn = Arc::clone(&pages.turn).lock_owned().await;
        let files = Arc::clone(&pages.files);
        // It cannot be stopped: until it ends, whoever waits for it or not, nobody else tries.
        let task = tokio::spawn(async move {
            let opened = serve_files::open(&files, &wanted).await;
            drop(turn);
            opened
        });
        task.await.unwrap_or_else(|panic| Err(unreadable(io::Error::other(panic))))
    };
    let patience = if pages.trouble.load(Ordering::Relaxed) { AFTER_TROUBLE } else { PATIENCE };
    let opened = timeout(patience, opening)
        .await
        .unwrap_or_else(|_| Err(unreadable(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"))));
    pages.trouble.store(opened.is_err(), Ordering::Relaxed);
    opened
}
