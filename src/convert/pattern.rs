//! Regular expressions of nginx (PCRE), as those of routes.

use super::{expr::Expr, map};

/// Names that mean something else in values, which no capture may have.
const TAKEN: [&str; 11] =
    ["path", "query", "uri", "rest", "host", "port", "scheme", "method", "client", "request_id", "user"];

/// An expression whose groups have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The expression.
    pub source: String,
    /// Values of `$1`, `$2`, ….
    pub positions: Vec<Expr>,
    /// Named groups: the name in nginx, and its value.
    pub names: Vec<(String, Expr)>,
}

/// Gives a name to each group whose number is in `used`, and new names to groups whose names are taken. `None` if the
/// expression cannot be used.
pub fn named(source: &str, any_case: bool, used: impl Fn(usize) -> bool) -> Option<Pattern> {
    let mut pattern = Pattern { source: String::new(), positions: Vec::new(), names: Vec::new() };
    let (mut is_escaped, mut is_class) = (false, false);
    let mut rest = source;
    while let Some(letter) = rest.chars().next() {
        let behind = &rest[letter.len_utf8()..];
        if is_escaped {
            is_escaped = false;
        } else if letter == '\\' {
            is_escaped = true;
        } else if is_class {
            is_class = letter != ']';
        } else if letter == '[' {
            is_class = true;
        } else if letter == '(' {
            rest = group(&mut pattern, behind, &used);
            continue;
        }
        pattern.source.push(letter);
        rest = behind;
    }
    map::compiled(&pattern.source, any_case)?;
    Some(pattern)
}

/// Writes the beginning of a group, and returns what follows it.
fn group<'s>(pattern: &mut Pattern, behind: &'s str, used: &impl Fn(usize) -> bool) -> &'s str {
    let name = ["?<", "?P<", "?'"].iter().find_map(|open| behind.strip_prefix(open));
    let name = name.filter(|name| !name.starts_with(['=', '!']));
    if let Some((name, rest)) = name.and_then(|name| name.split_once(['>', '\''])) {
        let given = if TAKEN.contains(&name) { format!("{name}2") } else { name.to_owned() };
        pattern.source.push_str(&format!("(?<{given}>"));
        pattern.positions.push(Expr::name(&given));
        pattern.names.push((name.into(), Expr::name(&given)));
        return rest;
    }
    if behind.starts_with('?') {
        pattern.source.push('(');
        return behind;
    }
    let number = pattern.positions.len() + 1;
    let name = format!("g{number}");
    pattern.positions.push(Expr::name(&name));
    pattern.source.push_str(&if used(number) { format!("(?<{name}>") } else { "(".into() });
    behind
}

/// Whether an expression matches every path.
pub fn is_everything(source: &str) -> bool {
    ["", "^", "$", ".*", "^.*", "^.*$", ".*$", "^/", "/", "^/.*", "^/.*$", "/.*", "."].contains(&source)
}

/// The capture of an expression that matches every path and captures it: `^/(.*)$` and similar. The value has the slash
/// at its beginning if the flag is set.
pub fn whole_path(source: &str) -> Option<bool> {
    let bare = source.trim_start_matches('^').trim_end_matches('$');
    match bare {
        "(.*)" | "(.+)" | "(/.*)" | "(/.+)" => Some(true),
        "/(.*)" | "/(.+)" | "/?(.*)" => Some(false),
        _ => None,
    }
}

/// What `rewrite` asks for in place of a path below `prefix`, where it only exchanges the prefix.
///
/// `rewrite ^/beacon/?(.*)$ /$1` below `/beacon` is `{rest}`.
pub fn exchange(prefix: &str, source: &str, replacement: &str) -> Option<Expr> {
    let bare = prefix.trim_end_matches('/');
    let tail = source.strip_prefix('^')?;
    let tail = tail.strip_prefix(&regex::escape(bare)).or_else(|| tail.strip_prefix(bare))?;
    let has_slash = match tail.trim_end_matches('$') {
        "(.*)" | "(/.*)" | "(/.+)" => true,
        "/(.*)" | "/?(.*)" | "/(.+)" | "/?(.+)" | "(?:/|)(.*)" => false,
        _ => return None,
    };
    let before = replacement.strip_suffix("$1")?;
    if before.contains('$') {
        return None;
    }
    let before = if has_slash { before } else { before.strip_suffix('/')? };
    let mut expr = Expr::text(before);
    expr.push(&Expr::name("rest"));
    Some(expr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_get_names() {
        let all = |_: usize| true;
        for (source, named) in [
            ("^/a/(.*)$", "^/a/(?<g1>.*)$"),
            ("(a)(?:b)(c)", "(?<g1>a)(?:b)(?<g2>c)"),
            (r"\((a[(])", r"\((?<g1>a[(])"),
            ("^/(?<rest>.*)/(x)", "^/(?<rest2>.*)/(?<g2>x)"),
            ("(?P<a>b)", "(?<a>b)"),
        ] {
            assert_eq!(
                super::named(source, false, all).map(|one| one.source).as_deref(),
                Some(named),
                "{source}"
            );
        }
        assert_eq!(named("(a)(b)", false, |number| number == 2).unwrap().source, "(a)(?<g2>b)");
        assert_eq!(named("(?!a)b", false, all), None);
    }

    #[test]
    fn exchanged_prefixes() {
        for (prefix, source, replacement, path) in [
            ("/beacon", "^/beacon/?(.*)$", "/$1", Some("{rest}")),
            ("/a/", "^/a/(.*)$", "/b/$1", Some("/b{rest}")),
            ("/a", "^/a(.*)$", "$1", Some("{rest}")),
            ("/a", "^/a(/.*)$", "/b$1", Some("/b{rest}")),
            ("/a", "^/b/(.*)$", "/$1", None),
            ("/a", "^/a/(\\d+)$", "/$1", None),
            ("/a", "^/a/(.*)$", "/b-$1", None),
        ] {
            let found = exchange(prefix, source, replacement).map(|expr| expr.to_string());
            assert_eq!(found.as_deref(), path, "{prefix} {source} {replacement}");
        }
    }
}
