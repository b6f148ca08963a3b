//! Keys of routes, in the syntax of nginx's `location`.

use std::{cell::RefCell, collections::HashMap};

use regex::{Regex, RegexBuilder};

use super::diagnostic::{Problem, show};

/// Key of a route, in the syntax of nginx's `location`.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// `"= /exact"`
    Exact(String),
    /// `"/prefix"` and `"^~ /prefix"`: whole segments.
    Prefix {
        /// The prefix, without a trailing slash except for `/` itself.
        path: String,
        /// `^~`: no regex is tried when this is the longest prefix.
        before_regex: bool,
    },
    /// `"~ regex"` and `"~* regex"` (case-insensitive, already compiled so).
    Regex(Regex),
}

/// Reads `"/prefix"`, `"= /exact"`, `"^~ /prefix"`, `"~ regex"` or `"~* regex"`.
pub fn path(key: &str, regexes: &Regexes) -> Result<PathPattern, Problem> {
    for (word, make) in WORDS {
        let Some(rest) = key.strip_prefix(word) else { continue };
        let text = rest.trim_start_matches(' ');
        // Tested first, because `= static` lacks a slash, not a space.
        if text.len() == rest.len() {
            return Err(Problem::new(format!("{} has no space after `{word}`", show(key)), "")
                .help(format!("write `\"{word} {text}\"`")));
        }
        let shift = |problem: Problem| match problem.at.clone() {
            Some(at) => problem.at(at.start + key.len() - text.len()..at.end + key.len() - text.len()),
            None => problem,
        };
        return make(text, regexes).map_err(shift);
    }
    prefix(key, false)
}

type Make = fn(&str, &Regexes) -> Result<PathPattern, Problem>;

/// Longest first, so that `~*` is not taken for `~`.
const WORDS: [(&str, Make); 4] = [
    ("^~", |text, _| prefix(text, true)),
    ("~*", |text, regexes| regexes.compile(text, true).map(PathPattern::Regex)),
    ("~", |text, regexes| regexes.compile(text, false).map(PathPattern::Regex)),
    ("=", |text, _| plain(text).map(|()| PathPattern::Exact(text.into()))),
];

/// Identity of a pattern: two routes of a site must not have the same one.
pub fn identity(pattern: &PathPattern, key: &str) -> String {
    match pattern {
        PathPattern::Exact(path) => format!("= {path}"),
        // `^~` changes the order of the search, not which paths match.
        PathPattern::Prefix { path, .. } => path.clone(),
        PathPattern::Regex(regex) => format!("{} {regex}", if key.starts_with("~*") { "~*" } else { "~" }),
    }
}

/// Names of the capture groups of a route's expression.
pub fn captures(pattern: &PathPattern) -> Vec<&str> {
    match pattern {
        PathPattern::Regex(regex) => regex.capture_names().flatten().collect(),
        _ => Vec::new(),
    }
}

/// Compiled expressions of one file, cached because many sites have the same ones. Compiling one takes as long as
/// reading twenty routes, and tens of kilobytes.
#[derive(Default)]
pub struct Regexes(RefCell<HashMap<(String, bool), Regex>>);

impl Regexes {
    /// Compiles an expression; the error is one line.
    pub fn compile(&self, source: &str, any_case: bool) -> Result<Regex, Problem> {
        let key = (source.to_owned(), any_case);
        if let Some(known) = self.0.borrow().get(&key) {
            return Ok(known.clone());
        }
        let regex = compile(source, any_case)?;
        self.0.borrow_mut().insert(key, regex.clone());
        Ok(regex)
    }
}

fn compile(source: &str, any_case: bool) -> Result<Regex, Problem> {
    RegexBuilder::new(source).case_insensitive(any_case).build().map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("too large");
        let problem = Problem::new(format!("{} is not a regular expression", show(source)), reason);
        if reason.starts_with("look-around") {
            problem.help(
                "look-around is not supported: match the wanted paths, or put the others into a route of their own before this one",
            )
        } else if reason.starts_with("backreferences") {
            problem.help("a backslash before a number repeats a group, which is not supported")
        } else {
            problem.help(
                "the syntax is that of https://docs.rs/regex; in TOML, single quotes leave backslashes alone",
            )
        }
    })
}

