//! Locations of a server, as routes of a site.

use super::{
    auth,
    condition::{self, Atom, When},
    content,
    context::{Context, Stop},
    exempt,
    expr::{Expr, Variables},
    files,
    model::{Location, Matcher, Server},
    output::Route,
    pattern,
    program::{self, End, Way},
    settings::Settings,
    syntax::Directive,
    toml::{Table, Value},
};

/// Most internal redirects in a row.
const MOST_HOPS: usize = 8;

/// A server as a site, before it has sockets.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Settings of the site.
    pub settings: Settings,
    /// Routes in order.
    pub routes: Vec<Route>,
    /// Whether plain HTTP is redirected to HTTPS.
    pub redirects_https: bool,
    /// Networks that a condition of the server refuses.
    pub denied: Vec<String>,
    /// File that switches maintenance on.
    pub maintenance: Option<String>,
    /// Hosts with routes of their own, from conditions on `$host`.
    pub hosts: Vec<(String, Vec<Table>)>,
}

/// Makes the routes of a server.
pub fn plan<'a>(context: &Context<'a>, server: &Server<'a>) -> Plan {
    let mut plan = Plan::default();
    let start = Way::new(Matcher::Prefix("/".into()), server.scope.clone(), context.variables(server));
    let ways = context.program(true).run(server.directive.children(), start);
    let is_plain = |way: &Way<'_>| {
        way.when.0.is_empty() && way.key.is_none() && way.host.is_none() && way.scheme.is_none()
    };
    let base = ways.iter().rfind(|way| is_plain(way)).cloned();
    let Some(base) = base else { return plan };
    plan.settings = site_settings(context, server, &base.variables);
    let mut everywhere = Vec::new();
    let mut special = Vec::new();
    for way in ways.into_iter().filter(|way| !is_plain(way)) {
        if way.scheme.is_some() {
            plan.redirects_https |= way.scheme.as_deref() == Some("http")
                && matches!(way.end, End::Return(_) | End::Redirect { .. });
        } else if let Some(host) = way.host.clone() {
            if !matches!(way.end, End::Content) {
                let tables = tables(context, server, &plan.settings, &way, &Matcher::Prefix("/".into()));
                plan.hosts.push((host, tables));
            }
        } else if way.key.is_some() {
            special.push(way);
        } else if let Some(setting) = of_site(&way) {
            match setting {
                OfSite::Deny(networks) => plan.denied.extend(networks),
                OfSite::Maintenance(file) => plan.maintenance = Some(file),
            }
        } else if !matches!(way.end, End::Content) {
            everywhere.extend(tables(context, server, &plan.settings, &way, &Matcher::Prefix("/".into())));
        }
    }
    for way in special {
        add_special(context, server, way, &mut plan);
    }
    if matches!(base.end, End::Content) {
        let builder = Builder { context, server, site: &plan.settings, variables: &base.variables };
        let routes = builder.locations();
        routes.into_iter().for_each(|route| add(&mut plan.routes, route));
        exempt::add_exempt(context, server, &base.variables, &mut plan);
    } else {
        let key = Matcher::Prefix("/".into());
        for way in settle(context, server, base) {
            let alternatives = tables(context, server, &plan.settings, &way, &key);
            add(&mut plan.routes, Route { comments: Vec::new(), key: "/".into(), alternatives });
        }
        let why = "never reached: a directive of the server answers every request";
        server.locations.iter().for_each(|location| context.ledger.all_unnecessary(location.directive, why));
    }
    if !everywhere.is_empty() {
        for route in plan
            .routes
            .iter_mut()
            .filter(|route| !route.alternatives.iter().any(|one| one.get("internal").is_some()))
        {
            route.alternatives.splice(0..0, everywhere.iter().cloned());
        }
    }
    plan
}

/// Condition of a server that a site has a key for.
enum OfSite {
    /// `deny`
    Deny(Vec<String>),
    /// `maintenance`
    Maintenance(String),
}

fn of_site(way: &Way<'_>) -> Option<OfSite> {
    let End::Return(directive) = &way.end else { return None };
    match (way.when.0.as_slice(), directive.args.as_slice()) {
        ([Atom::Networks(networks)], [status]) if matches!(status.as_str(), "403" | "444") => {
            Some(OfSite::Deny(networks.clone()))
        }
        ([Atom::Exists(file)], [status]) if status == "503" => Some(OfSite::Maintenance(file.clone())),
        _ => None,
    }
}

