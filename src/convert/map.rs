//! `map` and `geo`: variables whose value depends on others.

use regex::Regex;

use super::syntax::Directive;

/// A `map` or `geo` block.
#[derive(Debug, Clone)]
pub struct Map<'a> {
    /// Name of the variable.
    pub name: String,
    /// Value that is looked up, as written.
    pub source: String,
    /// Entries in the order of the search, without the default.
    pub entries: Vec<Entry<'a>>,
    /// Value where no entry matches.
    pub default: String,
    /// Whether it is a `geo` block.
    pub is_geo: bool,
    /// The block.
    pub directive: &'a Directive,
}

/// An entry of a [`Map`].
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// What it matches.
    pub key: Key,
    /// Value, as written.
    pub value: String,
    /// The entry.
    pub directive: &'a Directive,
}

/// What an entry matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A text, in any case.
    Exact(String),
    /// A regular expression.
    Matches {
        /// The expression.
        source: String,
        /// Whether case is ignored.
        any_case: bool,
    },
    /// A network.
    Network(String),
}

impl Key {
    /// Whether the key matches a text; networks match nothing.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(text),
            Self::Matches { source, any_case } => {
                compiled(source, *any_case).is_some_and(|regex| regex.is_match(text))
            }
            Self::Network(_) => false,
        }
    }
}

/// Compiles an expression as the proxy does.
pub fn compiled(source: &str, any_case: bool) -> Option<Regex> {
    regex::RegexBuilder::new(source).case_insensitive(any_case).build().ok()
}

/// Reads all maps of a block.
pub fn all(block: &[Directive]) -> Vec<Map<'_>> {
    block.iter().filter_map(read).collect()
}

fn read(directive: &Directive) -> Option<Map<'_>> {
    let (source, name, is_geo) = match (directive.name.as_str(), directive.args.as_slice()) {
        ("map", [source, name]) => (source.clone(), name, false),
        ("geo", [name]) => ("$remote_addr".into(), name, true),
        ("geo", [source, name]) => (source.clone(), name, true),
        _ => return None,
    };
    let name = name.strip_prefix('$')?.to_owned();
    let (mut exact, mut matching) = (Vec::new(), Vec::new());
    let mut default = String::new();
    for entry in directive.children() {
        let value = entry.first().to_owned();
        match entry.name.as_str() {
            "default" => default = value,
            "hostnames" | "volatile" | "ranges" | "proxy" | "proxy_recursive" | "delete" | "include" => {}
            _ if is_geo => {
                let key = Key::Network(entry.name.clone());
                matching.push(Entry { key, value, directive: entry });
            }
            text => match text.strip_prefix('~') {
                Some(source) => {
                    let any_case = source.starts_with('*');
                    let source = if any_case { &source[1..] } else { source };
                    let key = Key::Matches { source: source.into(), any_case };
                    matching.push(Entry { key, value, directive: entry });
                }
                None => {
                    // A backslash protects the words above.
                    let key = Key::Exact(text.strip_prefix('\\').unwrap_or(text).into());
                    exact.push(Entry { key, value, directive: entry });
                }
            },
        }
    }
    exact.extend(matching);
    Some(Map { name, source, entries: exact, default, is_geo, directive })
}
