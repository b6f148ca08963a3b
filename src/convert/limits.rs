//! `limit_req` and `limit_conn`, as `[limit.NAME]`.
//!
//! The key of a zone is often the end of a chain of maps: the API key, else the session, else the address; nothing for
//! some networks and paths. The chain is evaluated for each combination of what a request can have, and the results
//! tell the list of keys and the exceptions.

use std::collections::HashMap;

use super::{
    expr::{self, Part, header_name},
    ledger::Ledger,
    map::{self, Map},
    output::Section,
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
};

/// Most combinations that are evaluated.
const MOST_COMBINATIONS: usize = 4096;

/// Longest chain of maps, and most parts of one value.
const DEEPEST: usize = 6;
const MOST_PARTS: usize = 6;

/// Regular expression on paths: the source, and whether case is ignored.
pub type PathRegex = (String, bool);

/// A `limit_req_zone` or `limit_conn_zone`.
#[derive(Debug)]
struct Zone<'a> {
    directive: &'a Directive,
    key: &'a str,
    rate: Option<&'a str>,
}

/// Limits used so far.
#[derive(Debug, Default)]
pub struct Limits<'a> {
    zones: HashMap<&'a str, Zone<'a>>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    zone: String,
    amount: i64,
    name: String,
    section: Section,
    exempt: Vec<PathRegex>,
}

impl<'a> Limits<'a> {
    /// The zones of the `http` block.
    pub fn new(http: &'a [Directive]) -> Self {
        let zone = |directive: &'a Directive| {
            if !matches!(directive.name.as_str(), "limit_req_zone" | "limit_conn_zone") {
                return None;
            }
            let value = |name: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(name));
            let name = value("zone=")?.split(':').next()?;
            Some((name, Zone { directive, key: directive.first(), rate: value("rate=") }))
        };
        Self { zones: http.iter().filter_map(zone).collect(), made: Vec::new() }
    }

    /// Names of the limits in effect.
    pub fn names(&mut self, scope: &Scope<'a>, maps: &[Map<'a>], ledger: &Ledger) -> Vec<String> {
        let mut used: Vec<&Directive> = scope.all("limit_req");
        used.extend(scope.all("limit_conn"));
        used.into_iter().filter_map(|directive| self.name(directive, maps, ledger)).collect()
    }

    /// Names of all limits so far.
    pub fn all_names(&self) -> Vec<String> {
        self.made.iter().map(|made| made.name.clone()).collect()
    }

    /// Paths that a limit exempts.
    pub fn exempt(&self, name: &str) -> &[PathRegex] {
        self.made.iter().find(|made| made.name == name).map_or(&[], |made| &made.exempt)
    }

    /// All limits in use.
    pub fn finish(self) -> Vec<Section> {
        let section = |made: Made| Section {
            header: format!("[limit.{}]", super::toml::key(&made.name)),
            ..made.section
        };
        self.made.into_iter().map(section).collect()
    }

    fn name(&mut self, directive: &Directive, maps: &[Map<'a>], ledger: &Ledger) -> Option<String> {
        let is_rate = directive.name == "limit_req";
        let value = |name: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(name));
        let zone_name = if is_rate { value("zone=")? } else { directive.first() };
        let amount = if is_rate { value("burst=").unwrap_or("0") } else { directive.args.get(1)? };
        let amount: i64 = amount.parse().ok()?;
        let Some(zone) = self.zones.get(zone_name) else {
            ledger.reported(
                directive,
                format!("there is no zone `{zone_name}`"),
                "define it, or remove the limit",
            );
            return None;
        };
        ledger.carried(directive);
        if is_rate && amount > 0 && !directive.args.iter().any(|arg| arg == "nodelay") {
            let text = "nginx delays requests of the burst; the result serves them at once, and refuses those beyond it";
            ledger.note(directive, text);
        }
        if let Some(made) = self.made.iter().find(|made| made.zone == zone_name && made.amount == amount) {
            return Some(made.name.clone());
        }
        let found = match analyse(zone.key, maps) {
            Ok(found) => found,
            Err(why) => {
                let instead =
                    "write `key` of the limit by hand: a header, cookie, query parameter or address";
                ledger.reported(zone.directive, why, instead);
                ledger.reported(directive, "the key of its zone has no equivalent", "see the zone");
                return None;
            }
        };
        ledger.carried(zone.directive);
        found.maps.iter().filter_map(|name| maps.iter().find(|map| map.name == *name)).for_each(|map| {
            ledger.carried(map.directive);
        });
        let wanted = super::upstreams::identifier(zone_name);
        let is_taken = |name: &String| self.made.iter().any(|made| made.name == *name);
        let others = [format!("{wanted}-{amount}"), format!("{wanted}-{amount}-more")];
        let name = std::iter::once(wanted).chain(others).find(|name| !is_taken(name))?;
        let mut table = found.table;
        match is_rate {
            true => {
                table.set_some("rate", zone.rate);
                if amount > 0 {
                    table.set("burst", amount);
                }
            }
            false => table.set("connections", amount),
        }
        let (table, tests) = split(table);
        let mut whole = table;
        whole.0.extend(tests.0);
        let section =
            Section { comments: super::comments::of(zone.directive), table: whole, ..Section::default() };
        self.made.push(Made {
            zone: zone_name.into(),
            amount,
            name: name.clone(),
            section,
            exempt: found.exempt,
        });
        Some(name)
    }
}