fn site_settings<'a>(context: &Context<'a>, server: &Server<'a>, variables: &Variables) -> Settings {
    // What depends on the request stands on the routes.
    let settings = context.settings(server, &server.scope, &server.scope, variables);
    let mut settings = settings.unwrap_or_default();
    let is_fixed = |value: &Value| !matches!(value, Value::Text(text) if text.contains("{response"));
    settings.headers.0.retain(|(_, value)| is_fixed(value));
    if settings.refuses_all() {
        settings.allow = None;
    }
    let way = Way::new(Matcher::Prefix("/".into()), server.scope.clone(), variables.clone());
    if let Ok(auth) = auth::of(context, server, &way, "site")
        && auth.exempt.is_empty()
    {
        settings.auth = auth.name;
    }
    settings
}

/// A route for paths that a condition or rewrite of the server selects.
fn add_special<'a>(context: &Context<'a>, server: &Server<'a>, way: Way<'a>, plan: &mut Plan) {
    let Some(key) = way.key.clone() else { return };
    let is_conditional = !way.when.0.is_empty();
    let mut alternatives = Vec::new();
    for way in settle(context, server, way) {
        alternatives.extend(tables(context, server, &plan.settings, &way, &key));
    }
    if is_conditional {
        // Other requests for these paths go on as usual.
        let path = match &key {
            Matcher::Regex { source, .. } => literal_prefix(source),
            other => other.path().unwrap_or("/").to_owned(),
        };
        if let Some(location) = server.find(&path) {
            for way in context.ways(&location.matcher, &location.scope, context.variables(server)) {
                for way in settle(context, server, way) {
                    alternatives.extend(tables(context, server, &plan.settings, &way, &key));
                }
            }
        }
    }
    add(&mut plan.routes, Route { comments: Vec::new(), key: written(&key), alternatives });
}

/// The literal text at the beginning of an anchored expression.
pub fn literal_prefix(source: &str) -> String {
    let bare = source.trim_start_matches('^');
    let end = bare.find(|letter: char| "\\([.*+?{|$".contains(letter)).unwrap_or(bare.len());
    let end = if bare[end..].starts_with(['*', '?', '{']) { end.saturating_sub(1) } else { end };
    bare.get(..end).filter(|path| path.starts_with('/')).unwrap_or("/").to_owned()
}

struct Builder<'b, 'a> {
    context: &'b Context<'a>,
    server: &'b Server<'a>,
    site: &'b Settings,
    variables: &'b Variables,
}

