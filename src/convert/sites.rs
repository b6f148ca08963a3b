//! Servers as sites: sockets, host names, certificates, and plain servers that only redirect to HTTPS.

use std::collections::BTreeSet;

use super::{
    context::Context,
    model::{Listen, Server},
    output::{Output, Route, Section, Site},
    routes::{self, Plan},
    scope::Scope,
    syntax::Place,
    toml::{Table, Value},
};

/// A site that is being put together.
struct Draft<'s, 'a> {
    server: &'s Server<'a>,
    plan: Plan,
    is_default: bool,
    redirects_https: bool,
}

/// Makes the sites of all servers, and the sockets.
pub fn fill<'a>(context: &Context<'a>, http: &Scope<'a>, servers: &[Server<'a>], output: &mut Output) {
    let drafts: Vec<Draft<'_, 'a>> = servers
        .iter()
        .map(|server| {
            context.ledger.carried(server.directive);
            let mut plan = routes::plan(context, server);
            let redirects_https = plan.redirects_https | take_https(server, &mut plan);
            Draft { server, plan, is_default: is_default(server, servers), redirects_https }
        })
        .collect();
    let drafts = without_redirectors(context, drafts);
    let drafts = without_twins(context, drafts);
    let default = default(&drafts);
    let mut sites = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        sites.extend(site(context, draft, Some(at) == default, drafts.len() > 1));
    }
    if let Some(first) = output.sites.first_mut() {
        first.comments.clear();
    }
    output.sites = sites;
    output.sections.extend(listens(context, http, servers, &output.sites));
}

/// Whether requests for unknown hosts come to this server on one of its sockets.
fn is_default(server: &Server<'_>, servers: &[Server<'_>]) -> bool {
    server.listens.iter().any(|listen| {
        let same = |other: &&Listen<'_>| other.port == listen.port && other.host == listen.host;
        let has = |other: &&Server<'_>| other.listens.iter().any(|one| same(&one));
        let explicit = |other: &&Server<'_>| other.listens.iter().any(|one| same(&one) && one.is_default);
        let first = servers.iter().find(explicit).or_else(|| servers.iter().find(has));
        first.is_some_and(|first| std::ptr::eq(first, server))
    })
}

/// Joins plain servers that only redirect with the sites that they redirect to.
fn without_redirectors<'s, 'a>(context: &Context<'a>, mut drafts: Vec<Draft<'s, 'a>>) -> Vec<Draft<'s, 'a>> {
    let has_tls = drafts.iter().any(|draft| draft.server.is_tls());
    let is_redirector = |draft: &Draft<'_, '_>| {
        let is_plain = draft.server.listens.iter().any(|listen| !listen.ssl) && !draft.server.is_tls();
        has_tls && is_plain && (to_https(&draft.plan).is_some() || draft.redirects_https)
    };
    let at = drafts.iter().position(is_redirector);
    let Some(at) = at else { return drafts };
    let redirector = drafts.remove(at);
    let names: BTreeSet<&String> = redirector.server.names.iter().collect();
    let is_for_all = redirector.is_default || names.is_empty();
    let mut found = false;
    for draft in drafts.iter_mut().filter(|draft| draft.server.is_tls()) {
        let same = draft.server.names.iter().any(|name| names.contains(name));
        if !(same || is_for_all) {
            continue;
        }
        if !found {
            draft.plan.hosts.extend(redirector.plan.hosts.iter().cloned());
        }
        found = true;
        draft.redirects_https = true;
        if (same || names.is_empty() || draft.is_default) && !is_whole(&draft.plan) {
            take_routes(draft, &redirector);
        }
    }
    if !found {
        let instead = "add a site for the names, or a certificate to the site that they belong to";
        context.ledger.reported(redirector.server.directive, "no site with TLS has these names", instead);
    }
    if let Some(target) = to_https(&redirector.plan)
        && !target.contains("{host}")
    {
        let text = format!(
            "nginx redirects every host to {target}; the result redirects each host to itself, by HTTPS"
        );
        context.ledger.note(redirector.server.directive, text);
    }
    without_redirectors(context, drafts)
}

/// Conditions on `$host` of a plain server that redirect to HTTPS, as certbot writes them.
fn take_https(server: &Server<'_>, plan: &mut Plan) -> bool {
    let is_same = |tables: &Vec<Table>| {
        tables.iter().all(|table| table.text("redirect") == Some("https://{host}{uri}"))
    };
    let before = plan.hosts.len();
    if !server.is_tls() && only_refuses(plan) {
        plan.hosts.retain(|(_, tables)| !is_same(tables));
    }
    plan.hosts.len() < before
}

