//! The action of a route: where its content comes from.

use super::{
    context::{Context, Stop},
    expr::{self, Expr},
    files::{self},
    model::{Matcher, Server},
    program::{End, Way},
    proxy,
    syntax::Directive,
    toml::Table,
    units,
};

/// The action with the modifiers that belong to it.
pub fn action<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    way: &Way<'a>,
    key: &Matcher,
) -> Result<Table, Stop> {
    match &way.end {
        End::Return(directive) => returned(context, server, directive, way),
        End::Redirect { to, status } => Ok(redirect(server, to, *status)),
        End::Content | End::Search => content(context, server, way, key),
    }
}

/// `return CODE [TEXT]` or `return URL`.
fn returned(
    context: &Context<'_>,
    server: &Server<'_>,
    directive: &Directive,
    way: &Way<'_>,
) -> Result<Table, Stop> {
    let (code, text) = match directive.args.as_slice() {
        [only] if only.parse::<u16>().is_err() => (302, Some(only)),
        [code] => (code.parse().unwrap_or(500), None),
        [code, text, ..] => (code.parse().unwrap_or(500), Some(text)),
        [] => return Err(Stop::Impossible),
    };
    let text = text.map(|text| context.resolve(directive, text, &way.variables)).transpose()?;
    if matches!(code, 301 | 302 | 303 | 307 | 308)
        && let Some(to) = text
    {
        return Ok(redirect(server, &to, code));
    }
    if code == 444 {
        context
            .ledger
            .note(directive, "nginx closes the connection without a response (444); the result answers 403");
        return Ok(Table::of("answer", 403));
    }
    if !(200..600).contains(&code) {
        context.ledger.reported(
            directive,
            "a response has a status from 200 to 599",
            "choose another status",
        );
        return Err(Stop::Impossible);
    }
    let mut table = Table::of("answer", i64::from(code));
    if let Some(text) = text {
        let Some(body) = text.literal() else {
            context.ledger.reported(
                directive,
                "the body of an answer is a fixed text",
                "write the text without variables",
            );
            return Ok(table);
        };
        if !body.is_empty() {
            table.set("body", body);
            let default = way.scope.one("default_type");
            let media_type = default.map_or("text/plain", |directive| directive.first());
            if media_type != "text/plain" {
                table.set("type", media_type);
            }
            default.into_iter().for_each(|directive| context.ledger.carried(directive));
        }
    }
    Ok(table)
}

/// A redirect. `$scheme` is that of the server's sockets, and a redirect to the client's own host one to a path.
fn redirect(server: &Server<'_>, to: &Expr, status: u16) -> Table {
    let text = to.to_string();
    let scheme = if server.is_tls() { "https" } else { "http" };
    let target = match text.strip_prefix("{scheme}://{host}").filter(|path| path.starts_with('/')) {
        Some(path) => path.to_owned(),
        None => match text.strip_prefix("{scheme}") {
            Some(rest) => format!("{scheme}{rest}"),
            None => text,
        },
    };
    let mut table = Table::of("redirect", target);
    if status != 302 {
        table.set("status", i64::from(status));
    }
    table
}

fn content<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    way: &Way<'a>,
    key: &Matcher,
) -> Result<Table, Stop> {
    let ledger = context.ledger;
    let here = |names: &[&str]| way.local.any(names);
    if here(&["stub_status"]).is_some() {
        let why = "the admin listener has /metrics and /status.json, for this machine alone";
        way.local.own().iter().for_each(|one| ledger.unnecessary(one, why));
        return Err(Stop::Impossible);
    }
    if let Some(tried) = way.local.one("try_files") {
        return files::tried(context, server, way, key, tried);
    }
    if let Some(pass) = here(&["proxy_pass", "uwsgi_pass"]) {
        return proxy::proxied(context, server, way, key, pass);
    }
    if let Some(other) = here(&["fastcgi_pass", "scgi_pass", "grpc_pass", "memcached_pass"]) {
        let _ = other;
        return Ok(Table::of("answer", 501));
    }
    files::served(context, way, key)
}