impl<'a> Builder<'_, 'a> {
    fn locations(&self) -> Vec<Route> {
        // Those that only answer errors or subrequests are known after the others.
        let made: Vec<(usize, Vec<Route>)> = self
            .server
            .locations
            .iter()
            .filter(|location| !matches!(location.matcher, Matcher::Named(_)))
            .map(|location| (location.directive.id, self.location(location)))
            .collect();
        let absorbed = self.context.absorbed.borrow();
        let mut routes = Vec::new();
        for (id, made) in made {
            for mut route in made {
                // A location for subrequests is none for clients.
                if absorbed.contains(&id) {
                    route.alternatives = vec![Table::of("answer", 404)];
                }
                add(&mut routes, route);
            }
        }
        for location in self.server.locations.iter().filter(|one| matches!(one.matcher, Matcher::Named(_))) {
            self.context.ledger.unnecessary(location.directive, "no other location leads to it");
        }
        routes
    }

    fn location(&self, location: &Location<'a>) -> Vec<Route> {
        let ledger = self.context.ledger;
        let comments = super::comments::of(location.directive);
        let mut variables = self.variables.clone();
        let (key, matcher) = match self.key(location, &mut variables) {
            Some(keys) => keys,
            None => {
                let instead = "write the expression without look-around and back references";
                ledger.reported(location.directive, "the expression is not supported", instead);
                return Vec::new();
            }
        };
        let mut own = Vec::new();
        let mut routes = Vec::new();
        for way in self.context.ways(&matcher, &location.scope, variables) {
            for way in settle(self.context, self.server, way) {
                let narrow = way.key.clone();
                let tables =
                    tables(self.context, self.server, self.site, &way, narrow.as_ref().unwrap_or(&key));
                match narrow {
                    Some(narrow) => {
                        let route =
                            Route { comments: Vec::new(), key: written(&narrow), alternatives: tables };
                        add(&mut routes, route);
                    }
                    None => own.extend(tables),
                }
            }
        }
        if !own.is_empty() || !routes.is_empty() {
            ledger.carried(location.directive);
        }
        let bare = self.redirect_to_slash(location, &own);
        add(&mut routes, Route { comments: Vec::new(), key: written(&key), alternatives: own });
        routes.extend(bare);
        // Comments stand above all routes of the location.
        if let Some(first) = routes.first_mut() {
            first.comments = comments;
        }
        routes
    }

    /// The key of the route, and the matcher with names for its groups.
    fn key(&self, location: &Location<'a>, variables: &mut Variables) -> Option<(Matcher, Matcher)> {
        let matcher = location.matcher.clone();
        match &matcher {
            Matcher::Regex { source, any_case } => {
                let used = used_variables(location);
                let is_used = |number: usize| used.contains(&number.to_string());
                let pattern = pattern::named(source, *any_case, is_used)?;
                program::use_names(variables, &pattern);
                let matcher = Matcher::Regex { source: pattern.source, any_case: *any_case };
                Some((matcher.clone(), matcher))
            }
            Matcher::Prefix(path) => {
                let slashed = format!("{path}/");
                let has_twin =
                    self.server.locations.iter().any(|other| other.matcher.path() == Some(&slashed));
                let is_exact = has_twin || is_file(location, path);
                let key =
                    if is_exact && path != "/" { Matcher::Exact(path.clone()) } else { matcher.clone() };
                Some((key, matcher))
            }
            _ => Some((matcher.clone(), matcher)),
        }
    }

    /// nginx redirects `/x` to `/x/`, with the query, where that is proxied.
    fn redirect_to_slash(&self, location: &Location<'a>, tables: &[Table]) -> Option<Route> {
        let (Matcher::Prefix(path) | Matcher::Caret(path)) = &location.matcher else { return None };
        let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty())?;
        let own_pass = location.scope.own().iter().any(|one| one.name.ends_with("_pass"));
        let is_proxy = own_pass && tables.iter().any(|table| table.get("proxy").is_some());
        let is_taken = self.server.locations.iter().any(|other| other.matcher.path() == Some(bare));
        if !is_proxy || is_taken {
            return None;
        }
        let mut table = Table::of("redirect", format!("{path}?{{query}}"));
        table.set("status", 301);
        Some(Route { comments: Vec::new(), key: format!("= {bare}"), alternatives: vec![table] })
    }
}

/// Positional captures that a location uses.
fn used_variables(location: &Location<'_>) -> Vec<String> {
    fn collect(directives: &[Directive], used: &mut Vec<String>) {
        for directive in directives {
            directive.args.iter().for_each(|arg| used.extend(super::expr::variables(arg)));
            collect(directive.children(), used);
        }
    }
    let mut used = Vec::new();
    collect(location.scope.own(), &mut used);
    used
}

/// Whether a prefix location stands for a single file: `location /favicon.ico { alias …/favicon.ico; }`.
pub fn is_file(location: &Location<'_>, path: &str) -> bool {
    let has_files =
        location.scope.own().iter().any(|one| matches!(one.name.as_str(), "alias" | "root" | "try_files"));
    let is_proxy = location.scope.own().iter().any(|one| one.name.ends_with("_pass"));
    let alias = location.scope.own().iter().find(|one| one.name == "alias");
    let names_file = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').is_some_and(|(stem, ending)| {
            !stem.is_empty()
                && ending.len() <= 5
                && ending.starts_with(|first: char| first.is_ascii_alphabetic())
        })
    };
    let is_directory = alias.is_some_and(|alias| alias.first().ends_with('/') || !names_file(alias.first()));
    has_files && !is_proxy && names_file(path) && !is_directory
}

