//! The whole file: its tables, in the order in which they depend on each other.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::DeTable;

use super::{
    acme::{self, Acme},
    admin::{self, Admin},
    auth::{self, Auth},
    cache::{self, CacheSettings},
    cors::{self, Cors},
    diagnostic::Problem,
    keys::{Described, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset, kind::Shaped},
    limit::{self, Limit, Limits},
    listen::{self, Listen, Taken, Trust},
    log::{self, Log},
    read::{Context, Table, Value},
    route::Tables,
    server::{self, ServerSettings},
    site::{self, Hosts, SiteSettings},
    upstream::{self, UpstreamSettings, UpstreamTable},
};

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the process.
    pub server: ServerSettings,
    /// The listener of the admin endpoints.
    pub admin: Admin,
    /// The certificate authority; `None` when no site uses one.
    pub acme: Option<Acme>,
    /// Levels, formats and targets of logs.
    pub log: Log,
    /// Sockets that clients connect to; never empty.
    pub listen: Vec<Listen>,
    /// Limits by name, among them every name that a site or a route uses.
    pub limits: BTreeMap<String, Limit>,
    /// `[auth.NAME]` by name.
    pub auths: BTreeMap<String, Arc<Auth>>,
    /// `[cache.NAME]` by name.
    pub caches: BTreeMap<String, CacheSettings>,
    /// `[cors.NAME]` by name.
    pub cors: BTreeMap<String, Arc<Cors>>,
    /// Sites in the order of the file; the first one without `host` is the default site.
    pub sites: Vec<SiteSettings>,
    /// Upstreams by name, among them every name that a route uses.
    pub upstreams: BTreeMap<String, UpstreamSettings>,
}

/// Path of the configuration file, from the command line or the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPath(pub PathBuf);

impl ConfigPath {
    /// Takes the given path, else `bowshock.toml` in the current directory when it exists, else
    /// `/etc/bowshock/bowshock.toml`.
    pub fn find(given: Option<PathBuf>) -> Self {
        let here = Path::new("bowshock.toml");
        Self(given.unwrap_or_else(|| {
            if here.exists() { here.into() } else { "/etc/bowshock/bowshock.toml".into() }
        }))
    }
}

/// The tables of a file.
pub static TOP: Keys = Keys {
    title: "the file's top level",
    place: "…",
    about: "The tables of a file (TOML 1.0).",
    groups: &[&[
        &INCLUDE, &SERVER, &ADMIN, &LOG, &LISTEN, &ACME, &LIMIT, &AUTH, &CACHE, &CORS, &SITE, &UPSTREAM,
    ]],
    later: &[],
};

static INCLUDE: Optional<Shaped> = Key {
    name: "include",
    kind: Shaped(|| {
        Shape::Text(TextShape { what: "path of a file, which may have `*` in it", pattern: "" }).list()
    }),
    default: Unset("none"),
    about: "Files whose tables are added to those of this one. Paths are relative to this file; a pattern with `*` may \
            match nothing, and files that it matches are read in the order of their names.",
    example: "include = [\"sites/*.toml\"]",
};

static SERVER: Optional<Shaped> = Key {
    name: "server",
    kind: Shaped(|| Shape::Table(&server::KEYS)),
    default: Unset("the defaults of its keys"),
    about: "Settings of the process and of client connections.",
    example: "[server]\nmax_memory = \"4g\"",
};

static ADMIN: Optional<Shaped> = Key {
    name: "admin",
    kind: Shaped(|| Shape::Table(&admin::KEYS)),
    default: Unset("the defaults of its keys"),
    about: "The socket of metrics, status and commands.",
    example: "[admin]\nlisten = \"unix:/run/bowshock/admin.sock\"\nmode = \"0660\"",
};

