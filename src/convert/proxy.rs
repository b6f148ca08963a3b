//! `proxy_pass` and `uwsgi_pass`, as `proxy` with `path` and `request_headers`.

use super::{
    content::hint,
    context::{Context, Stop},
    expr::{Expr, Piece},
    model::{Matcher, Server},
    program::Way,
    syntax::Directive,
    toml::{Table, Value},
    units,
    upstreams::{self, Target},
};

/// Headers that the proxy sets itself, with what it sends.
const OWN: [(&str, &str); 14] = [
    ("host", "Host passes as the client sent it"),
    ("x-real-ip", "the address of the client, as believed by `trust`"),
    ("x-forwarded-for", "the address of the client, as believed by `trust`"),
    ("x-forwarded-proto", "the scheme of the client"),
    ("x-forwarded-protocol", "X-Forwarded-Proto is always sent"),
    ("x-forwarded-host", "the host that the client asked for"),
    ("x-forwarded-port", "the port that the client asked for"),
    ("x-forwarded-server", "X-Forwarded-Host is always sent"),
    ("forwarded", "X-Forwarded-* are always sent"),
    ("upgrade", "WebSockets are passed on by themselves"),
    ("connection", "WebSockets are passed on by themselves"),
    ("sec-websocket-extensions", "WebSockets are passed on by themselves"),
    ("te", "a header of the connection"),
    ("x-request-id", "X-Request-Id is always sent"),
];

/// `proxy` of a route.
pub fn proxied<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    way: &Way<'a>,
    key: &Matcher,
    pass: &'a Directive,
) -> Result<Table, Stop> {
    let ledger = context.ledger;
    let family = if pass.name == "uwsgi_pass" { "uwsgi" } else { "proxy" };
    let protocol = if family == "uwsgi" { "uwsgi" } else { "http" };
    let written = context.resolve(pass, pass.first(), &way.variables)?;
    let Some((target, uri)) = target(&written, protocol) else {
        let instead = "write an `[upstream.NAME]` with the servers, and name it in `proxy`";
        ledger.reported(pass, "the server depends on the request", instead);
        return Err(Stop::Impossible);
    };
    ledger.carried(pass);
    let hint = hint(server, &way.matcher);
    let upstream = context.upstreams.borrow_mut().named(&target, &way.scope, &hint, ledger);
    if let Some(table) = context.upstreams.borrow_mut().table(&upstream) {
        upstreams::connection_settings(table, family, &way.scope, ledger);
    }
    let mut table = Table::of("proxy", upstream);
    let path = request_path(context, way, key, pass, uri);
    if let Some(path) = &path {
        table.set("path", path.to_string());
    }
    redirects(context, way, path.is_some(), &mut table);
    let headers =
        if family == "uwsgi" { uwsgi_params(context, way)? } else { request_headers(context, way, &target)? };
    if !headers.is_empty() {
        table.set(if family == "uwsgi" { "uwsgi_params" } else { "request_headers" }, headers);
    }
    for name in ["read_timeout", "send_timeout"] {
        if let Some(directive) = way.scope.one(&format!("{family}_{name}"))
            && let Some(time) = units::duration(directive.first())
        {
            ledger.carried(directive);
            table.set(name, time);
        }
    }
    if let Some(directive) = way.scope.one(&format!("{family}_request_buffering")) {
        match directive.first() {
            "off" => ledger.unnecessary(
                directive,
                "request bodies are passed on as they come unless `buffer` says otherwise",
            ),
            _ => {
                ledger.carried(directive);
                table.set("buffer", "disk");
            }
        }
    }
    let http = way.scope.clone();
    table.set_some("cache", context.caches.borrow_mut().setting(family, &way.scope, &http, ledger));
    Ok(table)
}

/// Splits a target into the server and the path behind it, which may have names.
fn target(written: &Expr, protocol: &'static str) -> Option<(Target, Option<Expr>)> {
    let first = written.prefix();
    let is_whole = written.literal().is_some();
    let mut target = Target::read(first, protocol)?;
    // Names may stand in the path only.
    if !is_whole && target.uri.is_none() {
        return None;
    }
    let uri = target.uri.take().map(|uri| {
        let mut expr = Expr::text(&uri);
        expr.push(&Expr(written.0.iter().skip(1).cloned().collect()));
        expr.without_query()
    });
    Some((target, uri))
}

