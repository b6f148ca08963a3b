//! A YAML file that the configuration names, with typed access to its values. Wrong values are noted in that file.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::yaml::{Content, NodeId, Tree};
use crate::config::{
    diagnostic::{Place, Problem, Severity, Source, Span, show},
    paths,
    read::{Context, Value},
};

/// Longest file in bytes. Galaxy's longest sample has 150 KB.
const LONGEST: usize = 4 << 20;

/// Text of a file that `place` names. A file that cannot be used is noted there.
pub fn text(context: &Context<'_>, place: &Place, path: &Path) -> Option<Arc<Source>> {
    let name = path.to_string_lossy().into_owned();
    let problem = match context.system.read(path) {
        Ok(text) if text.len() <= LONGEST => return Some(Arc::new(Source { name, text })),
        Ok(_) => {
            Problem::new(format!("{} is longer than 4 MiB", show(&name)), "too long for a configuration")
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Problem::new(format!("{} cannot be used: {error}", show(&name)), "must be a file of text")
        }
        Err(error) => paths::unusable_problem(path, &error),
    };
    context.note_at(Severity::Error, place, problem);
    None
}

/// A YAML file.
pub struct YamlFile<'a> {
    context: &'a Context<'a>,
    source: Arc<Source>,
    tree: Tree,
}

impl<'a> YamlFile<'a> {
    /// Reads the file at `path`. What keeps it from being read is noted at `place`, errors of its syntax in the file.
    pub fn read(context: &'a Context<'a>, place: &Place, path: &Path) -> Option<Self> {
        let source = text(context, place, path)?;
        match Tree::parse(&source.text) {
            Ok(tree) => Some(Self { context, source, tree }),
            Err((span, problem)) => {
                let place = Place { source: Some(source), span };
                context.note_at(Severity::Error, &place, problem);
                None
            }
        }
    }

    /// The value of the file; `None` when it is empty.
    pub fn root(&self) -> Option<Yaml<'_>> {
        self.tree.root.map(|id| Yaml { file: self, name: "the file", id })
    }

    /// Directory of the file.
    pub fn directory(&self) -> &Path {
        Path::new(&self.source.name).parent().unwrap_or(Path::new("/"))
    }

    /// A place in the file.
    pub fn place(&self, span: Span) -> Place {
        Place { source: Some(Arc::clone(&self.source)), span }
    }
}

/// A value of a [`YamlFile`].
#[derive(Clone, Copy)]
pub struct Yaml<'a> {
    file: &'a YamlFile<'a>,
    /// The nearest key above it.
    name: &'a str,
    id: NodeId,
}

impl<'a> Yaml<'a> {
    fn content(self) -> &'a Content {
        &self.file.tree.node(self.id).content
    }

    /// Place of the value.
    pub fn place(self) -> Place {
        self.file.place(self.file.tree.node(self.id).span.clone())
    }

    /// Directory of the file.
    pub fn directory(self) -> &'a Path {
        self.file.directory()
    }

    /// Notes an error at the value.
    pub fn error(self, problem: Problem) {
        self.file.context.note_at(Severity::Error, &self.place(), problem);
    }

    /// Notes an error at another place than the value.
    pub fn error_at(self, place: &Place, problem: Problem) {
        self.file.context.note_at(Severity::Error, place, problem);
    }

    /// Notes a warning at the value.
    pub fn warn(self, problem: Problem) {
        self.file.context.note_at(Severity::Warning, &self.place(), problem);
    }

    /// The value of a key, unless it is null, which Galaxy and gravity read as absent. Of a key that stands twice the last
    /// one counts, and keys of the map itself come before those of `<<`, as in PyYAML.
    pub fn get(self, key: &str) -> Option<Self> {
        self.get_pair(key).map(|(_, value)| value)
    }

    /// The key and the value of [`Yaml::get`].
    pub fn get_pair(self, key: &str) -> Option<(Self, Self)> {
        let Content::Map(pairs) = self.content() else { return None };
        let named = |wanted: &str| {
            let is =
                |(name, _): &&(NodeId, NodeId)| self.at(*name).scalar().is_some_and(|name| name == wanted);
            pairs.iter().rfind(is).map(|(name, value)| (self.at(*name), self.under(*name, *value)))
        };
        if let Some((name, value)) = named(key) {
            return (!value.is_null()).then_some((name, value));
        }
        let (_, merged) = named("<<")?;
        match merged.content() {
            Content::List(maps) => maps.iter().find_map(|map| self.at(*map).get_pair(key)),
            _ => merged.get_pair(key),
        }
    }

    fn at(self, id: NodeId) -> Self {
        Self { id, ..self }
    }

    /// The value of a key.
    fn under(self, name: NodeId, value: NodeId) -> Self {
        Self { id: value, name: self.at(name).scalar().unwrap_or(self.name), ..self }
    }

    fn scalar(self) -> Option<&'a str> {
        match self.content() {
            Content::Scalar { text, .. } => Some(text),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    fn is_null(self) -> bool {
        match self.content() {
            Content::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// Whether the value is a map.
    pub fn is_map(self) -> bool {
        matches!(self.content(), Content::Map(_))
    }

    /// Text, a number or a boolean, as written.
    pub fn text(self) -> Option<&'a str> {
        self.scalar().or_else(|| self.expected("text"))
    }

    /// A boolean as Galaxy reads it.
    pub fn flag(self) -> Option<bool> {
        match self.scalar()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" | "t" | "y" => Some(true),
            _ => Some(false),
        }
    }

    /// The items of a list, or the value itself.
    pub fn one_or_more(self) -> Vec<Self> {
        match self.content() {
            Content::List(items) => items.iter().map(|item| self.at(*item)).collect(),
            _ => vec![self],
        }
    }

    /// The items of a list.
    pub fn items(self) -> Option<Vec<Self>> {
        match self.content() {
            Content::List(_) => Some(self.one_or_more()),
            _ => self.expected("a list"),
        }
    }

    /// A path, relative to `base`.
    pub fn path(self, base: &Path) -> Option<PathBuf> {
        Some(resolved(base, self.text()?))
    }

    fn expected<T>(self, what: &str) -> Option<T> {
        let is = match self.content() {
            Content::Scalar { .. } => "this is text",
            Content::List(_) => "this is a list",
            Content::Map(_) => "this is a map",
        };
        self.error(Problem::new(format!("{} must be {what}", show(self.name)), is));
        None
    }
}

/// A path that may be relative to `base`, without `.` and `..`: resolved by name alone, as Python's `os.path.normpath` does.
pub fn resolved(base: &Path, path: &str) -> PathBuf {
    let joined = base.join(path);
    let mut parts: Vec<&str> = Vec::new();
    let text = joined.to_string_lossy();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/")).into()
}

/// Place of a value of the configuration itself.
pub fn place_of(value: Value<'_>) -> Place {
    Place { source: None, span: value.span() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_by_name() {
        for (path, clean) in [
            ("objects", "/srv/galaxy/objects"),
            ("./config/../data/", "/srv/galaxy/data"),
            ("/data//x", "/data/x"),
            ("../../../x", "/x"),
            ("/", "/"),
        ] {
            assert_eq!(resolved(Path::new("/srv/galaxy"), path), Path::new(clean));
        }
    }
}
