//! Maps in JSON: `{ "KEY": { "token": …, "host": …, "port": …, "info": {…} } }`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::row::Row;

/// Reads the entries. `port` may be a string, and `info` the text of an object.
pub(super) fn read(text: &str) -> Result<Vec<Row>, serde_json::Error> {
    let entries: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(text)?;
    let row = |(key, mut entry): (String, BTreeMap<String, Value>)| {
        let mut take = |name: &str| entry.remove(name).and_then(plain);
        Row {
            key,
            token: take("token"),
            host: take("host"),
            port: take("port").and_then(|port| port.parse().ok()),
            info: take("info"),
        }
    };
    Ok(entries.into_iter().map(row).collect())
}

/// A value as text: strings as they are, anything else as JSON.
fn plain(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let text = r#"{
            "a": { "key_type": "interactivetoolentrypoint", "token": "one", "host": "node", "port": 8888, "info": null },
            "b": { "token": "two", "host": "node", "port": "9", "info": { "requires_path_in_url": true } },
            "c": { "info": "{\"requires_path_in_url\": true}" }
        }"#;
        let rows = read(text).unwrap();
        assert_eq!(
            (rows[0].token.as_deref(), rows[0].port, rows[0].info.as_deref()),
            (Some("one"), Some(8888), None)
        );
        assert_eq!(rows[1].port, Some(9));
        assert_eq!(rows[1].info.as_deref(), Some(r#"{"requires_path_in_url":true}"#));
        assert_eq!(rows[2].info.as_deref(), Some(r#"{"requires_path_in_url": true}"#));
        for bad in ["", "[]", "{", r#"{"a": 1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
