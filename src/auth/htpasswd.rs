//! A file of users, read again when it changes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;

use crate::{
    bulkhead::{FileLook, lock},
    config::{Users, read_htpasswd},
};

/// A file of users.
#[derive(Debug)]
pub(crate) struct Htpasswd {
    path: PathBuf,
    users: ArcSwap<Users>,
    /// Version that was read last.
    version: Mutex<Option<Version>>,
    look: Arc<FileLook>,
}

/// Properties that tell a version of the file: device, inode, size, and times of modification and change.
type Version = (u64, u64, u64, i64, i64);

impl Htpasswd {
    /// A file whose users have just been read.
    pub(crate) fn new(path: PathBuf, users: Arc<Users>) -> Arc<Self> {
        let users = ArcSwap::new(users);
        Arc::new(Self { path, users, version: Mutex::default(), look: Arc::default() })
    }

    /// The users, after a look at the file if the last one was more than a second ago.
    pub(crate) async fn users(self: &Arc<Self>) -> Arc<Users> {
        let file = Arc::clone(self);
        self.look.refresh(move || file.reread()).await;
        self.users.load_full()
    }

    fn reread(&self) {
        let mut version = lock(&self.version);
        match read(&self.path, *version) {
            Ok(Some((read, users))) => {
                self.users.store(Arc::new(users));
                *version = Some(read);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the file of passwords cannot be read; the last users count");
            }
        }
    }
}

/// Reads the file unless its version is known.
fn read(path: &Path, known: Option<Version>) -> io::Result<Option<(Version, Users)>> {
    let found = fs::metadata(path)?;
    let version = (
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime_nsec() + found.mtime() * 1_000_000_000,
        found.ctime_nsec() + found.ctime() * 1_000_000_000,
    );
    if known == Some(version) {
        return Ok(None);
    }
    let (users, wrong) = read_htpasswd(&fs::read_to_string(path)?);
    for (line, reason) in wrong {
        tracing::warn!("{}:{line}: {reason}", path.display());
    }
    Ok(Some((version, users)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FRESH: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        fs::write(&path, "anna:{PLAIN}a\n").unwrap();
        let file = Htpasswd::new(path.clone(), Arc::default());
        tokio::time::advance(FRESH).await;
        assert!(file.users().await.contains_key("anna"));
        fs::write(&path, "bob:{PLAIN}b\n").unwrap();
        assert!(file.users().await.contains_key("anna"), "looked at just now");
        tokio::time::advance(FRESH).await;
        assert!(file.users().await.contains_key("bob"));
        fs::remove_file(&path).unwrap();
        tokio::time::advance(FRESH).await;
        assert!(file.users().await.contains_key("bob"), "the last users count");
    }
}
