//! `root`, `alias` and `try_files`, as `files`.

use super::{
    context::{Context, Stop},
    expr::{Expr, Piece},
    model::{Matcher, Server},
    program::Way,
    syntax::Directive,
    toml::{Table, Value},
};

/// `files` of a location without any other content.
pub fn served<'a>(context: &Context<'a>, way: &Way<'a>, key: &Matcher) -> Result<Table, Stop> {
    let Some(place) = place(context, way, key)? else {
        // nginx looks in a directory of its own package, where no site has anything.
        return Ok(Table::of("answer", 404));
    };
    let mut table = Table::of("files", place.to_string());
    extras(context, way, key, &mut table);
    Ok(table)
}

/// The directory or file for a way, `None` without `root` and `alias`.
fn place<'a>(context: &Context<'a>, way: &Way<'a>, key: &Matcher) -> Result<Option<Expr>, Stop> {
    let Some(directive) = way.scope.any(&["root", "alias"]) else { return Ok(None) };
    let base = base(context, directive, way)?;
    context.ledger.carried(directive);
    let is_alias = directive.name == "alias";
    let prefix = way.matcher.path().unwrap_or_default();
    let mut place = base.clone();
    match (&way.uri, is_alias) {
        (Some(uri), true) => place = below(&base, &uri.without_prefix(prefix).unwrap_or_else(|| uri.clone())),
        (Some(uri), false) => place = below(&base, uri),
        (None, true) => note_slashes(context, directive, &way.matcher, &base),
        (None, false) => match &way.matcher {
            Matcher::Regex { .. } | Matcher::Named(_) => place = below(&base, &Expr::name("path")),
            _ => place = below(&base, &Expr::text(prefix)),
        },
    }
    // The rest of the path is appended by itself.
    if key.is_prefix()
        && matches!(place.0.last(), Some(Piece::Name(name)) if name == "rest" || (name == "path" && key.path() == Some("/")))
    {
        place.0.pop();
    }
    Ok(Some(trimmed(place)))
}

/// The value of `root` or `alias`, absolute.
fn base<'a>(context: &Context<'a>, directive: &Directive, way: &Way<'a>) -> Result<Expr, Stop> {
    let base = context.resolve(directive, directive.first(), &way.variables)?;
    if base.prefix().starts_with('/') {
        return Ok(base);
    }
    if base.prefix().is_empty() && !base.is_empty() {
        let instead = "write a route for each directory";
        context.ledger.reported(directive, "the request chooses among all directories", instead);
        return Err(Stop::Impossible);
    }
    let mut absolute = Expr::text(&format!("{}/", context.home.display()));
    absolute.push(&base);
    Ok(absolute)
}

/// A path below another, with one slash between them.
fn below(base: &Expr, path: &Expr) -> Expr {
    let mut place = trimmed(base.clone());
    let starts_with_slash = match path.0.first() {
        Some(Piece::Text(text)) => text.starts_with('/'),
        Some(Piece::Name(name)) => name == "path" || name == "rest",
        None => true,
    };
    if !starts_with_slash {
        place.push_text("/");
    }
    if place.literal() == Some("/") {
        place = Expr::default();
    }
    place.push(path);
    place
}

/// Without a slash at the end.
fn trimmed(mut place: Expr) -> Expr {
    let is_only = place.0.len() == 1;
    if let Some(Piece::Text(text)) = place.0.last_mut() {
        let bare = text.trim_end_matches('/');
        *text = if bare.is_empty() && is_only { "/".into() } else { bare.into() };
        if text.is_empty() {
            place.0.pop();
        }
    }
    place
}

/// Points out `alias` with a slash that the location does not have, or the other way round.
fn note_slashes(context: &Context<'_>, directive: &Directive, matcher: &Matcher, base: &Expr) {
    let Some(prefix) = matcher.path().filter(|_| !matches!(matcher, Matcher::Exact(_))) else { return };
    let text = base.to_string();
    match (prefix.ends_with('/'), text.ends_with('/')) {
        (false, true) if text != "/" => context.ledger.note(
            directive,
            format!("a location without a slash at the end, and an alias with one: nginx serves `{prefix}../x` from the \
                     directory above. The result does not: `{prefix}` is a whole segment"),
        ),
        (true, false) => context.ledger.note(
            directive,
            format!("a location with a slash at the end, and an alias without one: nginx looks for `{text}x` when a client asks \
                     for `{prefix}x`. The result looks for `{text}/x`"),
        ),
        _ => {}
    }
}

