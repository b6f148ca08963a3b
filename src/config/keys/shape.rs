//! The form of a value: in words for people, as JSON Schema for programs.

use serde_json::{Value as Json, json};

use super::{Keys, tree::slug};
use crate::config::diagnostic::comma_or;

/// The form of a value.
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// An integer within bounds; a high bound of [`u32::MAX`] is none.
    Integer(u32, u32),
    /// A string.
    Text(TextShape),
    /// A choice of strings.
    Words(Vec<&'static str>),
    /// A choice of integers.
    Numbers(&'static [u16]),
    /// A list.
    List(Box<Self>),
    /// Alternative forms.
    Either(Vec<Self>),
    /// A table with fixed keys.
    Table(&'static Keys),
    /// A table whose keys the file chooses.
    Map {
        /// A key, in capitals.
        name: &'static str,
        /// The values.
        values: Box<Self>,
    },
}

/// The form of a string.
#[derive(Debug, Clone, Copy)]
pub struct TextShape {
    /// The form in words, such as "absolute path".
    pub what: &'static str,
    /// A regular expression (ECMA 262) that every good value fits; some bad ones may fit too.
    pub pattern: &'static str,
}

/// Any string.
pub const STRING: TextShape = TextShape { what: "string", pattern: "" };
/// A duration.
pub const DURATION: TextShape = TextShape {
    what: "duration: `\"500ms\"`, `\"30s\"`, `\"10m\"`, `\"1h30m\"`, `\"7d\"`",
    pattern: "^([0-9]+(ms|s|m|h|d))+$",
};
/// A size in bytes, or no limit.
pub const SIZE: TextShape = TextShape {
    what: "size in bytes: `\"512k\"`, `\"8m\"`, `\"1g\"` (1k is 1024), or `\"none\"` for no limit",
    pattern: "^(none|([0-9]+[bBkKmMgGtT])+)$",
};
/// A size in bytes.
pub const BYTES: TextShape = TextShape {
    what: "size in bytes: `\"512k\"`, `\"8m\"`, `\"1g\"` (1k is 1024)",
    pattern: "^([0-9]+[bBkKmMgGtT])+$",
};
/// A share in percent.
pub const SHARE: TextShape = TextShape { what: "share: `\"0%\"` to `\"100%\"`", pattern: "^[0-9]{1,3}%$" };
/// An absolute path.
pub const PATH: TextShape = TextShape { what: "absolute path", pattern: "^/" };

impl Shape {
    /// A list of values of this form.
    pub fn list(self) -> Self {
        Self::List(Box::new(self))
    }

    /// A value of this form, or a list of such values.
    pub fn one_or_more(of: impl Fn() -> Self) -> Self {
        Self::Either(vec![of(), of().list()])
    }

    /// A table of values of this form, by names that the file chooses.
    pub fn by(self, name: &'static str) -> Self {
        Self::Map { name, values: Box::new(self) }
    }

    /// The form in words, in Markdown.
    pub fn words(&self) -> String {
        match self {
            Self::Boolean => "`true` or `false`".into(),
            Self::Integer(low, u32::MAX) => format!("integer, {low} or more"),
            Self::Integer(low, high) => format!("integer from {low} to {high}"),
            Self::Text(text) => text.what.into(),
            Self::Words(words) => {
                comma_or(&words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>())
            }
            Self::Numbers(numbers) => comma_or(&numbers.iter().map(u16::to_string).collect::<Vec<_>>()),
            Self::List(of) => match &**of {
                Self::Table(_) => "list of tables".into(),
                of => format!("list: {}", of.words()),
            },
            Self::Either(forms) => match forms.as_slice() {
                [one, Self::List(of)] if of.words() == one.words() => format!("{}; or a list", one.words()),
                forms => forms.iter().map(Self::words).collect::<Vec<_>>().join("; or "),
            },
            Self::Table(keys) => {
                let names: Vec<String> = keys.names().iter().map(|name| format!("`{name}`")).collect();
                format!("table: {}", names.join(", "))
            }
            Self::Map { name, values } => match &**values {
                Self::Table(_) => format!("tables by {name}"),
                values => format!("table: {name} = {}", values.words()),
            },
        }
    }

    /// The form as JSON Schema. Tables are references, as the same one may stand in several places.
    pub fn schema(&self) -> Json {
        match self {
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Integer(low, u32::MAX) => json!({ "type": "integer", "minimum": low }),
            Self::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
            Self::Text(TextShape { pattern: "", .. }) => json!({ "type": "string" }),
            Self::Text(TextShape { pattern, .. }) => json!({ "type": "string", "pattern": pattern }),
            Self::Words(words) => json!({ "enum": words }),
            Self::Numbers(numbers) => json!({ "enum": numbers }),
            Self::List(of) => json!({ "type": "array", "items": of.schema() }),
            Self::Either(forms) => {
                json!({ "anyOf": forms.iter().map(Self::schema).collect::<Vec<_>>() })
            }
            Self::Table(keys) => json!({ "$ref": format!("#/$defs/{}", slug(keys)) }),
            Self::Map { values, .. } => {
                json!({ "type": "object", "additionalProperties": values.schema() })
            }
        }
    }

    /// The tables with fixed keys in it.
    pub fn tables(&self) -> Vec<&'static Keys> {
        match self {
            Self::Table(keys) => vec![keys],
            Self::List(of) | Self::Map { values: of, .. } => of.tables(),
            Self::Either(forms) => forms.iter().flat_map(Self::tables).collect(),
            Self::Boolean | Self::Integer(..) | Self::Text(_) | Self::Words(_) | Self::Numbers(_) => {
                Vec::new()
            }
        }
    }
}
