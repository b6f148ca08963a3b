//! The whole file: its tables, in the order in which they depend on each other.

use toml::de::DeTable;

use super::{
    acme,
    diagnostic::Problem,
    limit::Limits,
    listen::{self, Taken},
    log,
    model::{Config, Listen, Site, Trust},
    read::{Context, TOP, Table, Value},
    server,
    site::{self, Hosts},
    upstream::Upstreams,
};

/// What is enough for a Galaxy server.
const EXAMPLE: &str = r#"a file that is enough:
[[site]]
host = "galaxy.example.org"

[site.routes]
"/" = { proxy = "galaxy" }

[upstream.galaxy]
servers = ["unix:/run/galaxy/gunicorn.sock"]"#;

/// Reads the file. What comes back may take effect only when nothing was noted as an error.
pub fn read<'a>(context: &'a Context<'a>, root: &'a DeTable<'a>) -> Config {
    let mut table = Table::new(context, root, 0..0, &TOP);
    let server =
        table.optional("server", server::read).unwrap_or_else(|| server::default(context.system.cores()));
    let acme_value = table.take("acme");
    let written = acme_value.and_then(acme::read);
    let mut authority = written.clone().unwrap_or_else(acme::default);
    let log = table.optional("log", log::read).unwrap_or(log::DEFAULT);
    let mut taken = Taken::default();
    let listen = several(&mut table, "listen");
    let listen: Option<Vec<Listen>> =
        listen.map(|values| values.into_iter().filter_map(|value| listen::read(value, &mut taken)).collect());
    let has_admin = !table.which(&["admin"]).is_empty();
    let admin = table.optional("admin", |value| listen::read_admin(value, &mut taken));
    if admin.is_none() && !has_admin {
        taken.check_default_admin(context);
    }
    // Before the sites, because routes name them.
    let upstreams = table.take("upstream");
    let upstreams = upstreams.map(|value| Upstreams::read(value, &server.resolver)).unwrap_or_default();
    let limits = table.take("limit").map(Limits::read).unwrap_or_default();
    let mut hosts = Hosts::default();
    let sites = match several(&mut table, "site") {
        Some(values) => values
            .into_iter()
            .filter_map(|value| site::read(value, &mut hosts, &upstreams, &limits, &authority))
            .collect(),
        None => {
            if table.unknown().next().is_none() {
                context.error_of_file(Problem::new("there is no `[[site]]`", "").help(EXAMPLE));
            }
            Vec::new()
        }
    };
    table.finish();
    upstreams.warn_unused(context);
    let has_tls = sites.iter().any(|site| site.tls.is_some());
    let listen = match listen {
        Some(listen) => listen,
        None if has_tls => listen::default_listen_tls(),
        None => vec![listen::default_listen()],
    };
    check_tls(context, &sites, &listen);
    let has_acme = sites.iter().any(|site| site.tls.as_ref().is_some_and(|tls| tls.acme.is_some()));
    match acme_value {
        None if has_acme => authority.store = acme::check_default_store(context, authority.store),
        Some(value) if !has_acme => {
            let problem = Problem::new("no site wants a certificate of this CA", "not used");
            context.warn(value.span(), problem.help("give a site `tls = { acme = \"admin@example.org\" }`"));
        }
        _ => {}
    }
    if authority.challenges.is_empty() {
        authority.challenges = acme::default_challenges(&listen);
    }
    limits.warn_unused(context);
    Config {
        server,
        admin: admin.unwrap_or_else(listen::default_admin),
        acme: (has_acme || written.is_some()).then_some(authority),
        log,
        listen,
        limits: limits.read,
        sites,
        upstreams: upstreams.read,
    }
}

/// Certificates want a listener that shows them, and the other way round.
fn check_tls(context: &Context<'_>, sites: &[Site], listen: &[Listen]) {
    let site = sites.iter().find(|site| site.tls.is_some());
    let redirected = sites.iter().find(|site| site.redirect_https.is_some());
    let encrypted = listen.iter().find(|listen| listen.tls.is_some());
    match (site, encrypted) {
        (Some(site), None) => {
            let problem = format!("the site {:?} has `tls`, and no `[[listen]]` speaks it", site.name);
            context.error_of_file(
                Problem::new(problem, "").help("add:\n[[listen]]\naddress = \"[::]:443\"\ntls = true"),
            );
        }
        (None, Some(listen)) if listen.tls.as_ref().is_some_and(|tls| tls.own.is_none()) => {
            let problem = format!("`{}` speaks TLS, and there is no certificate", listen.address);
            context.error_of_file(Problem::new(problem, "").help(
                "give a site `tls = { cert = \"/etc/ssl/galaxy/fullchain.pem\", key = \"/etc/ssl/galaxy/privkey.pem\" }`",
            ));
        }
        (None, None)
            if redirected.is_some() && !listen.iter().any(|listen| listen.trust != Trust::default()) =>
        {
            context.error_of_file(
                Problem::new("`redirect_https` leads nowhere: nothing speaks TLS", "")
                    .help("give a site `tls`, or `trust` the proxy in front that does, on its listener"),
            );
        }
        _ => {}
    }
}

/// The tables of `[[name]]`; `None` when there are none.
fn several<'a>(table: &mut Table<'a>, name: &str) -> Option<Vec<Value<'a>>> {
    let value = table.take(name)?;
    if value.as_table().is_some() {
        let problem = Problem::new(format!("`[{name}]` is a list of tables"), "single brackets");
        value.error(problem.help(format!("write `[[{name}]]`, and its tables as `[{name}.…]`")));
        return Some(Vec::new());
    }
    match value.as_list() {
        Some(values) if values.is_empty() => None,
        Some(values) => Some(values),
        None => value.wanted("a list of tables", &format!("[[{name}]]")).or(Some(Vec::new())),
    }
}
