//! A table whose keys are taken one by one; what is left at the end is a mistake.

use toml::de::DeTable;

use super::{Context, Value, keys::Keys, suggest::unknown_key};
use crate::config::diagnostic::{Problem, Span};

/// A key that the file chose: a route, an upstream's or a header's name.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// Its text.
    pub text: &'a str,
    start: usize,
    end: usize,
    context: &'a Context<'a>,
}

impl Key<'_> {
    /// Where it stands.
    pub fn span(&self) -> Span {
        self.start..self.end
    }

    /// Notes that the key must be mended.
    pub fn error(&self, problem: Problem) {
        let span = self.context.narrow(&self.span(), self.text, &problem);
        self.context.error(span, problem);
    }

    /// Reads the key as something, noting what is wrong.
    pub fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        parse(self.text).map_err(|problem| self.error(problem)).ok()
    }
}

/// The keys and values of a table, in the order of the file.
pub fn entries<'a>(context: &'a Context<'a>, table: &'a DeTable<'a>) -> Vec<(Key<'a>, Value<'a>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let text = key.get_ref().as_ref();
            let span = key.span();
            (Key { text, start: span.start, end: span.end, context }, Value::new(context, text, value))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.start);
    entries
}

/// A table with a fixed set of keys.
#[must_use = "`finish` complains about keys that are not known"]
pub struct Table<'a> {
    /// What all readers share.
    pub context: &'a Context<'a>,
    /// Where it stands: its header, or its braces.
    pub span: Span,
    keys: &'static Keys,
    left: Vec<(Key<'a>, Value<'a>)>,
}

impl<'a> Table<'a> {
    /// A table that may hold `keys`.
    pub fn new(context: &'a Context<'a>, table: &'a DeTable<'a>, span: Span, keys: &'static Keys) -> Self {
        Self { context, span, keys, left: entries(context, table) }
    }

    /// The value of `key`, which is then no longer here.
    pub fn take(&mut self, key: &str) -> Option<Value<'a>> {
        debug_assert!(self.keys.now.contains(&key), "{key} is not listed in {:?}", self.keys);
        let place = self.left.iter().position(|(left, _)| left.text == key)?;
        Some(self.left.remove(place).1)
    }

    /// Reads the value of `key`; `None` when there is none, or none that can be used (which is noted).
    pub fn optional<T>(&mut self, key: &str, read: impl FnOnce(Value<'a>) -> Option<T>) -> Option<T> {
        self.take(key).and_then(read)
    }

    /// As [`Table::optional`], and notes when there is none.
    pub fn required<T>(
        &mut self,
        key: &str,
        example: &str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.take(key) else {
            // A slip in the key is told by `finish`; twice would confuse.
            if self.unknown().next().is_none() {
                let problem = Problem::new(format!("{} needs `{key}`", self.keys.table), "not in here");
                self.context.error(self.span.clone(), problem.help(format!("add `{key} = {example}`")));
            }
            return None;
        };
        read(value)
    }

    /// The first of `keys` that the table holds, by the place of the key.
    pub fn which(&self, keys: &[&str]) -> Vec<Key<'a>> {
        self.left.iter().map(|(key, _)| *key).filter(|key| keys.contains(&key.text)).collect()
    }

    /// Keys that neither this nor a documented later version knows.
    pub fn unknown(&self) -> impl Iterator<Item = &Key<'a>> {
        let Keys { now, later, .. } = self.keys;
        self.left
            .iter()
            .map(|(key, _)| key)
            .filter(|key| !now.contains(&key.text) && !later.contains(&key.text))
    }

    /// Notes every key that nobody took.
    pub fn finish(self) {
        for (key, _) in &self.left {
            key.error(if self.keys.later.contains(&key.text) {
                Problem::new(
                    format!("`{}` is not available in this version", key.text),
                    "planned, not built yet",
                )
                .help("take it out")
            } else {
                unknown_key(key.text, self.keys)
            });
        }
    }
}
