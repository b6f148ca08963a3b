//! Maps in files, and how a change of one is noticed.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{json, row::Row, sqlite};

/// Most entries of a map.
pub(super) const MOST_ENTRIES: usize = 100_000;

/// Most bytes of a map in JSON.
const MOST_BYTES: u64 = 64 << 20;

/// Age from which the time of a file tells whether it has changed: another change within the same tick of the clock would
/// leave no trace.
const SETTLED: Duration = Duration::from_millis(1500);

/// Error that keeps a map from being read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The system's error.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The error of SQLite.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file is not the JSON that it should be.
    #[error("not a map in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The error of PostgreSQL.
    #[cfg(feature = "postgres")]
    #[error("{0}")]
    Postgres(String),
}

/// Kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Sqlite,
    Json,
}

/// A map in a file.
#[derive(Debug)]
pub(super) struct MapFile {
    path: PathBuf,
    kind: FileKind,
    /// Stamps of the files at the last reading; `None` when they must be read again.
    read: Option<Vec<Stamp>>,
}

/// What changes when a file is written: device, inode, size, times of its content and of itself.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

impl MapFile {
    pub(super) fn new(path: PathBuf, kind: FileKind) -> Self {
        Self { path, kind, read: None }
    }

    /// Reads the map if it has changed since the last reading. Blocks.
    pub(super) fn read_if_changed(&mut self) -> Option<Result<Vec<Row>, ReadError>> {
        let stamps = self.stamps();
        if self.read.as_ref() == Some(&stamps) {
            return None;
        }
        let result = self.read();
        // A failure may pass without a change of the file: of its permissions, of a lock.
        let keeps = result.is_ok() && stamps.iter().all(is_settled);
        self.read = keeps.then_some(stamps);
        Some(result)
    }

    fn read(&self) -> Result<Vec<Row>, ReadError> {
        match self.kind {
            FileKind::Sqlite => Ok(sqlite::read(&self.path, MOST_ENTRIES)?),
            FileKind::Json => {
                let mut text = String::new();
                fs::File::open(&self.path)?.take(MOST_BYTES).read_to_string(&mut text)?;
                Ok(json::read(&text)?)
            }
        }
    }

    /// Stamps of the file, and of those in which SQLite keeps changes that are not in it yet.
    fn stamps(&self) -> Vec<Stamp> {
        let beside = |end: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(end);
            stamp(Path::new(&name))
        };
        match self.kind {
            FileKind::Sqlite => vec![stamp(&self.path), beside("-wal"), beside("-journal")],
            FileKind::Json => vec![stamp(&self.path)],
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let about = fs::metadata(path).ok()?;
    let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
    Some((about.dev(), about.ino(), about.size(), times))
}

/// Whether a later change is seen in the stamp.
fn is_settled(stamp: &Stamp) -> bool {
    let Some((.., [seconds, _, changed, _])) = *stamp else { return true };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let last = Duration::from_secs(seconds.max(changed).max(0).unsigned_abs());
    now.saturating_sub(last) > SETTLED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_again_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.json");
        let mut map = MapFile::new(path.clone(), FileKind::Json);
        assert!(map.read_if_changed().unwrap().is_err(), "missing");
        assert!(map.read_if_changed().unwrap().is_err(), "looked for until it is there");
        fs::write(&path, r#"{"a": {}}"#).unwrap();
        assert_eq!(map.read_if_changed().unwrap().unwrap().len(), 1);
        let old = SystemTime::now() - Duration::from_secs(60);
        map.read = Some(map.stamps());
        assert!(map.read_if_changed().is_none(), "unchanged");
        fs::write(&path, r#"{"a": {}, "b": {}}"#).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(map.read_if_changed().unwrap().unwrap().len(), 2, "although its time is old");
        fs::write(&path, "{").unwrap();
        assert!(map.read_if_changed().unwrap().is_err());
    }

    #[test]
    fn a_change_within_the_tick_of_another_one_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.json");
        fs::write(&path, r#"{"a": {}}"#).unwrap();
        let mut map = MapFile::new(path, FileKind::Json);
        assert!(map.read_if_changed().is_some());
        assert!(map.read_if_changed().is_some(), "as its time is not settled yet");
    }
}
