//! `auth_basic` and `auth_request`, as `[auth.NAME]`.

use super::{
    condition::Atom,
    context::{Context, Stop},
    model::Server,
    output::Section,
    program::{End, Way},
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
    upstreams::{Target, identifier},
};

/// Authentications used so far, by name.
#[derive(Debug, Default)]
pub struct Auths(Vec<(String, Table)>);

impl Auths {
    /// The name for a table; the same table has the same name.
    fn name(&mut self, table: Table, wanted: &str) -> String {
        if let Some((name, _)) = self.0.iter().find(|(_, known)| *known == table) {
            return name.clone();
        }
        let wanted =
            Some(identifier(wanted)).filter(|name| !name.is_empty()).unwrap_or_else(|| "site".into());
        let numbered = (2..).map(|number| format!("{wanted}{number}"));
        let is_free = |name: &String| self.0.iter().all(|(known, _)| known != name);
        let name = std::iter::once(wanted.clone()).chain(numbered).find(is_free).unwrap_or_default();
        self.0.push((name.clone(), table));
        name
    }

    /// Lets the authentication send the name of the user to the application.
    pub fn send_user(&mut self, name: &str) {
        if let Some((_, table)) = self.0.iter_mut().find(|(known, _)| known == name) {
            table.set("remote_user", true);
        }
    }

    /// All in use.
    pub fn finish(self) -> Vec<Section> {
        let section = |(name, table): (String, Table)| Section {
            header: format!("[auth.{}]", super::toml::key(&name)),
            table,
            ..Section::default()
        };
        self.0.into_iter().map(section).collect()
    }
}

/// Authentication of a route.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Auth {
    /// Name of the `[auth.NAME]`.
    pub name: Option<String>,
    /// Whether an allowed address is enough.
    pub satisfy_any: bool,
    /// Conditions under which requests pass without it.
    pub exempt: Vec<Vec<Atom>>,
}

/// Authentication in effect for a way.
pub fn of<'a>(context: &Context<'a>, server: &Server<'a>, way: &Way<'a>, hint: &str) -> Result<Auth, Stop> {
    let scope = &way.access;
    let mut auth = Auth::default();
    let request = scope.one("auth_request").filter(|directive| directive.first() != "off");
    let basic = scope.one("auth_basic").filter(|directive| directive.first() != "off");
    for name in ["auth_request", "auth_basic"] {
        if let Some(off) = scope.one(name).filter(|directive| directive.first() == "off") {
            context.ledger.carried(off);
        }
    }
    if let Some(directive) = basic {
        auth.name = by_password(context, directive, way, hint)?;
    }
    if let Some(directive) = request {
        by_request(context, server, directive, way, &mut auth)?;
    }
    if let Some(satisfy) = scope.one("satisfy") {
        auth.satisfy_any = satisfy.first() == "any" && auth.name.is_some();
        if auth.name.is_some() {
            context.ledger.carried(satisfy);
        } else {
            context.ledger.unnecessary(satisfy, "nothing but the address is asked for here");
        }
    }
    Ok(auth)
}

fn by_password(
    context: &Context<'_>,
    directive: &Directive,
    way: &Way<'_>,
    hint: &str,
) -> Result<Option<String>, Stop> {
    let realm = context.resolve(directive, directive.first(), &way.variables)?;
    let Some(file) = way.access.one("auth_basic_user_file") else {
        let instead = "name the file in `htpasswd` of an `[auth.NAME]`";
        context.ledger.reported(directive, "there is no `auth_basic_user_file`", instead);
        return Ok(None);
    };
    context.ledger.carried(directive);
    context.ledger.carried(file);
    let mut table = Table::of("htpasswd", context.path(file.first()));
    table.set("realm", realm.literal().unwrap_or_default());
    Ok(Some(context.auths.borrow_mut().name(table, hint)))
}

fn by_request<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    directive: &'a Directive,
    way: &Way<'a>,
    auth: &mut Auth,
) -> Result<(), Stop> {
    let uri = directive.first();
    let location = server.find(uri).filter(|location| location.matcher.path() != Some("/"));
    let Some(location) = location else {
        let instead = "write an `[auth.NAME]` with the upstream and path to ask";
        context.ledger.reported(directive, format!("no location answers `{uri}`"), instead);
        return Err(Stop::Impossible);
    };
    context.absorbed.borrow_mut().insert(location.directive.id);
    context.ledger.carried(location.directive);
    for inner in context.ways(&location.matcher, &location.scope, way.variables.clone()) {
        match &inner.end {
            End::Return(status) if status.first().starts_with('2') => auth.exempt.push(inner.when.0.clone()),
            End::Content => auth.name = asked(context, directive, &location.scope, uri, way)?,
            _ => {
                let why = "the location of the subrequest does more than ask a server";
                context.ledger.reported(directive, why, "let the server that is asked decide");
            }
        }
    }
    context.ledger.carried(directive);
    Ok(())
}

/// `[auth.NAME]` of a subrequest.
fn asked<'a>(
    context: &Context<'a>,
    directive: &Directive,
    scope: &Scope<'a>,
    uri: &str,
    way: &Way<'a>,
) -> Result<Option<String>, Stop> {
    let Some(pass) = scope.one("proxy_pass") else {
        let instead = "the subrequest asks an upstream: see `[auth.NAME] request`";
        context.ledger.reported(directive, "the location of the subrequest does not proxy", instead);
        return Err(Stop::Impossible);
    };
    let target = Target::read(pass.first(), "http").ok_or(Stop::Impossible)?;
    let hint = uri.trim_matches(['/', '_', '=', ' ']);
    context.ledger.carried(pass);
    let upstream = context.upstreams.borrow_mut().named(&target, scope, hint, context.ledger);
    for name in ["proxy_pass_request_body", "proxy_set_header", "internal"] {
        for directive in scope.own().iter().filter(|one| one.name == name) {
            let why = "the subrequest has the client's headers, X-Original-URI, X-Forwarded-* and no body";
            context.ledger.unnecessary(directive, why);
        }
    }
    let mut table = Table::of("request", upstream);
    table.set("path", target.uri.as_deref().unwrap_or(uri));
    let copied = copied(context, way);
    if !copied.is_empty() {
        table.set("copy", copied);
    }
    table.set_some("sign_in", sign_in(context, way));
    Ok(Some(context.auths.borrow_mut().name(table, hint)))
}

/// Headers of the answer that the application gets: `auth_request_set $user $upstream_http_x_user`.
fn copied(context: &Context<'_>, way: &Way<'_>) -> Vec<Value> {
    let mut names = Vec::new();
    for set in way.access.all("auth_request_set") {
        let Some(header) = set.args.get(1).and_then(|value| value.strip_prefix("$upstream_http_")) else {
            let instead = "only headers of the answer are known: name them in `copy`";
            context.ledger.reported(set, "the variable has no equivalent", instead);
            continue;
        };
        context.ledger.carried(set);
        if header != "set_cookie" {
            names.push(super::expr::header_name(header).into());
        }
    }
    names
}

/// Page for browsers that are not signed in: `error_page 401 = /oauth2/sign_in`.
fn sign_in(context: &Context<'_>, way: &Way<'_>) -> Option<String> {
    let pages = way.scope.all("error_page");
    let page = pages.into_iter().find(|page| page.args.iter().any(|arg| arg == "401"))?;
    let target = page.args.last()?;
    if target.starts_with('@') {
        return None;
    }
    context.ledger.carried(page);
    let target = way.variables.resolve(target).ok()?.to_string();
    Some(if target.contains('?') { target } else { format!("{target}?rd={{uri}}") })
}