/// Modifiers of routes with content.
pub fn modifiers<'a>(context: &Context<'a>, way: &Way<'a>, table: &mut Table) {
    let ledger = context.ledger;
    let scope = &way.scope;
    if let Some(directive) = way.internal {
        ledger.carried(directive);
        table.set("internal", true);
    }
    if let Some(directive) = scope.one("expires") {
        expires(context, directive, table);
    }
    for name in ["limit_rate", "limit_rate_after"] {
        if let Some(directive) = scope.one(name)
            && !directive.first().contains('$')
        {
            ledger.carried(directive);
            let size = units::size(directive.first()).filter(|_| units::bytes(directive.first()) != Some(0));
            table.set_some(name, size);
        }
    }
    if let Some(block) = way.access.one("limit_except") {
        let is_denied = block.children().iter().any(|one| one.name == "deny" && one.first() == "all");
        let others = block.children().iter().filter(|one| one.name != "deny").count();
        if is_denied && others == 0 {
            ledger.carried(block);
            table.set("methods", block.args.clone());
            ledger.note(block, "nginx answers other methods with 403, the result with 405");
        } else {
            let instead = "write alternatives with `when = { methods = […] }`";
            ledger.reported(block, "only `deny all` for other methods is converted", instead);
        }
    }
}

fn expires(context: &Context<'_>, directive: &Directive, table: &mut Table) {
    let ledger = context.ledger;
    let put = |table: &mut Table, name: &str, value: &str| {
        let mut headers = match table.get("headers") {
            Some(super::toml::Value::Table(headers)) => headers.clone(),
            _ => Table::default(),
        };
        headers.set(name, value);
        table.set("headers", headers);
    };
    match directive.first() {
        "off" => ledger.carried(directive),
        "max" => {
            ledger.carried(directive);
            table.set("expires", "3650d");
        }
        "epoch" | "-1" => {
            ledger.carried(directive);
            put(table, "Cache-Control", "no-cache");
        }
        time if !time.starts_with('@') && !time.contains('$') && directive.args.len() == 1 => {
            match units::duration(time.trim_start_matches('+')) {
                Some(time) => {
                    ledger.carried(directive);
                    table.set("expires", time);
                }
                None if time.starts_with('-') => {
                    ledger.carried(directive);
                    put(table, "Cache-Control", "no-cache");
                }
                None => ledger.reported(directive, "the time cannot be read", "write `expires = \"24h\"`"),
            }
        }
        _ => ledger.reported(
            directive,
            "a lifetime is a fixed time from now",
            "write `expires = \"24h\"` on routes for each kind of file",
        ),
    }
}

/// The name for things that have none: from the path of the location.
pub fn hint(server: &Server<'_>, matcher: &Matcher) -> String {
    let text = match matcher {
        Matcher::Exact(path) | Matcher::Prefix(path) | Matcher::Caret(path) | Matcher::Named(path) => {
            path.clone()
        }
        Matcher::Regex { source, .. } => without_group_names(source),
    };
    if text.contains("resumable_upload") {
        return "tusd".into();
    }
    if text.contains("interactivetool") {
        return "interactive-tools".into();
    }
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let mut words = text.split(|letter: char| !is_word(letter)).filter(|word| word.len() > 2);
    let word = words.next_back().map(|word| word.trim_matches(['_', '-']).to_owned());
    word.filter(|word| !word.is_empty()).unwrap_or_else(|| {
        let name = server.names.first().map(|name| name.trim_start_matches(['*', '.', '~', '^']).to_owned());
        let label = name.and_then(|name| name.split(['.', '\\', '(']).next().map(str::to_owned));
        label.filter(|label| !label.is_empty()).unwrap_or_else(|| "app".into())
    })
}

/// An expression without the names of its groups, which say nothing about the application.
fn without_group_names(source: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("(?<") {
        text.push_str(&rest[..at]);
        rest = rest[at..].split_once('>').map_or("", |(_, behind)| behind);
    }
    text + rest
}

/// A path with its names replaced, to find the location that most requests for it belong to.
pub fn sample(uri: &Expr) -> String {
    let piece = |piece: &expr::Piece| match piece {
        expr::Piece::Text(text) => text.clone(),
        expr::Piece::Name(name) if name == "rest" || name == "path" => "/x".into(),
        expr::Piece::Name(_) => "x".into(),
    };
    let text: String = uri.0.iter().map(piece).collect();
    let path = text.split('?').next().unwrap_or_default();
    path.replace("//", "/")
}
