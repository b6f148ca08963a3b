//! Reading of nginx.conf with everything that it includes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use regex::Regex;

use super::{
    ledger::Ledger,
    syntax::{self, Directive},
};
use crate::config::Report;

/// Deepest nesting of includes.
const DEEPEST: usize = 16;

/// Most files that are included, the same ones again counted.
const MOST: usize = 1000;

/// Files of nginx's own packages: what they say is built in.
pub const WELL_KNOWN: [(&str, &str); 10] = [
    ("mime.types", "media types of file name endings are built in"),
    ("uwsgi_params", "the variables are those of `protocol = \"uwsgi\"`"),
    ("proxy_params", "the proxy sets these headers itself"),
    ("fastcgi_params", "FastCGI is not used"),
    ("fastcgi.conf", "FastCGI is not used"),
    ("scgi_params", "SCGI is not used"),
    ("koi-win", "not needed by UTF-8 sites"),
    ("koi-utf", "not needed by UTF-8 sites"),
    ("win-utf", "not needed by UTF-8 sites"),
    ("options-ssl-nginx.conf", "the protocols and ciphers of TLS are modern ones by default"),
];

/// The files that a configuration is read from.
pub trait Files {
    /// Reads a text file.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Names of the entries of a directory, sorted.
    ///
    /// # Errors
    ///
    /// The system's error.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let bytes = fs::read(path)?;
        // Comments in old encodings are common, and of no meaning.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?.filter_map(Result::ok);
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }
}

/// Error that keeps a configuration from being read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Error of the system.
        source: io::Error,
    },
    /// The syntax of a file is wrong.
    #[error("{0}")]
    Syntax(Box<Report>),
}

/// A configuration with everything that it includes, in one tree.
#[derive(Debug)]
pub struct Source {
    /// Directives of the main context.
    pub tree: Vec<Directive>,
    /// Directory of the main file, which relative paths begin at.
    pub home: PathBuf,
}

/// Reads `path`, and replaces each `include` by the directives of its files. The `include` itself stays, without
/// effect, and is marked in the ledger.
///
/// # Errors
///
/// The main file cannot be read, or the syntax of a file is wrong. A missing included file is noted in the ledger.
pub fn read(path: &Path, files: &dyn Files, ledger: &Ledger) -> Result<Source, Unreadable> {
    let home = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let reader = Reader {
        files,
        ledger,
        home: home.clone(),
        next: RefCell::new(0),
        count: Cell::new(0),
        known: RefCell::default(),
    };
    let text =
        files.read(path).map_err(|source| Unreadable::File { path: path.display().to_string(), source })?;
    let tree = reader.tree(path, &text, 0)?;
    Ok(Source { tree, home })
}

struct Reader<'a> {
    files: &'a dyn Files,
    ledger: &'a Ledger,
    home: PathBuf,
    next: RefCell<usize>,
    count: Cell<usize>,
    /// Files read so far: a snippet is often included by several servers.
    known: RefCell<HashMap<PathBuf, Arc<str>>>,
}

