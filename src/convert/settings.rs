//! Settings that a site has, and a route in their place: headers, bodies, compression, addresses, limits, error pages.

use std::collections::BTreeMap;

use super::{
    context::{Context, Stop},
    expr::Variables,
    model::Server,
    pages,
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
    units,
};

/// Settings in effect at a place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// Headers that are set (a value) or removed (`false`).
    pub headers: Table,
    /// `max_body`
    pub max_body: Option<String>,
    /// `compress`, unless it is off.
    pub compress: Option<Value>,
    /// `allow`
    pub allow: Option<Vec<String>>,
    /// `deny`
    pub deny: Vec<String>,
    /// Names of limits.
    pub limits: Vec<String>,
    /// `errors`, by status.
    pub errors: BTreeMap<String, Value>,
    /// `auth`
    pub auth: Option<String>,
}

/// Headers that the proxy sets itself, or that frame the message.
const FRAMING: [&str; 6] =
    ["connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "trailer"];

/// Media types that `compress` has by default, or that are of no use by now.
fn is_usual_type(media_type: &str) -> bool {
    const OTHERS: [&str; 20] = [
        "*",
        "application/javascript",
        "application/x-javascript",
        "application/json",
        "application/ld+json",
        "application/manifest+json",
        "application/xml",
        "application/xml+rss",
        "application/rss+xml",
        "application/atom+xml",
        "application/xhtml+xml",
        "application/wasm",
        "application/x-font-ttf",
        "application/x-font-opentype",
        "application/vnd.ms-fontobject",
        "font/opentype",
        "image/svg+xml",
        "image/x-icon",
        "application/x-web-app-manifest+json",
        "application/problem+json",
    ];
    media_type.starts_with("text/") || OTHERS.contains(&media_type)
}

/// Formats that are compressed already.
fn is_compressed(media_type: &str) -> bool {
    [
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "application/zip",
        "application/gzip",
        "font/woff",
        "font/woff2",
    ]
    .contains(&media_type)
}

impl<'a> Context<'a> {
    /// Settings of a place: those for the content by `content`, those for access by `access`.
    pub fn settings(
        &self,
        server: &Server<'a>,
        content: &Scope<'a>,
        access: &Scope<'a>,
        variables: &Variables,
    ) -> Result<Settings, Stop> {
        let mut settings = Settings {
            headers: self.headers(content, variables)?,
            max_body: self.max_body(access),
            compress: self.compress(content),
            limits: self.limits.borrow_mut().names(access, &self.maps, self.ledger),
            errors: pages::errors(self, server, content, variables),
            ..Settings::default()
        };
        self.access(access, &mut settings);
        Ok(settings)
    }

    fn headers(&self, scope: &Scope<'a>, variables: &Variables) -> Result<Table, Stop> {
        let mut headers = Table::default();
        for name in ["proxy_hide_header", "uwsgi_hide_header"] {
            for directive in scope.all(name) {
                self.ledger.carried(directive);
                headers.set(directive.first(), false);
            }
        }
        let mut seen: Vec<String> = Vec::new();
        for directive in scope.all("add_header") {
            let [name, value, ..] = directive.args.as_slice() else { continue };
            let lower = name.to_lowercase();
            if FRAMING.contains(&lower.as_str()) {
                self.ledger.unnecessary(directive, "the proxy frames its responses itself");
                continue;
            }
            if value.contains("$upstream_cache_status") {
                self.ledger
                    .unnecessary(directive, "Cache-Status (RFC 9211) says it on every response of a cache");
                continue;
            }
            let is_internal =
                scope.one("internal").is_some() || scope.any(&["proxy_pass", "uwsgi_pass"]).is_none();
            if value.contains("$upstream_http_") && is_internal {
                self.ledger.unnecessary(
                    directive,
                    "the application's headers are kept with an accelerated download",
                );
                continue;
            }
            let value = self.resolve(directive, value, variables)?;
            if seen.contains(&lower) {
                let instead = "join the values by commas if the header is a list";
                self.ledger.reported(directive, "a response has one header of a name", instead);
                continue;
            }
            self.ledger.carried(directive);
            seen.push(lower.clone());
            headers.0.retain(|(known, _)| known.to_lowercase() != lower);
            if !value.is_empty() {
                headers.set(name, value.to_string());
            }
        }
        for hidden in scope.hidden("add_header") {
            let name = hidden.first();
            if !seen.contains(&name.to_lowercase()) {
                self.ledger.note(
                    hidden,
                    format!(
                        "nginx does not send {name} from blocks that have an `add_header` of their own. The result does the \
                         same: `{name} = false`. Remove that to send it everywhere"
                    ),
                );
            }
        }
        Ok(headers)
    }

    fn max_body(&self, scope: &Scope<'a>) -> Option<String> {
        let directive = scope.one("client_max_body_size")?;
        self.ledger.carried(directive);
        match units::bytes(directive.first())? {
            0 => Some("none".into()),
            _ => units::size(directive.first()),
        }
    }

    fn compress(&self, scope: &Scope<'a>) -> Option<Value> {
        let directive = scope.one("gzip")?;
        self.ledger.carried(directive);
        if directive.first() != "on" {
            return None;
        }
        let mut table = Table::default();
        if let Some(types) = scope.one("gzip_types") {
            self.ledger.carried(types);
            let others: Vec<&String> = types.args.iter().filter(|one| !is_usual_type(one)).collect();
            if let Some(first) = others.iter().find(|one| is_compressed(one)) {
                self.ledger.note(
                    types,
                    format!("{first} is compressed already; the result does not compress it again"),
                );
            }
            let others: Vec<&str> =
                others.into_iter().filter(|one| !is_compressed(one)).map(String::as_str).collect();
            if !others.is_empty() {
                let usual = [
                    "text/*",
                    "application/javascript",
                    "application/json",
                    "application/xml",
                    "image/svg+xml",
                ];
                table.set("types", usual.into_iter().chain(others).collect::<Vec<_>>());
            }
        }
        if let Some(size) = scope.one("gzip_min_length") {
            self.ledger.carried(size);
            table.set_some("min_size", units::size(size.first()));
        }
        if let Some(level) = scope.one("gzip_comp_level") {
            self.ledger.carried(level);
            if let Ok(level @ 1..=9) = level.first().parse::<i64>() {
                table.set("level", Table::of("gzip", level));
            }
        }
        Some(if table.is_empty() { true.into() } else { table.into() })
    }

    fn access(&self, scope: &Scope<'a>, settings: &mut Settings) {
        let rules = scope.all_of(&["allow", "deny"]);
        let is_all = |rule: &&Directive| rule.first() == "all";
        let end = rules.iter().position(is_all).unwrap_or(rules.len());
        let addresses = |name: &str| {
            let of =
                rules[..end].iter().filter(|rule| rule.name == name && !rule.first().starts_with("unix:"));
            of.map(|rule| rule.first().to_owned()).collect::<Vec<_>>()
        };
        for rule in &rules {
            self.ledger.carried(rule);
        }
        let (allowed, denied) = (addresses("allow"), addresses("deny"));
        let first_allow = rules[..end].iter().position(|rule| rule.name == "allow");
        if let Some(late) = first_allow.and_then(|at| rules[at..end].iter().find(|rule| rule.name == "deny"))
        {
            self.ledger.note(late, "`deny` always goes before `allow` in the result, whatever the order");
        }
        settings.deny = denied;
        settings.allow = rules.get(end).filter(|rule| rule.name == "deny").map(|_| allowed);
    }
}

impl Settings {
    /// Whether no client is admitted.
    pub fn refuses_all(&self) -> bool {
        self.allow.as_ref().is_some_and(Vec::is_empty)
    }

    /// The keys of a site.
    pub fn of_site(&self) -> Table {
        let mut table = Table::default();
        table.set_some("max_body", self.max_body.clone());
        table.set_some("compress", self.compress.clone());
        table.set_some("allow", self.allow.clone().filter(|allow| !allow.is_empty()));
        if !self.deny.is_empty() {
            table.set("deny", self.deny.clone());
        }
        if !self.limits.is_empty() {
            table.set("limits", self.limits.clone());
        }
        if !self.headers.is_empty() {
            table.set("headers", self.headers.clone());
        }
        if !self.errors.is_empty() {
            table.set("errors", Table(self.errors.clone().into_iter().collect()));
        }
        table.set_some("auth", self.auth.clone());
        table
    }

    /// The keys of a route, as far as they differ from those of its site.
    pub fn of_route(&self, site: &Self) -> Table {
        let mut table = Table::default();
        if self.max_body != site.max_body {
            table.set_some("max_body", self.max_body.clone());
        }
        if self.compress != site.compress {
            table.set("compress", self.compress.clone().unwrap_or_else(|| false.into()));
        }
        if self.allow != site.allow {
            table.set("allow", self.allow.clone().map_or_else(|| "all".into(), Value::from));
        }
        if self.deny != site.deny {
            table.set("deny", self.deny.clone());
        }
        if self.limits != site.limits {
            table.set(
                "limit",
                if self.limits.is_empty() { "none".into() } else { Value::from(self.limits.clone()) },
            );
        }
        let headers = self.headers_beside(site);
        if !headers.is_empty() {
            table.set("headers", headers);
        }
        let errors: Vec<_> =
            self.errors.iter().filter(|(status, page)| site.errors.get(*status) != Some(page)).collect();
        if !errors.is_empty() {
            let entries = errors.into_iter().map(|(status, page)| (status.clone(), page.clone()));
            table.set("errors", Table(entries.collect()));
        }
        if self.auth != site.auth {
            table.set("auth", self.auth.clone().unwrap_or_else(|| "none".into()));
        }
        table
    }

    /// Own headers, and `false` for those of the site that are not sent here.
    fn headers_beside(&self, site: &Self) -> Table {
        let mut headers = Table::default();
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        for (name, value) in &self.headers.0 {
            if site.headers.0.iter().all(|(other, known)| !same(name, other) || known != value) {
                headers.set(name, value.clone());
            }
        }
        for (name, _) in &site.headers.0 {
            if self.headers.0.iter().all(|(other, _)| !same(name, other)) {
                headers.set(name, false);
            }
        }
        headers
    }
}