static LOG: Optional<Shaped> = Key {
    name: "log",
    kind: Shaped(|| Shape::Table(&log::KEYS)),
    default: Unset("the defaults of its keys"),
    about: "The log of the process, and the access log.",
    example: "[log]\naccess = \"/var/log/bowshock/access.log\"",
};

static LISTEN: Optional<Shaped> = Key {
    name: "listen",
    kind: Shaped(|| Shape::Table(&listen::KEYS).list()),
    default: Unset("`[::]:8080`; `[::]:80` and `[::]:443` where a site has `tls`"),
    about: "Sockets that clients connect to.",
    example: "[[listen]]\naddress = \"[::]:8080\"",
};

static ACME: Optional<Shaped> = Key {
    name: "acme",
    kind: Shaped(|| Shape::Table(&acme::KEYS)),
    default: Unset("the defaults of its keys"),
    about: "The certificate authority of sites with `tls = { acme = … }`.",
    example: "[acme]\nstore = \"/srv/bowshock/acme\"",
};

static LIMIT: Optional<Shaped> = Key {
    name: "limit",
    kind: Shaped(|| Shape::Table(&limit::KEYS).by("NAME")),
    default: Unset("none"),
    about: "Limits on the requests of each client, by name.",
    example: "[limit.api]\nkey = \"address\"\nrate = \"8r/s\"",
};

static AUTH: Optional<Shaped> = Key {
    name: "auth",
    kind: Shaped(|| Shape::Table(&auth::KEYS).by("NAME")),
    default: Unset("none"),
    about: "Users who must log in, by name.",
    example: "[auth.staff]\nhtpasswd = \"/etc/bowshock/htpasswd\"",
};

static CACHE: Optional<Shaped> = Key {
    name: "cache",
    kind: Shaped(|| Shape::Table(&cache::KEYS).by("NAME")),
    default: Unset("none"),
    about: "Stored responses of upstream servers, by name.",
    example: "[cache.pages]\nmemory = \"64m\"",
};

static CORS: Optional<Shaped> = Key {
    name: "cors",
    kind: Shaped(|| Shape::Table(&cors::KEYS).by("NAME")),
    default: Unset("none"),
    about: "Pages of other origins that may read responses, by name.",
    example: "[cors.browsers]\norigins = [\"https://genome.ucsc.edu\"]",
};

static SITE: Required<Shaped> = Key {
    name: "site",
    kind: Shaped(|| Shape::Table(&site::KEYS).list()),
    default: Needed,
    about: "Host names with their routes.",
    example: "[[site]]\nhost = \"galaxy.example.org\"\n\n[site.routes]\n\"/\" = { answer = 204 }",
};

static UPSTREAM: Optional<Shaped> = Key {
    name: "upstream",
    kind: Shaped(|| Shape::Table(&upstream::KEYS).by("NAME")),
    default: Unset("none"),
    about: "Groups of servers that requests are passed to, by name.",
    example: "[upstream.galaxy]\nservers = [\"unix:/run/galaxy/gunicorn.sock\"]",
};

/// The smallest file for a Galaxy server.
const EXAMPLE: &str = r#"a file that is enough:
[[site]]
host = "galaxy.example.org"

[site.routes]
"/" = { proxy = "galaxy" }

[upstream.galaxy]
servers = ["unix:/run/galaxy/gunicorn.sock"]"#;

