//! A small reader over the file as typed: values know where they stand, and what is wrong with them is
//! collected, so that every mistake of a file is told at once.

mod syntax;
mod table;
mod value;

use std::cell::RefCell;

use super::{
    diagnostic::{Diagnostic, Problem, Severity, Span},
    networks::NetworkFiles,
    pattern::Regexes,
    system::System,
};

pub use table::{FileKey, Table};
pub use value::{Value, integer, text};

/// What every reader of a part of the file shares.
pub struct Context<'a> {
    /// The file.
    pub text: &'a str,
    /// The machine it is for.
    pub system: &'a dyn System,
    /// Its regular expressions.
    pub regexes: Regexes,
    /// The files of networks that it names.
    pub networks: NetworkFiles,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Context<'a> {
    /// The context of one file.
    pub fn new(text: &'a str, system: &'a dyn System) -> Self {
        Self {
            text,
            system,
            regexes: Regexes::default(),
            networks: NetworkFiles::default(),
            found: RefCell::default(),
        }
    }

    /// Notes what must be mended.
    pub fn error(&self, span: Span, problem: Problem) {
        self.note(Severity::Error, Some(span), problem);
    }

    /// Notes what should be looked at.
    pub fn warn(&self, span: Span, problem: Problem) {
        self.note(Severity::Warning, Some(span), problem);
    }

    /// Notes where the text is no TOML.
    pub fn syntax_errors(&self, errors: &[toml::de::Error]) {
        for (span, problem) in syntax::problems(self.text, errors) {
            self.note(Severity::Error, span, problem);
        }
    }

    /// Notes what is wrong with the file as a whole.
    pub fn error_of_file(&self, problem: Problem) {
        self.note(Severity::Error, None, problem);
    }

    /// All that was noted.
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    fn note(&self, severity: Severity, span: Option<Span>, problem: Problem) {
        self.found.borrow_mut().push(Diagnostic { severity, span, problem });
    }

    /// Narrows the span of a string to what is at fault inside of it, when the string stands in the file
    /// as it is: quoted, without escapes.
    fn narrow(&self, span: &Span, content: &str, problem: &Problem) -> Span {
        let written = self.text.get(span.clone()).unwrap_or_default();
        let plain = ['"', '\''].iter().any(|quote| {
            written.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote)) == Some(content)
        });
        match &problem.at {
            Some(at) if plain => span.start + 1 + at.start..span.start + 1 + at.end,
            _ => span.clone(),
        }
    }
}
