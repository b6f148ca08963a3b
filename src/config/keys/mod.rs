//! Descriptions of keys, one per key, beside the code that reads it.
//!
//! A table of the configuration is a [`Keys`], a key in it a [`Key`]: name, kind of value, default, meaning and
//! example. Help, reference, schema and suggestions are made from it:
//!
//! ```text
//! kind        kinds of values: how they are read and written
//! shape       the form of a value, in words and as JSON Schema
//! suggest     "unknown key …, did you mean …"
//! tree        the tables of a file, and where each may stand
//! help        `bowshock help KEY`
//! reference   the reference page of the documentation
//! schema      `bowshock schema`
//! ```

mod help;
pub mod kind;
mod reference;
mod schema;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use super::diagnostic::all_of;

pub use help::{UnknownKey, help};
pub use kind::{Kind, Reads};
pub use reference::reference;
pub use schema::schema;
pub use shape::{Shape, TextShape};
pub use suggest::{closest, unknown_key};

/// Key of a table. `K` is the kind of its value, `D` its default: [`Is`], [`Unset`], [`Needed`] or [`OneOf`].
pub struct Key<K, D = Unset> {
    /// The name in the file.
    pub name: &'static str,
    /// Kind of its value.
    pub kind: K,
    /// The default, in words or as a value.
    pub default: D,
    /// Effect, unit and when to change it, in one to three sentences for a reader who knows nginx.
    pub about: &'static str,
    /// Pairs of the table in TOML, this key last: one a line, or with commas in a table that is written in braces.
    pub example: &'static str,
}

/// Key with a default value.
pub type Defaulted<K> = Key<K, Is<<K as Reads>::Value>>;
/// Key that may be absent.
pub type Optional<K> = Key<K, Unset>;
/// Key that its table requires.
pub type Required<K> = Key<K, Needed>;

/// Default value: used, printed and documented.
pub struct Is<T>(pub fn() -> T);

/// Default in words, such as `no limit`: the key may be absent.
pub struct Unset(pub &'static str);

/// No default: the table is refused without the key.
pub struct Needed;

/// Alternative: the table must have exactly one of its keys with this default.
pub struct OneOf;

/// Default of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// A value, in TOML.
    Value(String),
    /// No value, described in words.
    Words(&'static str),
    /// Error: the table requires the key.
    Refused,
    /// Error, unless the table has another key with this default.
    RefusedWithoutAnother,
}

impl Absent {
    /// Description of the default; `keys` is the table of the key.
    pub fn words(&self, keys: &Keys) -> String {
        match self {
            Self::Value(value) => value.clone(),
            Self::Words(words) => (*words).into(),
            Self::Refused => "none, the key is required".into(),
            Self::RefusedWithoutAnother => {
                let names: Vec<&str> = keys.one_of().iter().map(|key| key.name()).collect();
                format!("none, exactly one of {} is required", all_of(&names))
            }
        }
    }
}

/// A way to give the default of a key of kind `K`.
pub trait Default<K> {
    /// The default of a key of this kind.
    fn absent(&self, kind: &K) -> Absent;
}

impl<K: Reads> Default<K> for Is<K::Value> {
    fn absent(&self, kind: &K) -> Absent {
        Absent::Value(kind.show(&self.0()))
    }
}

impl<K> Default<K> for Unset {
    fn absent(&self, _: &K) -> Absent {
        Absent::Words(self.0)
    }
}

impl<K> Default<K> for Needed {
    fn absent(&self, _: &K) -> Absent {
        Absent::Refused
    }
}

impl<K> Default<K> for OneOf {
    fn absent(&self, _: &K) -> Absent {
        Absent::RefusedWithoutAnother
    }
}

/// Key of any kind: its description.
pub trait Described: Sync {
    /// See [`Key::name`].
    fn name(&self) -> &'static str;
    /// Form of its value.
    fn shape(&self) -> Shape;
    /// See [`Key::default`].
    fn absent(&self) -> Absent;
    /// See [`Key::about`].
    fn about(&self) -> &'static str;
    /// See [`Key::example`].
    fn example(&self) -> &'static str;
}

impl<K: Kind + Sync, D: Default<K> + Sync> Described for Key<K, D> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shape(&self) -> Shape {
        self.kind.shape()
    }

    fn absent(&self) -> Absent {
        self.default.absent(&self.kind)
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn example(&self) -> &'static str {
        self.example
    }
}

impl dyn Described + '_ {
    /// The value in [`Key::example`].
    pub fn example_value(&self) -> &'static str {
        let start = format!("{} = ", self.name());
        self.example().rfind(&start).map_or("", |at| &self.example()[at + start.len()..])
    }
}

/// Keys that belong together: a table's own, or some that several tables share.
pub type Group = &'static [&'static dyn Described];

/// A table of the file.
pub struct Keys {
    /// The table in a message, such as "`[server]`".
    pub title: &'static str,
    /// Piece of a file around an example of its keys; `…` stands for the example.
    pub place: &'static str,
    /// Purpose of the table.
    pub about: &'static str,
    /// The keys in the order of the reference.
    pub groups: &'static [Group],
    /// Keys that are documented and not yet implemented: refused, never ignored.
    pub later: &'static [&'static str],
}

impl Keys {
    /// The keys that this version reads.
    pub fn iter(&self) -> impl Iterator<Item = &'static dyn Described> {
        self.groups.iter().flat_map(|group| group.iter().copied())
    }

    /// The key of this name.
    pub fn find(&self, name: &str) -> Option<&'static dyn Described> {
        self.iter().find(|key| key.name() == name)
    }

    /// The names of the keys that this version reads.
    pub fn names(&self) -> Vec<&'static str> {
        self.iter().map(Described::name).collect()
    }

    /// The first line of an example, such as `[server]`.
    pub fn header(&self) -> &'static str {
        self.place.lines().next().unwrap_or_default()
    }

    /// Keys of which the table must have exactly one.
    pub fn one_of(&self) -> Vec<&'static dyn Described> {
        self.iter().filter(|key| key.absent() == Absent::RefusedWithoutAnother).collect()
    }

    /// The example of a key as a piece of a file.
    pub fn example(&self, key: &dyn Described) -> String {
        let has = |one: &dyn Described| key.example().contains(&format!("{} = ", one.name()));
        match self.one_of().as_slice() {
            [first, ..] if !self.one_of().iter().any(|one| has(*one)) => {
                self.place.replacen('…', &format!("{}, {}", first.example(), key.example()), 1)
            }
            _ => self.place.replacen('…', key.example(), 1),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.title)
    }
}
