//! Values of TOML, kept in the order in which a person would write them, and their text.

use crate::config::quote;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
    /// A boolean.
    Flag(bool),
    /// An array.
    List(Vec<Value>),
    /// An inline table.
    Table(Table),
}

/// Keys with their values, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(pub Vec<(String, Value)>);

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Table> for Value {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl Table {
    /// A table with one key.
    pub fn of(key: &str, value: impl Into<Value>) -> Self {
        let mut table = Self::default();
        table.set(key, value);
        table
    }

    /// Sets a key; an existing one keeps its place.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// Sets a key if there is a value.
    pub fn set_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys one to a line, their equals signs aligned.
    pub fn lines(&self) -> String {
        let keys: Vec<String> = self.0.iter().map(|(key, _)| self::key(key)).collect();
        let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or_default();
        let lines = keys
            .iter()
            .zip(&self.0)
            .map(|(key, (_, value))| format!("{key:width$} = {}\n", value.written(width + 3)));
        lines.collect()
    }
}

impl Value {
    /// A list, or its only item alone.
    pub fn one_or_more(mut items: Vec<Self>) -> Self {
        match items.len() {
            1 => items.remove(0),
            _ => Self::List(items),
        }
    }

    /// The value on one line.
    pub fn inline(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::inline).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Table(table) => {
                let pairs: Vec<String> = table
                    .0
                    .iter()
                    .map(|(name, value)| format!("{} = {}", key(name), value.inline()))
                    .collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }

    /// The value behind `indent` columns: a list that is too long for a line has a line for each item.
    fn written(&self, indent: usize) -> String {
        let inline = self.inline();
        match self {
            Self::List(items) if indent + inline.len() > WIDTH => {
                let items: String = items.iter().map(|item| format!("    {},\n", item.inline())).collect();
                format!("[\n{items}]")
            }
            _ => inline,
        }
    }
}

/// Widest line that a list may fill.
pub const WIDTH: usize = 118;

/// A key, in quotes if it needs them.
pub fn key(key: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.into(),
        false => quote(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["", "a", "a\"b", r"^\d+$", "it's \"x\"", "tab\tnew\nline", "'", r"\'", "é", "\u{1}"] {
            let table = Table::of(text, text);
            let read: toml::Table = table.lines().parse().expect(text);
            assert_eq!(read.get(text).and_then(|value| value.as_str()), Some(text), "{}", table.lines());
        }
    }

    #[test]
    fn keys_are_aligned_and_long_lists_are_broken() {
        let mut table = Table::of("a", 1);
        table.set("long", vec!["x".repeat(60), "y".repeat(60)]);
        let (x, y) = ("x".repeat(60), "y".repeat(60));
        assert_eq!(table.lines(), format!("a    = 1\nlong = [\n    \"{x}\",\n    \"{y}\",\n]\n"));
        assert_eq!(Value::from(Table::of("b c", true)).inline(), "{ \"b c\" = true }");
    }
}
