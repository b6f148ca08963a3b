//! `RewriteRule` of Apache, in the forms of Galaxy's documentation.

use super::{Apache, Route, add, prefix};
use crate::convert::{comments, pattern, syntax::Directive, toml::Table};

/// Adds the routes of all rules of a block, and tells whether they redirect everything to HTTPS.
pub fn routes(apache: &mut Apache<'_>, block: &[Directive], routes: &mut Vec<Route>) -> bool {
    let mut redirects_https = false;
    let mut conditions: Vec<&Directive> = Vec::new();
    for directive in block {
        match directive.name.as_str() {
            "rewritecond" => conditions.push(directive),
            "rewriterule" => {
                let conditions = std::mem::take(&mut conditions);
                redirects_https |= rule(apache, directive, &conditions, routes);
            }
            _ => {}
        }
    }
    redirects_https
}

fn rule(
    apache: &mut Apache<'_>,
    directive: &Directive,
    conditions: &[&Directive],
    routes: &mut Vec<Route>,
) -> bool {
    let [source, target, rest @ ..] = directive.args.as_slice() else { return false };
    let flags: Vec<String> = rest
        .first()
        .map(|flags| flags.trim_matches(['[', ']']).to_uppercase())
        .map_or_else(Vec::new, |flags| flags.split(',').map(|flag| flag.trim().to_owned()).collect());
    let has = |name: &str| flags.iter().any(|flag| flag == name || flag.starts_with(&format!("{name}=")));
    let is_https = |one: &&Directive| one.args.join(" ").to_uppercase().contains("HTTPS");
    if target.starts_with("https://%{") && conditions.iter().all(is_https) {
        apache.ledger.carried(directive);
        conditions.iter().for_each(|one| apache.ledger.carried(one));
        return true;
    }
    if !conditions.is_empty() {
        let instead = "write alternatives with `when`";
        apache.ledger.reported(directive, "rules with conditions are not converted", instead);
        conditions.iter().for_each(|one| {
            apache.ledger.reported(one, "it belongs to a rule that is not converted", instead);
        });
        return false;
    }
    let Some((key, table)) = route(apache, source, target, has("P"), has("R")) else {
        let instead = "write the route by hand: `proxy`, `files` or `redirect`";
        apache.ledger.reported(directive, "the rule is none of the usual ones", instead);
        return false;
    };
    apache.ledger.carried(directive);
    add(routes, key, table, comments::of(directive));
    false
}

/// The route for a rule: `^/prefix/(.*)` becomes a prefix, other expressions stay.
fn route(
    apache: &mut Apache<'_>,
    source: &str,
    target: &str,
    is_proxy: bool,
    is_redirect: bool,
) -> Option<(String, Table)> {
    let bare = source.trim_start_matches('^').trim_end_matches('$');
    let exact = bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.\\".contains(&byte));
    let plain = bare.replace('\\', "");
    let (path, has_rest) = match bare.strip_suffix("(.*)").or_else(|| bare.strip_suffix("(.+)")) {
        Some(prefix) => (prefix.replace('\\', ""), true),
        None if exact => (plain, false),
        None => return None,
    };
    let end = target.trim_end_matches("$1");
    if is_proxy {
        let url = if has_rest && path.trim_end_matches('/').is_empty() {
            end
        } else {
            target.strip_suffix("$1").unwrap_or(target)
        };
        let table = apache.proxy(url, &path)?;
        return Some((if has_rest { prefix(&path) } else { format!("= {path}") }, table));
    }
    if is_redirect || target.starts_with("http") {
        let pattern = pattern::named(source, false, |number| number == 1)?;
        let to = target.replace("$1", if pattern.positions.is_empty() { "" } else { "{g1}" });
        let key = if has_rest || source.contains('(') {
            format!("~ {}", pattern.source)
        } else {
            format!("= {path}")
        };
        return Some((key, Table::of("redirect", to)));
    }
    if !target.starts_with('/') {
        return None;
    }
    let key = if has_rest { prefix(&path) } else { format!("= {path}") };
    Some((key, Table::of("files", end.trim_end_matches('/'))))
}