/// Routes of a redirecting server beside the redirect, such as `/.well-known/`.
fn take_routes(draft: &mut Draft<'_, '_>, redirector: &Draft<'_, '_>) {
    for route in &redirector.plan.routes {
        let is_answer = |table: &Table| matches!(table.get("answer"), Some(Value::Number(400..)));
        let is_redirect =
            route.alternatives.iter().all(|table| table.get("redirect").is_some() || is_answer(table));
        if !is_redirect && draft.plan.routes.iter().all(|known| known.key != route.key) {
            draft.plan.routes.push(route.clone());
        }
    }
}

/// Whether a server only redirects or answers, whatever the path.
fn is_whole(plan: &Plan) -> bool {
    plan.routes.iter().all(|route| route.alternatives.iter().all(|table| table.get("redirect").is_some()))
}

/// Target of a redirect of all paths to HTTPS.
fn to_https(plan: &Plan) -> Option<String> {
    let root = plan.routes.iter().find(|route| route.key == "/")?;
    let [only] = root.alternatives.as_slice() else { return None };
    let target = only.text("redirect")?;
    (target.starts_with("https://") && (target.ends_with("{uri}") || target.ends_with("{path}")))
        .then(|| target.into())
}

/// Joins servers with the same names on different sockets.
fn without_twins<'s, 'a>(context: &Context<'a>, drafts: Vec<Draft<'s, 'a>>) -> Vec<Draft<'s, 'a>> {
    let mut kept: Vec<Draft<'s, 'a>> = Vec::new();
    for draft in drafts {
        let same = |known: &&mut Draft<'_, '_>| {
            let names = &draft.server.names;
            !names.is_empty() && known.server.names.iter().any(|name| names.contains(name))
        };
        let Some(known) = kept.iter_mut().find(same) else {
            kept.push(draft);
            continue;
        };
        let mut differs = false;
        for route in &draft.plan.routes {
            match known.plan.routes.iter().find(|other| other.key == route.key) {
                Some(other) => differs |= other != route,
                None => known.plan.routes.push(route.clone()),
            }
        }
        if differs {
            context.ledger.reported(
                draft.server.directive,
                "another server has the same names on another socket, with other content: a site is the same on all sockets",
                "give one of them a name of its own",
            );
        }
    }
    kept
}

/// The draft that becomes the default site: of the sockets with TLS, else of the first socket.
fn default(drafts: &[Draft<'_, '_>]) -> Option<usize> {
    let is_tls_default = |draft: &Draft<'_, '_>| draft.is_default && draft.server.is_tls();
    let explicit = |draft: &Draft<'_, '_>| draft.server.listens.iter().any(|listen| listen.is_default);
    drafts
        .iter()
        .position(|draft| is_tls_default(draft) && explicit(draft))
        .or_else(|| drafts.iter().position(is_tls_default))
        .or_else(|| drafts.iter().position(|draft| draft.is_default && explicit(draft)))
        .or_else(|| drafts.iter().position(|draft| draft.is_default))
}

fn site<'a>(context: &Context<'a>, draft: &Draft<'_, 'a>, is_default: bool, has_others: bool) -> Vec<Site> {
    let server = draft.server;
    let own_hosts: Vec<&String> = draft.plan.hosts.iter().map(|(host, _)| host).collect();
    let names = server.names.iter().filter(|name| !own_hosts.contains(name));
    let mut hosts: Vec<String> = names.flat_map(|name| hosts(name)).collect();
    hosts.dedup();
    let mut comments = super::comments::of(server.directive);
    let refuses = is_default && has_others && server.names.is_empty() && only_refuses(&draft.plan);
    if refuses {
        context.ledger.note(server.directive, "hosts that no site has are refused by themselves");
        return Vec::new();
    }
    if is_default {
        if !hosts.is_empty() {
            comments
                .push(format!("# {}, and every other name: nginx's default server", server.names.join(", ")));
            hosts.clear();
        }
    } else if hosts.is_empty() && !draft.is_default {
        let why = "never reached: another server has its names on the same socket";
        context.ledger.all_unnecessary(server.directive, why);
        return Vec::new();
    } else if hosts.is_empty() {
        let port = server.listens.first().map_or(80, |listen| listen.port);
        comments.push(format!(
            "# Write the name that clients of port {port} use: sites are told apart by host only"
        ));
        hosts.push(format!("port-{port}.invalid"));
        if let Some(listen) = server.listens.iter().find_map(|listen| listen.directive) {
            let instead = format!("replace `port-{port}.invalid` by the name that its clients use");
            context.ledger.reported(
                listen,
                "a site is selected by the name in Host, not by the port",
                instead,
            );
        }
    }
    let mut table = tls(context, server);
    if draft.redirects_https && server.is_tls() {
        table.set("redirect_https", true);
    }
    table.0.extend(draft.plan.settings.of_site().0);
    if let Some(file) = &draft.plan.maintenance {
        let mut maintenance = Table::of("file", file.as_str());
        if let Some(Value::Text(page)) = draft.plan.settings.errors.get("503") {
            maintenance.set("page", page.as_str());
        }
        table.set("maintenance", maintenance);
    }
    let mut routes = draft.plan.routes.clone();
    let denied = &draft.plan.denied;
    if !denied.is_empty() {
        deny(&mut table, denied);
        let own = routes.iter_mut().flat_map(|route| &mut route.alternatives);
        own.filter(|one| one.get("deny").is_some()).for_each(|one| deny(one, denied));
    }
    if routes.is_empty() {
        let table = Table::of("answer", 404);
        routes.push(Route { comments: Vec::new(), key: "/".into(), alternatives: vec![table] });
    }
    mark_names(context, server);
    let mut sites = vec![Site { comments, hosts, table, routes, places: places(server), ..Site::default() }];
    for (host, alternatives) in &draft.plan.hosts {
        let hosts = hosts_of_condition(host);
        let mut table = tls(context, server);
        let route = Route { comments: Vec::new(), key: "/".into(), alternatives: alternatives.clone() };
        let is_https = alternatives
            .iter()
            .all(|one| one.text("redirect").is_some_and(|to| to.starts_with("https://{host}")));
        if is_https && server.is_tls() {
            table.set("redirect_https", true);
        }
        sites.push(Site { hosts, table, routes: vec![route], ..Site::default() });
    }
    sites
}

