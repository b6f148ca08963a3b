//! Open files that are read and closed with permits of their bulkhead.

use std::{fmt, fs::File, io, sync::Arc};

use rustix::io::Errno;
use tokio::runtime::Handle;

use super::{Bulkhead, mounts};

/// An open file that belongs to a bulkhead. Closing it may wait for a file server (FUSE flushes, NFSv4 returns its
/// state), so a file that is not on a local disk is closed by a thread of the blocking pool.
pub struct OpenFile {
    /// Empty only during drop.
    file: Option<File>,
    bulkhead: Arc<Bulkhead>,
    closes_here: bool,
}

impl OpenFile {
    /// Takes over a file of the file system `device`.
    pub fn new(file: File, device: u64, bulkhead: Arc<Bulkhead>) -> Self {
        Self { file: Some(file), bulkhead, closes_here: mounts::is_local(device) }
    }

    /// Reference to the file.
    ///
    /// # Errors
    ///
    /// Never while the value is in use.
    pub fn get(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| Errno::BADF.into())
    }

    /// Bulkhead whose permits are needed to read the file.
    pub fn bulkhead(&self) -> &Arc<Bulkhead> {
        &self.bulkhead
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let Some(file) = self.file.take().filter(|_| !self.closes_here) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let bulkhead = Arc::clone(&self.bulkhead);
        match bulkhead.try_enter() {
            Some(permit) => {
                runtime.spawn_blocking(move || drop((file, permit)));
            }
            None => {
                runtime.spawn(async move {
                    let permit = bulkhead.wait().await;
                    tokio::task::spawn_blocking(move || drop((file, permit)));
                });
            }
        }
    }
}
