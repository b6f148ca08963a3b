//! Directives of the rewrite phase (`set`, `if`, `rewrite`, `return`, `break`): all ways that a request can take
//! through them.

use std::cell::Cell;

use super::{
    condition::{self, All, Atom, Test, Truth, When},
    expr::{Expr, NoValue, Variables},
    ledger::Ledger,
    map::Map,
    model::Matcher,
    pattern::{self, Pattern},
    scope::Scope,
    syntax::Directive,
};

/// Most ways through one block. More would make no configuration that a person can read.
const MOST_WAYS: usize = 48;

/// One way through the directives, and where it ends.
#[derive(Debug, Clone)]
pub struct Way<'a> {
    /// Conditions under which it is taken.
    pub when: When,
    /// Settings for the content.
    pub scope: Scope<'a>,
    /// Blocks of the location itself and of the `if` that was taken, where `proxy_pass` and similar may stand.
    pub local: Scope<'a>,
    /// Settings for access, limits and authentication: those of the first location.
    pub access: Scope<'a>,
    /// Paths of the location.
    pub matcher: Matcher,
    /// Variables with their values.
    pub variables: Variables,
    /// The path after `rewrite`.
    pub uri: Option<Expr>,
    /// Whether the path was changed in the present location.
    pub is_rewritten_here: bool,
    /// Narrower pattern of paths, which needs a route of its own.
    pub key: Option<Matcher>,
    /// Host for which the way is taken, at the level of a server.
    pub host: Option<String>,
    /// Scheme for which the way is taken, at the level of a server.
    pub scheme: Option<String>,
    /// `internal` of the first location.
    pub internal: Option<&'a Directive>,
    /// Where it ends.
    pub end: End<'a>,
    /// Number of internal redirects so far.
    pub hops: usize,
    /// Whether the rewrite phase is over.
    is_over: bool,
}

/// Where a way ends.
#[derive(Debug, Clone)]
pub enum End<'a> {
    /// The content of the location.
    Content,
    /// A search for another location, with the new path.
    Search,
    /// `return`
    Return(&'a Directive),
    /// `rewrite` to another URL.
    Redirect {
        /// Target.
        to: Expr,
        /// Status.
        status: u16,
    },
}

impl<'a> Way<'a> {
    /// A way that begins at a location.
    pub fn new(matcher: Matcher, scope: Scope<'a>, variables: Variables) -> Self {
        Self {
            when: When::default(),
            local: Scope::of(scope.own()),
            access: scope.clone(),
            internal: scope.own().iter().find(|one| one.name == "internal"),
            scope,
            matcher,
            variables,
            uri: None,
            is_rewritten_here: false,
            key: None,
            host: None,
            scheme: None,
            end: End::Content,
            hops: 0,
            is_over: false,
        }
    }

    /// Continues at another location, with its directives.
    pub fn enter(&mut self, matcher: Matcher, scope: Scope<'a>) {
        self.local = Scope::of(scope.own());
        self.scope = scope;
        self.matcher = matcher;
        self.end = End::Content;
        self.is_over = false;
        self.is_rewritten_here = false;
        self.hops += 1;
    }

    fn over(mut self, end: End<'a>) -> Self {
        self.end = end;
        self.is_over = true;
        self
    }
}

/// Interpreter of the rewrite phase.
#[derive(Debug, Clone, Copy)]
pub struct Program<'p, 'a> {
    /// Outcomes of directives.
    pub ledger: &'p Ledger,
    /// Maps of the `http` block.
    pub maps: &'p [Map<'a>],
    /// Steps that are left.
    pub budget: &'p Cell<usize>,
    /// Whether the block is that of a server: conditions on host and scheme are possible.
    pub is_server: bool,
}

