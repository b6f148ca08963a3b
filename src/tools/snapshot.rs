//! The tools of a map at one time.

use std::{collections::HashMap, sync::Arc};

use subtle::ConstantTimeEq;

use super::{
    address::ToolAddress,
    row::{Entry, Row},
    tool::Tool,
};

/// The tools of a map at one time, by key.
#[derive(Default)]
pub(super) struct Snapshot {
    by_key: HashMap<String, Vec<Arc<Tool>>>,
}

impl Snapshot {
    /// Arranges the entries of a map. Tools that `before` had as well are kept, those that are gone end. Also returns what is
    /// wrong with entries that are left out.
    pub(super) fn new(rows: Vec<Row>, before: Option<&Self>) -> (Self, Vec<String>) {
        let mut next = Self::default();
        let mut wrong = Vec::new();
        for row in rows {
            let key = row.key.clone();
            match Entry::try_from(row) {
                Ok(entry) => {
                    let known =
                        before.and_then(|before| before.tools(&entry.key).find(|tool| tool.entry == entry));
                    let tool = known.cloned().unwrap_or_else(|| Arc::new(Tool::new(entry)));
                    next.by_key.entry(key).or_default().push(tool);
                }
                Err(reason) => wrong.push(format!("{key:?}: {reason}")),
            }
        }
        for tool in before.into_iter().flat_map(|before| before.by_key.values().flatten()) {
            if !next.tools(&tool.entry.key).any(|stays| Arc::ptr_eq(stays, tool)) {
                tool.end();
            }
        }
        (next, wrong)
    }

    /// Number of tools.
    pub(super) fn len(&self) -> usize {
        self.by_key.values().map(Vec::len).sum()
    }

    /// Finds a tool. How long the comparison of tokens takes does not tell how much of one was right.
    pub(super) fn find(&self, address: ToolAddress<'_>) -> Option<&Arc<Tool>> {
        self.tools(address.key)
            .find(|tool| tool.entry.token.as_bytes().ct_eq(address.token.as_bytes()).into())
    }

    fn tools(&self, key: &str) -> impl Iterator<Item = &Arc<Tool>> {
        self.by_key.get(key).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, token: &str, port: i64) -> Row {
        let host = Some("127.0.0.1".to_owned());
        Row { key: key.into(), token: Some(token.into()), host, port: Some(port), info: None }
    }

    #[test]
    fn a_tool_is_found_by_its_key_and_its_token() {
        let (snapshot, wrong) =
            Snapshot::new(vec![row("a", "one", 1), row("b", "two", 2), row("b", "three", 3)], None);
        assert!(wrong.is_empty());
        let port =
            |key, token| snapshot.find(ToolAddress { key, token }).map(|tool| tool.entry.server.to_string());
        assert_eq!(port("a", "one").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(port("b", "three").as_deref(), Some("127.0.0.1:3"));
        for (key, token) in [("a", "two"), ("a", "on"), ("a", "onee"), ("a", ""), ("c", "one"), ("", "")] {
            assert_eq!(port(key, token), None, "{key} {token}");
        }
    }

    #[test]
    fn tools_that_have_not_changed_stay_the_same() {
        let (first, _) = Snapshot::new(vec![row("a", "one", 1), row("b", "two", 2)], None);
        let (second, wrong) =
            Snapshot::new(vec![row("a", "one", 1), row("b", "two", 3), row("", "x", 4)], Some(&first));
        let tool =
            |snapshot: &Snapshot, key, token| Arc::clone(snapshot.find(ToolAddress { key, token }).unwrap());
        assert!(Arc::ptr_eq(&tool(&first, "a", "one"), &tool(&second, "a", "one")));
        assert!(!Arc::ptr_eq(&tool(&first, "b", "two"), &tool(&second, "b", "two")));
        assert_eq!((second.len(), wrong.len()), (2, 1), "{wrong:?}");
    }
}
