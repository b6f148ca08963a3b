//! Diagnostics: an error or warning, its place in the file, and a suggestion, drawn as rustc draws them.

use std::{fmt, ops::Range, sync::Arc};

use super::include::Sources;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, renderer::DecorStyle};

/// Bytes of the file.
pub type Span = Range<usize>;

/// Most diagnostics that are drawn, more than anybody reads at once; the rest is only counted.
const MOST_SHOWN: usize = 50;

/// Fault of a value, before its place in the file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Summary in one line, clear without the source line.
    pub title: String,
    /// Text beside the caret.
    pub label: String,
    /// Suggestion of text to write instead.
    pub help: Option<String>,
    /// Bytes of the string that are at fault; `None` means all of it.
    pub at: Option<Range<usize>>,
    /// Another place in the file that is related, with the reason.
    pub also: Option<Box<(Span, String)>>,
}

impl Problem {
    /// A problem with its title and the text beside the caret.
    pub fn new(title: impl Into<String>, label: impl Into<String>) -> Self {
        Self { title: title.into(), label: label.into(), help: None, at: None, also: None }
    }

    /// Adds a suggestion.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Narrows the caret to these bytes of the string.
    pub fn at(mut self, at: Range<usize>) -> Self {
        self.at = Some(at);
        self
    }

    /// Adds a related place.
    pub fn also(mut self, span: Span, why: impl Into<String>) -> Self {
        self.also = Some(Box::new((span, why.into())));
        self
    }
}

/// Quotes text of the file within a message: in backticks, short, and without control characters.
pub fn show(text: &str) -> String {
    let clean: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(60).is_some() { "…" } else { "" };
    // `escape_debug` also escapes quotes, which are harmless here and common.
    format!("`{}{more}`", clean.replace("\\\"", "\"").replace("\\'", "'").replace("\\\\", "\\"))
}

/// A list of words for a message: `a`, `b` or `c`.
pub fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    joined(words, "or")
}

/// A list of words for a message: `a`, `b` and `c`.
pub fn all_of<S: AsRef<str>>(words: &[S]) -> String {
    joined(words, "and")
}

fn joined<S: AsRef<str>>(words: &[S], by: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    plain(&words, by)
}

/// A list of phrases for a message: a, b or c.
pub fn comma_or(phrases: &[String]) -> String {
    plain(phrases, "or")
}

fn plain(words: &[String], by: &str) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} {by} {last}", first.join(", ")),
    }
}

/// Severity of a diagnostic: whether the configuration may take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration may not take effect.
    Error,
    /// The configuration may take effect.
    Warning,
}

/// File that the configuration names and that was read with it, such as galaxy.yml.
#[derive(Debug)]
pub struct Source {
    /// Path of the file.
    pub name: String,
    /// Content of the file.
    pub text: String,
}

/// A place in the configuration, or in a file that it names.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file, if it is not one of the configuration's own.
    pub source: Option<Arc<Source>>,
    /// Bytes of the file.
    pub span: Span,
}

/// A problem at its place.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// Severity.
    pub severity: Severity,
    /// File with the place, if it is not one of the configuration's own.
    pub source: Option<Arc<Source>>,
    /// Place in the file; `None` is about the file as a whole.
    pub span: Option<Span>,
    /// Fault at that place.
    pub problem: Problem,
}

/// Errors and warnings of a file and of those that it includes, in the order of the files.
///
/// [`Display`](fmt::Display) draws them without colours; [`Report::render`] with or without.
#[derive(Debug, Clone)]
pub struct Report {
    /// Text of all files, one after the other.
    text: String,
    /// Names of the files, and where each begins; never empty.
    files: Vec<(String, usize)>,
    found: Vec<Diagnostic>,
}

impl Report {
    /// A report about files.
    pub(super) fn new(sources: &Sources, mut found: Vec<Diagnostic>) -> Self {
        fn place(one: &Diagnostic) -> (Option<&str>, usize) {
            let file = one.source.as_ref().map(|source| source.name.as_str());
            (file, one.span.as_ref().map_or(0, |span| span.start))
        }
        found.sort_by(|one, other| place(one).cmp(&place(other)));
        Self { text: sources.text.clone(), files: sources.files.clone(), found }
    }

    /// Name of the file that includes the others.
    fn name(&self) -> &str {
        self.files.first().map_or("", |(name, _)| name)
    }

    /// Name and text of the file that a span is in, and the span within it.
    fn place(&self, span: &Span) -> (&str, &str, Span) {
        let next = self.files.partition_point(|(_, start)| *start <= span.start).max(1);
        let (name, start) = &self.files[next - 1];
        let end = self.files.get(next).map_or(self.text.len(), |(_, next)| next - 1);
        let text = &self.text[*start..end];
        (name, text, within(text, span.start - start..span.end.saturating_sub(*start)))
    }

    /// A report of one error at these bytes of a text.
    pub fn of_one(
        name: &str,
        text: &str,
        at: Span,
        title: String,
        label: String,
        help: Option<String>,
    ) -> Self {
        let problem = Problem { help, ..Problem::new(title, label) };
        Self::new(
            &Sources::of(name, text),
            vec![Diagnostic { severity: Severity::Error, span: Some(at), problem, source: None }],
        )
    }

    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Draws each diagnostic: title, file:line:column, the line, a caret, help. The last line counts them.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for one in self.found.iter().take(MOST_SHOWN) {
            out.push_str(&renderer.render(&[self.group(one)]));
            out.push_str("\n\n");
        }
        if let Some(more @ 1..) = self.found.len().checked_sub(MOST_SHOWN) {
            out.push_str(&format!("({more} more are not shown)\n\n"));
        }
        out.push_str(&self.summary());
        out
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|one| one.severity == severity).count()
    }

    fn group<'a>(&'a self, one: &'a Diagnostic) -> Group<'a> {
        let level = match one.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let Problem { title, label, help, also, .. } = &one.problem;
        let title = level.primary_title(title);
        let mut group = match &one.span {
            None => title.element(Origin::path(self.name())),
            Some(span) => {
                let label = Some(label.as_str()).filter(|label| !label.is_empty());
                let (name, text, place) = match &one.source {
                    Some(source) => {
                        (source.name.as_str(), source.text.as_str(), within(&source.text, span.clone()))
                    }
                    None => self.place(span),
                };
                let primary = AnnotationKind::Primary.span(place).label(label);
                let mut snippet = Snippet::source(text).path(name).annotation(primary);
                let mut other = None;
                if let Some((span, why)) = also.as_deref() {
                    let (second, text, place) = self.place(span);
                    let annotation = AnnotationKind::Context.span(place).label(why);
                    if second == name {
                        snippet = snippet.annotation(annotation);
                    } else {
                        other = Some(Snippet::source(text).path(second).annotation(annotation));
                    }
                }
                title.element(snippet).elements(other)
            }
        };
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        group
    }

    fn summary(&self) -> String {
        let plural = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let errors = plural(self.errors(), "error");
        let warnings = plural(self.warnings(), "warning");
        match (self.errors(), self.warnings()) {
            (_, 0) => format!("{errors} in {}", self.name()),
            (0, _) => format!("{warnings} in {}", self.name()),
            _ => format!("{errors} and {warnings} in {}", self.name()),
        }
    }
}

/// Limits a span to a text and to whole characters, as the renderer panics on others. A span of several lines (a whole
/// table) is shown at its first line.
fn within(text: &str, span: Span) -> Span {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = span.end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let line = text.get(start..end).and_then(|text| text.find('\n'));
    start..line.map_or(end, |length| start + length.max(1))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