/// Puts `only` and `except` behind the numbers.
fn split(table: Table) -> (Table, Table) {
    let is_test = |key: &str| matches!(key, "only" | "except");
    let (tests, others) = table.0.into_iter().partition(|(key, _)| is_test(key));
    (Table(others), Table(tests))
}

/// Meaning of the key of a zone.
struct Found {
    /// `key`, `only` and `except`.
    table: Table,
    /// Paths that are exempt.
    exempt: Vec<PathRegex>,
    /// Maps that were evaluated.
    maps: Vec<String>,
}

/// A property of requests that the key depends on.
#[derive(Debug, Clone, PartialEq)]
enum Dimension {
    /// A header, cookie or parameter, in bowshock's spelling: it is there or not.
    Presence(String),
    /// The entry of a map that applies; its last option is the default.
    Map(usize),
}

/// What a request has of each dimension.
type Choice = Vec<usize>;

struct Evaluation<'m, 'a> {
    maps: &'m [Map<'a>],
    dimensions: Vec<Dimension>,
    used: Vec<String>,
}

/// Sign around the name of a key within an evaluated value.
const MARK: char = '\u{1}';

fn analyse(key: &str, maps: &[Map<'_>]) -> Result<Found, String> {
    let mut evaluation = Evaluation { maps, dimensions: Vec::new(), used: Vec::new() };
    evaluation.explore(key, 0)?;
    let evaluation = evaluation;
    let options = (0..evaluation.dimensions.len()).map(|at| evaluation.options(at));
    let combinations = options.fold(1_usize, usize::saturating_mul);
    if combinations > MOST_COMBINATIONS {
        return Err("the key depends on too many maps".into());
    }
    let default: Choice = (0..evaluation.dimensions.len()).map(|at| evaluation.options(at) - 1).collect();
    let usual = evaluation.chain(key, &default)?;
    let mut keys = usual.clone();
    let (mut only, mut except, mut exempt) = (Table::default(), Table::default(), Vec::new());
    for (at, dimension) in evaluation.dimensions.iter().enumerate() {
        let Dimension::Map(index) = dimension else { continue };
        for (option, entry) in maps[*index].entries.iter().enumerate() {
            let mut choice = default.clone();
            choice[at] = option;
            let chain = evaluation.chain(key, &choice)?;
            let is_exempt = chain.is_empty() && !usual.is_empty();
            let is_only = !chain.is_empty() && usual.is_empty();
            if chain == usual {
                continue;
            }
            if !is_exempt && !is_only {
                return Err(format!("the key is another one for some values of ${}", maps[*index].name));
            }
            if is_only {
                keys = chain;
            }
            let class = if is_only { &mut only } else { &mut except };
            match (base(&maps[*index].source).as_str(), &entry.key) {
                (_, map::Key::Network(network)) => add(class, "networks", network),
                ("http_user_agent", map::Key::Matches { source, any_case }) => {
                    add(class, "user_agents", &format!("{} {source}", if *any_case { "~*" } else { "~" }));
                }
                ("request_method", map::Key::Exact(method)) => add(class, "methods", method),
                ("request_uri" | "uri", map::Key::Matches { source, any_case }) if is_exempt => {
                    exempt.push((source.clone(), *any_case));
                }
                ("request_uri" | "uri", map::Key::Exact(path)) if is_exempt => {
                    exempt.push((format!("^{}$", regex::escape(path)), false));
                }
                _ => return Err(format!("the values of ${} have no equivalent", maps[*index].name)),
            }
        }
    }
    if keys.is_empty() {
        return Err("the key is always empty".into());
    }
    let keys = keys.into_iter().map(Value::from).collect();
    let mut table = Table::of("key", Value::one_or_more(keys));
    if !only.is_empty() {
        table.set("only", only);
    }
    if !except.is_empty() {
        table.set("except", except);
    }
    Ok(Found { table, exempt, maps: evaluation.used })
}

fn add(class: &mut Table, name: &str, item: &str) {
    let mut items = match class.remove(name) {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    };
    items.push(item.into());
    class.set(name, items);
}

/// The variable that a text consists of.
fn base(text: &str) -> String {
    match expr::parts(text).as_slice() {
        [Part::Variable(name)] => name.clone(),
        _ => String::new(),
    }
}

/// A variable as a key of a limit.
fn key_of(variable: &str) -> Option<String> {
    let of = |prefix: &str| variable.strip_prefix(prefix).map(str::to_owned);
    match variable {
        "binary_remote_addr" | "remote_addr" | "realip_remote_addr" => Some("address".into()),
        "server_name" | "host" | "http_host" => Some("all".into()),
        "http_user_agent" => Some("header:user-agent".into()),
        _ => of("http_")
            .map(|name| format!("header:{}", header_name(&name).to_lowercase()))
            .or_else(|| of("cookie_").map(|name| format!("cookie:{name}")))
            .or_else(|| of("arg_").map(|name| format!("query:{name}"))),
    }
}

impl Evaluation<'_, '_> {
    /// Finds what the value depends on.
    fn explore(&mut self, text: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST || expr::parts(text).len() > MOST_PARTS {
            return Err("the maps refer to each other in a circle".into());
        }
        for name in expr::variables(text) {
            if let Some(index) = self.maps.iter().position(|map| map.name == name) {
                if !self.used.contains(&name) {
                    self.used.push(name);
                }
                self.explore_map(index, depth)?;
                continue;
            }
            let key = key_of(&name).ok_or_else(|| format!("the variable ${name} is no key of a limit"))?;
            let dimension = Dimension::Presence(key.clone());
            if !matches!(key.as_str(), "address" | "all") && !self.dimensions.contains(&dimension) {
                self.dimensions.push(dimension);
            }
        }
        Ok(())
    }

    fn explore_map(&mut self, index: usize, depth: usize) -> Result<(), String> {
        let maps = self.maps;
        let map = &maps[index];
        if self.is_class(map) {
            if !self.dimensions.contains(&Dimension::Map(index)) {
                self.dimensions.push(Dimension::Map(index));
            }
        } else {
            self.explore(&map.source, depth + 1)?;
        }
        let values = map.entries.iter().map(|entry| &entry.value).chain([&map.default]);
        values.into_iter().try_for_each(|value| self.explore(value, depth + 1))
    }

    /// Whether a map tells kinds of requests apart by a property that is no key: each entry is an option.
    fn is_class(&self, map: &Map<'_>) -> bool {
        let source = base(&map.source);
        map.is_geo
            || matches!(
                source.as_str(),
                "http_user_agent" | "request_uri" | "uri" | "request_method" | "remote_addr"
            )
    }

    fn options(&self, at: usize) -> usize {
        match &self.dimensions[at] {
            Dimension::Presence(_) => 2,
            Dimension::Map(index) => self.maps[*index].entries.len() + 1,
        }
    }

    /// The keys in the order in which they are looked for, by removing what was found each time.
    fn chain(&self, key: &str, choice: &Choice) -> Result<Vec<String>, String> {
        let mut choice = choice.clone();
        let mut chain: Vec<String> = Vec::new();
        loop {
            let value = self.value(key, &choice, 0);
            let marked: Vec<&str> =
                value.split(MARK).skip(1).step_by(2).filter(|key| *key != "all").collect();
            let found = match marked.as_slice() {
                [] if value.is_empty() => return Ok(chain),
                [] => "all",
                [one] => one,
                _ => return Err("the key joins several properties of a request".into()),
            };
            if chain.iter().any(|known| known == found) {
                return Ok(chain);
            }
            chain.push(found.into());
            let dimension = Dimension::Presence(found.into());
            match self.dimensions.iter().position(|known| *known == dimension) {
                Some(at) => choice[at] = 0,
                None => return Ok(chain),
            }
        }
    }

    fn value(&self, text: &str, choice: &Choice, depth: usize) -> String {
        if depth > DEEPEST {
            return String::new();
        }
        let part = |part: Part| match part {
            Part::Text(text) => text,
            Part::Variable(name) => self.variable(&name, choice, depth),
        };
        expr::parts(text).into_iter().map(part).collect()
    }

    fn variable(&self, name: &str, choice: &Choice, depth: usize) -> String {
        if let Some(index) = self.maps.iter().position(|map| map.name == name) {
            let map = &self.maps[index];
            let dimension = self.dimensions.iter().position(|known| *known == Dimension::Map(index));
            let value = match dimension {
                Some(at) => map.entries.get(choice[at]).map(|entry| &entry.value),
                None => {
                    let source = self.value(&map.source, choice, depth + 1);
                    map.entries.iter().find(|entry| entry.key.matches(&source)).map(|entry| &entry.value)
                }
            };
            return self.value(value.unwrap_or(&map.default), choice, depth + 1);
        }
        let Some(key) = key_of(name) else { return String::new() };
        let is_absent = self
            .dimensions
            .iter()
            .position(|known| *known == Dimension::Presence(key.clone()))
            .is_some_and(|at| choice[at] == 0);
        if is_absent { String::new() } else { format!("{MARK}{key}{MARK}") }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::syntax, *};

    fn analysed(text: &str, key: &str) -> String {
        let tree = syntax::parse(&"x".into(), text, &mut 0).unwrap();
        let found = analyse(key, &map::all(&tree)).unwrap_or_else(|why| panic!("{why}"));
        format!("{} {:?}", Value::from(found.table).inline(), found.exempt)
    }

    #[test]
    fn chains_of_maps_become_lists_of_keys() {
        let chain = r#"
            map $request_uri $exempt { ~^/upload "yes"; default "no"; }
            map $cookie_session $by_cookie { default $binary_remote_addr; "~.+" $cookie_session; }
            map $http_x_api_key:$exempt $key { ~^.*:yes$ ""; ~^.+:no $http_x_api_key; default $by_cookie; }
            geo $friend { default 0; 192.0.2.0/24 1; }
            map "$key:$friend" $limited { default $key; "~.*:1$" ""; }
            map $http_user_agent $crawler { default ""; "~*(bot|crawl)" "crawler"; }"#;
        for (key, table) in [
            ("$binary_remote_addr", r#"{ key = "address" } []"#),
            ("$server_name", r#"{ key = "all" } []"#),
            ("$http_x_api_key", r#"{ key = "header:x-api-key" } []"#),
            (
                "$limited",
                r#"{ key = ["header:x-api-key", "cookie:session", "address"], except = { networks = ["192.0.2.0/24"] } } [("^/upload", false)]"#,
            ),
            ("$crawler", r#"{ key = "all", only = { user_agents = ["~* (bot|crawl)"] } } []"#),
        ] {
            assert_eq!(analysed(chain, key), table, "{key}");
        }
    }

    #[test]
    fn keys_without_an_equivalent_are_refused() {
        for key in ["$uri", "$binary_remote_addr$http_user_agent", "$a"] {
            let tree =
                syntax::parse(&"x".into(), "map $b $a { default $b; } map $a $b { default $a; }", &mut 0)
                    .unwrap();
            assert!(analyse(key, &map::all(&tree)).is_err(), "{key}");
        }
    }
}
