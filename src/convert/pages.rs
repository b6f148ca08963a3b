//! `error_page`, as `errors`.

use std::collections::BTreeMap;

use super::{
    context::Context,
    expr::{Expr, Variables},
    model::{Location, Matcher, Server},
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
};

/// Error pages in effect, by status.
pub fn errors<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    scope: &Scope<'a>,
    variables: &Variables,
) -> BTreeMap<String, Value> {
    let mut errors = BTreeMap::new();
    let intercepts = ["proxy_intercept_errors", "uwsgi_intercept_errors"].map(|name| scope.one(name));
    let replaces = intercepts.iter().flatten().any(|directive| directive.first() == "on");
    intercepts.into_iter().flatten().for_each(|directive| context.ledger.carried(directive));
    for directive in scope.all("error_page") {
        let Some((target, codes)) = directive.args.split_last() else { continue };
        let status = codes.iter().find_map(|code| code.strip_prefix('='));
        let codes: Vec<&String> = codes.iter().filter(|code| !code.starts_with('=')).collect();
        if is_sign_in(scope, &codes) {
            continue;
        }
        if codes.iter().all(|code| *code == "497") {
            context.ledger.unnecessary(directive, "plain HTTP on a port for TLS is refused");
            continue;
        }
        let Some(page) = page(context, server, directive, target, variables) else { continue };
        context.ledger.carried(directive);
        let status = status.map(|status| status.parse::<i64>().unwrap_or(200));
        for code in codes {
            let value: Value = match (status, replaces) {
                (None, false) => page.clone().into(),
                _ => {
                    let mut table = Table::of("page", page.clone());
                    table.set_some("status", status);
                    if replaces {
                        table.set("upstream", true);
                    }
                    table.into()
                }
            };
            errors.insert(code.clone(), value);
        }
    }
    errors
}

/// Whether the page is that of a login: see [`super::auth`].
fn is_sign_in(scope: &Scope<'_>, codes: &[&String]) -> bool {
    let asks = scope.one("auth_request").is_some_and(|directive| directive.first() != "off");
    asks && codes.iter().all(|code| *code == "401")
}

/// The file that is sent for an error.
fn page<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    directive: &Directive,
    target: &str,
    variables: &Variables,
) -> Option<String> {
    let refuse = |why: &str| {
        let instead = "name a file in `errors`, or let the application answer";
        context.ledger.reported(directive, why.to_owned(), instead);
        None
    };
    if target.starts_with("http://") || target.starts_with("https://") {
        return refuse("an error page is a file, not a redirect");
    }
    let target = match variables.resolve(target) {
        Ok(target) => target,
        Err(_) => return refuse("the page depends on a variable"),
    };
    let Some(uri) = target.literal() else { return refuse("the page depends on the request") };
    let location = if uri.starts_with('@') { server.named(uri) } else { server.find(uri) };
    let place = match location {
        Some(location) => file(context, location, uri, variables),
        None => below_root(context, &server.scope, uri, variables),
    };
    let Some(file) = place else {
        return refuse("the page is not a file of a location with `root` or `alias`");
    };
    if let Some(location) = location {
        note_use(context, location);
    }
    Some(file)
}

/// A named location that serves nothing but the page is no route.
fn note_use(context: &Context<'_>, location: &Location<'_>) {
    let is_only_page = matches!(location.matcher, Matcher::Named(_));
    if is_only_page {
        context.absorbed.borrow_mut().insert(location.directive.id);
        context.ledger.carried(location.directive);
        for inner in location.scope.own() {
            match inner.name.as_str() {
                "root" | "alias" | "try_files" => context.ledger.carried(inner),
                _ => {}
            }
        }
    }
}

/// File of a location for a path.
fn file(context: &Context<'_>, location: &Location<'_>, uri: &str, variables: &Variables) -> Option<String> {
    let scope = &location.scope;
    let is_proxy = scope.own().iter().any(|one| one.name.ends_with("_pass"));
    if is_proxy {
        return None;
    }
    let place = scope.any(&["root", "alias"])?;
    let base = variables.resolve(place.first()).ok()?;
    let base = base.literal()?;
    let base = context.path(base);
    let tried = scope.own().iter().find(|one| one.name == "try_files");
    let uri = match tried {
        // The first file that does not depend on the request.
        Some(tried) => tried.args.iter().find(|arg| arg.starts_with('/') && !arg.contains('$'))?.as_str(),
        None if uri.starts_with('@') => return None,
        None => uri,
    };
    let path = match (place.name.as_str(), location.matcher.path()) {
        ("alias", Some(prefix)) => join(&base, uri.strip_prefix(prefix).unwrap_or(uri)),
        _ => join(&base, uri),
    };
    Some(path)
}

fn below_root(context: &Context<'_>, scope: &Scope<'_>, uri: &str, variables: &Variables) -> Option<String> {
    let root = scope.one("root")?;
    let base: Expr = variables.resolve(root.first()).ok()?;
    Some(join(&context.path(base.literal()?), uri))
}

/// A path below another, with one slash between them.
pub fn join(base: &str, path: &str) -> String {
    if path.is_empty() {
        return base.into();
    }
    format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/'))
}
