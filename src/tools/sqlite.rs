//! Maps in SQLite: Galaxy's table `gxitproxy`.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, types::ValueRef};

use super::row::Row;

/// Longest wait for Galaxy to end its writing.
const BUSY: Duration = Duration::from_millis(500);

/// The entries. Galaxy keeps them as `gxitproxy(key, key_type, token, host, port, info)`.
const ENTRIES: &str = "SELECT key, token, host, port, info FROM gxitproxy";

/// Reads the entries of a database, which blocks. One without the table has no tools yet.
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<Row>, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(BUSY)?;
    let has_table =
        "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND name = 'gxitproxy'";
    if database.query_row(has_table, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(Vec::new());
    }
    let mut entries = database.prepare(ENTRIES)?;
    let rows = entries.query_map([], |row| {
        Ok(Row {
            key: text(row.get_ref(0)?).unwrap_or_default(),
            token: text(row.get_ref(1)?),
            host: text(row.get_ref(2)?),
            port: text(row.get_ref(3)?).and_then(|port| port.parse().ok()),
            info: text(row.get_ref(4)?),
        })
    })?;
    rows.take(most).collect()
}

/// A value as text: a column of SQLite may hold any type.
fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_whatever_their_types() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.sqlite");
        let database = Connection::open(&path).unwrap();
        assert!(read(&path, 9).unwrap().is_empty(), "no table yet");
        let script = "CREATE TABLE gxitproxy (key text, key_type text, token text, host text, port integer, info text, \
                      PRIMARY KEY (key, key_type));
                      INSERT INTO gxitproxy VALUES ('a', 'interactivetoolentrypoint', 'one', 'node', 8888, NULL);
                      INSERT INTO gxitproxy VALUES ('b', 'interactivetoolentrypoint', 2, NULL, '9', x'00');";
        database.execute_batch(script).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let first =
            Row { key: "a".into(), token: text("one"), host: text("node"), port: Some(8888), info: None };
        let second = Row { key: "b".into(), token: text("2"), host: None, port: Some(9), info: None };
        assert_eq!(read(&path, 9).unwrap(), [first, second]);
        assert_eq!(read(&path, 1).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.sqlite");
        assert!(read(&path, 9).is_err(), "no file, and none is made");
        assert!(!path.exists());
        std::fs::write(
            &path,
            "{\"this\": \"is JSON, and long enough to have the size of a header\"}".repeat(9),
        )
        .unwrap();
        assert!(read(&path, 9).is_err());
    }
}
