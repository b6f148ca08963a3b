//! A configuration written down again: everything that is in effect, defaults included, as a file that reads
//! the same.

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    acme::CHALLENGES,
    action::SYMLINKS,
    limit::{Limit, key_word},
    log,
    model::*,
    route::BUFFERINGS,
    tls::{VERIFY, VERSIONS},
    units::{show_duration, show_size},
    upstream::{PROTOCOLS, QUEUE_ORDERS, balance_word},
};

/// The effective configuration as TOML.
pub fn print(config: &Config) -> String {
    let mut out = Out::default();
    server(&mut out, &config.server);
    out.table("[admin]");
    out.text("listen", &config.admin.listen.to_string());
    if let Some(mode) = config.admin.mode {
        out.text("mode", &format!("{mode:04o}"));
    }
    if !config.admin.hosts.is_empty() {
        out.raw("hosts", list(config.admin.hosts.iter().map(|host| quote(host))));
    }
    if let Some(acme) = &config.acme {
        out.table("[acme]");
        out.text("directory", &acme.directory);
        out.raw("store", path(&acme.store));
        if let Some(ca) = &acme.ca {
            out.raw("ca", path(ca));
        }
        if let Some(eab) = &acme.eab {
            out.raw("eab", inline(&[("id", quote(&eab.id)), ("key", path(&eab.key))]));
        }
        out.raw("challenges", list(acme.challenges.iter().map(|one| word(&CHALLENGES, one))));
    }
    log(&mut out, &config.log);
    config.listen.iter().for_each(|one| listen(&mut out, one));
    config.limits.values().for_each(|one| limit(&mut out, one));
    config.sites.iter().for_each(|one| site(&mut out, one));
    config.upstreams.values().for_each(|one| upstream(&mut out, one));
    out.0
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn table(&mut self, header: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(header);
        self.0.push('\n');
    }

    fn raw(&mut self, key: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, quote(value));
    }

    fn duration(&mut self, key: &str, value: std::time::Duration) {
        self.text(key, &show_duration(value));
    }
}

