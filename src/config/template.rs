//! Text with `{names}` in it, which have a value for each request.

use std::fmt;

use http::HeaderName;

use super::{
    diagnostic::{Problem, show},
    headers::any_name,
    keys::closest,
};

/// Text with `{names}` in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `{name}`
    Name(Name),
}

/// Name in a template: a property of the request or the response, or a capture of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Path as sent, without the query.
    Path,
    /// Query, without the question mark.
    Query,
    /// Path and query as sent.
    Uri,
    /// Part of the path after the route's prefix, or after the match of its expression.
    Rest,
    /// Host that was asked for, without the port.
    Host,
    /// Port that the client connected to.
    Port,
    /// `http` or `https`.
    Scheme,
    /// Method.
    Method,
    /// Address of the client.
    Client,
    /// Request id.
    RequestId,
    /// Authenticated user.
    User,
    /// `{header.NAME}`: first value of a request header.
    Header(HeaderName),
    /// `{cookie.NAME}`: value of a cookie.
    Cookie(String),
    /// `{query.NAME}`: decoded value of a query parameter.
    Parameter(String),
    /// `{response.NAME}`: first value of a header of the response.
    Response(HeaderName),
    /// Capture of the route's expression, or of the site's host expression.
    Capture(String),
}

/// Words that stand for a name.
const WORDS: [(&str, Name); 11] = [
    ("path", Name::Path),
    ("query", Name::Query),
    ("uri", Name::Uri),
    ("rest", Name::Rest),
    ("host", Name::Host),
    ("port", Name::Port),
    ("scheme", Name::Scheme),
    ("method", Name::Method),
    ("client", Name::Client),
    ("request_id", Name::RequestId),
    ("user", Name::User),
];

/// Names that a template may have.
#[derive(Debug, Clone, Copy, Default)]
pub struct NameScope<'a> {
    /// Capture groups. They take precedence over words of the same name.
    pub captures: &'a [&'a str],
    /// Whether there is a response: `{response.NAME}`.
    pub response: bool,
}

impl Template {
    /// Text without names.
    pub fn text(text: &str) -> Self {
        Self(if text.is_empty() { Vec::new() } else { vec![Part::Text(text.into())] })
    }

    /// Fills in the names: `write` adds the value of a name to the text so far.
    pub fn render(&self, mut write: impl FnMut(&Name, &mut Vec<u8>)) -> Vec<u8> {
        let mut text = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Name(name) => write(name, &mut text),
            }
        }
        text
    }

    /// The text when it has no names.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The names in it.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Name(name) => Some(name),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Name(name) => write!(f, "{{{name}}}"),
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Parameter(name) => write!(f, "query.{name}"),
            Self::Response(name) => write!(f, "response.{name}"),
            Self::Capture(name) => f.write_str(name),
            word => f.write_str(WORDS.iter().find(|(_, name)| name == word).map_or("", |(text, _)| text)),
        }
    }
}

/// Reads a template. Braces of the text itself are doubled: `{{`, `}}`.
pub fn template(text: &str, scope: NameScope<'_>) -> Result<Template, Problem> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(['{', '}']) {
        let brace = at + found;
        literal.push_str(&text[at..brace]);
        let from = &text[brace..];
        if let Some(doubled) = ["{{", "}}"].into_iter().find(|doubled| from.starts_with(doubled)) {
            literal.push_str(&doubled[1..]);
            at = brace + 2;
            continue;
        }
        let close = from.find('}').filter(|_| from.starts_with('{'));
        let Some(close) = close else {
            let title = format!("{} has an unmatched brace", show(text));
            return Err(Problem::new(title, "braces enclose a name")
                .at(brace..brace + 1)
                .help("write for example `{host}`; a brace of the text itself is doubled: `{{`, `}}`"));
        };
        let name = name(&from[1..close], scope).map_err(|problem| problem.at(brace..brace + close + 1))?;
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(Part::Name(name));
        at = brace + close + 1;
    }
    literal.push_str(&text[at..]);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(Template(parts))
}

