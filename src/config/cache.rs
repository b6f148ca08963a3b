//! `[cache.NAME]`, and `cache` of a site or a route: responses of upstream servers that are stored (RFC 9111).

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    diagnostic::{Problem, show},
    keys::{
        Defaulted, Is, Key, Keys, Needed, Optional, Required, Shape, TextShape, Unset,
        kind::{BOOLEAN, Of, Path, SIZE, Shaped, TIME},
    },
    named::{Examples, NamedTables},
    paths,
    print::{Out, Pairs, bare_or_quoted, path, quote, strings},
    read::{FileKey, Value, text},
    template::{NameScope, Template, template},
};

/// `[cache.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Name in the file, in metrics, and in `Cache-Status`.
    pub name: String,
    /// Most bytes of responses in memory.
    pub memory: u64,
    /// Directory of stored responses; `None` keeps them in memory only.
    pub disk: Option<PathBuf>,
    /// Most bytes in that directory.
    pub disk_size: u64,
}

/// `cache` of a route.
#[derive(Debug, Clone, Default)]
pub struct RouteCache {
    /// Name of the cache.
    pub name: String,
    /// Lifetime of responses that have none of their own.
    pub ttl: Option<Duration>,
    /// Addition to the key of a response, which is scheme, host, path and query.
    pub key: Option<Template>,
    /// Cookies whose values are added to the key.
    pub vary_cookie: Vec<String>,
    /// Whether requests with Authorization are served from the cache.
    pub authorization: bool,
    /// Whether responses with Set-Cookie are stored, without it.
    pub set_cookie: bool,
}

/// The keys of `[cache.NAME]`.
pub static KEYS: Keys = Keys {
    title: "`[cache.NAME]`",
    place: "[cache.pages]\n…",
    about: "Stored responses of upstream servers (RFC 9111): in memory, and on disk with `disk`.",
    groups: &[&[&MEMORY, &DISK, &DISK_SIZE]],
    later: &[],
};

static MEMORY: Defaulted<Of<Option<u64>>> = Key {
    name: "memory",
    kind: SIZE,
    default: Is(|| Some(64 << 20)),
    about: "Most bytes of responses in memory. Those that were not used for longest go first.",
    example: "memory = \"256m\"",
};

static DISK: Optional<Path> = Key {
    name: "disk",
    kind: Path { home: "/var/cache/bowshock", check: |value, path| paths::need_writable(value, path) },
    default: Unset("memory only"),
    about: "Directory of stored responses, which survive a restart. No other program writes there.",
    example: "disk = \"/var/cache/bowshock/pages\"",
};

static DISK_SIZE: Defaulted<Of<Option<u64>>> = Key {
    name: "disk_size",
    kind: SIZE,
    default: Is(|| Some(1 << 30)),
    about: "Most bytes in the directory. Responses that were not used for longest go first.",
    example: "disk = \"/var/cache/bowshock/pages\"\ndisk_size = \"10g\"",
};

/// The keys of `cache` of a route.
static ROUTE_KEYS: Keys = Keys {
    title: "`cache` of a route",
    place: "[site.routes]\n\"/\" = { proxy = \"galaxy\", cache = { … } }",
    about: "Responses of a route that are stored. Scheme, host, path and query are always in the key.",
    groups: &[&[&USE, &TTL, &KEY, &VARY_COOKIE, &AUTHORIZATION, &SET_COOKIE]],
    later: &[],
};

static USE: Required<Shaped> = Key {
    name: "use",
    kind: Shaped(|| Shape::Text(NAME)),
    default: Needed,
    about: "Name of the `[cache.NAME]`.",
    example: "use = \"pages\"",
};

static TTL: Optional<Of<Duration>> = Key {
    name: "ttl",
    kind: TIME,
    default: Unset("responses without a lifetime of their own are validated each time"),
    about: "Lifetime of responses that have none of their own: no Expires, no max-age (nginx's `proxy_cache_valid`).",
    example: "use = \"pages\", ttl = \"30m\"",
};

static KEY: Optional<Shaped> = Key {
    name: "key",
    kind: Shaped(|| Shape::Text(TextShape { what: "text with `{names}`", pattern: "" })),
    default: Unset("nothing"),
    about: "Added to the key of a response, which always has scheme, host, path and query.",
    example: "use = \"pages\", key = \"{header.accept-language}\"",
};

static VARY_COOKIE: Optional<Of<Vec<String>>> = Key {
    name: "vary_cookie",
    kind: Of {
        shape: || Shape::Text(TextShape { what: "cookie name", pattern: "^[^=; ]+$" }).list(),
        read: |value| Some(value.list()?.into_iter().filter_map(text(cookie)).collect()),
        show: |names| strings(names),
    },
    default: Unset("none"),
    about: "Cookies whose values are added to the key.",
    example: "use = \"pages\", vary_cookie = [\"lang\"]",
};

static AUTHORIZATION: Defaulted<Of<bool>> = Key {
    name: "authorization",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Requests with Authorization are served from the cache too, and their responses stored. Only for content that \
            is the same for everybody.",
    example: "use = \"pages\", authorization = true",
};

