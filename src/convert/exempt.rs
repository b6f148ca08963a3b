//! Paths that a limit exempts by its key, as routes without the limit.

use super::{
    context::Context,
    expr::Variables,
    map,
    model::{Matcher, Server},
    output::Route,
    routes::{Plan, add, literal_prefix, settle, tables, written},
    toml::{Table, Value},
};

/// Routes for paths that a limit exempts, and that have none.
pub fn add_exempt<'a>(context: &Context<'a>, server: &Server<'a>, variables: &Variables, plan: &mut Plan) {
    let names: Vec<String> = context.limits.borrow().all_names();
    for name in names {
        let exempt: Vec<_> = context.limits.borrow().exempt(&name).to_vec();
        for (source, any_case) in exempt {
            lift(plan, &name, &source, any_case);
            add_path(context, server, variables, plan, &name, (&source, any_case));
        }
    }
}

/// Removes a limit from the routes whose paths are exempt.
fn lift(plan: &mut Plan, name: &str, source: &str, any_case: bool) {
    let site = plan.settings.limits.clone();
    for route in &mut plan.routes {
        if !is_within(&route.key, source, any_case) {
            continue;
        }
        for table in &mut route.alternatives {
            without_limit(table, &site, name);
        }
    }
}

fn without_limit(table: &mut Table, site: &[String], name: &str) {
    if table.get("answer").is_some() || table.get("internal").is_some() {
        return;
    }
    let current: Vec<String> = match table.get("limit") {
        Some(Value::List(names)) => {
            names.iter().map(|name| name.inline().trim_matches('"').to_owned()).collect()
        }
        Some(Value::Text(one)) if one != "none" => vec![one.clone()],
        Some(_) => Vec::new(),
        None => site.to_vec(),
    };
    if !current.iter().any(|limit| limit == name) {
        return;
    }
    let others: Vec<String> = current.into_iter().filter(|limit| limit != name).collect();
    table.set("limit", if others.is_empty() { "none".into() } else { Value::from(others) });
}

/// Whether all paths of a route match an expression.
fn is_within(key: &str, source: &str, any_case: bool) -> bool {
    match key.strip_prefix("~* ").or_else(|| key.strip_prefix("~ ")) {
        Some(own) => own.starts_with(source.trim_end_matches('$')),
        None => {
            let path = key.trim_start_matches("= ").trim_start_matches("^~ ");
            map::compiled(source, any_case).is_some_and(|regex| regex.is_match(path))
        }
    }
}

/// Adds a route for exempt paths that no route is for.
fn add_path<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    variables: &Variables,
    plan: &mut Plan,
    name: &str,
    (source, any_case): (&str, bool),
) {
    if plan.routes.iter().any(|route| is_within(&route.key, source, any_case)) {
        return;
    }
    let path = literal_prefix(source);
    let Some(location) = server.longest_prefix(&path) else { return };
    let is_prefix = format!("^{}", regex::escape(&path)) == source || format!("^{path}") == source;
    let key = match is_prefix {
        true => Matcher::Prefix(path.trim_end_matches('/').to_owned()),
        false => Matcher::Regex { source: source.into(), any_case },
    };
    let mut alternatives = Vec::new();
    for way in context.ways(&location.matcher, &location.scope, variables.clone()) {
        for way in settle(context, server, way).into_iter().filter(|way| way.key.is_none()) {
            alternatives.extend(tables(context, server, &plan.settings, &way, &key));
        }
    }
    let site = plan.settings.limits.clone();
    let before = alternatives.clone();
    alternatives.iter_mut().for_each(|table| without_limit(table, &site, name));
    if alternatives == before {
        return;
    }
    let comments = vec![format!("# Exempt from the limit {name}")];
    add(&mut plan.routes, Route { comments, key: written(&key), alternatives });
}
