//! The effective configuration in TOML, defaults included, as a file that reads the same. Each table is written by
//! the module that reads it; this module has the common parts.

use std::fmt::Display;

use super::{
    acme, admin, auth, cache, cors,
    file::Config,
    keys::{Defaulted, Described, Key, Optional, Reads},
    limit, listen, log, server, site, upstream,
};

/// The effective configuration as TOML.
pub fn print(config: &Config) -> String {
    let mut out = Out::default();
    server::show(&mut out, &config.server);
    admin::show(&mut out, &config.admin);
    if let Some(acme) = &config.acme {
        acme::show(&mut out, acme);
    }
    log::show(&mut out, &config.log);
    config.listen.iter().for_each(|one| listen::show(&mut out, one));
    config.limits.values().for_each(|one| limit::show(&mut out, one));
    config.auths.iter().for_each(|(name, one)| auth::show_table(&mut out, name, one));
    config.caches.values().for_each(|one| cache::show_table(&mut out, one));
    config.cors.iter().for_each(|(name, one)| cors::show_table(&mut out, name, one));
    config.sites.iter().for_each(|one| site::show(&mut out, one));
    config.upstreams.values().for_each(|one| upstream::show(&mut out, one));
    out.0
}

/// Text written so far.
#[derive(Default)]
pub struct Out(String);

impl Out {
    /// Writes a table with its header, such as `[server]`.
    pub fn table(&mut self, header: &str, pairs: &Pairs) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(header);
        self.0.push('\n');
        for Pair { key, value, comment } in &pairs.0 {
            comment.iter().for_each(|comment| self.0.push_str(&format!("# {comment}\n")));
            self.0.push_str(&format!("{key} = {value}\n"));
        }
    }
}

/// Keys with their values in TOML, in the order in which they are shown.
#[derive(Default)]
pub struct Pairs(Vec<Pair>);

struct Pair {
    key: String,
    value: String,
    /// A line above the pair.
    comment: Option<String>,
}

impl Pairs {
    /// Adds a key that always has a value.
    pub fn key<K: Reads, D>(self, key: &Key<K, D>, value: &K::Value) -> Self {
        self.named(key.name, key.kind.show(value))
    }

    /// Adds a key that may have no value.
    pub fn optional<K: Reads>(self, key: &Optional<K>, value: Option<&K::Value>) -> Self {
        match value {
            Some(value) => self.key(key, value),
            None => self,
        }
    }

    /// Adds a key whose value differs from its default.
    pub fn unless_default<K>(self, key: &Defaulted<K>, value: &K::Value) -> Self
    where
        K: Reads,
        K::Value: PartialEq,
    {
        if (key.default.0)() == *value { self } else { self.key(key, value) }
    }

    /// Adds a key whose value is already TOML.
    pub fn written(self, key: &dyn Described, value: impl Display) -> Self {
        self.named(key.name(), format!("{value}"))
    }

    /// Adds a key whose value is already TOML, when it has one.
    pub fn written_if(self, key: &dyn Described, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.written(key, value),
            None => self,
        }
    }

    /// Adds a key that the file chose.
    pub fn named(self, name: impl Into<String>, value: String) -> Self {
        self.commented(None, name, value)
    }

    /// Adds a key that the file chose, perhaps with a comment above it. A table in braces has no comments.
    pub fn commented(mut self, comment: Option<&String>, name: impl Into<String>, value: String) -> Self {
        self.0.push(Pair { key: name.into(), value, comment: comment.cloned() });
        self
    }

    /// Adds the pairs of another table.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The table in braces; `None` when it is empty.
    pub fn braces_if_any(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.braces())
    }

    /// The table in braces.
    pub fn braces(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|Pair { key, value, .. }| format!("{key} = {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    }
}

/// A TOML string in one line: single quotes where they save escapes, as for regular expressions.
pub fn quote(text: &str) -> String {
    let literal = text.contains(['\\', '"']) && !text.contains('\'') && !text.contains(char::is_control);
    if literal {
        return format!("'{text}'");
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of values in TOML.
pub fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A list of strings.
pub fn strings(items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    list(items.into_iter().map(|item| quote(item.as_ref())))
}

/// A path as a string.
pub fn path(path: &std::path::Path) -> String {
    quote(&path.to_string_lossy())
}

/// The word of a value.
pub fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> String {
    words.iter().find(|(_, one)| one == value).map_or_else(String::new, |(word, _)| quote(word))
}

/// A part of a table's header: bare, or quoted when it has a dot.
pub fn bare_or_quoted(name: &str) -> String {
    if name.contains('.') { quote(name) } else { name.into() }
}
