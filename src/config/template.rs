//! Text with `{captures}`, each of which is known to have a value.

use std::{borrow::Cow, fmt};

use super::{
    diagnostic::{Problem, one_of, show},
    keys::closest,
};

/// Text with `{captures}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `{name}`: a capture of the route's regex, or a name that the action defines.
    Capture(String),
}

impl Template {
    /// Fills in the captures; a name without a value in `lookup` becomes empty.
    pub fn render<'a>(&self, lookup: impl Fn(&str) -> Option<Cow<'a, str>>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Capture(name) => text.push_str(&lookup(name).unwrap_or_default()),
            }
        }
        text
    }

    /// The text when it has no capture.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Capture(name) => write!(f, "{{{name}}}"),
        })
    }
}

/// Reads a template. Its names are `words` of the action or `captures` of the route's expression.
pub fn template(text: &str, words: &[&str], captures: &[&str]) -> Result<Template, Problem> {
    let known: Vec<&str> = words.iter().chain(captures).copied().collect();
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let offset = text.len() - rest.len();
        let (before, from) = rest.split_at(open);
        let close = from.find('}').filter(|_| from.starts_with('{'));
        let Some(close) = close else {
            return Err(Problem::new(
                format!("{} has an unmatched brace", show(text)),
                "braces enclose a name",
            )
            .at(offset + open..offset + open + 1)
            .help("write for example `{name}`"));
        };
        let name = &from[1..close];
        if !known.contains(&name) {
            let at = offset + open..offset + open + close + 1;
            return Err(unknown(name, &known, captures).at(at));
        }
        if words.contains(&name) && captures.contains(&name) {
            return Err(Problem::new(
                format!("{} is ambiguous", show(name)),
                "a built-in name, and a capture group of the route",
            )
            .at(offset + open..offset + open + close + 1)
            .help(format!("give the group another name: `(?<{name}2>…)`")));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.into()));
        }
        parts.push(Part::Capture(name.into()));
        rest = &from[close + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(Template(parts))
}

fn unknown(name: &str, known: &[&str], captures: &[&str]) -> Problem {
    let problem = Problem::new(format!("{} is not defined here", show(name)), "unknown");
    if name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() {
        return problem.help("groups are used by name: write `(?<name>…)` in the route and `{name}` here");
    }
    match closest(name, known.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{{{near}}}`?")),
        None if known.is_empty() => problem
            .help("only routes by regular expression have names: `(?<name>…)` in the route gives `{name}`"),
        None => {
            let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
            let more = if captures.is_empty() {
                "; `(?<name>…)` in a route `\"~ …\"` adds `{name}`"
            } else {
                ""
            };
            problem.help(format!("write {}{more}", one_of(&known)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_alternate() {
        let read = template("/a/{x}{y}/b", &[], &["x", "y"]).unwrap();
        assert_eq!(read.to_string(), "/a/{x}{y}/b");
        assert_eq!(read.0.len(), 4);
        assert_eq!(read.render(|name| Some(if name == "x" { "1".into() } else { "2".into() })), "/a/12/b");
        assert_eq!(template("", &[], &[]).unwrap(), Template(vec![]));
    }

    #[test]
    fn names_without_a_value_are_refused() {
        for bad in ["{z}", "{", "}", "a}b{x}", "{x", "{{x}}", "{}", "{1}"] {
            assert!(template(bad, &[], &["x"]).is_err(), "{bad}");
        }
        assert!(template("{path}", &["path"], &["path"]).is_err());
        assert_eq!(template("é/{hots}", &["host"], &[]).unwrap_err().at, Some(3..9));
        let help = template("{hots}", &["host"], &[]).unwrap_err().help;
        assert_eq!(help.as_deref(), Some("did you mean `{host}`?"));
    }
}
