//! The whole file: its tables, in the order in which they depend on each other.

use toml::de::DeTable;

use super::{
    diagnostic::Problem,
    limit::Limits,
    listen::{self, Taken},
    log,
    model::Config,
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
    let log = table.optional("log", log::read).unwrap_or(log::DEFAULT);
    let mut taken = Taken::default();
    let listen = match several(&mut table, "listen") {
        Some(values) => values.into_iter().filter_map(|value| listen::read(value, &mut taken)).collect(),
        None => vec![listen::default_listen()],
    };
    let admin = table.optional("admin", |value| listen::read_admin(value, &mut taken));
    // Before the sites, because routes name them.
    let upstreams = table.take("upstream");
    let upstreams = upstreams.map(|value| Upstreams::read(value, &server.resolver)).unwrap_or_default();
    let limits = table.take("limit").map(Limits::read).unwrap_or_default();
    let mut hosts = Hosts::default();
    let sites = match several(&mut table, "site") {
        Some(values) => values
            .into_iter()
            .filter_map(|value| site::read(value, &mut hosts, &upstreams, &limits))
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
    limits.warn_unused(context);
    Config {
        server,
        admin: admin.unwrap_or_else(listen::default_admin),
        log,
        listen,
        limits: limits.read,
        sites,
        upstreams: upstreams.read,
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
