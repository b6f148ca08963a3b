//! A reader of TOML values with their places in the file. Errors are collected, so that all of them are reported at
//! once.

mod syntax;
mod table;
mod value;

use std::{cell::RefCell, rc::Rc};

use super::{
    diagnostic::{Diagnostic, Place, Problem, Severity, Span},
    networks::NetworkFiles,
    pattern::Regexes,
    system::System,
};

pub use table::{FileKey, Table};
pub use value::{Value, integer, text};

/// State shared by the readers of one file.
pub struct Context<'a> {
    /// The file.
    pub text: &'a str,
    /// The machine that the file is checked against.
    pub system: &'a dyn System,
    /// Regular expressions of the file.
    pub regexes: Rc<Regexes>,
    /// Files of networks that the file names.
    pub networks: Rc<NetworkFiles>,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Context<'a> {
    /// The context of one file.
    pub fn new(text: &'a str, system: &'a dyn System) -> Self {
        Self { text, system, regexes: Rc::default(), networks: Rc::default(), found: RefCell::default() }
    }

    /// The context of a text that is made while this one is read.
    pub fn nested<'n>(&'n self, text: &'n str) -> Context<'n> {
        let (regexes, networks) = (Rc::clone(&self.regexes), Rc::clone(&self.networks));
        Context { regexes, networks, ..Context::new(text, self.system) }
    }

    /// Notes an error.
    pub fn error(&self, span: Span, problem: Problem) {
        self.note(Severity::Error, Some(span), problem);
    }

    /// Notes a warning.
    pub fn warn(&self, span: Span, problem: Problem) {
        self.note(Severity::Warning, Some(span), problem);
    }

    /// Notes syntax errors of TOML.
    pub fn syntax_errors(&self, errors: &[toml::de::Error]) {
        for (span, problem) in syntax::problems(self.text, errors) {
            self.note(Severity::Error, span, problem);
        }
    }

    /// Notes an error about the file as a whole.
    pub fn error_of_file(&self, problem: Problem) {
        self.note(Severity::Error, None, problem);
    }

    /// The noted errors and warnings.
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    fn note(&self, severity: Severity, span: Option<Span>, problem: Problem) {
        self.found.borrow_mut().push(Diagnostic { severity, source: None, span, problem });
    }

    /// Notes an error or a warning at a place that may be in another file, read with this one.
    pub fn note_at(&self, severity: Severity, place: &Place, problem: Problem) {
        let Place { source, span } = place.clone();
        self.found.borrow_mut().push(Diagnostic { severity, source, span: Some(span), problem });
    }

    /// Narrows the span of a string to the fault inside it, when the string in the file is literal: quoted, without
    /// escapes.
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
