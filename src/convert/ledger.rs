//! What became of each directive, and what was noticed on the way.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeSet, HashMap},
};

use super::syntax::{Directive, Place};

/// What became of a directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The result says the same.
    Carried,
    /// The result does the same without saying it.
    Unnecessary(Cow<'static, str>),
    /// The result does not do the same.
    Reported {
        /// Reason.
        why: Cow<'static, str>,
        /// What to do.
        instead: Cow<'static, str>,
    },
}

/// Trap of the original that an administrator should know of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Place in the original.
    pub place: Place,
    /// What was found, and what it means.
    pub text: String,
}

/// Outcomes by directive. A directive that nobody marks is reported, so that nothing is dropped in silence.
#[derive(Debug, Default)]
pub struct Ledger {
    outcomes: RefCell<HashMap<usize, Outcome>>,
    notes: RefCell<BTreeSet<Note>>,
}

impl Ledger {
    /// Marks a directive as carried over, unless a part of it is reported.
    pub fn carried(&self, directive: &Directive) {
        let mut outcomes = self.outcomes.borrow_mut();
        let outcome = outcomes.entry(directive.id).or_insert(Outcome::Carried);
        if matches!(outcome, Outcome::Unnecessary(_)) {
            *outcome = Outcome::Carried;
        }
    }

    /// Marks a directive as unnecessary, unless it is carried over or reported elsewhere.
    pub fn unnecessary(&self, directive: &Directive, why: impl Into<Cow<'static, str>>) {
        self.outcomes.borrow_mut().entry(directive.id).or_insert_with(|| Outcome::Unnecessary(why.into()));
    }

    /// Marks a directive as not carried over.
    pub fn reported(
        &self,
        directive: &Directive,
        why: impl Into<Cow<'static, str>>,
        instead: impl Into<Cow<'static, str>>,
    ) {
        let mut outcomes = self.outcomes.borrow_mut();
        if !matches!(outcomes.get(&directive.id), Some(Outcome::Reported { .. })) {
            outcomes.insert(directive.id, Outcome::Reported { why: why.into(), instead: instead.into() });
        }
    }

    /// Marks a directive and everything in its block as unnecessary.
    pub fn all_unnecessary(&self, directive: &Directive, why: &'static str) {
        self.unnecessary(directive, why);
        directive.children().iter().for_each(|child| self.all_unnecessary(child, why));
    }

    /// Points out a trap.
    pub fn note(&self, directive: &Directive, text: impl Into<String>) {
        self.note_at(&directive.place, text);
    }

    /// Points out something about a place.
    pub fn note_at(&self, place: &Place, text: impl Into<String>) {
        self.notes.borrow_mut().insert(Note { place: place.clone(), text: text.into() });
    }

    /// Outcome of a directive so far.
    pub fn outcome(&self, directive: &Directive) -> Option<Outcome> {
        self.outcomes.borrow().get(&directive.id).cloned()
    }

    /// Traps in the order of their places.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.borrow().iter().cloned().collect()
    }
}