/// What the server is asked for in place of the client's path, if it is something else.
fn request_path(
    context: &Context<'_>,
    way: &Way<'_>,
    key: &Matcher,
    pass: &Directive,
    uri: Option<Expr>,
) -> Option<Expr> {
    let prefix = match &way.matcher {
        Matcher::Prefix(path) | Matcher::Caret(path) => Some(path.as_str()),
        _ => None,
    };
    let path = match (&way.uri, uri) {
        (Some(rewritten), Some(uri)) if !way.is_rewritten_here => match (prefix, &way.matcher) {
            (Some(prefix), _) => {
                let rest = rewritten.without_prefix(prefix)?;
                let mut path = uri;
                path.push(&rest);
                path
            }
            _ => uri,
        },
        (Some(rewritten), _) => rewritten.clone(),
        (None, None) => return None,
        (None, Some(uri)) => {
            match (&way.matcher, prefix) {
                (_, Some(prefix)) => exchanged(context, pass, prefix, &uri)?,
                (Matcher::Regex { .. }, _) => {
                    if uri.literal().is_none() {
                        context.ledger.note(pass, "nginx drops the query here, as `proxy_pass` has variables. The result passes it on");
                    }
                    uri
                }
                (matcher, _) if matcher.path() == uri.literal() => return None,
                _ => uri,
            }
        }
    };
    // `{rest}` is known to prefixes alone, and what is the same is not worth a key.
    let path = merged(path);
    match (&path.only_name(), key) {
        (Some("path"), _) => None,
        (Some("rest"), Matcher::Prefix(prefix) | Matcher::Caret(prefix)) if prefix == "/" => None,
        _ => Some(path),
    }
}

/// The path where a prefix is exchanged for another.
fn exchanged(context: &Context<'_>, pass: &Directive, prefix: &str, uri: &Expr) -> Option<Expr> {
    let Some(uri) = uri.literal() else {
        context.ledger.note(pass, "nginx drops the rest of the path here, as `proxy_pass` has variables");
        return Some(uri.clone());
    };
    let (bare_prefix, bare) = (prefix.trim_end_matches('/'), uri.trim_end_matches('/'));
    match (prefix.ends_with('/'), uri.ends_with('/')) {
        (true, false) => {
            let text = format!(
                "nginx asks for `{uri}x` when a client asks for `{prefix}x`, as a slash is missing at the end of the URL. The \
                 result asks for `{uri}/x`"
            );
            context.ledger.note(pass, text);
        }
        (false, true) => {
            let text = format!(
                "nginx asks for `{uri}/x` when a client asks for `{prefix}/x`, with two slashes, as the location has none at \
                 its end. The result asks for `{bare}/x`"
            );
            context.ledger.note(pass, text);
        }
        _ => {}
    }
    if bare_prefix == bare {
        return None;
    }
    let mut path = Expr::text(bare);
    path.push(&Expr::name("rest"));
    Some(path)
}

/// One slash where a text ends and the rest begins with one.
fn merged(mut path: Expr) -> Expr {
    let at = path
        .0
        .iter()
        .position(|piece| matches!(piece, Piece::Name(name) if name == "rest" || name == "path"));
    if let Some(at @ 1..) = at
        && let Some(Piece::Text(text)) = path.0.get_mut(at - 1)
    {
        *text = text.trim_end_matches('/').to_owned();
        if text.is_empty() {
            path.0.remove(at - 1);
        }
    }
    path
}

/// `proxy_redirect` and `proxy_cookie_path`.
fn redirects(context: &Context<'_>, way: &Way<'_>, has_path: bool, table: &mut Table) {
    let ledger = context.ledger;
    for directive in way.scope.all("proxy_redirect") {
        match (directive.first(), directive.args.get(1)) {
            ("off", _) if has_path => {
                ledger.carried(directive);
                table.set("rewrite_location", false);
            }
            ("off", _) => ledger.unnecessary(directive, "Location is only changed on routes with `path`"),
            ("default", _) => ledger.unnecessary(directive, "`path` is mapped back in Location"),
            _ if has_path => ledger.unnecessary(directive, "`path` is mapped back in Location"),
            ("http://", Some(to)) if to == "https://" => {
                let why = "the application knows the scheme by X-Forwarded-Proto";
                ledger.unnecessary(directive, why);
            }
            _ => ledger.reported(
                directive,
                "Location is only changed by the rule of `path`",
                "let the application build its redirects from X-Forwarded-Host and X-Forwarded-Proto",
            ),
        }
    }
    for directive in way.scope.all("proxy_cookie_path") {
        match has_path {
            true => ledger.unnecessary(directive, "`path` is mapped back in the paths of cookies"),
            false => {
                let why = "paths of cookies are only changed by the rule of `path`";
                ledger.reported(directive, why, "set the path of cookies in the application");
            }
        }
    }
}

fn request_headers<'a>(context: &Context<'a>, way: &Way<'a>, target: &Target) -> Result<Table, Stop> {
    let ledger = context.ledger;
    let mut headers = Table::default();
    let directives = way.scope.all("proxy_set_header");
    let is_host = |directive: &&Directive| directive.first().eq_ignore_ascii_case("host");
    if !directives.iter().any(is_host) && is_name(target.host()) {
        headers.set("Host", target.host().trim_end_matches(":80").trim_end_matches(":443"));
    }
    for directive in directives {
        let [name, written, ..] = directive.args.as_slice() else { continue };
        let lower = name.to_lowercase();
        let own = OWN.iter().find(|(known, _)| *known == lower).map(|(_, why)| *why);
        match own {
            Some(_) if lower == "host" && !written.contains('$') => {
                ledger.carried(directive);
                headers.set("Host", written.as_str());
            }
            Some(why) => {
                note_trust(context, directive, &lower, written);
                ledger.unnecessary(directive, why);
            }
            None => set_header(context, way, directive, name, written, &mut headers)?,
        }
    }
    Ok(headers)
}

