//! A value with its place: string, number, list or table, or an error that names the expected type.

use std::{ops::RangeInclusive, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Context, Table,
    table::{FileKey, entries},
};
use crate::config::{
    diagnostic::{Problem, Span, one_of, show},
    keys::{Keys, closest},
    units,
};

/// A value of the file.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// State shared by the readers of the file.
    pub context: &'a Context<'a>,
    /// The key that the value belongs to.
    pub name: &'a str,
    /// A valid value of the key, in TOML.
    pub example: &'a str,
    node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// The value of the key `name`.
    pub fn new(
        context: &'a Context<'a>,
        name: &'a str,
        example: &'a str,
        node: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        Self { context, name, example, node }
    }

    /// The value with another example.
    pub fn with_example(self, example: &'a str) -> Self {
        Self { example, ..self }
    }

    /// The key with its example, in TOML.
    pub fn example(&self) -> String {
        format!("{} = {}", self.name, self.example)
    }

    /// Place of the value.
    pub fn span(&self) -> Span {
        self.node.span()
    }

    /// Notes an error at the value.
    pub fn error(&self, problem: Problem) {
        let span = self.context.narrow(&self.span(), self.as_str().unwrap_or_default(), &problem);
        self.context.error(span, problem);
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        self.node.get_ref().as_str()
    }

    /// The text of an integer and its base, if it is one.
    pub fn as_integer(&self) -> Option<(&'a str, u32)> {
        self.node.get_ref().as_integer().map(|integer| (integer.as_str(), integer.radix()))
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        self.node.get_ref().as_bool()
    }

    /// The raw table, if it is one.
    pub fn as_table(&self) -> Option<&'a DeTable<'a>> {
        self.node.get_ref().as_table()
    }

    /// The items of a list, if it is one.
    pub fn as_list(&self) -> Option<Vec<Self>> {
        let items = self.node.get_ref().as_array()?;
        Some(items.iter().map(|node| Self { node, ..*self }).collect())
    }

    /// Notes that the value is not what is expected, such as `a string`; the example is TOML.
    pub fn expected<T>(&self, what: &str, example: &str) -> Option<T> {
        let is = match self.node.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let problem = Problem::new(format!("{} must be {what}", show(self.name)), format!("this is {is}"));
        self.error(problem.help(format!("write for example `{example}`")));
        None
    }

    /// Parses a string of the value, and notes an error when that fails.
    pub fn parse<T>(self, text: &str, parse: impl FnOnce(&str) -> Result<T, Problem>) -> Option<T> {
        parse(text).map_err(|problem| self.error(problem)).ok()
    }

    /// A table with a fixed set of keys.
    pub fn table(self, keys: &'static Keys) -> Option<Table<'a>> {
        match self.as_table() {
            Some(table) => Some(Table::new(self.context, table, self.span(), keys)),
            None if self.example.is_empty() => self.expected("a table", keys.header()),
            None => self.expected("a table", &self.example()),
        }
    }

    /// A table whose keys the file chooses, in the order of the file.
    pub fn entries(self) -> Option<Vec<(FileKey<'a>, Self)>> {
        match self.as_table() {
            Some(table) => Some(entries(self.context, table, self.example)),
            None => self.expected("a table", &self.example()),
        }
    }

    /// A list.
    pub fn list(self) -> Option<Vec<Self>> {
        self.as_list().or_else(|| match self.as_str() {
            Some(text) => self.expected("a list", &format!("{} = [{text:?}]", self.name)),
            None => self.expected("a list", &self.example()),
        })
    }

    /// Any string.
    pub fn string(self) -> Option<&'a str> {
        self.string_like(&self.example())
    }

    /// Any string; the example is TOML.
    pub fn string_like(self, example: &str) -> Option<&'a str> {
        self.as_str().or_else(|| match self.as_integer() {
            Some((number, _)) => self.expected("a string", &format!("{} = \"{number}\"", self.name)),
            None => self.expected("a string", example),
        })
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Option<bool> {
        self.as_bool()
            .or_else(|| self.expected("true or false, without quotes", &format!("{} = true", self.name)))
    }

    /// A duration that may be zero to disable something.
    pub fn duration(self) -> Option<Duration> {
        if let Some(text @ ("off" | "none" | "no" | "never")) = self.as_str() {
            let problem = Problem::new(format!("{} is not a duration", show(text)), "a word");
            self.error(problem.help(format!("write `{} = \"0s\"`", self.name)));
            return None;
        }
        self.any_duration()
    }

    fn any_duration(self) -> Option<Duration> {
        if let Some((number, 10)) = self.as_integer() {
            return self.expected("a string with a unit", &format!("{} = \"{number}s\"", self.name));
        }
        self.parse(self.string_like(&format!("{} = \"30s\"", self.name))?, units::duration)
    }

    /// A duration greater than zero.
    pub fn time(self) -> Option<Duration> {
        let duration = self.any_duration()?;
        if duration.is_zero() {
            let problem = Problem::new(format!("`{}` must not be zero", self.name), "must be more than zero");
            self.error(problem.help(format!("write for example `{} = \"30s\"`", self.name)));
            return None;
        }
        Some(duration)
    }

    /// A size in bytes, `Some(None)` for no limit.
    pub fn size(self) -> Option<Option<u64>> {
        if let Some((number, 10)) = self.as_integer() {
            let number = number.parse().ok().filter(|number| *number > 0);
            let size = number.map_or_else(|| "1g".into(), |number| units::show_size(Some(number)));
            return self.expected("a string with a unit", &format!("{} = {size:?}", self.name));
        }
        self.parse(self.string_like(&format!("{} = \"1g\"", self.name))?, units::size)
    }

    /// A share in percent.
    pub fn share(self) -> Option<u32> {
        if let Some((number, 10)) = self.as_integer() {
            return self.expected("a string with `%`", &format!("{} = \"{number}%\"", self.name));
        }
        self.parse(self.string_like(&format!("{} = \"20%\"", self.name))?, units::share)
    }

    /// The value, unless it is a word that has a `problem` of its own.
    pub fn unless(self, problem: impl FnOnce(&str) -> Option<Problem>) -> Option<Self> {
        match self.as_str().and_then(problem) {
            Some(problem) => {
                self.error(problem);
                None
            }
            None => Some(self),
        }
    }

    /// A choice of words; the words of `later` are documented and not yet implemented.
    pub fn choice<T: Clone>(self, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let example = format!("{} = \"{}\"", self.name, names.first().copied().unwrap_or_default());
        let text = self.string_like(&example)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let here = |word: &str| *word == *text || (word.ends_with(':') && text.starts_with(word));
        self.error(if later.iter().any(|word| here(word)) {
            let title = format!("`{}` = {} is not available in this version", self.name, show(text));
            Problem::new(title, "planned, not implemented yet").help(format!("write {}", one_of(&names)))
        } else {
            let title = format!("{} is not a value of `{}`", show(text), self.name);
            Problem::new(title, "unknown").help(match closest(text, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {}", one_of(&names)),
            })
        });
        None
    }
}

/// Reader of strings, by a parser.
pub fn text<'a, T>(parse: impl Fn(&str) -> Result<T, Problem>) -> impl Fn(Value<'a>) -> Option<T> {
    move |value| value.parse(value.string()?, &parse)
}

/// Reader of integers in a range.
pub fn integer<'a>(range: RangeInclusive<u32>) -> impl Fn(Value<'a>) -> Option<u32> {
    move |value| {
        let (low, high) = (range.start(), range.end());
        let Some((number, radix)) = value.as_integer() else {
            let example = match value.as_str().and_then(|text| text.parse().ok()) {
                Some(number) if range.contains(&number) => number,
                _ => 4.clamp(*low, *high),
            };
            return value.expected("an integer, without quotes", &format!("{} = {example}", value.name));
        };
        match u32::from_str_radix(number, radix) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let title = format!("`{}` is out of range", value.name);
                let label = match high {
                    &u32::MAX => format!("must be {low} or more"),
                    _ => format!("must be from {low} to {high}"),
                };
                value.error(Problem::new(title, label));
                None
            }
        }
    }
}