/// Places of the locations of a server by the keys of their routes.
fn places(server: &Server<'_>) -> Vec<(String, Place)> {
    let locations = server.locations.iter();
    let own = locations.map(|one| (routes::written(&one.matcher), one.directive.place.clone()));
    own.chain([(String::new(), server.directive.place.clone())]).collect()
}

/// Adds networks to `deny`.
fn deny(table: &mut Table, networks: &[String]) {
    let mut all = match table.get("deny") {
        Some(Value::List(known)) => known.clone(),
        _ => Vec::new(),
    };
    all.extend(networks.iter().map(|network| network.as_str().into()));
    table.set("deny", all);
}

fn mark_names(context: &Context<'_>, server: &Server<'_>) {
    for directive in server.directive.children() {
        match directive.name.as_str() {
            "server_name" | "ssl" => context.ledger.carried(directive),
            "listen" => {
                context.ledger.carried(directive);
            }
            _ => {}
        }
    }
}

/// Whether a server answers every request with a refusal.
fn only_refuses(plan: &Plan) -> bool {
    let refuses = |table: &Table| matches!(table.get("answer"), Some(Value::Number(400..)));
    !plan.routes.is_empty() && plan.routes.iter().all(|route| route.alternatives.iter().all(refuses))
}

/// Hosts for a name of nginx.
fn hosts(name: &str) -> Vec<String> {
    let name = if name.starts_with('~') { name.to_owned() } else { name.to_lowercase() };
    if let Some(bare) = name.strip_prefix('.') {
        return vec![bare.into(), format!("*.{bare}")];
    }
    if let Some(bare) = name.strip_suffix(".*") {
        return vec![format!("~^{}\\.[^.]+$", regex::escape(bare))];
    }
    if let Some(source) = name.strip_prefix('~') {
        // The same names for groups as in the values of the routes.
        let pattern = super::pattern::named(source, false, |_| false);
        return vec![pattern.map_or(name.clone(), |pattern| format!("~{}", pattern.source))];
    }
    vec![name]
}

fn hosts_of_condition(host: &str) -> Vec<String> {
    match host.starts_with('~') {
        true => vec![host.to_owned()],
        false => hosts(host),
    }
}

/// `tls` of a site.
fn tls(context: &Context<'_>, server: &Server<'_>) -> Table {
    let ledger = context.ledger;
    let mut table = Table::default();
    if !server.is_tls() {
        return table;
    }
    let scope = &server.scope;
    let mut tls = Table::default();
    let (certs, keys) = (scope.all("ssl_certificate"), scope.all("ssl_certificate_key"));
    let (Some(cert), Some(key)) = (certs.first(), keys.first()) else {
        let instead = "write `tls = { acme = \"you@example.org\" }`, or the files of a certificate";
        ledger.reported(server.directive, "a socket with TLS, and no certificate", instead);
        return table;
    };
    tls.set("cert", context.path(cert.first()));
    tls.set("key", context.path(key.first()));
    [cert, key].into_iter().for_each(|directive| ledger.carried(directive));
    for more in certs
        .iter()
        .chain(&keys)
        .skip(1)
        .filter(|more| !std::ptr::eq(**more, *cert) && !std::ptr::eq(**more, *key))
    {
        ledger.reported(
            more,
            "a site has one certificate",
            "keep the one for ECDSA, which all clients of today can use",
        );
    }
    if let Some(protocols) = scope.one("ssl_protocols") {
        ledger.carried(protocols);
        if protocols.args.iter().all(|version| version == "TLSv1.3") {
            tls.set("min_version", "1.3");
        } else if protocols.args.iter().any(|version| version == "TLSv1" || version == "TLSv1.1") {
            ledger.note(protocols, "TLS 1.0 and 1.1 are not offered any more (RFC 8996)");
        }
    }
    if let Some(ca) = scope.one("ssl_client_certificate") {
        ledger.carried(ca);
        tls.set("client_ca", context.path(ca.first()));
    }
    if let Some(verify) = scope.one("ssl_verify_client") {
        ledger.carried(verify);
        if verify.first().starts_with("optional") {
            tls.set("client_verify", "optional");
        }
    }
    table.set("tls", tls);
    table
}