/// Reads a name, without its braces.
fn name(text: &str, scope: NameScope<'_>) -> Result<Name, Problem> {
    if scope.captures.contains(&text) {
        return Ok(Name::Capture(text.into()));
    }
    if let Some((_, name)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(name.clone());
    }
    match text.split_once('.') {
        Some(("header", name)) => any_name(name).map(Name::Header),
        Some(("response", name)) if scope.response => any_name(name).map(Name::Response),
        Some(("response", _)) => {
            Err(Problem::new(format!("{} is not defined here", show(text)), "there is no response yet")
                .help("`{response.NAME}` stands in `headers` only"))
        }
        Some(("cookie", name)) if !name.is_empty() => Ok(Name::Cookie(name.into())),
        Some(("query", name)) if !name.is_empty() => Ok(Name::Parameter(name.into())),
        _ => Err(unknown(text, scope)),
    }
}

fn unknown(name: &str, scope: NameScope<'_>) -> Problem {
    let problem = Problem::new(format!("{} is not defined here", show(name)), "unknown name");
    if name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() {
        return problem.help("groups are used by name: write `(?<name>…)` in the route and `{name}` here");
    }
    if !name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.')) {
        return problem.help("a brace of the text itself is doubled: `{{`, `}}`");
    }
    let words = WORDS.iter().map(|(word, _)| *word);
    match closest(name, words.chain(scope.captures.iter().copied())) {
        Some(near) => problem.help(format!("did you mean `{{{near}}}`?")),
        None => problem.help(
            "names are `{path}`, `{query}`, `{uri}`, `{rest}`, `{host}`, `{port}`, `{scheme}`, `{method}`, \
             `{client}`, `{request_id}`, `{user}`, `{header.NAME}`, `{cookie.NAME}`, `{query.NAME}`, and \
             `(?<name>…)` in a route or host by regular expression adds `{name}`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, captures: &[&str]) -> Result<Template, Problem> {
        template(text, NameScope { captures, response: false })
    }

    #[test]
    fn texts_and_names_alternate() {
        let read = |text| read(text, &["x", "y"]).unwrap();
        let template = read("/a/{x}{y}/b");
        assert_eq!(template.to_string(), "/a/{x}{y}/b");
        assert_eq!(template.0.len(), 4);
        let rendered = template
            .render(|name, out| out.push(if *name == Name::Capture("x".into()) { b'1' } else { b'2' }));
        assert_eq!(rendered, b"/a/12/b");
        assert_eq!(read(""), Template(vec![]));
        assert_eq!(read("{{\"a\":{{}}}}{x}}}").literal(), None);
        assert_eq!(read("{{\"a\":{{}}}}").literal(), Some("{\"a\":{}}"));
        assert_eq!(read("{{\"a\":{{}}}}").to_string(), "{{\"a\":{{}}}}");
    }

    #[test]
    fn names_are_words_parts_of_the_request_and_captures() {
        let read = |text| read(text, &["host"]).unwrap().0.remove(0);
        assert_eq!(read("{path}"), Part::Name(Name::Path));
        assert_eq!(read("{host}"), Part::Name(Name::Capture("host".into())), "a capture hides a word");
        let header = HeaderName::from_static("x-user");
        assert_eq!(read("{header.X-User}"), Part::Name(Name::Header(header)));
        assert_eq!(read("{cookie.a.b}"), Part::Name(Name::Cookie("a.b".into())));
        assert_eq!(read("{query.next}"), Part::Name(Name::Parameter("next".into())));
        for (word, _) in WORDS.iter().filter(|(word, _)| *word != "host") {
            let text = format!("{{{word}}}");
            assert_eq!(template(&text, NameScope::default()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_without_a_value_are_refused() {
        let bad = [
            "{z}",
            "{",
            "}",
            "a}b{x}",
            "{x",
            "{}",
            "{1}",
            "{cookie.}",
            "{header.a b}",
            "{response.a}",
            "{ x }",
        ];
        for bad in bad {
            assert!(read(bad, &["x"]).is_err(), "{bad}");
        }
        assert_eq!(read("é/{hots}", &[]).unwrap_err().at, Some(3..9));
        assert_eq!(read("{hots}", &[]).unwrap_err().help.as_deref(), Some("did you mean `{host}`?"));
        let scope = NameScope { captures: &[], response: true };
        assert!(template("{response.etag}", scope).is_ok());
    }
}
