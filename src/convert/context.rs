//! What one conversion knows and has made so far.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    auth::Auths,
    cache::Caches,
    expr::{NoValue, Variables},
    ledger::Ledger,
    limits::Limits,
    map::Map,
    model::{Matcher, Server},
    program::{self, Program, Way},
    scope::Scope,
    syntax::Directive,
    upstreams::Upstreams,
};

/// Most steps of one conversion.
const MOST_STEPS: usize = 200_000;

/// State of one conversion.
#[derive(Debug)]
pub struct Context<'a> {
    /// Outcomes of directives.
    pub ledger: &'a Ledger,
    /// Directory that relative paths begin at.
    pub home: PathBuf,
    /// `map` and `geo` blocks.
    pub maps: Vec<Map<'a>>,
    /// Upstreams.
    pub upstreams: RefCell<Upstreams<'a>>,
    /// Limits.
    pub limits: RefCell<Limits<'a>>,
    /// Authentication.
    pub auths: RefCell<Auths>,
    /// Caches.
    pub caches: RefCell<Caches>,
    /// Steps that are left: an original that needs more is no configuration of a person.
    pub budget: Cell<usize>,
    /// Locations that are something else than routes: error pages, authentication.
    pub absorbed: RefCell<BTreeSet<usize>>,
}

/// Reason why a route cannot be made yet, or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Value that depends on the variable of a map: there must be an alternative for each entry.
    Map(String),
    /// Value that cannot be made; the reason is in the ledger.
    Impossible,
}

impl<'a> Context<'a> {
    /// A fresh state for an `http` block.
    pub fn new(http: &'a [Directive], home: &Path, ledger: &'a Ledger) -> Self {
        Self {
            ledger,
            home: home.into(),
            maps: super::map::all(http),
            upstreams: RefCell::new(Upstreams::new(http)),
            limits: RefCell::new(Limits::new(http)),
            auths: RefCell::default(),
            caches: RefCell::new(Caches::new(http)),
            budget: Cell::new(MOST_STEPS),
            absorbed: RefCell::default(),
        }
    }

    /// The interpreter of the rewrite phase.
    pub fn program(&self, is_server: bool) -> Program<'_, 'a> {
        Program { ledger: self.ledger, maps: &self.maps, budget: &self.budget, is_server }
    }

    /// Takes a step, unless there were too many.
    pub fn step(&self) -> bool {
        program::spend(&self.budget)
    }

    /// Variables that every location of a server knows.
    pub fn variables(&self, server: &Server<'a>) -> Variables {
        let mut variables = Variables {
            maps: self.maps.iter().map(|map| map.name.clone()).collect(),
            server_name: server.names.first().cloned().unwrap_or_default(),
            ..Variables::default()
        };
        let expressions = server.names.iter().filter_map(|name| name.strip_prefix('~'));
        for pattern in expressions.filter_map(|source| super::pattern::named(source, false, |_| false)) {
            program::use_names(&mut variables, &pattern);
        }
        variables
    }

    /// Replaces variables in an argument of a directive. A failure is noted, unless a map can be resolved.
    pub fn resolve(
        &self,
        directive: &Directive,
        text: &str,
        variables: &Variables,
    ) -> Result<super::expr::Expr, Stop> {
        variables.resolve(text).map_err(|no_value| match no_value {
            NoValue::Map(name) => Stop::Map(name),
            unknown @ NoValue::Unknown(_) => {
                program::no_value_in(self.ledger, directive, &unknown);
                Stop::Impossible
            }
        })
    }

    /// A path of a file, absolute.
    pub fn path(&self, text: &str) -> String {
        match text.starts_with('/') {
            true => text.into(),
            false => self.home.join(text).display().to_string(),
        }
    }

    /// Ways through the directives of a location, `from` another way or with the variables of the server.
    pub fn ways(&self, matcher: &Matcher, scope: &Scope<'a>, variables: Variables) -> Vec<Way<'a>> {
        let way = Way::new(matcher.clone(), scope.clone(), variables);
        self.program(false).run(scope.own(), way)
    }
}