/// Follows internal redirects until there is content or an answer.
pub fn settle<'a>(context: &Context<'a>, server: &Server<'a>, mut way: Way<'a>) -> Vec<Way<'a>> {
    if way.hops > MOST_HOPS || !context.step() {
        return Vec::new();
    }
    let keeps_access = matches!(way.end, End::Content);
    if keeps_access && let Some(pass) = way.local.one("upload_pass") {
        let Some(target) = uploaded(context, &way, pass) else { return Vec::new() };
        way.uri = Some(target);
        way.end = End::Search;
    }
    let target = match &way.end {
        End::Search => way.uri.as_ref().and_then(|uri| server.find(&content::sample(uri))),
        End::Content => {
            let tried = way.local.one("try_files");
            let Some((tried, name)) = tried.and_then(|tried| Some((tried, files::fallback(tried)?))) else {
                return vec![way];
            };
            context.ledger.carried(tried);
            match name.starts_with('@') {
                true => server.named(name),
                false => {
                    way.uri = way.variables.resolve(name).ok().map(Expr::without_query);
                    server.find(name)
                }
            }
        }
        End::Return(_) | End::Redirect { .. } => return vec![way],
    };
    let Some(location) = target else {
        way.end = End::Content;
        return vec![way];
    };
    context.ledger.carried(location.directive);
    let mut matcher = location.matcher.clone();
    if let Matcher::Regex { source, any_case } = &matcher
        && let Some(pattern) = pattern::named(source, *any_case, |_| false)
    {
        matcher = Matcher::Regex { source: pattern.source, any_case: *any_case };
    }
    way.enter(matcher, location.scope.clone());
    if !keeps_access {
        // Access is checked again in the location that was found.
        way.access = location.scope.clone();
    }
    let ways = context.program(false).run(location.scope.own(), way);
    ways.into_iter().flat_map(|way| settle(context, server, way)).collect()
}

/// Where an upload goes: the form as it is, as its files are not stored by the proxy.
fn uploaded(context: &Context<'_>, way: &Way<'_>, pass: &Directive) -> Option<Expr> {
    context.ledger.carried(pass);
    if let Some(store) = way.local.one("upload_store") {
        context.ledger.reported(
            store,
            "files of forms are not stored by the proxy in this version",
            "nothing, if the application takes the form itself, as Galaxy does; else use resumable uploads (tus)",
        );
    }
    context.resolve(pass, pass.first(), &way.variables).ok()
}

/// The tables of a way: one, or one for each entry of a map that it depends on.
pub fn tables<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    site: &Settings,
    way: &Way<'a>,
    key: &Matcher,
) -> Vec<Table> {
    forked(context, server, site, way, key, 0)
}

fn forked<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    site: &Settings,
    way: &Way<'a>,
    key: &Matcher,
    depth: usize,
) -> Vec<Table> {
    if !context.step() {
        return Vec::new();
    }
    let name = match table(context, server, site, way, key) {
        Ok(tables) => return tables,
        Err(Stop::Map(name)) if depth < 6 => name,
        Err(_) => return Vec::new(),
    };
    let Some(map) = context.maps.iter().find(|map| map.name == name) else { return Vec::new() };
    let mut tables = Vec::new();
    let mut take = |way: &Way<'a>, value: &str, when: &When| {
        let mut way = way.clone();
        way.when = when.clone();
        match way.variables.resolve(value) {
            Ok(value) => {
                way.variables.set.insert(name.clone(), value);
                tables.extend(forked(context, server, site, &way, key, depth + 1));
            }
            Err(no_value) => program::no_value_in(context.ledger, map.directive, &no_value),
        }
    };
    context.ledger.carried(map.directive);
    for entry in &map.entries {
        let case = condition::case(map, &entry.key, &way.variables);
        let mut when = way.when.clone();
        let is_possible = case.is_some_and(|case| case.atoms.into_iter().all(|atom| when.add(atom)));
        if is_possible {
            take(way, &entry.value, &when);
        } else {
            let instead =
                "`when` of a route compares methods, headers, cookies, the query, networks and User-Agent";
            context.ledger.reported(entry.directive, "the entry has no equivalent", instead);
        }
    }
    take(way, &map.default, &way.when.clone());
    tables
}

/// The table of a way, with one before it for each exception from authentication.
fn table<'a>(
    context: &Context<'a>,
    server: &Server<'a>,
    site: &Settings,
    way: &Way<'a>,
    key: &Matcher,
) -> Result<Vec<Table>, Stop> {
    let mut table = Table::default();
    let is_answer = matches!(way.end, End::Return(_) | End::Redirect { .. });
    let mut settings = context.settings(server, &way.scope, &way.access, &way.variables)?;
    let mut auth = auth::Auth::default();
    if is_answer {
        // `return` is processed before limits and access; those of the site do no harm.
        settings = Settings { headers: settings.headers, ..site.clone() };
    } else {
        auth = auth::of(context, server, way, &content::hint(server, key))?;
        settings.auth.clone_from(&auth.name);
    }
    let refuses = settings.refuses_all() && !auth.satisfy_any;
    let action = match refuses {
        true => {
            settings = Settings { headers: settings.headers, ..site.clone() };
            Table::of("answer", 403)
        }
        false => content::action(context, server, way, key)?,
    };
    table.0.extend(action.0);
    if !is_answer && !refuses {
        content::modifiers(context, way, &mut table);
    }
    if auth.satisfy_any {
        table.set("satisfy", "any");
    }
    merge(&mut table, settings.of_route(site));
    note_root(context, way, &table);
    let mut tables = Vec::new();
    for exempt in &auth.exempt {
        let mut when = way.when.clone();
        if exempt.iter().all(|atom| when.add(atom.clone())) {
            let mut open = table.clone();
            open.remove("auth");
            tables.push(under(&when, open));
        }
    }
    if let Some(name) = table.text("auth").map(str::to_owned) {
        move_user(context, &name, &mut table);
    }
    tables.push(under(&way.when, table));
    Ok(tables)
}

