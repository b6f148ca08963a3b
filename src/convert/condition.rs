//! Conditions of `if`, as conditions of `when`.

use regex::Regex;

use super::{
    expr::{Expr, NoValue, Variables, header_name},
    map::{self, Map},
    toml::{Table, Value},
};

/// A single test of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Atom {
    /// The method is one of these.
    Methods(Vec<String>),
    /// Test of a header.
    Header(String, Test),
    /// Test of a cookie.
    Cookie(String, Test),
    /// Test of a query parameter.
    Query(String, Test),
    /// The client is in one of these networks.
    Networks(Vec<String>),
    /// User-Agent matches this pattern.
    UserAgent(String),
    /// A file exists.
    Exists(String),
    /// The path matches a regular expression; this becomes the key of a route.
    Path(String, bool),
    /// The path is this; this becomes the key of a route.
    PathIs(String),
    /// The host is this, or matches `~ regex`; this becomes the host of a site.
    Host(String),
    /// The scheme.
    Scheme(String),
}

/// Test of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The value is there.
    Present,
    /// The value is not there.
    Absent,
    /// The value is this.
    Is(String),
    /// The value matches, written as `"~ regex"` or `"~* regex"`.
    Matches(String),
}

/// Tests that must all hold, and the captures that they define.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct All {
    /// The tests.
    pub atoms: Vec<Atom>,
    /// Positional captures, if an expression defines some.
    pub captures: Option<Vec<Expr>>,
}

/// When a condition is true.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// Always or never.
    Always(bool),
    /// When one of these holds.
    Any(Vec<All>),
    /// When none of these holds.
    None(Vec<All>),
    /// Unknown: the reason.
    Unknown(String),
}

impl Truth {
    fn not(self) -> Self {
        match self {
            Self::Always(value) => Self::Always(!value),
            Self::Any(cases) => match cases.as_slice() {
                [All { atoms, .. }] if atoms.len() == 1 => {
                    opposite(&atoms[0]).map_or(Self::None(cases), Self::atom)
                }
                _ => Self::None(cases),
            },
            Self::None(cases) => Self::Any(cases),
            unknown @ Self::Unknown(_) => unknown,
        }
    }

    fn atom(atom: Atom) -> Self {
        Self::Any(vec![All { atoms: vec![atom], captures: None }])
    }
}

/// The test that holds exactly where `atom` does not, if `when` has one.
fn opposite(atom: &Atom) -> Option<Atom> {
    let other = |test: &Test| match test {
        Test::Present => Some(Test::Absent),
        Test::Absent => Some(Test::Present),
        Test::Is(_) | Test::Matches(_) => None,
    };
    match atom {
        Atom::Header(name, test) => other(test).map(|test| Atom::Header(name.clone(), test)),
        Atom::Cookie(name, test) => other(test).map(|test| Atom::Cookie(name.clone(), test)),
        Atom::Query(name, test) => other(test).map(|test| Atom::Query(name.clone(), test)),
        Atom::Scheme(scheme) => Some(Atom::Scheme(if scheme == "http" { "https" } else { "http" }.into())),
        _ => None,
    }
}

/// Conditions that all must hold, as far as `when` can say them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct When(pub Vec<Atom>);