/// `index`, `autoindex`, `gzip_static`, `types` and symlinks.
fn extras<'a>(context: &Context<'a>, way: &Way<'a>, key: &Matcher, table: &mut Table) {
    let ledger = context.ledger;
    let scope = &way.scope;
    let is_directory = key.is_prefix();
    let is_internal = way.local.one("internal").is_some();
    if let Some(directive) = scope.one("index")
        && is_directory
        && !is_internal
    {
        ledger.carried(directive);
        let names: Vec<Value> = directive
            .args
            .iter()
            .filter(|name| !name.contains(['/', '$']))
            .map(|name| name.as_str().into())
            .collect();
        if !names.is_empty() {
            table.set("index", Value::one_or_more(names));
        }
    } else if is_directory && !is_internal && way.matcher.path().is_some_and(|path| path.ends_with('/')) {
        table.set("index", "index.html");
    }
    if scope.one("autoindex").is_some_and(|directive| directive.first() == "on") && is_directory {
        table.set("listing", true);
    }
    for name in ["autoindex", "autoindex_exact_size", "autoindex_localtime", "autoindex_format"] {
        scope.one(name).into_iter().for_each(|directive| ledger.carried(directive));
    }
    if let Some(directive) = scope.one("gzip_static") {
        ledger.carried(directive);
        if directive.first() != "off" && !is_internal {
            table.set("precompressed", vec!["gzip"]);
        }
    }
    if let Some(directive) = scope.one("disable_symlinks") {
        ledger.carried(directive);
        if directive.first() != "off" {
            table.set("symlinks", "none");
        }
    }
    types(context, way, key, table);
}

fn types<'a>(context: &Context<'a>, way: &Way<'a>, key: &Matcher, table: &mut Table) {
    let ledger = context.ledger;
    if let Some(block) = way.scope.all("types").into_iter().next() {
        let mut own = Table::default();
        for entry in block.children() {
            for ending in &entry.args {
                let built_in = mime_guess::from_ext(ending);
                let is_known = built_in.iter_raw().any(|known| known == entry.name);
                if !is_known && !["js", "mjs"].contains(&ending.as_str()) {
                    own.set(ending, entry.name.as_str());
                }
            }
        }
        if own.is_empty() {
            ledger.unnecessary(block, "these types are built in");
        } else {
            ledger.carried(block);
            table.set("types", own);
        }
    }
    let Some(directive) = way.scope.one("default_type") else { return };
    let file = table.text("files").unwrap_or_default();
    let ending =
        file.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending.to_owned());
    let is_own = way.local.one("default_type").is_some();
    match ending {
        Some(ending) if is_own && matches!(key, Matcher::Exact(_)) => {
            ledger.carried(directive);
            if !mime_guess::from_ext(&ending).iter_raw().any(|known| known == directive.first()) {
                table.set("types", Table::of(&ending, directive.first()));
            }
        }
        _ => ledger.unnecessary(
            directive,
            "files of unknown types are application/octet-stream, as nginx's default is",
        ),
    }
}

/// The location that `try_files` always falls back to, if its files never exist: `try_files false @app`.
pub fn fallback(directive: &Directive) -> Option<&str> {
    let (last, tried) = directive.args.split_last()?;
    let is_fixed = |arg: &String| !arg.contains('$');
    let name = |arg: &String| arg.rsplit('/').next().unwrap_or_default().to_owned();
    let never_exists = |arg: &String| is_fixed(arg) && (!arg.starts_with('/') || !name(arg).contains('.'));
    (tried.iter().all(never_exists) && !last.starts_with('=')).then_some(last.as_str())
}

