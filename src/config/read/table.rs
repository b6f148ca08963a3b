//! A table whose keys are taken one by one. Keys left at the end are unknown, and errors.

use toml::de::DeTable;

use super::{Context, Value};
use crate::config::{
    diagnostic::{Problem, Span},
    keys::{Defaulted, Described, Key, Keys, Optional, Reads, unknown_key},
};

/// A key that the file chose: the name of a route, an upstream or a header.
#[derive(Clone, Copy)]
pub struct FileKey<'a> {
    /// Text of the key.
    pub text: &'a str,
    start: usize,
    end: usize,
    context: &'a Context<'a>,
}

impl FileKey<'_> {
    /// Place of the key.
    pub fn span(&self) -> Span {
        self.start..self.end
    }

    /// Notes an error at the key.
    pub fn error(&self, problem: Problem) {
        let span = self.context.narrow(&self.span(), self.text, &problem);
        self.context.error(span, problem);
    }

    /// Parses the key, and notes an error when that fails.
    pub fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        parse(self.text).map_err(|problem| self.error(problem)).ok()
    }
}

/// The keys and values of a table, in the order of the file.
pub fn entries<'a>(
    context: &'a Context<'a>,
    table: &'a DeTable<'a>,
    example: &'a str,
) -> Vec<(FileKey<'a>, Value<'a>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let text = key.get_ref().as_ref();
            let span = key.span();
            (
                FileKey { text, start: span.start, end: span.end, context },
                Value::new(context, text, example, value),
            )
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.start);
    entries
}

/// A table with a fixed set of keys.
#[must_use = "`finish` reports unknown keys"]
pub struct Table<'a> {
    /// State shared by the readers of the file.
    pub context: &'a Context<'a>,
    /// Place of the table: its header, or its braces.
    pub span: Span,
    keys: &'static Keys,
    remaining: Vec<(FileKey<'a>, Value<'a>)>,
}

impl<'a> Table<'a> {
    /// A table that may hold `keys`.
    pub fn new(context: &'a Context<'a>, table: &'a DeTable<'a>, span: Span, keys: &'static Keys) -> Self {
        Self { context, span, keys, remaining: entries(context, table, "") }
    }

    /// A table that is absent from the file: so is every key.
    pub fn absent(context: &'a Context<'a>, keys: &'static Keys) -> Self {
        Self { context, span: 0..0, keys, remaining: Vec::new() }
    }

    /// Takes the value of a key out of the table.
    ///
    /// # Panics
    ///
    /// With debug assertions, when `key` is not listed among the keys of this table.
    pub fn take(&mut self, key: &'static dyn Described) -> Option<Value<'a>> {
        debug_assert!(
            self.keys.iter().any(|listed| std::ptr::addr_eq(listed, key)),
            "`{}` is read and not listed among the keys of {}",
            key.name(),
            self.keys.title
        );
        let place = self.remaining.iter().position(|(taken, _)| taken.text == key.name())?;
        Some(self.remaining.remove(place).1.with_example(key.example_value()))
    }

    /// Reads a key that has a default.
    pub fn read<K>(&mut self, key: &'static Defaulted<K>) -> K::Value
    where
        K: Reads + Sync,
        K::Value: 'static,
    {
        self.take(key).and_then(|value| key.kind.read(value)).unwrap_or_else(key.default.0)
    }

    /// Reads a key that may be absent; `None` when it is, or when its value is wrong (which is noted).
    pub fn optional<K: Reads + Sync>(&mut self, key: &'static Optional<K>) -> Option<K::Value> {
        self.take(key).and_then(|value| key.kind.read(value))
    }

    /// Reads a key that must be present, and notes an error when it is not.
    pub fn required<K, D>(&mut self, key: &'static Key<K, D>) -> Option<K::Value>
    where
        K: Reads,
        Key<K, D>: Described,
    {
        self.take_required(key).and_then(|value| key.kind.read(value))
    }

    /// Takes the value of a key that must be present, and notes an error when it is not.
    pub fn take_required(&mut self, key: &'static dyn Described) -> Option<Value<'a>> {
        let value = self.take(key);
        // A misspelt key is reported by `finish`; a second error would confuse.
        if value.is_none() && self.unknown().next().is_none() {
            let name = key.name();
            let problem = Problem::new(format!("{} needs `{name}`", self.keys.title), "missing here");
            let help = format!("add `{name} = {}`", key.example_value());
            self.context.error(self.span.clone(), problem.help(help));
        }
        value
    }

    /// Place of a key in the file, if it has not been taken.
    pub fn place_of(&self, key: &dyn Described) -> Option<FileKey<'a>> {
        self.remaining.iter().map(|(key, _)| *key).find(|present| present.text == key.name())
    }

    /// Whether a key is present and has not been taken.
    pub fn has(&self, key: &dyn Described) -> bool {
        self.place_of(key).is_some()
    }

    /// The given keys that are present and have not been taken, in the order of the file.
    pub fn present(&self, keys: &[&'static dyn Described]) -> Vec<FileKey<'a>> {
        let listed = |present: &FileKey<'_>| keys.iter().any(|key| key.name() == present.text);
        self.remaining.iter().map(|(key, _)| *key).filter(listed).collect()
    }

    /// Keys unknown both to this version and to the documented later ones.
    pub fn unknown(&self) -> impl Iterator<Item = &FileKey<'a>> {
        let known = |text| self.keys.find(text).is_some() || self.keys.later.contains(&text);
        self.remaining.iter().map(|(key, _)| key).filter(move |key| !known(key.text))
    }

    /// Notes every key that has not been taken.
    pub fn finish(self) {
        for (key, _) in &self.remaining {
            key.error(if self.keys.later.contains(&key.text) {
                Problem::new(
                    format!("`{}` is not available in this version", key.text),
                    "planned, not implemented yet",
                )
                .help("remove it")
            } else {
                unknown_key(key.text, self.keys)
            });
        }
    }
}
