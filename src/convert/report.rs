//! What the conversion says: what is not carried over, traps, and counts.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    ledger::{Ledger, Note, Outcome},
    syntax::{Directive, Place},
};

/// Outcome of a conversion, for people.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Directives that the result says.
    pub carried: usize,
    /// Directives that are not needed.
    pub unnecessary: usize,
    /// Directives that are not carried over.
    pub reported: Vec<Reported>,
    /// Reasons why directives are not needed, with their names.
    pub reasons: BTreeMap<String, BTreeMap<String, usize>>,
    /// Traps of the original.
    pub notes: Vec<Note>,
}

/// A directive that is not carried over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reported {
    /// Place.
    pub place: Place,
    /// The directive.
    pub line: String,
    /// Reason.
    pub why: String,
    /// What to do.
    pub instead: String,
}

impl Summary {
    /// Counts the outcomes of all directives.
    pub fn of(tree: &[Directive], ledger: &Ledger) -> Self {
        let mut summary = Self { notes: ledger.notes(), ..Self::default() };
        summary.count(tree, ledger);
        summary.reported.sort();
        summary
    }

    fn count(&mut self, tree: &[Directive], ledger: &Ledger) {
        for directive in tree {
            match ledger.outcome(directive) {
                Some(Outcome::Carried) => self.carried += 1,
                Some(Outcome::Unnecessary(why)) => {
                    self.unnecessary += 1;
                    *self
                        .reasons
                        .entry(why.into_owned())
                        .or_default()
                        .entry(directive.name.clone())
                        .or_default() += 1;
                }
                Some(Outcome::Reported { why, instead }) => self.reported.push(Reported {
                    place: directive.place.clone(),
                    line: directive.line(),
                    why: why.into_owned(),
                    instead: instead.into_owned(),
                }),
                None => self.reported.push(Reported {
                    place: directive.place.clone(),
                    line: directive.line(),
                    why: "the conversion has no rule for it".into(),
                    instead: "see whether the site needs it".into(),
                }),
            }
            self.count(directive.children(), ledger);
        }
    }

    /// Number of all directives.
    pub fn total(&self) -> usize {
        self.carried + self.unnecessary + self.reported.len()
    }

    /// Share of directives that are carried over or not needed, in percent.
    pub fn share(&self) -> f64 {
        let total = u32::try_from(self.total()).unwrap_or(u32::MAX).max(1);
        let reported = u32::try_from(self.reported.len()).unwrap_or(u32::MAX);
        100.0 * f64::from(total - reported) / f64::from(total)
    }

    /// The report. With `all`, also why directives are not needed.
    pub fn text(&self, all: bool) -> String {
        let mut text = String::new();
        for one in &self.reported {
            let Reported { place, line, why, instead } = one;
            let _ = writeln!(
                text,
                "{}: not carried over: {}\n    {}.\n    {}.",
                shown(place),
                short(line),
                capital(why),
                capital(instead)
            );
        }
        let mut told: Vec<&str> = Vec::new();
        for note in &self.notes {
            if told.contains(&note.text.as_str()) {
                continue;
            }
            told.push(&note.text);
            let more = self.notes.iter().filter(|other| other.text == note.text).count() - 1;
            let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            let _ = writeln!(text, "{}: note{more}: {}.", shown(&note.place), note.text);
        }
        if all {
            for (why, names) in &self.reasons {
                let names: Vec<String> = names.iter().map(|(name, count)| times(name, *count)).collect();
                let _ = writeln!(text, "not needed: {}: {why}", names.join(", "));
            }
        }
        let _ = writeln!(
            text,
            "{} directives: {} carried over, {} not needed, {} reported ({:.1} % carried over or not needed)",
            self.total(),
            self.carried,
            self.unnecessary,
            self.reported.len(),
            self.share(),
        );
        text
    }
}

fn times(name: &str, count: usize) -> String {
    if count == 1 { name.into() } else { format!("{name} ({count} times)") }
}

fn shown(place: &Place) -> String {
    format!("{}:{}:{}", place.file, place.line, place.column)
}

/// A line that fits a terminal.
fn short(line: &str) -> String {
    const LONGEST: usize = 90;
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.into(),
    }
}

/// A sentence with a capital letter, unless it begins with a quoted word.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}
