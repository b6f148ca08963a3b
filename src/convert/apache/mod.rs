//! `bowshock convert --apache`: the parts of an Apache configuration that Galaxy's documentation describes.

mod rewrite;
mod syntax;
mod table;

use std::{path::Path, sync::Arc};

use super::{
    Conversion, Files, Unreadable, comments,
    ledger::Ledger,
    output::{Output, Route, Section, Site},
    report::Summary,
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
    units,
    upstreams::{Target, identifier},
};
use crate::config::Report;

/// Converts the Apache configuration at `path`.
///
/// # Errors
///
/// The file cannot be read, or its syntax is wrong.
pub fn convert(path: &Path, files: &dyn Files) -> Result<Conversion, Unreadable> {
    let name: Arc<str> = path.display().to_string().into();
    let text = files.read(path).map_err(|source| Unreadable::File { path: name.to_string(), source })?;
    let tree = syntax::parse(&name, &text).map_err(|error| {
        Unreadable::Syntax(Box::new(Report::of_one(
            &name,
            &text,
            error.at,
            error.title,
            error.label,
            error.help,
        )))
    })?;
    let ledger = Ledger::default();
    let mut apache = Apache { ledger: &ledger, output: Output::default(), auths: Vec::new() };
    apache.file(&tree);
    let Apache { mut output, auths, .. } = apache;
    output.sections.extend(auths);
    table::finish(&tree, &ledger);
    Ok(Conversion { toml: output.text(), summary: Summary::of(&tree, &ledger) })
}

/// State of one conversion.
struct Apache<'l> {
    ledger: &'l Ledger,
    output: Output,
    auths: Vec<Section>,
}

