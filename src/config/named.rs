//! Tables by name, as `[cors.NAME]`, and the keys that name one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{diagnostic::Problem, keys::closest, read::Value};

/// Examples of a kind of tables, for messages.
pub struct Examples {
    /// Name of the kind: `cors`.
    pub kind: &'static str,
    /// A key with a value: `cors = { … }`.
    pub key: &'static str,
    /// A line of a table.
    pub line: &'static str,
}

/// The tables of one kind in a file.
pub struct NamedTables<T> {
    /// Tables without errors, by name.
    pub read: BTreeMap<String, T>,
    /// Names of all, so that an error inside one does not also make its name unknown.
    names: BTreeSet<String>,
}

impl<T> Default for NamedTables<T> {
    fn default() -> Self {
        Self { read: BTreeMap::new(), names: BTreeSet::new() }
    }
}

impl<T> NamedTables<T> {
    /// Reads each table by `read`, which gets its name.
    pub fn read(value: Value<'_>, read: impl Fn(Value<'_>, &str) -> Option<T>) -> Self {
        let entries = value.entries().unwrap_or_default();
        let names = entries.iter().map(|(key, _)| key.text.to_owned()).collect();
        let entries = entries.into_iter();
        let read = entries.filter_map(|(key, value)| Some((key.text.to_owned(), read(value, key.text)?)));
        Self { read: read.collect(), names }
    }

    /// Whether there is a table of this name; an error at `value` says that there is none.
    pub fn has(&self, value: Value<'_>, name: &str, examples: &Examples) -> bool {
        let is_known = self.names.contains(name);
        if !is_known {
            let Examples { kind, line, .. } = examples;
            let problem = Problem::new(format!("there is no `[{kind}.{name}]`"), "not defined");
            value.error(problem.help(match closest(name, self.names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near:?}`?"),
                None => format!("add:\n[{kind}.{name}]\n{line}"),
            }));
        }
        is_known
    }

    /// Reads a key with a table in place, which `read` reads, the name of a table, of which `use_table` makes the same, or
    /// `"none"`; `Some(None)` is none.
    pub fn choose<R>(
        &self,
        value: Value<'_>,
        examples: &Examples,
        read: impl FnOnce(Value<'_>) -> Option<R>,
        use_table: impl FnOnce(&T) -> R,
    ) -> Option<Option<R>> {
        if value.as_table().is_some() {
            return read(value).map(Some);
        }
        let name = value.string_like(examples.key)?;
        if name == "none" {
            return Some(None);
        }
        if !self.has(value, name, examples) {
            return None;
        }
        self.read.get(name).map(|table| Some(use_table(table)))
    }
}
