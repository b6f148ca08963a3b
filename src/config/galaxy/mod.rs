//! `[site.galaxy]`: a whole Galaxy site, from galaxy.yml or by hand.
//!
//! ```text
//! mod           the keys
//! file, yaml    YAML files with places of their values
//! gravity       section `gravity:`: where Galaxy and the services beside it listen
//! application   section `galaxy:`: directories, prefix, downloads
//! stores        object stores: directories of datasets
//! tools         interactive tools: where Galaxy keeps the map of them
//! facts         what the keys and the files say together
//! directories, statics     of what they name, that which is there
//! advice        warnings of what galaxy.yml lacks
//! routes        the routes that come of it, as they would be written by hand
//! expand        reads those routes as any others
//! ```

mod advice;
mod application;
mod directories;
mod expand;
mod facts;
mod file;
mod gravity;
mod routes;
mod statics;
mod stores;
mod tools;
mod yaml;

use std::path::{Path, PathBuf};

use super::{
    diagnostic::{Place, Problem, show},
    keys::{
        Key, Keys, Optional, Shape, TextShape, Unset,
        kind::{self, FILE, Of, STRING, Shaped},
    },
    paths,
    print::{list, path, quote},
    read::{FileKey, Value},
};

use file::place_of;

pub use expand::read;

/// The keys of `[site.galaxy]`.
pub static KEYS: Keys = Keys {
    title: "`[site.galaxy]`",
    place: "[site.galaxy]\n…",
    about: "A Galaxy site: its routes and its upstream are made from galaxy.yml, or from these keys alone. `bowshock print` \
            shows them. A route that the site has itself takes precedence over one for the same path that is made here.",
    groups: &[&[
        &CONFIG,
        &INSTANCE,
        &ROOT,
        &UPSTREAM,
        &DATA,
        &PREFIX,
        &UPLOADS,
        &INTERACTIVE_TOOLS,
        &REPORTS,
        &WELCOME,
    ]],
    later: &[],
};

static CONFIG: Optional<kind::Path> = Key {
    name: "config",
    kind: kind::Path { home: "/srv/galaxy/config", check: |_, _| {} },
    default: Unset("none; the other keys then say everything"),
    about: "Galaxy's configuration, galaxy.yml, whose sections `gravity` and `galaxy` are read: where Galaxy listens, its \
            directories and object stores, its prefix. It is read again on every reload. bowshock needs permission to \
            read it.",
    example: "config = \"/srv/galaxy/config/galaxy.yml\"",
};

static INSTANCE: Optional<Of<String>> = Key {
    name: "instance",
    kind: STRING,
    default: Unset("the only one"),
    about: "gravity's `instance_name` of this Galaxy, for a file that has several.",
    example: "config = \"/srv/galaxy/config/several.yml\"\ninstance = \"main\"",
};

static ROOT: Optional<kind::Path> = Key {
    name: "root",
    kind: kind::Path { home: "/srv", check: paths::need_directory },
    default: Unset("`galaxy_root` of gravity, or the directory above that of `config`"),
    about: "Galaxy's directory, with `static` and `config/plugins` in it.",
    example: "root = \"/srv/galaxy/server\"",
};

static UPSTREAM: Optional<Shaped> = Key {
    name: "upstream",
    kind: Shaped(|| Shape::Either(vec![Shape::Text(UPSTREAM_NAME), super::upstream::servers_shape()])),
    default: Unset("`[upstream.galaxy]` if the file has it, else the gunicorns of gravity"),
    about: "Galaxy's servers: the name of an `[upstream.NAME]`, or a list as in its `servers`.",
    example: "upstream = [\"unix:/run/galaxy/gunicorn0.sock\", \"unix:/run/galaxy/gunicorn1.sock\"]",
};

