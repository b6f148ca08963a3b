//! `include`: tables of other files.
//!
//! All files together are one text, in which each has its place, so that the place of a value tells its file. A file that
//! is not the first is parsed behind as many spaces as there is text before it: its spans then count in the whole text.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostic::{Diagnostic, Problem, Severity, Span, show},
    system::System,
};

/// Most files that include each other.
const MOST_DEPTH: usize = 8;

/// Files of a configuration.
pub struct Sources {
    /// Text of all files, one after the other.
    pub text: String,
    /// Names of the files, and where each begins.
    pub files: Vec<(String, usize)>,
    /// Errors in `include`.
    pub found: Vec<Diagnostic>,
}

impl Sources {
    /// A single file.
    pub fn of(name: &str, text: &str) -> Self {
        Self { text: text.into(), files: vec![(name.into(), 0)], found: Vec::new() }
    }

    /// Reads the files that the file `name` with the content `text` includes.
    pub fn read(name: &str, text: &str, system: &dyn System) -> Self {
        let mut sources = Self { text: String::new(), files: Vec::new(), found: Vec::new() };
        let mut open = HashSet::new();
        sources.add(name, text, system, &mut open, 0);
        sources
    }

    fn add(
        &mut self,
        name: &str,
        text: &str,
        system: &dyn System,
        seen: &mut HashSet<PathBuf>,
        depth: usize,
    ) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let start = self.text.len();
        self.files.push((name.into(), start));
        self.text.push_str(text);
        seen.insert(name.into());
        let (root, _) = DeTable::parse_recoverable(text);
        let Some(include) = root.get_ref().get("include") else { return };
        let span = |value: &Spanned<DeValue<'_>>| start + value.span().start..start + value.span().end;
        let Some(patterns) = include.get_ref().as_array() else {
            let problem = Problem::new("`include` must be a list", "not a list");
            return self
                .error(span(include), problem.help("write for example `include = [\"sites/*.toml\"]`"));
        };
        let folder = Path::new(name).parent().unwrap_or(Path::new("")).to_owned();
        for pattern in patterns.iter() {
            let span = span(pattern);
            let Some(pattern) = pattern.get_ref().as_str() else {
                let problem = Problem::new("`include` lists the paths of files", "not a string");
                self.error(span, problem.help("write for example `include = [\"sites/*.toml\"]`"));
                continue;
            };
            for path in self.matching(&folder.join(pattern), &span, system) {
                self.include(&path, &span, system, seen, depth);
            }
        }
    }

    /// The files that a pattern means, in the order of their names; a path without wildcards means itself.
    fn matching(&mut self, pattern: &Path, span: &Span, system: &dyn System) -> Vec<PathBuf> {
        if !pattern.to_string_lossy().contains(['*', '?', '[']) {
            return vec![pattern.into()];
        }
        match system.matching(pattern) {
            Ok(paths) => paths,
            Err(error) => {
                let title = format!("{} cannot be searched: {error}", show(&pattern.to_string_lossy()));
                self.error(span.clone(), Problem::new(title, "the system refuses"));
                Vec::new()
            }
        }
    }

    fn include(
        &mut self,
        path: &Path,
        span: &Span,
        system: &dyn System,
        seen: &mut HashSet<PathBuf>,
        depth: usize,
    ) {
        let shown = show(&path.to_string_lossy());
        let problem = if depth == MOST_DEPTH {
            Problem::new(format!("files are included to a depth of {MOST_DEPTH}"), "one level too deep")
                .help("does a file include itself?")
        } else if !seen.insert(path.into()) {
            Problem::new(format!("{shown} is included twice"), "again here").help("remove one of them")
        } else {
            match system.read(path) {
                Ok(text) => return self.add(&path.to_string_lossy(), &text, system, seen, depth + 1),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Problem::new(format!("{shown} does not exist"), "not on this machine").help(
                        "paths are relative to the file with `include`; a pattern with `*` may match nothing",
                    )
                }
                Err(error) => Problem::new(format!("{shown} cannot be read: {error}"), "the system refuses"),
            }
        };
        self.error(span.clone(), problem);
    }

    fn error(&mut self, span: Span, problem: Problem) {
        self.found.push(Diagnostic { severity: Severity::Error, source: None, span: Some(span), problem });
    }

    /// Texts of the files, each at its place in the text of all.
    pub fn placed(&self) -> Vec<String> {
        let ends = self.files.iter().skip(1).map(|(_, start)| start - 1).chain([self.text.len()]);
        let place = |((_, start), end): (&(String, usize), usize)| {
            [&" ".repeat(*start), &self.text[*start..end]].concat()
        };
        self.files.iter().zip(ends).map(place).collect()
    }
}

/// Tables whose keys are names that the files choose, or lists: each file adds its own.
const ADDED: [&str; 7] = ["auth", "cache", "cors", "limit", "listen", "site", "upstream"];

/// Adds the tables of an included file to those of the others, and returns what cannot be added.
pub fn merge<'t>(all: &mut DeTable<'t>, added: DeTable<'t>) -> Vec<(Span, Problem)> {
    let mut twice = Vec::new();
    for (key, value) in added {
        let name = key.get_ref().to_string();
        if name == "include" {
            continue;
        }
        let Some((first, known)) = entry(all, &name) else {
            all.insert(key, value);
            continue;
        };
        let is_added = ADDED.contains(&name.as_str());
        match (known, value.into_inner()) {
            (DeValue::Array(known), DeValue::Array(more)) if is_added => {
                more.into_iter().for_each(|item| known.push(item));
            }
            (DeValue::Table(known), DeValue::Table(more)) if is_added => {
                for (key, value) in more {
                    match entry(known, key.get_ref()) {
                        Some((first, _)) => {
                            let table = format!("`[{name}.{}]`", key.get_ref());
                            twice.push((key.span(), defined_twice(&table, first)));
                        }
                        None => drop(known.insert(key, value)),
                    }
                }
            }
            _ => twice.push((key.span(), defined_twice(&format!("`[{name}]`"), first))),
        }
    }
    twice
}

/// A key of a table: its place, and its value.
fn entry<'e, 't>(table: &'e mut DeTable<'t>, name: &str) -> Option<(Span, &'e mut DeValue<'t>)> {
    let (key, value) = table.iter_mut().find(|(key, _)| key.get_ref() == name)?;
    Some((key.span(), value.get_mut()))
}

fn defined_twice(table: &str, first: Span) -> Problem {
    Problem::new(format!("{table} is defined twice"), "again here")
        .also(first, "first here")
        .help("remove one of them, or put what is below both into one table")
}
