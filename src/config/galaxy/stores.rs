//! Galaxy's object stores: the directories that datasets come from.

use std::path::{Path, PathBuf};

use super::file::{self, Yaml, YamlFile};
use crate::config::{
    diagnostic::{Place, Problem, Severity, show},
    read::Context,
};

/// Directories of files that Galaxy sends, each with the place that names it.
pub type Sent = Vec<(Place, PathBuf)>;

/// Longest XML file in bytes: an element with many attributes takes the square of their number to read.
const LONGEST_XML: usize = 256 << 10;

/// What object stores refer to.
pub struct Stores<'a> {
    /// Directory that relative paths start from: Galaxy's root.
    pub base: &'a Path,
    /// Directory of a store on disk that names none: `file_path`.
    pub files: &'a Path,
}

impl Stores<'_> {
    /// Reads a file of object stores, in XML or YAML. `place` names the file.
    pub fn file(&self, context: &Context<'_>, place: &Place, path: &Path) -> Sent {
        let mut found = Sent::new();
        if path.extension().is_some_and(|end| end == "xml") {
            self.xml(context, place, path, &mut found);
        } else if let Some(file) = YamlFile::read(context, place, path)
            && let Some(root) = file.root()
        {
            self.yaml(root, &mut found);
        }
        found
    }

    /// Reads stores that are written in YAML.
    pub fn yaml(&self, store: Yaml<'_>, found: &mut Sent) {
        let kind = store.get("type").and_then(Yaml::text);
        let files = store.get("files_dir");
        if let Some(files) = files {
            found.extend(files.path(self.base).map(|path| (files.place(), path)));
        } else if kind == Some("disk") {
            found.push((store.place(), self.files.to_owned()));
        }
        // Objects of a remote store are sent from its cache.
        if let Some(cache) = store.get("cache").and_then(|cache| cache.get("path")) {
            found.extend(cache.path(self.base).map(|path| (cache.place(), path)));
        }
        let backends = store.get("backends").and_then(Yaml::items);
        backends.into_iter().flatten().for_each(|backend| self.yaml(backend, found));
    }

    fn xml(&self, context: &Context<'_>, place: &Place, path: &Path, found: &mut Sent) {
        let Some(source) = file::text(context, place, path) else { return };
        if source.text.trim().is_empty() {
            return;
        }
        if source.text.len() > LONGEST_XML {
            let problem = Problem::new(
                format!("{} is longer than 256 KiB", show(&source.name)),
                "too long for object stores",
            );
            context.note_at(Severity::Error, place, problem);
            return;
        }
        let document = match roxmltree::Document::parse(&source.text) {
            Ok(document) => document,
            Err(error) => {
                let at = error.pos();
                let start = offset(&source.text, at.row, at.col);
                let place = Place { source: Some(source.clone()), span: start..start };
                let problem = Problem::new(format!("{} is not XML: {error}", show(&source.name)), "here");
                context.note_at(Severity::Error, &place, problem);
                return;
            }
        };
        for node in document.descendants() {
            let place = || Place { source: Some(source.clone()), span: node.range() };
            let has_files = || node.children().any(|child| child.has_tag_name("files_dir"));
            match node.attribute("path") {
                Some(path) if node.has_tag_name("files_dir") || node.has_tag_name("cache") => {
                    found.push((place(), file::resolved(self.base, path)));
                }
                _ if node.attribute("type") == Some("disk") && !has_files() => {
                    found.push((place(), self.files.to_owned()));
                }
                _ => {}
            }
        }
    }
}

/// Byte of a line and column, both counted from 1, the column in characters.
fn offset(text: &str, line: u32, column: u32) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
    let line = text.get(before..).unwrap_or_default();
    before + line.chars().take(column.saturating_sub(1) as usize).map(char::len_utf8).sum::<usize>()
}