fn prefix(text: &str, before_regex: bool) -> Result<PathPattern, Problem> {
    plain(text)?;
    let path = match text.trim_end_matches('/') {
        "" => "/".into(),
        path => path.to_owned(),
    };
    if path.ends_with("/*") {
        let problem =
            Problem::new(format!("{} is not a prefix", show(text)), "`*` has no meaning in a prefix");
        let path = path.trim_end_matches('*').trim_end_matches('/');
        let path = if path.is_empty() { "/" } else { path };
        return Err(problem.help(format!("write `\"{path}\"`, which is for everything below it as well")));
    }
    Ok(PathPattern::Prefix { path, before_regex })
}

/// Checks that a request can have this path after decoding.
fn plain(path: &str) -> Result<(), Problem> {
    let title = |what: &str| format!("the path {} {what}", show(path));
    if path.starts_with('@') {
        return Err(Problem::new(title("is a named location of nginx"), "not supported"));
    }
    if !path.starts_with('/') {
        return Err(Problem::new(title("does not start with `/`"), "must start with `/`").help(
            match path.starts_with('^') {
                true => format!("for a regular expression write `'~ {path}'`"),
                false => format!("write `\"/{path}\"`"),
            },
        ));
    }
    if let Some(at) = path.find('?') {
        return Err(Problem::new(title("has a query"), "the query is no part of the path")
            .at(at..path.len())
            .help(format!("write `\"{}\"`", &path[..at])));
    }
    if let Some(at) = path.find('%') {
        let end = (at + 3).min(path.len());
        return Err(Problem::new(title("is percent-encoded"), "routes match decoded paths")
            .at(at..end)
            .help("write the character itself"));
    }
    if path.split('/').any(|segment| segment == ".." || segment == ".") {
        return Err(Problem::new(title("has `.` or `..` in it"), "no request has such a path")
            .help("write it without"));
    }
    if path.contains(char::is_control) {
        return Err(Problem::new(title("has a control character in it"), "no request has such a path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> Result<PathPattern, Problem> {
        super::path(key, &Regexes::default())
    }

    #[test]
    fn location_words() {
        assert!(matches!(path("/"), Ok(PathPattern::Prefix { path, before_regex: false }) if path == "/"));
        assert!(matches!(path("/a/b/"), Ok(PathPattern::Prefix { path, .. }) if path == "/a/b"));
        assert!(
            matches!(path("^~ /a"), Ok(PathPattern::Prefix { path, before_regex: true }) if path == "/a")
        );
        assert!(matches!(path("= /a/"), Ok(PathPattern::Exact(path)) if path == "/a/"));
        assert!(matches!(path("~ ^/A$"), Ok(PathPattern::Regex(regex)) if !regex.is_match("/a")));
        assert!(matches!(path("~* ^/A$"), Ok(PathPattern::Regex(regex)) if regex.is_match("/a")));
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (bad, suggestion) in [
            ("static", "`\"/static\"`"),
            ("=/x", "`\"= /x\"`"),
            ("~^/x", "`\"~ ^/x\"`"),
            ("^/x", "`'~ ^/x'`"),
            ("/static/*", "`\"/static\"`"),
            ("/x?y=1", "`\"/x\"`"),
            ("/a%20b", "the character itself"),
            ("~ (?=x)", "of their own"),
            ("~ (", "single quotes"),
        ] {
            let problem = path(bad).unwrap_err();
            assert!(
                problem.help.as_deref().is_some_and(|help| help.contains(suggestion)),
                "{bad} {problem:?}"
            );
        }
        assert!(path("/a/../b").is_err() && path("@fallback").is_err() && path("").is_err());
    }

    #[test]
    fn the_caret_is_at_the_fault() {
        assert_eq!(path("= /a%20b").unwrap_err().at, Some(4..7));
    }
}
