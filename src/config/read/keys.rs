//! Every key of the language by table: those built, and those documented for later versions.

/// The keys of one table.
#[derive(Debug)]
pub struct Keys {
    /// The table in a message.
    pub table: &'static str,
    /// Keys that this version reads.
    pub now: &'static [&'static str],
    /// Keys that are documented and not built yet: refused, never ignored.
    pub later: &'static [&'static str],
}

/// The top of the file.
pub const TOP: Keys = Keys {
    table: "the file's top level",
    now: &["server", "admin", "acme", "log", "listen", "limit", "site", "upstream"],
    later: &["include"],
};

/// `[server]`
pub const SERVER: Keys = Keys {
    table: "`[server]`",
    now: &[
        "threads",
        "grace",
        "pid_file",
        "client_header_timeout",
        "client_body_timeout",
        "send_timeout",
        "min_rate",
        "keepalive_timeout",
        "max_connections",
        "max_connections_per_address",
        "max_memory",
        "resolver",
        "http2",
    ],
    later: &["user", "group"],
};

/// `[admin]`
pub const ADMIN: Keys = Keys { table: "`[admin]`", now: &["listen", "mode", "hosts"], later: &[] };

/// `[log]`
pub const LOG: Keys = Keys { table: "`[log]`", now: &["level", "format", "access"], later: &[] };

/// `log.access`
pub const ACCESS: Keys = Keys { table: "`access` of `[log]`", now: &["to", "format"], later: &[] };

/// `[[listen]]`
pub const LISTEN: Keys =
    Keys { table: "`[[listen]]`", now: &["address", "trust", "mode", "tls", "proxy_protocol"], later: &[] };

/// `[[site]]`
pub const SITE: Keys = Keys {
    table: "`[[site]]`",
    now: &[
        "host",
        "routes",
        "headers",
        "errors",
        "max_body",
        "limit_rate",
        "allow",
        "deny",
        "limits",
        "tls",
        "redirect_https",
        "compress",
    ],
    later: &["galaxy"],
};

/// `tls` of a site or a listener
pub const TLS: Keys = Keys {
    table: "`tls`",
    now: &["cert", "key", "acme", "min_version", "client_ca", "client_verify"],
    later: &[],
};

/// `acme.eab`
pub const EAB: Keys = Keys { table: "`eab` of `[acme]`", now: &["id", "key"], later: &[] };

/// `[acme]`
pub const ACME: Keys =
    Keys { table: "`[acme]`", now: &["directory", "store", "ca", "eab", "challenges"], later: &[] };

/// `site.redirect_https`
pub const REDIRECT_HTTPS: Keys = Keys { table: "`redirect_https`", now: &["hsts", "subdomains"], later: &[] };

/// `[server.http2]`
pub const HTTP2: Keys = Keys {
    table: "`[server.http2]`",
    now: &[
        "max_concurrent_streams",
        "stream_window",
        "connection_window",
        "max_header_list",
        "max_resets",
        "max_pings",
        "max_settings",
        "max_empty_frames",
    ],
    later: &[],
};

/// One entry of `[site.routes]`.
pub const ROUTE: Keys = Keys {
    table: "a route",
    now: &[
        "proxy",
        "files",
        "redirect",
        "answer",
        "internal",
        "within",
        "symlinks",
        "try",
        "index",
        "listing",
        "precompressed",
        "types",
        "expires",
        "headers",
        "read_timeout",
        "hold",
        "retry",
        "buffer",
        "compress",
        "max_body",
        "limit_rate",
        "limit_rate_after",
        "allow",
        "deny",
        "limit",
        "methods",
        "status",
        "body",
        "type",
    ],
    later: &["request_headers", "cors", "path", "send_timeout", "auth", "cache", "errors"],
};

/// `[limit.NAME]`
pub const LIMIT: Keys = Keys {
    table: "`[limit.NAME]`",
    now: &["key", "rate", "burst", "connections", "only", "except", "dry_run", "keys"],
    later: &[],
};

/// `only` and `except` of a limit.
pub const CLASS: Keys = Keys {
    table: "`only` or `except` of `[limit.NAME]`",
    now: &["networks", "user_agents", "methods"],
    later: &[],
};

/// `[upstream.NAME]`
pub const UPSTREAM: Keys = Keys {
    table: "`[upstream.NAME]`",
    now: &[
        "servers",
        "balance",
        "slow_start",
        "streaming_share",
        "load_header",
        "protocol",
        "tls",
        "hold",
        "queue",
        "queue_order",
        "retry",
        "max_requests",
        "health",
        "connect_timeout",
        "read_timeout",
        "send_timeout",
        "keepalive",
        "max_response_head",
    ],
    later: &[],
};

/// `compress` of a site or a route
pub const COMPRESS: Keys =
    Keys { table: "`compress`", now: &["codings", "level", "types", "min_size"], later: &[] };

/// `compress.level`
pub const LEVELS: Keys = Keys { table: "`level` of `compress`", now: &["zstd", "br", "gzip"], later: &[] };

/// `upstream.tls`
pub const UPSTREAM_TLS: Keys =
    Keys { table: "`tls` of `[upstream.NAME]`", now: &["server_name", "ca", "verify"], later: &[] };

/// `upstream.retry`
pub const RETRY: Keys =
    Keys { table: "`retry` of `[upstream.NAME]`", now: &["tries", "budget", "on"], later: &[] };

/// `retry` of a route.
pub const ROUTE_RETRY: Keys =
    Keys { table: "`retry` of a route", now: &["tries", "unsafe", "on"], later: &[] };

/// One entry of `upstream.servers`.
pub const UPSTREAM_SERVER: Keys = Keys {
    table: "an entry of `servers`",
    now: &["address", "weight", "backup", "max_requests"],
    later: &[],
};

/// `upstream.health`
pub const HEALTH: Keys = Keys {
    table: "`health` of `[upstream.NAME]`",
    now: &["path", "host", "headers", "every", "timeout", "expect"],
    later: &[],
};

/// All tables, to tell in which one a misplaced key belongs.
pub const ALL: [&Keys; 23] = [
    &ACME,
    &EAB,
    &COMPRESS,
    &LEVELS,
    &UPSTREAM_TLS,
    &TLS,
    &REDIRECT_HTTPS,
    &HTTP2,
    &TOP,
    &SERVER,
    &ADMIN,
    &LOG,
    &ACCESS,
    &LISTEN,
    &SITE,
    &ROUTE,
    &ROUTE_RETRY,
    &LIMIT,
    &CLASS,
    &UPSTREAM,
    &UPSTREAM_SERVER,
    &HEALTH,
    &RETRY,
];