/// Reads the file. The result may take effect only when no error was noted.
pub fn read<'a>(context: &'a Context<'a>, root: &'a DeTable<'a>) -> Config {
    let mut table = Table::new(context, root, 0..0, &TOP);
    // The files are read already.
    table.take(&INCLUDE);
    let server = server::read(context, table.take(&SERVER));
    let acme_value = table.take(&ACME);
    let mut authority = acme::read(context, acme_value);
    let log = log::read(context, table.take(&LOG));
    let mut taken = Taken::default();
    let listen = several(&mut table, &LISTEN);
    let listen: Option<Vec<Listen>> =
        listen.map(|values| values.into_iter().filter_map(|value| listen::read(value, &mut taken)).collect());
    let has_admin = table.has(&ADMIN);
    let admin = table.take(&ADMIN).and_then(|value| admin::read(value, &mut taken));
    if admin.is_none() && !has_admin {
        taken.check_default_admin(context);
    }
    // Read before the sites, because routes name upstreams.
    let upstreams = UpstreamTable::read(table.take(&UPSTREAM), &server.resolver);
    let limits = table.take(&LIMIT).map(Limits::read).unwrap_or_default();
    let cors = table.take(&CORS).map(cors::tables).unwrap_or_default();
    let auths = table.take(&AUTH).map(|value| auth::tables(value, &upstreams)).unwrap_or_default();
    let caches = table.take(&CACHE).map(cache::tables).unwrap_or_default();
    let tables =
        Tables { upstreams: &upstreams, limits: &limits, cors: &cors, auths: &auths, caches: &caches };
    let sites = match several(&mut table, &SITE) {
        Some(values) => {
            let mut hosts = Hosts::of(&values);
            values.into_iter().flat_map(|value| site::read(value, &mut hosts, tables, &authority)).collect()
        }
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
        None if has_acme => acme::check_default_store(context, &authority.store),
        Some(value) if !has_acme => {
            let problem = Problem::new("no site uses this CA", "not used");
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
        admin: admin.unwrap_or_else(admin::default),
        acme: (has_acme || acme_value.is_some()).then_some(authority),
        log,
        listen,
        limits: limits.read,
        auths: auths.read,
        caches: caches.read,
        cors: cors.read,
        sites,
        upstreams: upstreams.into_read(),
    }
}

/// Checks that `tls` of sites and `tls` of listeners come together.
fn check_tls(context: &Context<'_>, sites: &[SiteSettings], listen: &[Listen]) {
    let site = sites.iter().find(|site| site.tls.is_some());
    let redirected = sites.iter().find(|site| site.redirect_https.is_some());
    let encrypted = listen.iter().find(|listen| listen.tls.is_some());
    match (site, encrypted) {
        (Some(site), None) => {
            let problem = format!("the site {:?} has `tls`, but no `[[listen]]` has", site.name);
            context.error_of_file(
                Problem::new(problem, "").help("add:\n[[listen]]\naddress = \"[::]:443\"\ntls = true"),
            );
        }
        (None, Some(listen)) if listen.tls.as_ref().is_some_and(|tls| tls.own.is_none()) => {
            let problem = format!("`{}` has `tls`, but no site has a certificate", listen.address);
            context.error_of_file(Problem::new(problem, "").help(
                "give a site `tls = { cert = \"/etc/ssl/galaxy/fullchain.pem\", key = \"/etc/ssl/galaxy/privkey.pem\" }`",
            ));
        }
        (None, None)
            if redirected.is_some() && !listen.iter().any(|listen| listen.trust != Trust::default()) =>
        {
            context.error_of_file(
                Problem::new("`redirect_https` needs a listener with `tls`", "")
                    .help("give a site `tls`, or list the proxy in front that terminates TLS in `trust` of the listener"),
            );
        }
        _ => {}
    }
}

/// The tables of `[[name]]`; `None` when there are none.
fn several<'a>(table: &mut Table<'a>, key: &'static dyn Described) -> Option<Vec<Value<'a>>> {
    let value = table.take(key)?;
    let name = key.name();
    if value.as_table().is_some() {
        let problem = Problem::new(format!("`[{name}]` is a list of tables"), "single brackets");
        value.error(problem.help(format!("write `[[{name}]]`, and its tables as `[{name}.…]`")));
        return Some(Vec::new());
    }
    match value.as_list() {
        Some(values) if values.is_empty() => None,
        Some(values) => Some(values),
        None => value.expected("a list of tables", &format!("[[{name}]]")).or(Some(Vec::new())),
    }
}