/// `try_files` with files that may exist.
pub fn tried<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    way: &Way<'a>,
    key: &Matcher,
    directive: &'a Directive,
) -> Result<Table, Stop> {
    let Some((last, tried)) = directive.args.split_last() else { return Err(Stop::Impossible) };
    context.ledger.carried(directive);
    let is_uri = |arg: &String| ["$uri", "$uri/", "${uri}", "$document_uri"].contains(&arg.as_str());
    let mut places: Vec<Expr> = Vec::new();
    for arg in tried.iter().filter(|arg| !arg.ends_with("$uri/")) {
        let place = if is_uri(arg) {
            place(context, way, key)?
        } else {
            named_place(context, directive, way, key, arg)?
        };
        places.extend(place);
    }
    let mut table = Table::default();
    if let Some(first) = places.first() {
        table.set("files", first.to_string());
        let others: Vec<String> = places[1..].iter().map(ToString::to_string).collect();
        if !others.is_empty() {
            table.set("try", others);
        }
        extras(context, way, key, &mut table);
    }
    if tried.iter().any(|arg| arg.ends_with("$uri/")) && table.get("index").is_none() && !places.is_empty() {
        table.set("index", "index.html");
    }
    match last.strip_prefix('=') {
        Some(status) => {
            if status != "404" {
                let text = format!("a missing file is answered with 404, not with {status}");
                context.ledger.note(directive, text);
            }
            Ok(table)
        }
        None => otherwise(context, server, way, key, directive, last, table),
    }
}

/// A file that `try_files` names otherwise than by `$uri`.
fn named_place<'a>(
    context: &Context<'a>,
    directive: &Directive,
    way: &Way<'a>,
    key: &Matcher,
    arg: &str,
) -> Result<Option<Expr>, Stop> {
    let Some(root) = way.scope.any(&["root", "alias"]) else { return Ok(None) };
    let base = base(context, root, way)?;
    context.ledger.carried(root);
    let written = context.resolve(directive, arg, &way.variables)?;
    let written = match (root.name.as_str(), way.matcher.path()) {
        ("alias", Some(prefix)) => written.without_prefix(prefix).unwrap_or(written),
        _ => written,
    };
    if key.is_prefix() && written.literal().is_some() {
        let instead = "write an exact route for the file";
        context.ledger.reported(
            directive,
            "a prefix route serves the same path from other directories only",
            instead,
        );
        return Ok(None);
    }
    Ok(Some(trimmed(below(&base, &written))))
}

/// What `try_files` does when no file exists: another file, or a location.
fn otherwise<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    way: &Way<'a>,
    key: &Matcher,
    directive: &'a Directive,
    last: &str,
    mut table: Table,
) -> Result<Table, Stop> {
    let mut inner = way.clone();
    if last.starts_with('@') {
        let Some(named) = server.named(last) else { return Err(Stop::Impossible) };
        inner.enter(named.matcher.clone(), named.scope.clone());
    } else {
        inner.uri = Some(context.resolve(directive, last, &way.variables)?.without_query());
        inner.end = super::program::End::Search;
    }
    let fallback = super::routes::settle(context, server, inner).pop();
    let fallback = fallback.map(|way| super::content::action(context, server, &way, key)).transpose()?;
    let Some(fallback) = fallback else { return Ok(table) };
    if table.is_empty() {
        return Ok(fallback);
    }
    let file = fallback.text("files").map(str::to_owned);
    match file {
        Some(file) if key.is_prefix() => {
            let mut page = Table::of("page", file);
            page.set("status", 200);
            table.set("errors", Table::of("404", page));
            Ok(table)
        }
        Some(file) => {
            let mut others = match table.remove("try") {
                Some(Value::List(others)) => others,
                _ => Vec::new(),
            };
            others.push(file.into());
            table.set("try", others);
            Ok(table)
        }
        None => {
            let instead =
                "write routes for the directories that have files; everything else goes to the application";
            context.ledger.reported(
                directive,
                "a route has files or an application, not one after the other",
                instead,
            );
            Ok(if key.path() == Some("/") { fallback } else { table })
        }
    }
}