/// `[[listen]]`, unless the default sockets are meant.
fn listens<'a>(
    context: &Context<'a>,
    http: &Scope<'a>,
    servers: &[Server<'a>],
    sites: &[Site],
) -> Vec<Section> {
    let trust = trust(context, http, servers);
    let mut sockets: Vec<(String, bool, bool)> = Vec::new();
    for listen in servers.iter().flat_map(|server| &server.listens) {
        let address = match listen.host.as_str() {
            "*" | "[::]" => format!("[::]:{}", listen.port),
            "localhost" => format!("127.0.0.1:{}", listen.port),
            host if host.starts_with("unix:") => host.to_owned(),
            host => format!("{host}:{}", listen.port),
        };
        match sockets.iter_mut().find(|(known, ..)| *known == address) {
            Some((_, tls, proxy)) => {
                *tls |= listen.ssl;
                *proxy |= listen.proxy_protocol;
            }
            None => sockets.push((address, listen.ssl, listen.proxy_protocol)),
        }
    }
    sockets.sort_by_key(|(address, tls, _)| (*tls, address.clone()));
    let is_usual = sockets == [("[::]:80".into(), false, false), ("[::]:443".into(), true, false)];
    let has_tls = sites.iter().any(|site| site.table.get("tls").is_some());
    if is_usual && has_tls && trust.is_empty() {
        return Vec::new();
    }
    // An address of all interfaces covers the others of its port.
    let any: Vec<String> =
        sockets.iter().filter_map(|(address, ..)| address.strip_prefix("[::]:").map(str::to_owned)).collect();
    let is_covered = |address: &str| {
        let port = address.rsplit(':').next().unwrap_or_default();
        !address.starts_with("[::]:")
            && !address.starts_with("unix:")
            && any.iter().any(|known| known == port)
    };
    let section = |(address, tls, proxy): (String, bool, bool)| {
        let mut table = Table::of("address", address);
        if tls {
            table.set("tls", true);
        }
        if !trust.is_empty() {
            table.set("trust", trust.clone());
        }
        if proxy {
            table.set("proxy_protocol", true);
        }
        Section { header: "[[listen]]".into(), table, ..Section::default() }
    };
    sockets.into_iter().filter(|(address, ..)| !is_covered(address)).map(section).collect()
}

/// Peers whose forwarded headers are believed.
fn trust<'a>(context: &Context<'a>, http: &Scope<'a>, servers: &[Server<'a>]) -> Vec<String> {
    let mut trust: Vec<String> = Vec::new();
    let scopes = servers.iter().map(|server| &server.scope).chain([http]);
    for scope in scopes {
        if let Some(header) = scope.one("real_ip_header") {
            match header.first().to_lowercase().as_str() {
                "x-forwarded-for" | "proxy_protocol" => context.ledger.carried(header),
                "x-real-ip" => context.ledger.unnecessary(header, "X-Forwarded-For of trusted peers is read"),
                _ => context.ledger.reported(
                    header,
                    "the address of the client is read from X-Forwarded-For, Forwarded and PROXY headers",
                    "let the balancer send X-Forwarded-For",
                ),
            }
        }
        for from in scope.all("set_real_ip_from") {
            context.ledger.carried(from);
            if !trust.iter().any(|known| known == from.first()) && !from.first().starts_with("unix:") {
                trust.push(from.first().into());
            }
        }
    }
    let takes_scheme = context.maps.iter().any(|map| map.source == "$http_x_forwarded_proto");
    if trust.is_empty() && takes_scheme {
        // The scheme comes from a balancer; without `trust` the application would build http:// links.
        trust = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(str::to_owned).into();
        for map in context.maps.iter().filter(|map| map.source == "$http_x_forwarded_proto") {
            let text = "nginx believes X-Forwarded-Proto from everybody; the result from private networks (`trust`). Write the \
                        address of your balancer there";
            context.ledger.carried(map.directive);
            context.ledger.note(map.directive, text);
        }
    }
    trust
}