static DATA: Optional<Of<Vec<(Place, PathBuf)>>> = Key {
    name: "data",
    kind: Of {
        shape: || Shape::Text(FILE).list(),
        read: data,
        show: |all| list(all.iter().map(|(_, directory)| path(directory))),
    },
    default: Unset("none"),
    about: "Directories with datasets, in addition to those of `config`. Galaxy can send files of these directories only.",
    example: "data = [\"/data\"]",
};

static PREFIX: Optional<kind::Text<String>> = Key {
    name: "prefix",
    kind: kind::Text { form: TextShape { what: "path", pattern: "^/" }, parse: prefix, show: Clone::clone },
    default: Unset("`galaxy_url_prefix` of Galaxy"),
    about: "Path of the site below which Galaxy is served.",
    example: "prefix = \"/galaxy\"",
};

static UPLOADS: Optional<Shaped> = Key {
    name: "uploads",
    kind: Shaped(|| Shape::Text(UPSTREAM_NAME)),
    default: Unset("tusd if gravity runs it, else Galaxy itself"),
    about: "The `[upstream.NAME]` that receives resumable uploads: a tusd, or Galaxy's own.",
    example: "uploads = \"tusd\"",
};

static INTERACTIVE_TOOLS: Optional<Shaped> = Key {
    name: "interactive_tools",
    kind: Shaped(|| Shape::Text(MAP_OR_NAME)),
    default: Unset(
        "gx-it-proxy if gravity runs it, else the map of `config` if it enables interactive tools",
    ),
    about: "Galaxy's map of interactive tools, as in `interactive_tools` of a route, or the `[upstream.NAME]` of a \
            gx-it-proxy. Interactive tools get a site of their own: `*.ep.interactivetool.HOST` for each `host` of this \
            one, with the same certificate. With a map, tools that need no host name are served on this site, below \
            `/interactivetool/ep`.",
    example: "interactive_tools = \"/srv/galaxy/var/interactivetools_map.sqlite\"",
};

static REPORTS: Optional<Shaped> = Key {
    name: "reports",
    kind: Shaped(|| Shape::Text(UPSTREAM_NAME)),
    default: Unset("that of gravity if it runs with a `url_prefix`, else none"),
    about: "The `[upstream.NAME]` of Galaxy's reports, which are served below `/reports`.",
    example: "reports = \"reports\"",
};

static WELCOME: Optional<Shaped> = Key {
    name: "welcome",
    kind: Shaped(|| Shape::Either(vec![Shape::Text(FILE), Shape::Text(FILE).by("HOST")])),
    default: Unset("`static/welcome.html` of Galaxy"),
    about: "The page in the middle of Galaxy's start page: a file, or one for each host.",
    example: "welcome = \"/srv/galaxy/welcome.html\"",
};

const UPSTREAM_NAME: TextShape = TextShape { what: "name of an `[upstream.NAME]`", pattern: "" };

const MAP_OR_NAME: TextShape = TextShape { what: "map, or name of an `[upstream.NAME]`", pattern: "" };

/// A page of the site: one for all hosts, or one by host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Welcome {
    All(PathBuf),
    ByHost(Vec<(String, PathBuf)>),
}

/// The keys as written.
struct Written<'a> {
    value: Value<'a>,
    config: Option<(Place, PathBuf)>,
    instance: Option<(Place, String)>,
    root: Option<PathBuf>,
    /// Whether `root` is written and wrong, which is noted.
    root_is_wrong: bool,
    upstream: Option<Value<'a>>,
    data: Vec<(Place, PathBuf)>,
    prefix: Option<String>,
    uploads: Option<Value<'a>>,
    interactive_tools: Option<Value<'a>>,
    reports: Option<Value<'a>>,
    welcome: Option<Welcome>,
}