impl Reader<'_> {
    fn tree(&self, path: &Path, text: &str, depth: usize) -> Result<Vec<Directive>, Unreadable> {
        let name: Arc<str> = path.display().to_string().into();
        let parsed = syntax::parse(&name, text, &mut self.next.borrow_mut());
        let directives = parsed.map_err(|error| {
            let report = Report::of_one(&name, text, error.at, error.title, error.label, error.help);
            Unreadable::Syntax(Box::new(report))
        })?;
        self.expanded(directives, depth)
    }

    fn expanded(&self, directives: Vec<Directive>, depth: usize) -> Result<Vec<Directive>, Unreadable> {
        let mut result = Vec::with_capacity(directives.len());
        for mut directive in directives {
            if let Some(block) = directive.block.take() {
                directive.block = Some(self.expanded(block, depth)?);
            }
            let included = match directive.name.as_str() {
                "include" if directive.block.is_none() => self.included(&directive, depth)?,
                _ => Vec::new(),
            };
            result.push(directive);
            result.extend(included);
        }
        Ok(result)
    }

    fn included(&self, directive: &Directive, depth: usize) -> Result<Vec<Directive>, Unreadable> {
        let written = directive.first();
        let name = written.rsplit('/').next().unwrap_or_default();
        if let Some((_, why)) = WELL_KNOWN.iter().find(|(known, _)| *known == name) {
            self.ledger.unnecessary(directive, *why);
            return Ok(Vec::new());
        }
        self.count.set(self.count.get() + 1);
        if depth >= DEEPEST || self.count.get() > MOST {
            self.ledger.reported(
                directive,
                "there are too many includes, or they are nested too deeply",
                "remove the circle of includes",
            );
            return Ok(Vec::new());
        }
        let mut included = Vec::new();
        let is_pattern = written.contains(['*', '?', '[']);
        let paths = if is_pattern { self.matching(written) } else { vec![self.home.join(written)] };
        for path in &paths {
            let text = match self.text(path) {
                Ok(text) => text,
                Err(error) => {
                    let why = format!("{} cannot be read: {error}", path.display());
                    self.ledger.reported(
                        directive,
                        why,
                        "copy the file beside the main file, and convert again",
                    );
                    continue;
                }
            };
            included.extend(self.tree(path, &text, depth + 1)?);
        }
        match paths.is_empty() {
            true => self.ledger.unnecessary(directive, "no file matches the pattern"),
            false => self.ledger.carried(directive),
        }
        Ok(included)
    }

    fn text(&self, path: &Path) -> io::Result<Arc<str>> {
        if let Some(text) = self.known.borrow().get(path) {
            return Ok(Arc::clone(text));
        }
        let text: Arc<str> = self.files.read(path)?.into();
        self.known.borrow_mut().insert(path.into(), Arc::clone(&text));
        Ok(text)
    }

    /// Files that match a pattern in the form of glob(7), sorted.
    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        let whole = self.home.join(pattern);
        let mut found = vec![PathBuf::new()];
        for part in whole.components() {
            let part = part.as_os_str().to_string_lossy();
            if !part.contains(['*', '?', '[']) {
                found.iter_mut().for_each(|path| path.push(&*part));
                continue;
            }
            let Ok(matcher) = glob(&part) else { return Vec::new() };
            let entries = |directory: &PathBuf| {
                let names = self.files.list(directory).unwrap_or_default();
                let matching = names.into_iter().filter(|name| matcher.is_match(name));
                matching.map(|name| directory.join(name)).collect::<Vec<_>>()
            };
            found = found.iter().flat_map(entries).collect();
        }
        found
    }
}

/// The expression for one component of a pattern. A hidden file needs a pattern that begins with a dot.
fn glob(part: &str) -> Result<Regex, regex::Error> {
    let first = match part.chars().next() {
        Some('*') => "(?:[^.].*)?".to_owned(),
        Some('?') => "[^.]".to_owned(),
        Some(letter) => translated(&letter.to_string()),
        None => String::new(),
    };
    let rest: String = part.chars().skip(1).collect();
    if part.starts_with('[') {
        return Regex::new(&format!("^{}$", translated(part)));
    }
    Regex::new(&format!("^{first}{}$", translated(&rest)))
}

fn translated(pattern: &str) -> String {
    let mut is_class = false;
    let mut source = String::new();
    for letter in pattern.chars() {
        match letter {
            '[' | ']' => {
                is_class = letter == '[';
                source.push(letter);
            }
            _ if is_class => source.push(if letter == '!' { '^' } else { letter }),
            '*' => source.push_str(".*"),
            '?' => source.push('.'),
            _ => source.push_str(&regex::escape(&letter.to_string())),
        }
    }
    source
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, matches) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            ("*.conf", "a.conf.bak", false),
            ("*", "site", true),
            ("?.conf", "a.conf", true),
            ("?.conf", "ab.conf", false),
            ("[0-9]*.conf", "10-x.conf", true),
            ("a*b", "ab", true),
        ] {
            assert_eq!(glob(pattern).unwrap().is_match(name), matches, "{pattern} {name}");
        }
    }
}