impl<'a> Program<'_, 'a> {
    /// All ways through a block, in the order in which their conditions are to be tried.
    pub fn run(&self, block: &'a [Directive], way: Way<'a>) -> Vec<Way<'a>> {
        let mut ways = self.step(block, way);
        ways.truncate(MOST_WAYS);
        ways
    }

    fn step(&self, directives: &'a [Directive], way: Way<'a>) -> Vec<Way<'a>> {
        if !spend(self.budget) {
            return vec![way];
        }
        let phase = ["set", "if", "rewrite", "return", "break"];
        let Some(at) = directives.iter().position(|one| phase.contains(&one.name.as_str())) else {
            return vec![way];
        };
        if way.is_over {
            directives[at..].iter().for_each(|one| self.unreached(one));
            return vec![way];
        }
        let (directive, rest) = (&directives[at], &directives[at + 1..]);
        match directive.name.as_str() {
            "set" => {
                let way = self.set(directive, way);
                self.step(rest, way)
            }
            "break" => {
                self.ledger.carried(directive);
                let end = if way.uri.is_some() && matches!(way.end, End::Search) {
                    End::Search
                } else {
                    End::Content
                };
                self.step(rest, way.over(end))
            }
            "return" => {
                self.ledger.carried(directive);
                self.step(rest, way.over(End::Return(directive)))
            }
            "rewrite" => self.rewrite(directive, rest, way),
            _ => self.branch(directive, rest, way),
        }
    }

    /// A directive behind a `return`.
    fn unreached(&self, directive: &Directive) {
        if ["set", "if", "rewrite", "return", "break"].contains(&directive.name.as_str()) {
            self.ledger.unnecessary(directive, "a directive above ends the processing");
            directive.children().iter().for_each(|one| self.unreached(one));
        }
    }

    fn set(&self, directive: &'a Directive, mut way: Way<'a>) -> Way<'a> {
        let [name, value] = directive.args.as_slice() else { return way };
        let name = name.trim_start_matches('$');
        match way.variables.resolve(value) {
            Ok(value) => {
                self.ledger.carried(directive);
                way.variables.set.insert(name.into(), value);
            }
            Err(no_value) => self.no_value(directive, &no_value),
        }
        way
    }

    /// Reports a value that cannot be written.
    pub fn no_value(&self, directive: &Directive, no_value: &NoValue) {
        no_value_in(self.ledger, directive, no_value);
    }

    fn branch(&self, directive: &'a Directive, rest: &'a [Directive], way: Way<'a>) -> Vec<Way<'a>> {
        let truth = condition::evaluate(&directive.args, &way.variables, self.maps);
        let taken = |way: Way<'a>| {
            let mut way = way;
            if !self.is_server {
                way.scope = self.outside_if(&way).within(directive.children());
                way.local = Scope::of(self.location_block(&way)).within(directive.children());
            }
            let inner = self.step(directive.children(), way);
            inner.into_iter().flat_map(|way| self.step(rest, way)).collect::<Vec<_>>()
        };
        let mut ways = Vec::new();
        match truth {
            Truth::Always(true) => {
                self.ledger.carried(directive);
                return taken(way);
            }
            Truth::Always(false) => {
                self.ledger.all_unnecessary(directive, "the condition never holds");
            }
            Truth::Any(cases) => {
                self.ledger.carried(directive);
                for case in cases {
                    match self.with(&way, case) {
                        Some(way) => ways.extend(taken(way)),
                        // Two values of one header: the conditions exclude each other.
                        None if way.when.0.is_empty() => {
                            self.impossible(directive, "it cannot be combined with others");
                        }
                        None => {}
                    }
                }
            }
            Truth::None(cases) => {
                self.ledger.carried(directive);
                for case in cases {
                    match self.with(&way, case) {
                        Some(way) => ways.extend(self.step(rest, way)),
                        None if way.when.0.is_empty() => {
                            self.impossible(directive, "it cannot be combined with others");
                        }
                        None => {}
                    }
                }
                ways.extend(taken(way));
                return ways;
            }
            Truth::Unknown(why) => self.impossible(directive, &why),
        }
        ways.extend(self.step(rest, way));
        ways
    }

    /// The scope without the block of an `if` that was taken before: only the last one counts.
    fn outside_if(&self, way: &Way<'a>) -> Scope<'a> {
        let is_location = std::ptr::eq(way.scope.own(), self.location_block(way));
        if is_location { way.scope.clone() } else { way.scope.outer() }
    }

    /// The block of the location, the outermost of `local`.
    fn location_block(&self, way: &Way<'a>) -> &'a [Directive] {
        let mut scope = way.local.clone();
        loop {
            let outer = scope.outer();
            if outer.own().is_empty() {
                return scope.own();
            }
            scope = outer;
        }
    }

    fn impossible(&self, directive: &'a Directive, why: &str) {
        let instead = "look whether the site needs it; `when` of a route compares methods, headers, cookies, the query, \
                       networks and User-Agent";
        self.ledger.reported(directive, format!("the condition has no equivalent: {why}"), instead);
        for child in directive.children() {
            self.ledger.reported(
                child,
                "it belongs to a condition without an equivalent",
                "see the `if` around it",
            );
        }
    }

    /// The way under further conditions.
    fn with(&self, way: &Way<'a>, case: All) -> Option<Way<'a>> {
        let mut way = way.clone();
        for atom in case.atoms {
            let is_possible = match atom {
                Atom::Path(source, any_case) => {
                    let pattern = pattern::named(&source, any_case, |_| true)?;
                    use_names(&mut way.variables, &pattern);
                    way.key.replace(Matcher::Regex { source: pattern.source, any_case }).is_none()
                }
                Atom::PathIs(path) => way.key.replace(Matcher::Exact(path)).is_none(),
                Atom::Host(host) if self.is_server => way.host.replace(host).is_none(),
                Atom::Host(host) => {
                    let test = match host.strip_prefix('~') {
                        Some(source) => Test::Matches(format!("~ {source}")),
                        None => Test::Is(host),
                    };
                    way.when.add(Atom::Header("Host".into(), test))
                }
                Atom::Scheme(scheme) => self.is_server && way.scheme.replace(scheme).is_none(),
                atom => way.when.add(atom),
            };
            if !is_possible {
                return None;
            }
        }
        if let Some(captures) = case.captures {
            way.variables.captures = captures;
        }
        Some(way)
    }

    fn rewrite(&self, directive: &'a Directive, rest: &'a [Directive], way: Way<'a>) -> Vec<Way<'a>> {
        let [source, replacement, flags @ ..] = directive.args.as_slice() else {
            return self.step(rest, way);
        };
        let flag = flags.first().map_or("", String::as_str);
        self.ledger.carried(directive);
        // A rewrite that only exchanges the prefix, or keeps the whole path, needs no expression.
        if let (None, Some(prefix)) = (&way.uri, way.matcher.path())
            && let Some(uri) = pattern::exchange(prefix, source, replacement)
            && !matches!(flag, "redirect" | "permanent")
        {
            return self.rewritten(directive, rest, way, uri, flag);
        }
        if let Some(literal) = way.uri.as_ref().and_then(Expr::literal).map(str::to_owned) {
            return self.rewrite_literal(directive, rest, way, &literal, flag);
        }
        let mut inner = way.clone();
        let is_certain = pattern::is_everything(source);
        if let Some(has_slash) = pattern::whole_path(source).filter(|_| way.uri.is_none()) {
            let kept = if has_slash { replacement.clone() } else { replacement.replacen("/$1", "$1", 1) };
            if has_slash || kept != *replacement {
                inner.variables.captures = vec![Expr::name("path")];
                let uri = self.replaced(directive, &inner, &kept);
                return uri.map_or_else(Vec::new, |uri| self.rewritten(directive, rest, inner, uri, flag));
            }
        }
        if !is_certain {
            if way.uri.is_some() || way.key.is_some() {
                let why = "the path was changed by another `rewrite` before";
                self.ledger.reported(directive, why, "write one route for each path");
                return self.step(rest, way);
            }
            let any_case = source.starts_with("(?i)");
            let bare = source.strip_prefix("(?i)").unwrap_or(source);
            let used = super::expr::variables(replacement);
            let Some(pattern) = pattern::named(bare, any_case, |number| used.contains(&number.to_string()))
            else {
                let why = "the expression has look-around or back references";
                self.ledger.reported(directive, why, "write a route for each kind of path");
                return self.step(rest, way);
            };
            use_names(&mut inner.variables, &pattern);
            inner.key = Some(Matcher::Regex { source: pattern.source, any_case });
        }
        let mut ways = match self.replaced(directive, &inner, replacement) {
            Some(uri) => self.rewritten(directive, rest, inner, uri, flag),
            None => Vec::new(),
        };
        if !is_certain {
            ways.extend(self.step(rest, way));
        }
        ways
    }

    /// A second rewrite, of a path that is known.
    fn rewrite_literal(
        &self,
        directive: &'a Directive,
        rest: &'a [Directive],
        mut way: Way<'a>,
        literal: &str,
        flag: &str,
    ) -> Vec<Way<'a>> {
        let (source, replacement) = (directive.first(), directive.args[1].as_str());
        let regex = super::map::compiled(source, false);
        let Some(found) = regex.as_ref().and_then(|regex| regex.captures(literal)) else {
            return self.step(rest, way);
        };
        way.variables.captures =
            found.iter().skip(1).map(|one| Expr::text(one.map_or("", |one| one.as_str()))).collect();
        match self.replaced(directive, &way, replacement) {
            Some(uri) => self.rewritten(directive, rest, way, uri, flag),
            None => self.step(rest, way),
        }
    }

    fn replaced(&self, directive: &Directive, way: &Way<'a>, replacement: &str) -> Option<Expr> {
        match way.variables.resolve(replacement) {
            Ok(uri) => Some(uri),
            Err(no_value) => {
                self.no_value(directive, &no_value);
                None
            }
        }
    }

    /// The ways after a rewrite that has matched.
    fn rewritten(
        &self,
        directive: &'a Directive,
        rest: &'a [Directive],
        mut way: Way<'a>,
        uri: Expr,
        flag: &str,
    ) -> Vec<Way<'a>> {
        let written = directive.args[1].as_str();
        let is_url = ["http://", "https://", "$scheme"].iter().any(|start| written.starts_with(start));
        let status = match flag {
            "permanent" => Some(301),
            "redirect" => Some(302),
            _ if is_url => Some(302),
            _ => None,
        };
        if let Some(status) = status {
            let to = with_query(uri);
            if to.has("uri") && written.contains("$request_uri") {
                self.ledger.note(
                    directive,
                    "nginx sends the query twice here: `rewrite` appends it to that of `$request_uri`. \
                                             The result sends it once",
                );
            }
            return self.step(rest, way.over(End::Redirect { to, status }));
        }
        use super::expr::Piece;
        let is_path = match uri.0.first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Name(name)) => matches!(name.as_str(), "path" | "rest" | "uri"),
            None => false,
        };
        if !is_path {
            let instead = "write a route for each path that may be chosen";
            self.ledger.reported(directive, "the request itself chooses the path", instead);
            return Vec::new();
        }
        way.uri = Some(uri.without_query());
        way.is_rewritten_here = true;
        match flag {
            "last" => self.step(rest, way.over(End::Search)),
            "break" => self.step(rest, way.over(if self.is_server { End::Search } else { End::Content })),
            _ => {
                way.end = End::Search;
                self.step(rest, way)
            }
        }
    }
}

/// `rewrite` appends the query to a redirect: that can be written where the whole path is kept.
fn with_query(mut to: Expr) -> Expr {
    use super::expr::Piece;
    if to.0.last() == Some(&Piece::Name("path".into())) {
        to.0.pop();
        to.0.push(Piece::Name("uri".into()));
    }
    to
}

/// Takes one of the steps that are left.
pub fn spend(budget: &Cell<usize>) -> bool {
    let left = budget.get();
    budget.set(left.saturating_sub(1));
    left > 0
}

/// Makes the groups of an expression known.
pub fn use_names(variables: &mut Variables, pattern: &Pattern) {
    variables.captures.clone_from(&pattern.positions);
    variables.set.extend(pattern.names.iter().cloned());
}

/// Reports a value that cannot be written.
pub fn no_value_in(ledger: &Ledger, directive: &Directive, no_value: &NoValue) {
    let (NoValue::Map(name) | NoValue::Unknown(name)) = no_value;
    let why = format!("the variable ${name} has no equivalent here");
    ledger.reported(directive, why, "write the value itself, or let the application decide");
}