/// Reads the table. `None` when it says too little to go on, which is noted.
fn written(value: Value<'_>) -> Option<Written<'_>> {
    let mut table = value.table(&KEYS)?;
    let has_unknown = table.unknown().next().is_some();
    let config_value = table.take(&CONFIG);
    let config =
        config_value.and_then(|value| Some((place_of(value), kind::Reads::read(&CONFIG.kind, value)?)));
    let instance_value = table.take(&INSTANCE);
    let instance = instance_value.and_then(|value| Some((place_of(value), value.string()?.to_owned())));
    let has_root = table.has(&ROOT);
    let root = table.optional(&ROOT).filter(|root| value.context.system.directory(root).is_ok());
    let written = Written {
        value,
        config,
        instance,
        root_is_wrong: has_root && root.is_none(),
        root,
        upstream: table.take(&UPSTREAM),
        data: table.optional(&DATA).unwrap_or_default(),
        prefix: table.optional(&PREFIX),
        uploads: table.take(&UPLOADS),
        interactive_tools: table.take(&INTERACTIVE_TOOLS),
        reports: table.take(&REPORTS),
        welcome: table.take(&WELCOME).and_then(welcome),
    };
    table.finish();
    match (config_value, instance_value, written.upstream) {
        (None, Some(instance), _) => instance.error(
            Problem::new("`instance` needs `config`", "of which file?")
                .help(format!("add `{}`, or remove it", CONFIG.example)),
        ),
        (None, None, None) if !has_unknown => value.error(
            Problem::new("`[site.galaxy]` does not say where Galaxy is", "needs `config` or `upstream`")
                .help(format!(
                    "add `{}`, or without it `{}`\nand `{}`",
                    CONFIG.example, UPSTREAM.example, ROOT.example
                )),
        ),
        _ => {}
    }
    // A file that is named and cannot be read is noted; what would be missing without it is not.
    let is_readable = config_value.is_none() == written.config.is_none();
    (is_readable && (written.config.is_some() || written.upstream.is_some())).then_some(written)
}

fn data(value: Value<'_>) -> Option<Vec<(Place, PathBuf)>> {
    let directory = |item: Value<'_>| {
        let path = item.parse(item.string()?, |text| paths::absolute(text, "/data"))?;
        paths::need_directory(item, &path);
        item.context.system.directory(&path).is_ok().then(|| (place_of(item), path))
    };
    Some(value.list()?.into_iter().filter_map(directory).collect())
}

/// Reads a path below which Galaxy is served; no prefix is the empty text.
fn prefix(text: &str) -> Result<String, Problem> {
    let path = format!("/{}", text.trim_matches('/'));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-.~".contains(&byte);
    if !path.bytes().all(plain)
        || path.contains("//")
        || path.split('/').any(|part| matches!(part, "." | ".."))
    {
        let problem =
            Problem::new(format!("{} is not a path", show(text)), "letters, digits, `/`, `_`, `-`, `.`");
        return Err(problem.help("write for example `\"/galaxy\"`"));
    }
    Ok(if path == "/" { String::new() } else { path })
}

/// Reads `welcome`: a file, or files by host.
fn welcome(value: Value<'_>) -> Option<Welcome> {
    let page = |value: Value<'_>| {
        let path =
            value.parse(value.string_like(WELCOME.example)?, |text| paths::absolute(text, "/srv/galaxy"))?;
        paths::need_something(value, &path);
        Some(path)
    };
    if value.as_table().is_none() {
        return page(value).map(Welcome::All);
    }
    let host = |(key, value): (FileKey<'_>, Value<'_>)| {
        let host = key.read(|text| match super::address::is_name(text) {
            true => Ok(text.to_ascii_lowercase()),
            false => Err(Problem::new(format!("{} is not a host name", show(text)), "without a port")),
        });
        host.zip(page(value))
    };
    Some(Welcome::ByHost(value.entries()?.into_iter().filter_map(host).collect()))
}

/// Quotes a path for a message: in backticks.
fn shown(path: &Path) -> String {
    show(&path.to_string_lossy())
}

/// A key with its value, as a suggestion.
fn line(key: &str, value: &str) -> String {
    format!("`{key} = {}`", quote(value))
}