impl Apache<'_> {
    fn file(&mut self, tree: &[Directive]) {
        let hosts: Vec<&Directive> = tree.iter().filter(|one| one.name == "virtualhost").collect();
        self.balancers(tree);
        let mut redirects = false;
        let mut sites = Vec::new();
        for host in &hosts {
            self.ledger.carried(host);
            self.balancers(host.children());
            let scope = Scope::of(tree).within(host.children());
            let (site, redirects_https) = self.site(host.children(), &scope, comments::of(host));
            redirects |= redirects_https && site.table.get("tls").is_none();
            sites.push(site);
        }
        if hosts.is_empty() {
            sites.push(self.site(tree, &Scope::of(tree), Vec::new()).0);
        }
        // A plain host that only redirects is `redirect_https` of those with TLS.
        let has_tls = sites.iter().any(|site| site.table.get("tls").is_some());
        sites.retain(|site| !(has_tls && site.table.get("tls").is_none() && site.routes.is_empty()));
        for site in sites.iter_mut().filter(|site| redirects && site.table.get("tls").is_some()) {
            site.table.set("redirect_https", true);
        }
        if let [only] = sites.as_mut_slice()
            && !only.hosts.is_empty()
        {
            only.comments.push(format!("# {}", only.hosts.join(", ")));
            only.hosts.clear();
        }
        self.output.sites = sites;
        self.listens(tree, has_tls);
    }

    fn listens(&mut self, tree: &[Directive], has_tls: bool) {
        let mut sections = Vec::new();
        for listen in tree.iter().filter(|one| one.name == "listen") {
            self.ledger.carried(listen);
            let port = listen.args.first().and_then(|address| address.rsplit(':').next()).unwrap_or_default();
            let mut table = Table::of("address", format!("[::]:{port}"));
            let is_tls = listen.args.iter().any(|arg| arg == "https") || (has_tls && port == "443");
            if is_tls {
                table.set("tls", true);
            }
            sections.push(Section { header: "[[listen]]".into(), table, ..Section::default() });
        }
        self.output.sections.splice(0..0, sections);
    }

    /// `<Proxy balancer://name>` with its members.
    fn balancers(&mut self, block: &[Directive]) {
        for section in block.iter().filter(|one| one.name == "proxy") {
            let Some(name) = section.first().strip_prefix("balancer://") else { continue };
            self.ledger.carried(section);
            let servers: Vec<Value> = section.children().iter().filter_map(|one| self.member(one)).collect();
            self.output.upstreams.push(Section {
                comments: comments::of(section),
                header: format!("[upstream.{}]", super::toml::key(&identifier(name))),
                table: Table::of("servers", servers),
                ..Section::default()
            });
        }
    }

    fn member(&self, directive: &Directive) -> Option<Value> {
        if directive.name != "balancermember" {
            return None;
        }
        self.ledger.carried(directive);
        let address = address(directive.first())?;
        let mut table = Table::of("address", address.clone());
        for arg in directive.args.iter().skip(1) {
            match arg.split_once('=') {
                Some(("loadfactor", factor)) => {
                    table.set_some("weight", factor.parse::<i64>().ok().filter(|factor| *factor != 1));
                }
                Some(("status", status)) if status.contains('H') => table.set("backup", true),
                _ => {}
            }
        }
        Some(if table.0.len() == 1 { address.into() } else { table.into() })
    }

    /// A virtual host, and whether it redirects to HTTPS.
    fn site(&mut self, block: &[Directive], scope: &Scope<'_>, comments: Vec<String>) -> (Site, bool) {
        let mut site = Site { comments, ..Site::default() };
        for directive in block.iter().filter(|one| matches!(one.name.as_str(), "servername" | "serveralias"))
        {
            self.ledger.carried(directive);
            site.hosts.extend(
                directive.args.iter().map(|name| name.split(':').next().unwrap_or_default().to_lowercase()),
            );
        }
        self.site_settings(scope, &mut site);
        let mut routes = Vec::new();
        let redirects = rewrite::routes(self, block, &mut routes);
        for directive in block {
            match directive.name.as_str() {
                "proxypass" | "proxypassmatch" => self.proxy_pass(directive, None, scope, &mut routes),
                "alias" | "scriptalias" => self.alias(directive, &mut routes),
                "redirect" | "redirectpermanent" | "redirecttemp" => self.redirect(directive, &mut routes),
                _ => {}
            }
        }
        self.send_file(block, &mut routes);
        for section in
            block.iter().filter(|one| matches!(one.name.as_str(), "location" | "directory" | "locationmatch"))
        {
            self.section(section, scope, &mut routes);
        }
        // Specific paths first, as a person would list them: nginx's order does not matter to prefixes.
        site.routes = routes;
        (site, redirects)
    }

    fn site_settings(&self, scope: &Scope<'_>, site: &mut Site) {
        let ledger = self.ledger;
        if let (Some(cert), Some(key)) = (scope.one("sslcertificatefile"), scope.one("sslcertificatekeyfile"))
        {
            [cert, key].into_iter().for_each(|one| ledger.carried(one));
            let mut tls = Table::of("cert", cert.first());
            tls.set("key", key.first());
            site.table.set("tls", tls);
        }
        if let Some(limit) = scope.one("limitrequestbody") {
            ledger.carried(limit);
            let size = if limit.first() == "0" { Some("none".into()) } else { units::size(limit.first()) };
            site.table.set_some("max_body", size);
        }
        let compresses = |one: &&&Directive| one.args.iter().any(|arg| arg.eq_ignore_ascii_case("deflate"));
        let filters = scope.all_of(&["addoutputfilterbytype", "setoutputfilter"]);
        if filters.iter().any(|one| compresses(&one)) {
            filters.into_iter().for_each(|one| ledger.carried(one));
            site.table.set("compress", true);
        }
        let headers = self.headers(scope.own());
        if !headers.is_empty() {
            site.table.set("headers", headers);
        }
        let root = scope.one("documentroot").map_or("/var/www/html", |root| root.first());
        let mut errors = Table::default();
        for page in scope.all("errordocument") {
            let Some(path) = page.args.get(1).filter(|path| path.starts_with('/')) else { continue };
            ledger.carried(page);
            errors.set(page.first(), super::pages::join(root, path));
        }
        if !errors.is_empty() {
            site.table.set("errors", errors);
        }
    }

    /// `Header set NAME VALUE` of a block.
    fn headers(&self, block: &[Directive]) -> Table {
        let mut headers = Table::default();
        for directive in block.iter().filter(|one| one.name == "header") {
            let args: Vec<&str> =
                directive.args.iter().map(String::as_str).filter(|arg| *arg != "always").collect();
            match args.as_slice() {
                ["set" | "add" | "append", name, value] if !value.contains('%') => {
                    self.ledger.carried(directive);
                    headers.set(name, *value);
                }
                ["unset", name] => {
                    self.ledger.carried(directive);
                    headers.set(name, false);
                }
                _ => {}
            }
        }
        headers
    }

    /// `ProxyPass PATH URL`, or `ProxyPass URL` within a `<Location PATH>`.
    fn proxy_pass(
        &mut self,
        directive: &Directive,
        within: Option<&str>,
        scope: &Scope<'_>,
        routes: &mut Vec<Route>,
    ) {
        let (path, url) = match (within, directive.args.as_slice()) {
            (Some(path), [url, ..]) => (path, url.as_str()),
            (None, [path, url, ..]) => (path.as_str(), url.as_str()),
            _ => return,
        };
        if url == "!" {
            self.ledger.unnecessary(directive, "a longer path has a route of its own");
            return;
        }
        if directive.name == "proxypassmatch" {
            return;
        }
        let Some(mut table) = self.proxy(url, path) else { return };
        self.ledger.carried(directive);
        if let Some(timeout) = scope.any(&["proxytimeout", "timeout"])
            && let Some(time) = units::duration(timeout.first())
        {
            self.ledger.carried(timeout);
            table.set("read_timeout", time);
        }
        self.request_headers(scope, &mut table);
        add(routes, prefix(path), table, comments::of(directive));
    }

    /// `proxy` for a URL below a path.
    fn proxy(&mut self, url: &str, path: &str) -> Option<Table> {
        let (name, uri) = self.upstream(url)?;
        let mut table = Table::of("proxy", name);
        let (uri, path) = (uri.trim_end_matches('/'), path.trim_end_matches('/'));
        if uri != path {
            table.set("path", format!("{uri}{{rest}}"));
        }
        Some(table)
    }

    /// The name of the upstream for a URL, and the path behind its address.
    fn upstream(&mut self, url: &str) -> Option<(String, String)> {
        if let Some(rest) = url.strip_prefix("balancer://") {
            let (name, uri) = rest.split_once('/').map_or((rest, ""), |(name, uri)| (name, uri));
            return Some((identifier(name), format!("/{uri}")));
        }
        let protocol = ["https://", "wss://", "uwsgi://"].iter().find(|start| url.starts_with(**start));
        let uri = match url.split_once('|') {
            Some((_, rest)) => rest.splitn(4, '/').nth(3).map(|uri| format!("/{uri}")).unwrap_or_default(),
            None => url.splitn(4, '/').nth(3).map(|uri| format!("/{uri}")).unwrap_or_default(),
        };
        let servers = Value::from(vec![address(url)?]);
        if let Some(known) =
            self.output.upstreams.iter().find(|known| known.table.get("servers") == Some(&servers))
        {
            let name = known.header.trim_start_matches("[upstream.").trim_end_matches(']');
            return Some((name.into(), uri));
        }
        let wanted = if self.output.upstreams.is_empty() {
            "galaxy".to_owned()
        } else {
            format!("app{}", self.output.upstreams.len())
        };
        let mut table = Table::of("servers", servers);
        if let Some(start) = protocol {
            table.set("protocol", if start.starts_with("uwsgi") { "uwsgi" } else { "https" });
        }
        self.output.upstreams.push(Section {
            header: format!("[upstream.{wanted}]"),
            table,
            ..Section::default()
        });
        Some((wanted, uri))
    }

    /// `RequestHeader set NAME VALUE`.
    fn request_headers(&self, scope: &Scope<'_>, table: &mut Table) {
        let mut headers = Table::default();
        for directive in scope.all("requestheader") {
            let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
            let name = args.get(1).map(|name| name.to_lowercase().replace('_', "-")).unwrap_or_default();
            match args.as_slice() {
                [_, ..]
                    if name.starts_with("x-forwarded-") || name == "x-url-scheme" || name == "x-real-ip" =>
                {
                    self.ledger.unnecessary(directive, "the proxy sets these headers itself");
                }
                [_, ..] if name == "remote-user" => {}
                ["set" | "append" | "add", name, value, ..] if !value.contains('%') => {
                    self.ledger.carried(directive);
                    headers.set(name, *value);
                }
                ["unset", name] => {
                    self.ledger.carried(directive);
                    headers.set(name, false);
                }
                _ => {}
            }
        }
        if !headers.is_empty() {
            table.set("request_headers", headers);
        }
    }

    fn alias(&self, directive: &Directive, routes: &mut Vec<Route>) {
        let [path, place, ..] = directive.args.as_slice() else { return };
        self.ledger.carried(directive);
        let key = if place.rsplit('/').next().is_some_and(|name| name.contains('.')) {
            format!("= {path}")
        } else {
            prefix(path)
        };
        add(routes, key, Table::of("files", place.trim_end_matches('/')), comments::of(directive));
    }

    fn redirect(&self, directive: &Directive, routes: &mut Vec<Route>) {
        let args: Vec<&str> = directive.args.iter().map(String::as_str).collect();
        let (status, path, to) = match args.as_slice() {
            ["permanent", path, to] => (301, *path, *to),
            ["temp", path, to] => (302, *path, *to),
            [status, path, to] => (status.parse().unwrap_or(302), *path, *to),
            [path, to] if directive.name == "redirectpermanent" => (301, *path, *to),
            [path, to] => (302, *path, *to),
            _ => return,
        };
        self.ledger.carried(directive);
        let rest = if path == "/" { "{uri}" } else { "{rest}" };
        let mut table = Table::of("redirect", format!("{}{rest}", to.trim_end_matches('/')));
        table.set("status", status);
        add(routes, prefix(path), table, comments::of(directive));
    }

    /// `XSendFile on` with its paths: files that the application names.
    fn send_file(&self, block: &[Directive], routes: &mut Vec<Route>) {
        let is_on = |one: &&Directive| one.name == "xsendfile" && one.first().eq_ignore_ascii_case("on");
        let mut all: Vec<&Directive> = block.iter().collect();
        all.extend(block.iter().flat_map(Directive::children));
        if !all.iter().any(is_on) {
            return;
        }
        let mut table = Table::of("files", "/");
        table.set("internal", true);
        let mut within: Vec<&str> = Vec::new();
        for directive in
            all.into_iter().filter(|one| matches!(one.name.as_str(), "xsendfile" | "xsendfilepath"))
        {
            self.ledger.carried(directive);
            match directive.first() {
                "/" => self.ledger.note(
                    directive,
                    "the application can have any file of this machine sent. List its data: `within = [\"/srv/galaxy/var\"]`",
                ),
                path if directive.name == "xsendfilepath" => within.push(path),
                _ => {}
            }
        }
        if !within.is_empty() {
            table.set("within", within);
        }
        let comments = vec![
            "# For X-Sendfile, and X-Accel-Redirect with nginx_x_accel_redirect_base: /_x_accel_redirect"
                .into(),
        ];
        add(routes, "/_x_accel_redirect".into(), table, comments);
    }

    /// `<Location>` and `<Directory>`: settings of the routes for it.
    fn section(&mut self, section: &Directive, outer: &Scope<'_>, routes: &mut Vec<Route>) {
        self.ledger.carried(section);
        let scope = outer.within(section.children());
        let place = section.first().trim_end_matches('/');
        for directive in section.children().iter().filter(|one| one.name == "proxypass") {
            self.proxy_pass(directive, Some(section.first()), &scope, routes);
        }
        let own = Scope::of(section.children());
        let auth = self.auth(&own, section);
        let headers = self.headers(section.children());
        let expires = own.one("expiresdefault").and_then(|one| {
            let text = one.args.join(" ");
            let mut words = text.split(' ').skip_while(|word| word.parse::<u64>().is_err());
            let (count, unit) = (words.next()?, words.next()?);
            self.ledger.carried(one);
            Some(format!(
                "{count}{}",
                match unit.trim_end_matches('s') {
                    "second" => "s",
                    "minute" => "m",
                    "hour" => "h",
                    _ => "d",
                }
            ))
        });
        let is_directory = section.name == "directory";
        for route in routes.iter_mut() {
            let key = route.key.trim_start_matches("= ").trim_end_matches('/').to_owned();
            for table in &mut route.alternatives {
                let files = table.text("files").unwrap_or_default().to_owned();
                let is_meant = match is_directory {
                    true => !place.is_empty() && files.starts_with(place),
                    false => key == place || (place.is_empty() && table.get("internal").is_none()),
                };
                if !is_meant {
                    continue;
                }
                table.set_some("expires", expires.clone().filter(|_| table.get("files").is_some()));
                if !headers.is_empty() {
                    table.set("headers", headers.clone());
                }
                if !is_directory {
                    table.0.extend(
                        auth.0
                            .iter()
                            .filter(|(name, _)| table.get(name).is_none())
                            .cloned()
                            .collect::<Vec<_>>(),
                    );
                }
            }
        }
    }

    /// `AuthType Basic` and `Require ip`.
    fn auth(&mut self, scope: &Scope<'_>, section: &Directive) -> Table {
        let ledger = self.ledger;
        let mut table = Table::default();
        let networks: Vec<String> = scope
            .all("require")
            .into_iter()
            .filter(|one| one.first() == "ip")
            .inspect(|one| ledger.carried(one))
            .flat_map(|one| one.args[1..].to_vec())
            .collect();
        if !networks.is_empty() {
            table.set("allow", networks);
        }
        if let Some(satisfy) = scope.one("satisfy") {
            ledger.carried(satisfy);
            if satisfy.first().eq_ignore_ascii_case("any") {
                table.set("satisfy", "any");
            }
        }
        let Some(kind) = scope.one("authtype") else { return table };
        let (file, user) = (scope.one("authuserfile"), scope.all("require"));
        match file {
            Some(file) if kind.first().eq_ignore_ascii_case("basic") => {
                let realm = scope.one("authname");
                [Some(kind), Some(file), realm, scope.one("authbasicprovider")].into_iter().flatten().for_each(|one| ledger.carried(one));
                user.into_iter().filter(|one| one.first() != "ip").for_each(|one| ledger.carried(one));
                let name = Some(identifier(section.first().rsplit('/').next().unwrap_or_default())).filter(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| "site".into());
                let mut auth = Table::of("htpasswd", file.first());
                auth.set_some("realm", realm.map(|realm| realm.first().to_owned()));
                let sends = |one: &&Directive| one.args.get(1).is_some_and(|name| name.to_uppercase().replace('-', "_") == "REMOTE_USER");
                if let Some(header) = scope.all("requestheader").into_iter().find(sends) {
                    ledger.carried(header);
                    auth.set("remote_user", true);
                }
                self.auths.push(Section { header: format!("[auth.{}]", super::toml::key(&name)), table: auth, ..Section::default() });
                table.set("auth", name);
            }
            _ => ledger.reported(
                kind,
                "logins are those of a password file, or of an application that is asked",
                "run a sidecar (oauth2-proxy, Authelia, a Shibboleth authoriser), and name it in `[auth.NAME] request`",
            ),
        }
        table
    }
}

/// Address of a server in a URL.
fn address(url: &str) -> Option<String> {
    let url = url.split('|').next()?;
    if let Some(path) = url.strip_prefix("unix:") {
        return Some(format!("unix:{path}"));
    }
    let target =
        Target::read(&url.replacen("ws://", "http://", 1).replacen("wss://", "https://", 1), "http")?;
    let port = if url.starts_with("https") || url.starts_with("wss") { 443 } else { 80 };
    let has_port = target.address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { target.address } else { format!("{}:{port}", target.address) })
}

/// The key of a prefix route.
fn prefix(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".into(),
        bare => bare.into(),
    }
}

/// Adds a route; the first one for a path decides, as in Apache.
fn add(routes: &mut Vec<Route>, key: String, table: Table, comments: Vec<String>) {
    if routes.iter().all(|known| known.key != key) {
        routes.push(Route { comments, key, alternatives: vec![table] });
    }
}