impl When {
    /// Adds a test. `false` if `when` cannot have it together with the others.
    pub fn add(&mut self, atom: Atom) -> bool {
        if self.0.contains(&atom) {
            return true;
        }
        let is_taken = self.0.iter().any(|other| match (other, &atom) {
            (Atom::Header(a, _), Atom::Header(b, _))
            | (Atom::Cookie(a, _), Atom::Cookie(b, _))
            | (Atom::Query(a, _), Atom::Query(b, _)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        });
        if !is_taken {
            self.0.push(atom);
        }
        !is_taken
    }

    /// The table of `when`.
    pub fn table(&self) -> Table {
        let mut table = Table::default();
        let put = |table: &mut Table, group: &str, name: &str, test: &Test| {
            let mut inner = match table.remove(group) {
                Some(Value::Table(inner)) => inner,
                _ => Table::default(),
            };
            inner.set(name, test.value());
            table.set(group, inner);
        };
        for atom in &self.0 {
            match atom {
                Atom::Methods(methods) => table.set("methods", methods.clone()),
                Atom::Header(name, test) => put(&mut table, "headers", name, test),
                Atom::Cookie(name, test) => put(&mut table, "cookies", name, test),
                Atom::Query(name, test) => put(&mut table, "query", name, test),
                Atom::Networks(networks) => table.set("networks", networks.clone()),
                Atom::UserAgent(pattern) => table.set("user_agents", vec![pattern.clone()]),
                Atom::Exists(path) => table.set("exists", path.clone()),
                Atom::Path(..) | Atom::PathIs(_) | Atom::Host(_) | Atom::Scheme(_) => {}
            }
        }
        table
    }
}

impl Test {
    fn value(&self) -> Value {
        match self {
            Self::Present => true.into(),
            Self::Absent => false.into(),
            Self::Is(text) | Self::Matches(text) => text.clone().into(),
        }
    }
}

/// Evaluates the words of an `if`, with its parentheses.
pub fn evaluate(words: &[String], variables: &Variables, maps: &[Map<'_>]) -> Truth {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Some(first) = words.first_mut() {
        *first = first.strip_prefix('(').unwrap_or(first);
    }
    if let Some(last) = words.last_mut() {
        *last = last.strip_suffix(')').unwrap_or(last);
    }
    // A parenthesis may stand by itself; the text of a comparison may be empty.
    if words.first() == Some(&"") {
        words.remove(0);
    }
    if words.len() > 3 && words.last() == Some(&"") || words.len() == 2 && words[1].is_empty() {
        words.pop();
    }
    match words.as_slice() {
        [variable] => compare(variable, "!=", "", variables, maps),
        [test, path] if test.starts_with('-') || test.starts_with("!-") => file(test, path, variables),
        [variable, operator, text] => compare(variable, operator, text, variables, maps),
        _ => Truth::Unknown("the condition cannot be read".into()),
    }
}

/// `-f`, `-d`, `-e` and their negations.
fn file(test: &str, path: &str, variables: &Variables) -> Truth {
    let path = match variables.resolve(path) {
        Ok(path) => path,
        Err(_) => return Truth::Unknown(format!("`{path}` has no equivalent")),
    };
    let Some(path) = path.literal() else {
        return Truth::Unknown("`exists` of `when` is a fixed file".into());
    };
    let truth = Truth::atom(Atom::Exists(path.into()));
    if test.starts_with('!') { truth.not() } else { truth }
}

fn compare(variable: &str, operator: &str, text: &str, variables: &Variables, maps: &[Map<'_>]) -> Truth {
    let Some(name) = variable.strip_prefix('$') else {
        return Truth::Unknown("the condition does not begin with a variable".into());
    };
    let name = name.trim_start_matches('{').trim_end_matches('}');
    if !matches!(operator, "=" | "!=" | "~" | "~*" | "!~" | "!~*") {
        return Truth::Unknown(format!("the operator `{operator}` is unknown"));
    }
    let (operator, is_negated) = match operator.strip_prefix('!') {
        Some(positive) => (positive, true),
        None => (operator, false),
    };
    let truth = positive(name, operator, text, variables, maps);
    if is_negated { truth.not() } else { truth }
}

fn positive(name: &str, operator: &str, text: &str, variables: &Variables, maps: &[Map<'_>]) -> Truth {
    let value = match variables.value(name) {
        Ok(value) => value,
        Err(NoValue::Map(name)) => return mapped(&name, operator, text, variables, maps),
        Err(NoValue::Unknown(name)) => {
            return Truth::Unknown(format!("the variable ${name} has no equivalent"));
        }
    };
    if let Some(literal) = value.literal() {
        return Truth::Always(constant(literal, operator, text));
    }
    match value.only_name() {
        Some(name) => builtin(name, operator, text),
        None => Truth::Unknown("a composed value is compared".into()),
    }
}

fn constant(value: &str, operator: &str, text: &str) -> bool {
    match operator {
        // `if ($variable)` is written as `$variable != ""` here, and "0" is false, too.
        "=" => value == text || (text.is_empty() && value == "0"),
        _ => map::compiled(text, operator == "~*").is_some_and(|regex| regex.is_match(value)),
    }
}

/// A comparison of what bowshock calls `name`.
fn builtin(name: &str, operator: &str, text: &str) -> Truth {
    let unknown = |why: &str| Truth::Unknown(format!("{why} `{text}`"));
    let pattern = || format!("{operator} {text}");
    let test = || match (operator, text) {
        ("=", "") => Test::Absent,
        ("=", _) => Test::Is(text.into()),
        (_, ".+" | "." | "^.+$" | ".*.") => Test::Present,
        _ => Test::Matches(pattern()),
    };
    if let Some((family, key)) = name.split_once('.') {
        let (family, key) = (family.to_owned(), key.to_owned());
        return match (family.as_str(), operator) {
            ("header", "~" | "~*") if key == "User-Agent" => Truth::atom(Atom::UserAgent(pattern())),
            ("header", _) => Truth::atom(Atom::Header(header_name(&key), test())),
            ("cookie", _) => Truth::atom(Atom::Cookie(key, test())),
            ("query", _) => Truth::atom(Atom::Query(key, test())),
            _ => unknown("the response is compared with"),
        };
    }
    match (name, operator) {
        ("method", "=") => Truth::atom(Atom::Methods(vec![text.into()])),
        ("method", _) => methods(text).map_or_else(
            || unknown("the method is compared with"),
            |methods| Truth::atom(Atom::Methods(methods)),
        ),
        ("query", "~" | "~*") => parameter(text).unwrap_or_else(|| unknown("the query is compared with")),
        ("path", "=") => Truth::atom(Atom::PathIs(text.into())),
        ("uri", "=") => whole_uri(text).unwrap_or_else(|| unknown("the URI is compared with")),
        ("path" | "uri", _) if !text.contains("\\?") => {
            Truth::atom(Atom::Path(text.into(), operator == "~*"))
        }
        ("host", "=") => Truth::atom(Atom::Host(text.into())),
        ("host", _) => Truth::atom(Atom::Host(format!("~{text}"))),
        ("scheme", "=") => Truth::atom(Atom::Scheme(text.into())),
        ("scheme", _) => match ["http", "https"].map(|scheme| constant(scheme, operator, text)) {
            [true, false] => Truth::atom(Atom::Scheme("http".into())),
            [false, true] => Truth::atom(Atom::Scheme("https".into())),
            [both, _] => Truth::Always(both),
        },
        ("client", "=") => Truth::atom(Atom::Networks(vec![text.into()])),
        ("user", "=") if text.is_empty() => Truth::atom(Atom::Header("Authorization".into(), Test::Absent)),
        _ => Truth::Unknown(format!("{{{name}}} is compared with `{text}`")),
    }
}

/// The methods of `^(GET|HEAD|POST)$`.
fn methods(text: &str) -> Option<Vec<String>> {
    let bare = text.trim_start_matches('^').trim_end_matches('$');
    let bare = bare.strip_prefix('(').and_then(|bare| bare.strip_suffix(')')).unwrap_or(bare);
    let words: Vec<String> = bare.split('|').map(str::to_owned).collect();
    let is_method = |word: &String| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    words.iter().all(is_method).then_some(words)
}

/// `name=([^&]+)` and similar expressions on the whole query.
fn parameter(text: &str) -> Option<Truth> {
    let shape = Regex::new(r"^(?:\^|\(\^\|&\)|\(\?:\^\|&\)|&)?([A-Za-z0-9_-]+)=(.*?)\$?$").ok()?;
    let found = shape.captures(text)?;
    let (name, value) = (&found[1], &found[2]);
    let captured = ["([^&]+)", "([^&]*)", "(.+)", "(.*)"].contains(&value);
    let test = match value {
        "" | ".*" | ".+" => Test::Present,
        _ if captured => Test::Present,
        _ => Test::Matches(format!("~ ^{value}")),
    };
    let captures = captured.then(|| vec![Expr::name(&format!("query.{name}"))]);
    Some(Truth::Any(vec![All { atoms: vec![Atom::Query(name.into(), test)], captures }]))
}

/// A path with its query.
fn whole_uri(text: &str) -> Option<Truth> {
    let Some((path, query)) = text.split_once('?') else {
        return Some(Truth::atom(Atom::PathIs(text.into())));
    };
    let mut atoms = vec![Atom::PathIs(path.into())];
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
        atoms.push(Atom::Query(name.into(), Test::Is(value.into_owned())));
    }
    Some(Truth::Any(vec![All { atoms, captures: None }]))
}

/// A comparison of the variable of a map: one case for each entry that makes it true.
fn mapped(name: &str, operator: &str, text: &str, variables: &Variables, maps: &[Map<'_>]) -> Truth {
    let Some(map) = maps.iter().find(|map| map.name == name) else {
        return Truth::Unknown(format!("the variable ${name} is not defined"));
    };
    let holds = |value: &str| match value.strip_prefix('$') {
        // An entry that hands on what it has matched: that is not empty.
        Some(_) => operator == "=" && text.is_empty() && value.is_empty(),
        None => constant(value, operator, text),
    };
    let by_default = holds(&map.default);
    let mut others = Vec::new();
    for entry in &map.entries {
        if holds(&entry.value) == by_default {
            if !others.is_empty() {
                return Truth::Unknown(format!("the entries of ${name} cannot be ordered"));
            }
            continue;
        }
        match case(map, &entry.key, variables) {
            Some(case) => others.push(case),
            None => return Truth::Unknown(format!("the entries of ${name} have no equivalent in `when`")),
        }
    }
    match (by_default, others.is_empty()) {
        (value, true) => Truth::Always(value),
        (false, false) => Truth::Any(others),
        (true, false) => Truth::None(others),
    }
}

/// The condition under which an entry of a map applies.
pub fn case(map: &Map<'_>, key: &map::Key, variables: &Variables) -> Option<All> {
    let source = variables.resolve(&map.source).ok()?;
    let name = source.only_name()?;
    let truth = match key {
        map::Key::Network(network) => Truth::atom(Atom::Networks(vec![network.clone()])),
        map::Key::Exact(text) => builtin(name, "=", text),
        map::Key::Matches { source, any_case } => builtin(name, if *any_case { "~*" } else { "~" }, source),
    };
    match truth {
        Truth::Any(mut cases) if cases.len() == 1 => cases.pop(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// The condition in TOML, `!` before one that must not hold.
    fn shown(condition: &str) -> String {
        let table = |cases: &[All]| {
            let one = |all: &All| Value::from(When(all.atoms.clone()).table()).inline();
            cases.iter().map(one).collect::<Vec<_>>().join(" or ")
        };
        match evaluate(&words(condition), &Variables::default(), &[]) {
            Truth::Always(value) => value.to_string(),
            Truth::Any(cases) => table(&cases),
            Truth::None(cases) => format!("! {}", table(&cases)),
            Truth::Unknown(_) => "unknown".into(),
        }
    }

    #[test]
    fn conditions_of_when() {
        for (condition, when) in [
            ("($request_method = POST)", r#"{ methods = ["POST"] }"#),
            ("($request_method != POST)", r#"! { methods = ["POST"] }"#),
            ("( $request_method ~ ^(GET|HEAD)$ )", r#"{ methods = ["GET", "HEAD"] }"#),
            ("($http_user_agent ~* bot|crawl)", r#"{ user_agents = ["~* bot|crawl"] }"#),
            ("($http_x_api_key)", "{ headers = { X-Api-Key = true } }"),
            ("($http_x_api_key = )", "{ headers = { X-Api-Key = false } }"),
            ("($cookie_session ~ ^a)", r#"{ cookies = { session = "~ ^a" } }"#),
            ("($arg_cmd = x)", r#"{ query = { cmd = "x" } }"#),
            ("($args ~ nginx_redir=([^&]+))", "{ query = { nginx_redir = true } }"),
            ("(-f /srv/maintenance)", r#"{ exists = "/srv/maintenance" }"#),
            ("(!-f /srv/maintenance)", r#"! { exists = "/srv/maintenance" }"#),
            ("($remote_addr = 10.0.0.1)", r#"{ networks = ["10.0.0.1"] }"#),
            ("($ssl_client_verify != SUCCESS)", "unknown"),
            ("($args ~ [)", "unknown"),
        ] {
            assert_eq!(shown(condition), when, "{condition}");
        }
    }

    #[test]
    fn one_test_for_each_name() {
        let mut when = When::default();
        assert!(when.add(Atom::Header("A".into(), Test::Present)));
        assert!(when.add(Atom::Header("A".into(), Test::Present)));
        assert!(when.add(Atom::Header("B".into(), Test::Absent)));
        assert!(!when.add(Atom::Header("A".into(), Test::Absent)));
    }
}