/// REMOTE_USER is sent by the authentication itself.
fn move_user(context: &Context<'_>, auth: &str, table: &mut Table) {
    let Some(Value::Table(headers)) = table.get("request_headers") else { return };
    let mut headers = headers.clone();
    let is_user =
        |name: &str| name.eq_ignore_ascii_case("REMOTE_USER") || name.eq_ignore_ascii_case("Remote-User");
    let before = headers.0.len();
    headers.0.retain(|(name, value)| !(is_user(name) && *value == Value::from("{user}")));
    if headers.0.len() == before {
        return;
    }
    context.auths.borrow_mut().send_user(auth);
    match headers.is_empty() {
        true => drop(table.remove("request_headers")),
        false => table.set("request_headers", headers),
    }
}

/// The table with its condition in front.
fn under(when: &When, table: Table) -> Table {
    let condition = when.table();
    if condition.is_empty() {
        return table;
    }
    let mut whole = Table::of("when", condition);
    whole.0.extend(table.0);
    whole
}

/// Adds keys; tables of the same key are joined.
fn merge(table: &mut Table, others: Table) {
    for (key, value) in others.0 {
        match (table.get(&key).cloned(), value) {
            (Some(Value::Table(mut own)), Value::Table(other)) => {
                for (name, value) in other.0 {
                    own.set(&name, value);
                }
                table.set(&key, own);
            }
            (Some(_), _) => {}
            (None, value) => table.set(&key, value),
        }
    }
}

/// Points out an internal location that can send every file.
fn note_root(context: &Context<'_>, way: &Way<'_>, table: &Table) {
    if table.get("internal").is_some() && table.text("files") == Some("/") {
        let place = way.scope.any(&["alias", "root"]);
        place.into_iter().for_each(|place| {
            context.ledger.note(
                place,
                "the application can have any file of this machine sent, keys and passwords too. List its data: `within = \
                 [\"/srv/galaxy/var\", \"/data\"]`",
            );
        });
    }
}

/// The key of a route as written.
pub fn written(matcher: &Matcher) -> String {
    let bare = |path: &str| match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        bare => bare.to_owned(),
    };
    match matcher {
        Matcher::Exact(path) => format!("= {path}"),
        Matcher::Prefix(path) => bare(path),
        Matcher::Caret(path) => format!("^~ {}", bare(path)),
        Matcher::Regex { source, any_case: false } => format!("~ {source}"),
        Matcher::Regex { source, any_case: true } => format!("~* {source}"),
        Matcher::Named(name) => name.clone(),
    }
}

/// Adds a route; one with the same key gets the alternatives before its own.
pub fn add(routes: &mut Vec<Route>, mut route: Route) {
    if route.alternatives.is_empty() {
        return;
    }
    if let Some(known) = routes.iter_mut().find(|known| known.key == route.key) {
        // The first one decides where it has no condition.
        if known.alternatives.last().is_some_and(|last| last.get("when").is_some()) {
            known.alternatives.append(&mut route.alternatives);
            shorten(&mut known.alternatives);
        }
        return;
    }
    shorten(&mut route.alternatives);
    routes.push(route);
}

/// Removes alternatives behind one without a condition, and those that do the same as the one behind them.
fn shorten(alternatives: &mut Vec<Table>) {
    if let Some(last) = alternatives.iter().position(|table| table.get("when").is_none()) {
        alternatives.truncate(last + 1);
    }
    while let [.., before, last] = alternatives.as_slice() {
        let mut bare = before.clone();
        bare.remove("when");
        if last.get("when").is_some() || bare != *last {
            break;
        }
        alternatives.remove(alternatives.len() - 2);
    }
}