/// Whether a default Host is the name of a server elsewhere, which may matter there.
fn is_name(host: &str) -> bool {
    let bare = host.split(':').next().unwrap_or_default();
    bare.contains('.') && bare.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[')
}

/// Points out headers that nginx takes from the client.
fn note_trust(context: &Context<'_>, directive: &Directive, name: &str, written: &str) {
    let from_client = written.contains("$http_x_forwarded") || written.contains("$http_x_real_ip");
    if written.contains("$proxy_add_x_forwarded_for") {
        context.ledger.note(
            directive,
            "nginx appends the client's address to what the client claims in X-Forwarded-For, and Galaxy believes the first \
             one: anybody can choose his address. The result sends the address alone; name balancers in front in `trust`",
        );
    } else if from_client
        || context.maps.iter().any(|map| {
            map.source.contains("$http_x_forwarded") && written.contains(&format!("${}", map.name))
        })
    {
        context.ledger.note(
            directive,
            format!("nginx takes {name} from the client. The result believes it from peers in `trust` of [[listen]] only"),
        );
    }
}

fn set_header<'a>(
    context: &Context<'a>,
    way: &Way<'a>,
    directive: &Directive,
    name: &str,
    written: &str,
    headers: &mut Table,
) -> Result<(), Stop> {
    let ledger = context.ledger;
    let lower = name.to_lowercase();
    let own = format!("$http_{}", lower.replace('-', "_"));
    if written == own {
        ledger.unnecessary(directive, "headers of the client are passed on");
        return Ok(());
    }
    if matches!(name.to_lowercase().as_str(), "content-length" | "transfer-encoding" | "keep-alive") {
        ledger.unnecessary(directive, "the proxy frames its messages itself");
        return Ok(());
    }
    let has_auth = way.access.one("auth_basic").is_some_and(|one| one.first() != "off");
    if written == "$remote_user" && !has_auth {
        ledger.reported(
            directive,
            "nobody has verified the password here: any client could be any user",
            "set `auth` on the route, or name a proxy that authenticates in `trust`: its REMOTE_USER is passed on",
        );
        return Ok(());
    }
    // Variables of `auth_request_set` come with `copy`.
    let sets = way.access.all("auth_request_set");
    if let Some(at) = sets.iter().position(|set| set.first() == written) {
        let header =
            sets[at].args.get(1).and_then(|value| value.strip_prefix("$upstream_http_")).unwrap_or_default();
        if header == lower.replace('-', "_") {
            ledger.unnecessary(directive, "`copy` of the `[auth.NAME]` passes it on");
        } else if at == 0 {
            ledger.carried(directive);
            headers.set(name, "{user}");
        } else {
            let instead = "let the application read the header that `copy` passes on";
            ledger.reported(directive, "a copied header keeps its name", instead);
        }
        return Ok(());
    }
    let value = context.resolve(directive, written, &way.variables)?;
    ledger.carried(directive);
    if name.to_lowercase().contains("secret") && value.literal().is_some_and(|value| !value.is_empty()) {
        ledger.note(
            directive,
            "a secret stands in the configuration: `\"file:/etc/bowshock/secret\"` keeps it out",
        );
    }
    headers.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    headers.set(name, if value.is_empty() { Value::Flag(false) } else { value.to_string().into() });
    Ok(())
}

/// `uwsgi_param` beyond those that are always sent.
fn uwsgi_params<'a>(context: &Context<'a>, way: &Way<'a>) -> Result<Table, Stop> {
    const ALWAYS: [&str; 17] = [
        "QUERY_STRING",
        "REQUEST_METHOD",
        "CONTENT_TYPE",
        "CONTENT_LENGTH",
        "REQUEST_URI",
        "PATH_INFO",
        "DOCUMENT_ROOT",
        "SERVER_PROTOCOL",
        "REQUEST_SCHEME",
        "HTTPS",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "SERVER_PORT",
        "SERVER_NAME",
        "UWSGI_SCHEME",
        "HTTP_HOST",
        "Host",
    ];
    let mut params = Table::default();
    for directive in way.scope.all("uwsgi_param") {
        let [name, written, ..] = directive.args.as_slice() else { continue };
        if ALWAYS.contains(&name.as_str()) {
            context.ledger.unnecessary(directive, "always sent by `protocol = \"uwsgi\"`");
            continue;
        }
        let header = name.to_lowercase().replace('_', "-");
        if let Some((_, why)) = OWN.iter().find(|(known, _)| header.strip_prefix("http-") == Some(known)) {
            context.ledger.unnecessary(directive, *why);
            continue;
        }
        let value = context.resolve(directive, written, &way.variables)?;
        context.ledger.carried(directive);
        params.set(name, value.to_string());
    }
    Ok(params)
}
