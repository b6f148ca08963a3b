//! `proxy_cache`, as `[cache.NAME]` and `cache` of a route.

use std::collections::BTreeMap;

use super::{
    ledger::Ledger,
    output::Section,
    scope::Scope,
    syntax::Directive,
    toml::{Table, Value},
    units,
    upstreams::identifier,
};

/// Cache zones of the `http` block.
#[derive(Debug, Default)]
pub struct Caches {
    zones: BTreeMap<String, Zone>,
}

#[derive(Debug)]
struct Zone {
    id: usize,
    table: Table,
    is_used: bool,
}

impl Caches {
    /// The zones of the `http` block.
    pub fn new(http: &[Directive]) -> Self {
        let zone = |directive: &Directive| {
            if !matches!(directive.name.as_str(), "proxy_cache_path" | "uwsgi_cache_path") {
                return None;
            }
            let value = |name: &str| directive.args.iter().find_map(|arg| arg.strip_prefix(name));
            let name = value("keys_zone=")?.split(':').next()?.to_owned();
            let mut table = Table::of("disk", directive.first());
            table.set_some("disk_size", value("max_size=").and_then(units::size));
            Some((name, Zone { id: directive.id, table, is_used: false }))
        };
        Self { zones: http.iter().filter_map(zone).collect() }
    }

    /// `cache` of a route, or `None` without a cache.
    pub fn setting(
        &mut self,
        family: &str,
        scope: &Scope<'_>,
        http: &Scope<'_>,
        ledger: &Ledger,
    ) -> Option<Value> {
        let directive = scope.one(&format!("{family}_cache"))?;
        if directive.first() == "off" {
            ledger.unnecessary(directive, "a route caches nothing unless it says `cache`");
            return None;
        }
        let Some(zone) = self.zones.get_mut(directive.first()) else {
            let why = format!("there is no cache zone `{}`", directive.first());
            ledger.reported(directive, why, "define it by `proxy_cache_path`");
            return None;
        };
        ledger.carried(directive);
        zone.is_used = true;
        let paths = http.all(&format!("{family}_cache_path"));
        paths.into_iter().filter(|path| path.id == zone.id).for_each(|path| ledger.carried(path));
        let name = identifier(&directive.first().to_lowercase());
        let ttl = ttl(family, scope, ledger);
        details(family, scope, ledger);
        Some(match ttl {
            None => name.into(),
            Some(ttl) => {
                let mut table = Table::of("use", name);
                table.set("ttl", ttl);
                table.into()
            }
        })
    }

    /// All zones in use.
    pub fn finish(self) -> Vec<Section> {
        let used = self.zones.into_iter().filter(|(_, zone)| zone.is_used);
        let section = |(name, zone): (String, Zone)| Section {
            header: format!("[cache.{}]", super::toml::key(&identifier(&name.to_lowercase()))),
            table: zone.table,
            ..Section::default()
        };
        used.map(section).collect()
    }
}

/// Lifetime of good responses without one of their own.
fn ttl(family: &str, scope: &Scope<'_>, ledger: &Ledger) -> Option<String> {
    let mut ttl = None;
    for directive in scope.all(&format!("{family}_cache_valid")) {
        let Some((time, statuses)) = directive.args.split_last() else { continue };
        let is_good = statuses.is_empty() || statuses.iter().any(|status| status == "200");
        match units::duration(time) {
            Some(time) if is_good && ttl.is_none() => {
                ledger.carried(directive);
                ttl = Some(time);
            }
            _ => ledger.reported(
                directive,
                "a route has one `ttl`, for the statuses that RFC 9111 allows to cache",
                "let the application send Cache-Control with these responses",
            ),
        }
    }
    ttl
}

fn details(family: &str, scope: &Scope<'_>, ledger: &Ledger) {
    if let Some(key) = scope.one(&format!("{family}_cache_key")) {
        let all = key.args.concat();
        let known = [
            "scheme",
            "proxy_host",
            "host",
            "http_host",
            "request_uri",
            "uri",
            "is_args",
            "args",
            "server_name",
        ];
        let others: Vec<String> = super::expr::variables(&all);
        if others.iter().all(|name| known.contains(&name.as_str()) || name == "query_string") {
            ledger.unnecessary(key, "the key is always scheme, host, path and query");
            if !all.contains("host") && !all.contains("server_name") {
                ledger.note(
                    key,
                    "the key has no host: nginx serves the page of one host to another. The result does not",
                );
            }
        } else {
            let instead = "name cookies in `vary_cookie`; for headers let the application send Vary";
            ledger.reported(key, "the key is always scheme, host, path and query", instead);
        }
    }
    for name in ["cache_bypass", "no_cache"] {
        if let Some(directive) = scope.one(&format!("{family}_{name}")) {
            let why = "a response is not cached by a condition on variables";
            ledger.reported(
                directive,
                why,
                "responses with Set-Cookie and requests with Authorization are never cached; \
                                             for others let the application send Cache-Control: no-store",
            );
        }
    }
    if let Some(directive) = scope.one(&format!("{family}_ignore_headers")) {
        let has = |name: &str| directive.args.iter().any(|arg| arg.eq_ignore_ascii_case(name));
        if has("Cache-Control") || has("Expires") || has("Set-Cookie") {
            let why = "Cache-Control, Expires and Set-Cookie of the application are followed; `ttl` is for responses without them";
            ledger.reported(directive, why, "let the application send the lifetime that is wanted");
        } else {
            ledger.unnecessary(directive, "these headers have no effect");
        }
    }
    if let Some(directive) = scope.one(&format!("{family}_cache_methods")) {
        ledger.unnecessary(directive, "GET and HEAD are cached");
    }
}
