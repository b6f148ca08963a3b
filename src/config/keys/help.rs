//! `bowshock help KEY`: the description of a key or a table, for a terminal.

use super::{
    Absent, Described, Keys,
    suggest::{instead_of_nginx, near},
    tree::{self, Place},
};
use crate::config::{
    diagnostic::{one_of, show},
    file::TOP,
};

/// Columns of a line.
const WIDTH: usize = 90;

/// Names of keys to suggest, at most.
const MOST_SUGGESTED: usize = 5;

/// A word that is no key.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownKey {
    word: String,
    near: Vec<String>,
}

impl std::fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = show(&self.word);
        if let Some(instead) = instead_of_nginx(&self.word) {
            return write!(f, "{word} is a directive of nginx: write {instead}");
        }
        if tree::tables().iter().any(|place| place.keys.later.contains(&self.word.as_str())) {
            return write!(f, "{word} is not available in this version");
        }
        match self.near.as_slice() {
            [] => write!(f, "there is no key {word}; the tables are {}", one_of(&TOP.names())),
            near => write!(f, "there is no key {word}; did you mean {}?", one_of(near)),
        }
    }
}

impl std::error::Error for UnknownKey {}

/// Describes a key (`hold`), a key of one table (`upstream.hold`) or the keys of a table (`upstream`,
/// `[upstream.NAME]`).
///
/// # Errors
///
/// When there is no such key. The error lists the nearest names.
pub fn help(word: &str) -> Result<String, UnknownKey> {
    let path = plain(word);
    let (table, name) = path.rsplit_once('.').unwrap_or(("", &path));
    let mut found: Vec<(&dyn Described, Vec<&'static Keys>)> = Vec::new();
    for place in tree::tables().into_iter().filter(|place| ends_with(place, table)) {
        let Some(key) = place.keys.find(name) else { continue };
        match found.iter_mut().find(|(other, _)| std::ptr::addr_eq(*other, key)) {
            Some((_, tables)) => tables.push(place.keys),
            None => found.push((key, vec![place.keys])),
        }
    }
    let mut parts: Vec<String> = found.iter().filter_map(|(key, tables)| key_help(*key, tables)).collect();
    let mut nested: Vec<&'static Keys> = Vec::new();
    for keys in found.iter().flat_map(|(key, _)| key.shape().tables()) {
        if !nested.iter().any(|other| std::ptr::eq(*other, keys)) {
            nested.push(keys);
        }
    }
    if found.is_empty() {
        let tables = tree::tables().into_iter().map(|place| place.keys);
        nested.extend(tables.filter(|keys| tree::slug(keys) == path));
    }
    parts.extend(nested.iter().map(|keys| table_help(keys)));
    if parts.is_empty() { Err(unknown(word, name)) } else { Ok(parts.join("\n")) }
}

/// Strips everything but the path from a word: `[upstream.NAME]` is `upstream`, `[[site]]` is `site`.
fn plain(word: &str) -> String {
    let word = word.replace(['[', ']', '`', '"', ' '], "");
    let segments = word.split('.').filter(|segment| *segment != "NAME" && !segment.is_empty());
    segments.collect::<Vec<_>>().join(".")
}

/// Checks that one of the table's paths ends with `end`.
fn ends_with(place: &Place, end: &str) -> bool {
    let fits = |path: &String| path == end || path.ends_with(&format!(".{end}"));
    end.is_empty() || tree::slug(place.keys) == end || place.paths.iter().any(fits)
}

fn unknown(word: &str, name: &str) -> UnknownKey {
    let tables = tree::tables();
    let names: Vec<&str> = tables.iter().flat_map(|place| place.keys.names()).collect();
    let mut suggested: Vec<String> = Vec::new();
    for near in near(name, names) {
        if suggested.len() < MOST_SUGGESTED && suggested.iter().all(|other| other != near) {
            suggested.push(near.into());
        }
    }
    UnknownKey { word: word.into(), near: suggested }
}

/// Full description of a key; `None` for a table at the top of the file, as its keys are listed anyway.
fn key_help(key: &dyn Described, tables: &[&'static Keys]) -> Option<String> {
    let first = tables.first().filter(|keys| !std::ptr::eq(**keys, &TOP))?;
    let titles: Vec<String> = tables.iter().map(|keys| title(keys)).collect();
    let mut text = format!("{}, a key of {}\n\n", key.name(), titles.join(" and of "));
    let default = match key.absent() {
        Absent::Value(value) => value,
        other => other.words(first),
    };
    text.push_str(&wrapped(&key.shape().words(), "  type     ", "           "));
    text.push_str(&wrapped(&default, "  default  ", "           "));
    text.push('\n');
    text.push_str(&wrapped(key.about(), "  ", "  "));
    text.push('\n');
    first.example(key).lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    Some(text)
}

/// The title of a table without Markdown.
fn title(keys: &Keys) -> String {
    keys.title.replace('`', "")
}

/// The keys of a table, one a line.
fn table_help(keys: &Keys) -> String {
    let mut text = format!("Keys of {}\n\n", title(keys));
    text.push_str(&wrapped(keys.about, "  ", "  "));
    text.push('\n');
    let width = keys.iter().map(|key| key.name().len()).max().unwrap_or_default();
    for key in keys.iter() {
        let first = key.about().split(". ").next().unwrap_or_default().trim_end_matches('.');
        // As much of the first sentence as fits.
        let line = format!("    {:width$}  {first}", key.name());
        text.push_str(&cut(&line));
        text.push('\n');
    }
    text
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.into();
    }
    let short: String = line.chars().take(WIDTH - 1).collect();
    short.rsplit_once(' ').map_or(short.as_str(), |(before, _)| before).to_owned() + " …"
}

/// Wraps words to [`WIDTH`]: the first line begins with `start`, the others with `indent`.
fn wrapped(words: &str, start: &str, indent: &str) -> String {
    wrap(words, start, indent, WIDTH)
}

/// Wraps words to `width` columns: the first line begins with `start`, the others with `indent`.
pub(super) fn wrap(words: &str, start: &str, indent: &str, width: usize) -> String {
    let (mut text, mut line) = (String::new(), start.trim_end().to_owned());
    let mut gap = start.len() - line.len();
    for word in words.split_whitespace() {
        if line.chars().count() + gap + word.chars().count() > width && gap == 1 {
            text.push_str(&line);
            text.push('\n');
            line = indent.to_owned();
            gap = 0;
        }
        line.push_str(&" ".repeat(gap));
        line.push_str(word);
        gap = 1;
    }
    text + &line + "\n"
}