/// A TOML string in one line: single quotes where they save escapes, as for regular expressions.
fn quote(text: &str) -> String {
    let literal = text.contains(['\\', '"']) && !text.contains('\'') && !text.contains(char::is_control);
    if literal {
        return format!("'{text}'");
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

fn inline(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn path(path: &std::path::Path) -> String {
    quote(&path.to_string_lossy())
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> String {
    words.iter().find(|(_, one)| one == value).map_or_else(String::new, |(word, _)| quote(word))
}

fn server(out: &mut Out, server: &Server) {
    out.table("[server]");
    out.raw("threads", server.threads);
    out.duration("grace", server.grace);
    if let Some(file) = &server.pid_file {
        out.raw("pid_file", path(file));
    }
    out.duration("client_header_timeout", server.client_header_timeout);
    out.duration("client_body_timeout", server.client_body_timeout);
    out.duration("send_timeout", server.send_timeout);
    out.text("min_rate", &show_size(Some(server.min_rate).filter(|rate| *rate > 0)));
    out.duration("keepalive_timeout", server.keepalive_timeout);
    out.raw("max_connections", server.max_connections);
    if let Some(most) = server.max_connections_per_address {
        out.raw("max_connections_per_address", most);
    }
    if server.max_memory.is_some() {
        out.text("max_memory", &show_size(server.max_memory));
    }
    if !server.resolver.is_empty() {
        out.raw("resolver", list(server.resolver.iter().map(|address| quote(&address.to_string()))));
    }
    let http2 = &server.http2;
    out.table("[server.http2]");
    out.raw("max_concurrent_streams", http2.max_concurrent_streams);
    out.text("stream_window", &show_size(Some(http2.stream_window.into())));
    out.text("connection_window", &show_size(Some(http2.connection_window.into())));
    out.text("max_header_list", &show_size(Some(http2.max_header_list.into())));
    out.raw("max_resets", http2.max_resets);
    out.raw("max_pings", http2.max_pings);
    out.raw("max_settings", http2.max_settings);
    out.raw("max_empty_frames", http2.max_empty_frames);
}

fn log(out: &mut Out, log: &Log) {
    out.table("[log]");
    out.raw("level", word(&log::LEVELS, &log.level));
    out.raw("format", word(&log::FORMATS, &log.format));
    match &log.access {
        None => out.text("access", "off"),
        Some(access) => {
            let to = match &access.to {
                AccessTarget::Stdout => quote("stdout"),
                AccessTarget::File(file) => path(file),
            };
            let format = word(&log::ACCESS_FORMATS, &access.format);
            out.raw("access", inline(&[("to", to), ("format", format)]));
        }
    }
}

fn listen(out: &mut Out, listen: &Listen) {
    out.table("[[listen]]");
    out.text("address", &listen.address.to_string());
    let Trust { all, networks, uids } = &listen.trust;
    if *all {
        out.text("trust", "all");
    } else {
        let networks = networks.iter().map(|network| quote(&network.to_string()));
        out.raw("trust", list(networks.chain(uids.iter().map(u32::to_string))));
    }
    if let Some(mode) = listen.mode {
        out.text("mode", &format!("{mode:04o}"));
    }
    match &listen.tls {
        None => {}
        Some(ListenTls { own: None }) => out.raw("tls", true),
        Some(ListenTls { own: Some(own) }) => out.raw("tls", certificate(own)),
    }
    if listen.proxy_protocol {
        out.raw("proxy_protocol", true);
    }
}

fn certificate(tls: &Tls) -> String {
    let mut pairs = match &tls.acme {
        Some(acme) => vec![("acme", quote(&acme.contact))],
        None => vec![("cert", path(&tls.cert)), ("key", path(&tls.key))],
    };
    pairs.push(("min_version", word(&VERSIONS, &tls.min_version)));
    if let Some(client) = &tls.client {
        pairs.push(("client_ca", path(&client.ca)));
        pairs.push(("client_verify", word(&VERIFY, &client.required)));
    }
    inline(&pairs)
}

fn limit(out: &mut Out, limit: &Limit) {
    out.table(&format!("[limit.{}]", bare_or_quoted(&limit.name)));
    out.raw("key", list(limit.key.iter().map(|key| quote(&key_word(key)))));
    if let Some(rate) = limit.rate {
        out.text("rate", &rate.to_string());
        out.raw("burst", limit.burst);
    }
    if let Some(connections) = limit.connections {
        out.raw("connections", connections);
    }
    for (key, class) in [("only", &limit.only), ("except", &limit.except)] {
        let mut pairs = Vec::new();
        if let Some(networks) = &class.networks {
            pairs.push(("networks", list(networks.written().map(|one| quote(&one)))));
        }
        if let Some(agents) = &class.user_agents {
            pairs.push(("user_agents", list(agents.written.iter().map(|agent| quote(agent)))));
        }
        if let Some(methods) = &class.methods {
            pairs.push(("methods", list(methods.iter().map(|method| quote(method.as_str())))));
        }
        if !pairs.is_empty() {
            out.raw(key, inline(&pairs));
        }
    }
    out.raw("dry_run", limit.dry_run);
    out.raw("keys", limit.keys);
}

fn bare_or_quoted(name: &str) -> String {
    if name.contains('.') { quote(name) } else { name.into() }
}

fn site(out: &mut Out, site: &Site) {
    out.table("[[site]]");
    let hosts = site.hosts.iter().map(|host| match host {
        HostPattern::Exact(name) => quote(name),
        HostPattern::Suffix(suffix) => quote(&format!("*{suffix}")),
        HostPattern::Regex(regex) => quote(&format!("~{regex}")),
    });
    if !site.hosts.is_empty() {
        out.raw("host", list(hosts));
    }
    if !site.errors.is_empty() {
        let pages = site.errors.iter().map(|(status, page)| format!("{status} = {}", path(page)));
        out.raw("errors", format!("{{ {} }}", pages.collect::<Vec<_>>().join(", ")));
    }
    if site.limit_rate.is_some() {
        out.text("limit_rate", &show_size(site.limit_rate));
    }
    if let Some(own) = &site.tls {
        out.raw("tls", certificate(own));
    }
    if let Some(redirect) = &site.redirect_https {
        let hsts = redirect.hsts.map(|hsts| ("hsts", quote(&show_duration(hsts))));
        let pairs: Vec<_> =
            hsts.into_iter().chain([("subdomains", redirect.subdomains.to_string())]).collect();
        out.raw("redirect_https", inline(&pairs));
    }
    // What a route takes over from its site is shown in the route.
    out.table("[site.routes]");
    for route in &site.routes {
        out.raw(&quote(&route.key), inline(&route_pairs(route)));
    }
}

fn show_compress(compress: &Compress) -> String {
    let name = |coding: Coding| coding.name();
    let codings = compress.codings.iter().map(|(coding, _)| quote(name(*coding)));
    let levels: Vec<_> =
        compress.codings.iter().map(|(coding, level)| (name(*coding), level.to_string())).collect();
    let types = compress.types.iter().map(|kind| quote(kind));
    inline(&[
        ("codings", list(codings)),
        ("level", inline(&levels)),
        ("types", list(types)),
        ("min_size", quote(&show_size(Some(compress.min_size)))),
    ])
}

fn route_pairs(route: &Route) -> Vec<(&'static str, String)> {
    let mut pairs = Vec::new();
    match &route.action {
        Action::Proxy(name) => pairs.push(("proxy", quote(name))),
        Action::Files(files) => {
            pairs.push(("files", quote(&files.root.to_string())));
            if !files.within.is_empty() {
                pairs.push(("within", list(files.within.iter().map(|one| path(one)))));
            }
            if !files.otherwise.is_empty() {
                pairs.push(("try", list(files.otherwise.iter().map(|one| quote(&one.to_string())))));
            }
            if !files.index.is_empty() {
                pairs.push(("index", list(files.index.iter().map(|name| quote(name)))));
            }
            if files.listing {
                pairs.push(("listing", "true".into()));
            }
            if !files.precompressed.is_empty() {
                let all = files.precompressed[..] == Coding::ALL;
                let names = files.precompressed.iter().map(|coding| quote(coding.name()));
                pairs.push(("precompressed", if all { "true".into() } else { list(names) }));
            }
            if !files.types.is_empty() {
                let kinds = files.types.iter().map(|(ending, kind)| {
                    format!("{} = {}", quote(ending), quote(kind.to_str().unwrap_or_default()))
                });
                pairs.push(("types", format!("{{ {} }}", kinds.collect::<Vec<_>>().join(", "))));
            }
            if files.symlinks != Symlinks::default() {
                pairs.push(("symlinks", word(&SYMLINKS, &files.symlinks)));
            }
        }
        Action::Redirect { to, status } => {
            pairs.push(("redirect", quote(&to.to_string())));
            pairs.push(("status", status.as_u16().to_string()));
        }
        Action::Answer { status, body, content_type } => {
            pairs.push(("answer", status.as_u16().to_string()));
            if let Some(body) = body {
                pairs.push(("body", quote(body)));
                pairs.push(("type", quote(content_type.to_str().unwrap_or_default())));
            }
        }
    }
    if route.internal {
        pairs.push(("internal", "true".into()));
    }
    if let Some(expires) = route.expires {
        pairs.push(("expires", quote(&show_duration(expires))));
    }
    if !route.headers.is_empty() {
        pairs.push(("headers", show_headers(&route.headers)));
    }
    if let Some(timeout) = route.read_timeout {
        pairs.push(("read_timeout", quote(&show_duration(timeout))));
    }
    if let Some(hold) = route.hold {
        pairs.push(("hold", quote(&show_duration(hold))));
    }
    let RouteRetry { tries, on, any_method } = &route.retry;
    let tries = tries.map(|tries| ("tries", tries.to_string()));
    let on = on.as_ref().map(|on| ("on", statuses(on)));
    let retry: Vec<_> =
        tries.into_iter().chain(on).chain(any_method.then(|| ("unsafe", "true".into()))).collect();
    if !retry.is_empty() {
        pairs.push(("retry", inline(&retry)));
    }
    if route.buffer != Buffering::Off {
        pairs.push(("buffer", word(&BUFFERINGS, &route.buffer)));
    }
    if let Some(compress) = &route.compress {
        pairs.push(("compress", show_compress(compress)));
    }
    pairs.push(("max_body", quote(&show_size(route.max_body))));
    if let Some(allow) = &route.access.allow {
        pairs.push(("allow", list(allow.written().map(|one| quote(&one)))));
    }
    if route.access.deny.written().next().is_some() {
        pairs.push(("deny", list(route.access.deny.written().map(|one| quote(&one)))));
    }
    if !route.limits.is_empty() {
        pairs.push(("limit", list(route.limits.iter().map(|name| quote(name)))));
    }
    if route.limit_rate.is_some() {
        pairs.push(("limit_rate", quote(&show_size(route.limit_rate))));
        pairs.push(("limit_rate_after", quote(&show_size(Some(route.limit_rate_after)))));
    }
    if let Some(methods) = &route.methods {
        pairs.push(("methods", list(methods.iter().map(|method| quote(method.as_str())))));
    }
    pairs
}

fn show_headers(headers: &[(HeaderName, HeaderValue)]) -> String {
    let header = |(name, value): &(HeaderName, HeaderValue)| {
        format!("{name} = {}", quote(&String::from_utf8_lossy(value.as_bytes())))
    };
    format!("{{ {} }}", headers.iter().map(header).collect::<Vec<_>>().join(", "))
}

fn statuses(statuses: &[StatusCode]) -> String {
    list(statuses.iter().map(|status| status.as_u16().to_string()))
}

fn upstream(out: &mut Out, upstream: &Upstream) {
    out.table(&format!("[upstream.{}]", bare_or_quoted(&upstream.name)));
    out.raw("servers", list(upstream.servers.iter().map(upstream_server)));
    out.text("balance", &balance_word(&upstream.balance));
    out.duration("slow_start", upstream.slow_start);
    out.text("streaming_share", &format!("{}%", upstream.streaming_share));
    if let Some(name) = &upstream.load_header {
        out.text("load_header", name.as_str());
    }
    out.raw("protocol", word(&PROTOCOLS, &upstream.tls.is_some()));
    if let Some(UpstreamTls { server_name, ca, verify }) = &upstream.tls {
        let name = server_name.as_ref().map(|name| ("server_name", quote(name)));
        let ca = ca.as_ref().map(|ca| ("ca", path(ca)));
        let pairs: Vec<_> = name.into_iter().chain(ca).chain([("verify", verify.to_string())]).collect();
        out.raw("tls", inline(&pairs));
    }
    out.duration("hold", upstream.hold);
    out.raw("queue", upstream.queue);
    out.raw("queue_order", word(&QUEUE_ORDERS, &upstream.queue_order));
    let Retry { tries, budget, on } = &upstream.retry;
    let mut pairs = vec![("tries", tries.to_string()), ("budget", quote(&format!("{budget}%")))];
    if !on.is_empty() {
        pairs.push(("on", statuses(on)));
    }
    out.raw("retry", inline(&pairs));
    if let Some(Health { path, host, headers, expect, every, timeout }) = &upstream.health {
        let [every, timeout] = [every, timeout].map(|time| quote(&show_duration(*time)));
        let mut pairs = vec![("path", quote(path))];
        pairs.extend(host.as_ref().map(|host| ("host", quote(host))));
        if !headers.is_empty() {
            pairs.push(("headers", show_headers(headers)));
        }
        pairs.extend([("every", every), ("timeout", timeout)]);
        if !expect.is_empty() {
            pairs.push(("expect", statuses(expect)));
        }
        out.raw("health", inline(&pairs));
    }
    out.duration("connect_timeout", upstream.connect_timeout);
    out.duration("read_timeout", upstream.read_timeout);
    out.duration("send_timeout", upstream.send_timeout);
    out.duration("keepalive", upstream.keepalive);
    out.text("max_response_head", &show_size(Some(upstream.max_response_head as u64)));
}

fn upstream_server(server: &UpstreamServer) -> String {
    let address = quote(&server.address.to_string());
    if server.weight == 1 && !server.backup && server.max_requests.is_none() {
        return address;
    }
    let mut pairs = vec![("address", address)];
    if server.weight != 1 {
        pairs.push(("weight", server.weight.to_string()));
    }
    if server.backup {
        pairs.push(("backup", "true".into()));
    }
    if let Some(most) = server.max_requests {
        pairs.push(("max_requests", most.to_string()));
    }
    inline(&pairs)
}
