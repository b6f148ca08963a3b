//! Settings of the process and of all connections: `[server]` and `[log]`.

use super::{
    expr,
    ledger::{Ledger, Outcome},
    output::Section,
    syntax::Directive,
    toml::{Table, Value},
    units,
};

/// Timeouts of connections: the name in nginx, which is that in `[server]`.
const TIMEOUTS: [&str; 4] =
    ["client_header_timeout", "client_body_timeout", "send_timeout", "keepalive_timeout"];

/// `[server]`
pub fn server(tree: &[Directive], http: &[Directive], ledger: &Ledger) -> Option<Section> {
    let mut table = Table::default();
    if let Some(directive) = tree.iter().find(|one| one.name == "worker_processes")
        && let Ok(threads @ 1..) = directive.first().parse::<i64>()
    {
        ledger.carried(directive);
        table.set("threads", threads);
    }
    if let Some(directive) = tree.iter().find(|one| one.name == "worker_shutdown_timeout") {
        ledger.carried(directive);
        table.set_some("grace", units::duration(directive.first()));
    }
    for name in TIMEOUTS {
        let found = everywhere(http, name);
        let Some(first) = found.first().copied() else { continue };
        table.set_some(name, units::duration(first.first()));
        for directive in found {
            if directive.first() == first.first() {
                ledger.carried(directive);
            } else {
                let instead = format!("choose one `{name}` for [server]");
                ledger.reported(directive, "one value is for all connections", instead);
            }
        }
    }
    let mut resolvers: Vec<Value> = Vec::new();
    for directive in everywhere(http, "resolver") {
        ledger.carried(directive);
        for address in directive.args.iter().filter(|arg| !arg.contains('=')) {
            let value = Value::from(address.as_str());
            if address.parse::<std::net::SocketAddr>().is_ok()
                || address.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
            {
                if !resolvers.contains(&value) {
                    resolvers.push(value);
                }
            } else {
                ledger.reported(
                    directive,
                    "a resolver is an IP address",
                    "write the address of the DNS server",
                );
            }
        }
    }
    if !resolvers.is_empty() {
        table.set("resolver", Value::one_or_more(resolvers));
    }
    (!table.is_empty()).then(|| Section { header: "[server]".into(), table, ..Section::default() })
}

/// Directives of a name in the whole block, the outermost first.
fn everywhere<'a>(block: &'a [Directive], name: &str) -> Vec<&'a Directive> {
    let mut found: Vec<&Directive> = block.iter().filter(|one| one.name == name).collect();
    for child in block {
        if !matches!(child.name.as_str(), "map" | "geo" | "types" | "upstream") {
            found.extend(everywhere(child.children(), name));
        }
    }
    found
}

/// `[log]`
pub fn log(http: &[Directive], ledger: &Ledger) -> Option<Section> {
    let logs = everywhere(http, "access_log");
    let is_file = |one: &&&Directive| one.first().starts_with('/');
    let main = logs.iter().find(is_file).or_else(|| logs.iter().find(|one| is_journal(one))).copied();
    for directive in &logs {
        match directive.first() {
            "off" => ledger.unnecessary(directive, "one access log has all requests"),
            to if main.is_some_and(|main| main.first() == to) => ledger.carried(directive),
            to if to.starts_with("syslog:") => ledger.reported(
                directive,
                "an access log is one file or standard output in this version",
                "let the collector of logs read the file, or standard output from the journal",
            ),
            _ => ledger.reported(
                directive,
                "one access log has the requests of all sites in this version",
                "with `format = \"json\"` each line has the host: tell sites apart by it",
            ),
        }
    }
    let format = main.and_then(|main| main.args.get(1)).filter(|name| !name.contains('='));
    let is_json = formats(http, format.map(String::as_str), &logs, ledger);
    let main = main?;
    let to = if is_journal(main) { "stdout" } else { main.first() };
    let access: Value = match is_json {
        true => {
            let mut table = Table::of("to", to);
            table.set("format", "json");
            table.into()
        }
        false => to.into(),
    };
    let comments = if to == "stdout" {
        vec!["# systemd writes standard output to the journal".to_owned()]
    } else {
        Vec::new()
    };
    let (header, table) = ("[log]".into(), Table::of("access", access));
    Some(Section { comments, header, table, ..Section::default() })
}

/// Whether a log goes to the journal of this machine.
fn is_journal(directive: &Directive) -> bool {
    let to = directive.first();
    to.starts_with("syslog:server=unix:") || matches!(to, "/dev/stdout" | "stdout")
}

/// Judges the formats: whether the main one is JSON.
fn formats(http: &[Directive], main: Option<&str>, logs: &[&Directive], ledger: &Ledger) -> bool {
    const COMBINED: [&str; 9] = [
        "remote_addr",
        "remote_user",
        "time_local",
        "request",
        "status",
        "body_bytes_sent",
        "bytes_sent",
        "http_referer",
        "http_user_agent",
    ];
    let mut is_json = false;
    for format in http.iter().filter(|one| one.name == "log_format") {
        let name = format.first();
        let used = |log: &&&Directive| log.args.get(1).is_some_and(|used| used == name);
        let text = format.args.iter().skip(1).cloned().collect::<String>();
        if main == Some(name) {
            let others: Vec<String> = expr::variables(&text);
            let unknown = others
                .into_iter()
                .filter(|one| !COMBINED.contains(&one.as_str()) && one != "http_x_forwarded_for");
            let unknown: Vec<String> = unknown.collect();
            is_json = text.contains("escape=json") || text.trim_start().starts_with('{');
            if unknown.is_empty() || is_json {
                ledger.carried(format);
            } else {
                let why =
                    format!("the format is combined or JSON; ${} is in JSON only, or nowhere", unknown[0]);
                ledger.reported(format, why, "use `format = \"json\"`, which has times and the server");
            }
        } else if let Some(log) = logs.iter().find(used) {
            match ledger.outcome(log) {
                Some(Outcome::Reported { .. }) => {
                    let instead = "`format = \"json\"` has the times of a request, and its server";
                    ledger.reported(format, "the format of a log that is not carried over", instead);
                }
                _ => ledger.carried(format),
            }
        } else {
            ledger.unnecessary(format, "no log has this format");
        }
    }
    is_json
}
