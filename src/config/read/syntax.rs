//! Syntax errors of TOML, in words for readers who do not know TOML.

use toml::de::Error;

use crate::config::diagnostic::{Problem, Span, show};

/// The errors in the order of the file, the first of each line only, as the others on a line follow from it.
pub fn problems(text: &str, errors: &[Error]) -> Vec<(Option<Span>, Problem)> {
    let mut found: Vec<(Option<Span>, &str)> =
        errors.iter().map(|error| (error.span(), error.message())).collect();
    found.sort_by_key(|(span, _)| span.as_ref().map(|span| span.start));
    let line = |span: &Option<Span>| span.as_ref().map(|span| before(text, span).matches('\n').count());
    found.dedup_by_key(|(span, _)| line(span));
    let mut problems: Vec<(Option<Span>, Problem)> = Vec::new();
    for (span, message) in found {
        let written = span.clone().and_then(|span| text.get(span)).unwrap_or_default();
        let problem = problem(message.lines().next().unwrap_or_default(), written);
        let repeated = problem == no_toml() && problems.iter().any(|(_, earlier)| *earlier == problem);
        if !repeated {
            problems.push((span, problem));
        }
    }
    problems
}

fn before<'a>(text: &'a str, span: &Span) -> &'a str {
    text.get(..span.start).unwrap_or(text)
}

fn problem(message: &str, written: &str) -> Problem {
    let (kind, _) = message.split_once(", expected").unwrap_or((message, ""));
    match kind {
        "string values must be quoted" if written.trim().is_empty() => {
            Problem::new("a value is missing", "nothing after `=`")
        }
        "string values must be quoted" => {
            Problem::new(format!("{} must be in quotes", show(written)), "no quotes")
                .help(format!("write `{written:?}`"))
        }
        "duplicate key" => Problem::new(format!("{} is defined twice", show(written)), "again here")
            .help("remove one of them, or put what is below both into one table"),
        "invalid basic string" | "invalid literal string" => {
            Problem::new("a string without its closing quote", "ends here without a quote")
        }
        "missing escaped value" | "invalid escape sequence" => {
            Problem::new("an invalid escape sequence", "a backslash starts an escape in double quotes").help(
                "write regular expressions in single quotes, which leave backslashes alone: `'~ ^/\\d+$'`",
            )
        }
        "key with no value" | "invalid key-value pair" | "invalid unquoted key" => no_toml(),
        "invalid boolean" => {
            Problem::new(format!("{} is not a value", show(written)), "no number, no quotes").help(
                match written.to_ascii_lowercase().as_str() {
                    word @ ("true" | "false") => format!("write `{word}`"),
                    _ => format!("write a number, `true` or `false`, or a string in quotes: `{written:?}`"),
                },
            )
        }
        "missing comma between array elements" | "unclosed array" => {
            Problem::new("a list is not closed", "`]` or a comma is missing before this")
        }
        "missing comma between key-value pairs" | "unclosed inline table" => {
            Problem::new("a table in braces is not closed", "`}` or a comma is missing before this")
        }
        "unexpected leading zero" => Problem::new("a number with a leading zero", "not a number in TOML")
            .help("write it without, or in quotes: `mode = \"0660\"`"),
        "unclosed table" | "unclosed array table" => {
            Problem::new("a table's header is not closed", message_tail(message))
        }
        _ => Problem::new(format!("this is not TOML: {message}"), "here"),
    }
}

/// A file of another program has this error on every line; the first is enough.
fn no_toml() -> Problem {
    Problem::new("this is not TOML", "not `key = value`").help(
        "write `key = value`, `[table]` or `[[list of tables]]`; a comment starts with `#`,\n\
         and a key stands in quotes when there is more in it than letters, digits, `_` and `-`",
    )
}

fn message_tail(message: &str) -> String {
    message.split_once(", ").map_or(message, |(_, tail)| tail).into()
}