static SET_COOKIE: Defaulted<Of<bool>> = Key {
    name: "set_cookie",
    kind: BOOLEAN,
    default: Is(|| false),
    about: "Responses with Set-Cookie are stored too, without that header. Only for content that is the same for \
            everybody.",
    example: "use = \"pages\", set_cookie = true",
};

const NAME: TextShape = TextShape { what: "name of a `[cache.NAME]`", pattern: "" };

/// Key `cache` of sites and routes.
pub const fn key(default: Unset) -> Optional<Shaped> {
    Key {
        name: "cache",
        kind: Shaped(|| {
            let name = TextShape { what: "name of a `[cache.NAME]`, or `\"none\"`", pattern: "" };
            Shape::Either(vec![Shape::Text(name), Shape::Table(&ROUTE_KEYS)])
        }),
        default,
        about: "Responses of servers are stored and served again (RFC 9111): in the `[cache.NAME]` of this name, or with \
                settings in place. `\"none\"` removes what the site has.",
        example: "cache = { use = \"pages\", ttl = \"30m\" }",
    }
}

/// The `[cache.NAME]` of a file.
pub type CacheTables = NamedTables<CacheSettings>;

const EXAMPLES: Examples = Examples { kind: "cache", key: "cache = \"pages\"", line: "memory = \"64m\"" };

/// Reads `[cache]`.
pub fn tables(value: Value<'_>) -> CacheTables {
    NamedTables::read(value, read)
}

/// Reads `cache` of a site or a route; `Some(None)` is none.
pub fn choose(value: Value<'_>, tables: &CacheTables, captures: &[&str]) -> Option<Option<Arc<RouteCache>>> {
    let plain = |cache: &CacheSettings| RouteCache { name: cache.name.clone(), ..RouteCache::default() };
    let chosen = tables.choose(value, &EXAMPLES, |value| route_cache(value, tables, captures), plain)?;
    Some(chosen.map(Arc::new))
}

fn route_cache(value: Value<'_>, tables: &CacheTables, captures: &[&str]) -> Option<RouteCache> {
    let mut table = value.table(&ROUTE_KEYS)?;
    let name = table.take_required(&USE);
    let name = name.and_then(|value| value.string().filter(|name| tables.has(value, name, &EXAMPLES)));
    let key = table.take(&KEY).and_then(|value| {
        value.parse(value.string()?, |text| template(text, NameScope { captures, response: false }))
    });
    let cache = RouteCache {
        name: name.unwrap_or_default().to_owned(),
        ttl: table.optional(&TTL),
        key,
        vary_cookie: table.optional(&VARY_COOKIE).unwrap_or_default(),
        authorization: table.read(&AUTHORIZATION),
        set_cookie: table.read(&SET_COOKIE),
    };
    table.finish();
    name.map(|_| cache)
}

/// Writes a `[cache.NAME]`.
pub fn show_table(out: &mut Out, cache: &CacheSettings) {
    let mut pairs = Pairs::default().key(&MEMORY, &Some(cache.memory));
    if let Some(disk) = &cache.disk {
        pairs = pairs.written(&DISK, path(disk)).key(&DISK_SIZE, &Some(cache.disk_size));
    }
    out.table(&format!("[cache.{}]", bare_or_quoted(&cache.name)), &pairs);
}

/// The value of `cache`.
pub fn show_value(cache: Option<&Arc<RouteCache>>) -> String {
    let Some(cache) = cache else { return quote("none") };
    Pairs::default()
        .written(&USE, quote(&cache.name))
        .optional(&TTL, cache.ttl.as_ref())
        .written_if(&KEY, cache.key.as_ref().map(|key| quote(&key.to_string())))
        .optional(&VARY_COOKIE, Some(&cache.vary_cookie).filter(|names| !names.is_empty()))
        .unless_default(&AUTHORIZATION, &cache.authorization)
        .unless_default(&SET_COOKIE, &cache.set_cookie)
        .braces()
}

fn read(value: Value<'_>, name: &str) -> Option<CacheSettings> {
    let mut table = value.table(&KEYS)?;
    let memory = table.place_of(&MEMORY);
    let (bytes, disk) = (table.read(&MEMORY), table.optional(&DISK));
    let size = table.place_of(&DISK_SIZE);
    let disk_size = table.read(&DISK_SIZE);
    table.finish();
    let unbounded = |key: Option<FileKey<'_>>| {
        if let Some(key) = key {
            let title = format!("`{}` must have a bound", key.text);
            key.error(
                Problem::new(title, "no limit").help(format!("write for example `{} = \"1g\"`", key.text)),
            );
        }
    };
    if bytes.is_none() {
        unbounded(memory);
    }
    if disk_size.is_none() {
        unbounded(size);
    }
    if let (Some(size), None) = (size, &disk) {
        size.error(
            Problem::new("`disk_size` needs `disk`", "no directory")
                .help("add `disk = \"/var/cache/bowshock\"`"),
        );
    }
    Some(CacheSettings { name: name.into(), memory: bytes?, disk, disk_size: disk_size? })
}

fn cookie(name: &str) -> Result<String, Problem> {
    match name.is_empty() || name.contains(['=', ';', ' ', ',']) {
        true => {
            Err(Problem::new(format!("{} is not the name of a cookie", show(name)), "no `=`, `;` or space"))
        }
        false => Ok(name.into()),
    }
}
