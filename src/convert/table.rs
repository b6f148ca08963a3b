//! Directives whose fate does not depend on where they stand: unnecessary, or impossible.

use super::{
    ledger::{Ledger, Outcome},
    syntax::Directive,
};

/// Fate of a directive.
enum Fate {
    /// The proxy does the same by itself: the reason.
    Unnecessary(&'static str),
    /// The proxy cannot do the same: the reason, and what to do.
    Impossible(&'static str, &'static str),
    /// Read where it has an effect. A directive that nothing reads has none.
    Read,
}

use Fate::{Impossible, Read, Unnecessary};

const BUFFERS: &str = "buffers grow and shrink by themselves; responses are passed on as they come";
const HASHES: &str = "tables of names are sized by themselves";
const TEMPORARY: &str = "temporary files are unnamed, in the directory that TMPDIR names";
const WORKERS: &str = "one thread per core; connections are limited by `max_connections` of [server]";
const PROCESS: &str = "the service manager starts the process: see bowshock.service";
const LOGGED: &str = "the process log goes to standard error, which systemd writes to the journal";
const CIPHERS: &str = "only modern ciphers and curves are offered";
const SESSIONS: &str = "TLS sessions are resumed by tickets whose keys change by themselves";
const STAPLING: &str = "OCSP stapling is not needed: CAs have ended OCSP, and browsers do not ask for it";
const GZIP: &str = "part of `compress`, which follows Accept-Encoding and sets Vary";
const CACHED_FILES: &str = "small files and open files are cached for two seconds by themselves";
const KERNEL: &str = "always done where it helps";
const UPLOADS: &str = "goes with `upload_store`: the fields have fixed names, those that Galaxy reads";
const AGAIN: &str = "connections to servers are kept for a second, less than the server's own timeout";
const RETRIES: &str =
    "`retry` and `hold` of the upstream: a request is never lost to a restart, and never sent twice";
const CACHING: &str =
    "part of `cache`: one request per miss, stale responses while revalidating and on errors";

/// Directives by name.
const TABLE: &[(&str, Fate)] = &[
    // The process.
    (
        "user",
        Unnecessary(
            "`User=` of the systemd unit; use the same user, so that files and sockets stay accessible",
        ),
    ),
    ("pid", Unnecessary(PROCESS)),
    ("daemon", Unnecessary(PROCESS)),
    ("master_process", Unnecessary(PROCESS)),
    ("load_module", Unnecessary("there are no modules to load")),
    ("env", Unnecessary(PROCESS)),
    ("working_directory", Unnecessary(PROCESS)),
    ("lock_file", Unnecessary(PROCESS)),
    ("pcre_jit", Unnecessary("expressions are always compiled")),
    ("timer_resolution", Unnecessary("the clock is read once each time a task wakes")),
    ("error_log", Unnecessary(LOGGED)),
    ("worker_processes", Unnecessary(WORKERS)),
    ("worker_cpu_affinity", Unnecessary(WORKERS)),
    ("worker_priority", Unnecessary("`Nice=` of the systemd unit")),
    ("worker_rlimit_nofile", Unnecessary("`LimitNOFILE=` of the systemd unit")),
    ("worker_rlimit_core", Unnecessary("`LimitCORE=` of the systemd unit")),
    ("worker_shutdown_timeout", Read),
    ("events", Unnecessary("the event loop needs no settings")),
    ("worker_connections", Unnecessary(WORKERS)),
    ("multi_accept", Unnecessary(WORKERS)),
    ("accept_mutex", Unnecessary(WORKERS)),
    ("use", Unnecessary("epoll is always used")),
    ("thread_pool", Unnecessary("blocking reads are done by other threads, bounded per file system")),
    ("http", Read),
    (
        "stream",
        Impossible("TCP is not proxied, only HTTP", "leave nginx or HAProxy in place for these ports"),
    ),
    ("mail", Impossible("mail is not proxied", "leave nginx in place for these ports")),
    // Sending and receiving.
    ("sendfile", Unnecessary("always on")),
    ("sendfile_max_chunk", Unnecessary(KERNEL)),
    ("tcp_nopush", Unnecessary(KERNEL)),
    ("tcp_nodelay", Unnecessary(KERNEL)),
    ("aio", Unnecessary("a slow disk delays nobody else: cold data is read by other threads")),
    ("aio_write", Unnecessary(KERNEL)),
    ("directio", Unnecessary(KERNEL)),
    ("directio_alignment", Unnecessary(KERNEL)),
    ("output_buffers", Unnecessary(BUFFERS)),
    ("postpone_output", Unnecessary(BUFFERS)),
    ("read_ahead", Unnecessary(KERNEL)),
    ("reset_timedout_connection", Unnecessary(KERNEL)),
    ("lingering_close", Unnecessary("connections always linger on close")),
    ("lingering_time", Unnecessary("connections always linger on close")),
    ("lingering_timeout", Unnecessary("connections always linger on close")),
    ("keepalive_requests", Unnecessary("a connection serves any number of requests")),
    ("keepalive_time", Unnecessary("a connection is kept as long as it is used")),
    ("keepalive_disable", Unnecessary("no browser of today needs it")),
    ("client_body_buffer_size", Unnecessary(BUFFERS)),
    ("client_body_in_file_only", Unnecessary(BUFFERS)),
    ("client_body_in_single_buffer", Unnecessary(BUFFERS)),
    ("client_header_buffer_size", Unnecessary("a request head may have 64k")),
    ("large_client_header_buffers", Unnecessary("a request head may have 64k")),
    ("connection_pool_size", Unnecessary(BUFFERS)),
    ("request_pool_size", Unnecessary(BUFFERS)),
    ("client_body_temp_path", Unnecessary(TEMPORARY)),
    ("proxy_temp_path", Unnecessary(TEMPORARY)),
    ("fastcgi_temp_path", Unnecessary(TEMPORARY)),
    ("uwsgi_temp_path", Unnecessary(TEMPORARY)),
    ("scgi_temp_path", Unnecessary(TEMPORARY)),
    ("types_hash_max_size", Unnecessary(HASHES)),
    ("types_hash_bucket_size", Unnecessary(HASHES)),
    ("server_names_hash_bucket_size", Unnecessary(HASHES)),
    ("server_names_hash_max_size", Unnecessary(HASHES)),
    ("map_hash_bucket_size", Unnecessary(HASHES)),
    ("map_hash_max_size", Unnecessary(HASHES)),
    ("variables_hash_max_size", Unnecessary(HASHES)),
    ("variables_hash_bucket_size", Unnecessary(HASHES)),
    ("proxy_headers_hash_max_size", Unnecessary(HASHES)),
    ("proxy_headers_hash_bucket_size", Unnecessary(HASHES)),
    (
        "underscores_in_headers",
        Unnecessary("headers with `_` are passed on; those that pose as forwarded ones are not"),
    ),
    ("ignore_invalid_headers", Unnecessary("a request with an invalid header gets 400")),
    ("server_tokens", Unnecessary("no version is sent")),
    ("merge_slashes", Unnecessary("paths are matched with slashes merged, and passed on as sent")),
    ("absolute_redirect", Unnecessary("redirects are relative where they can be")),
    ("port_in_redirect", Unnecessary("redirects keep the client's port")),
    ("server_name_in_redirect", Unnecessary("redirects keep the client's host")),
    ("chunked_transfer_encoding", Unnecessary("used where HTTP/1.1 needs it")),
    ("http2", Unnecessary("HTTP/2 is offered on every listener with TLS")),
    ("http2_max_concurrent_streams", Unnecessary("limits of HTTP/2 are in [server.http2]")),
    ("http2_push_preload", Unnecessary("browsers have given up server push")),
    ("http2_push", Unnecessary("browsers have given up server push")),
    ("http3", Unnecessary("HTTP/3 is not offered; browsers use HTTP/2")),
    ("log_not_found", Unnecessary("missing files are in the access log only")),
    ("log_subrequest", Unnecessary("the access log has one line a request")),
    ("open_log_file_cache", Unnecessary("log files stay open")),
    ("open_file_cache", Unnecessary(CACHED_FILES)),
    ("open_file_cache_valid", Unnecessary(CACHED_FILES)),
    ("open_file_cache_min_uses", Unnecessary(CACHED_FILES)),
    ("open_file_cache_errors", Unnecessary(CACHED_FILES)),
    ("if_modified_since", Unnecessary("conditional requests follow RFC 9110")),
    ("etag", Unnecessary("files have an ETag")),
    ("charset", Unnecessary("text files are sent with `charset=utf-8`")),
    ("charset_types", Unnecessary("text files are sent with `charset=utf-8`")),
    ("source_charset", Unnecessary("text files are sent with `charset=utf-8`")),
    ("msie_padding", Unnecessary("no browser of today needs it")),
    ("msie_refresh", Unnecessary("no browser of today needs it")),
    ("recursive_error_pages", Unnecessary("an error page is a file, and cannot fail again")),
    ("rewrite_log", Unnecessary("`level = \"debug\"` of [log] shows the route of a request")),
    ("uninitialized_variable_warn", Unnecessary("a name without a value is an error of the configuration")),
    ("resolver_timeout", Unnecessary("names are resolved in the background, before requests need them")),
    // Compression.
    ("gzip_vary", Unnecessary(GZIP)),
    ("gzip_proxied", Unnecessary(GZIP)),
    ("gzip_http_version", Unnecessary(GZIP)),
    ("gzip_buffers", Unnecessary(GZIP)),
    ("gzip_disable", Unnecessary(GZIP)),
    ("gunzip", Unnecessary(GZIP)),
    // TLS.
    ("ssl_ciphers", Unnecessary(CIPHERS)),
    ("ssl_prefer_server_ciphers", Unnecessary(CIPHERS)),
    ("ssl_dhparam", Unnecessary(CIPHERS)),
    ("ssl_ecdh_curve", Unnecessary(CIPHERS)),
    ("ssl_conf_command", Unnecessary("a setting of OpenSSL, which is not used")),
    ("ssl_session_cache", Unnecessary(SESSIONS)),
    ("ssl_session_timeout", Unnecessary(SESSIONS)),
    ("ssl_session_tickets", Unnecessary(SESSIONS)),
    ("ssl_session_ticket_key", Unnecessary(SESSIONS)),
    ("ssl_early_data", Unnecessary("early data is not accepted, as it can be replayed")),
    ("ssl_buffer_size", Unnecessary(BUFFERS)),
    ("ssl_stapling", Unnecessary(STAPLING)),
    ("ssl_stapling_verify", Unnecessary(STAPLING)),
    ("ssl_stapling_file", Unnecessary(STAPLING)),
    ("ssl_trusted_certificate", Unnecessary(STAPLING)),
    ("ssl", Read),
    // Proxying.
    ("proxy_http_version", Unnecessary("servers are always spoken to in HTTP/1.1")),
    ("proxy_buffering", Unnecessary("responses are always passed on as they come")),
    ("proxy_request_buffering", Read),
    ("proxy_buffers", Unnecessary(BUFFERS)),
    ("proxy_busy_buffers_size", Unnecessary(BUFFERS)),
    ("proxy_max_temp_file_size", Unnecessary("responses are not written to disk")),
    ("proxy_temp_file_write_size", Unnecessary("responses are not written to disk")),
    ("proxy_socket_keepalive", Unnecessary(AGAIN)),
    ("proxy_ssl_server_name", Unnecessary("the name of the server is always sent (SNI)")),
    ("proxy_ssl_protocols", Unnecessary("TLS 1.2 and 1.3")),
    ("proxy_ssl_ciphers", Unnecessary(CIPHERS)),
    ("proxy_ssl_session_reuse", Unnecessary(SESSIONS)),
    ("proxy_ssl_verify_depth", Unnecessary("certificate chains are verified as a whole")),
    ("proxy_pass_header", Unnecessary("headers of the server are passed on")),
    ("proxy_ignore_client_abort", Unnecessary("a request is given up when its client is gone")),
    ("proxy_force_ranges", Unnecessary("ranges are passed on")),
    (
        "proxy_limit_rate",
        Impossible("the rate of a server is not limited", "use `limit_rate` on the route, for clients"),
    ),
    ("proxy_next_upstream_timeout", Unnecessary(RETRIES)),
    ("uwsgi_next_upstream_timeout", Unnecessary(RETRIES)),
    ("uwsgi_buffering", Unnecessary("responses are always passed on as they come")),
    ("uwsgi_buffers", Unnecessary(BUFFERS)),
    ("uwsgi_busy_buffers_size", Unnecessary(BUFFERS)),
    ("uwsgi_max_temp_file_size", Unnecessary("responses are not written to disk")),
    ("uwsgi_pass_header", Unnecessary("headers of the server are passed on")),
    ("uwsgi_ignore_client_abort", Unnecessary("a request is given up when its client is gone")),
    ("keepalive", Unnecessary(AGAIN)),
    ("zone", Unnecessary("one process shares the state of upstreams")),
    ("proxy_bind", Impossible("the source address cannot be chosen", "use a route of the kernel: `ip rule`")),
    ("proxy_method", Impossible("the method cannot be replaced", "let the application accept the method")),
    ("proxy_set_body", Impossible("a request body cannot be replaced", "let the application do it")),
    ("proxy_pass_request_body", Read),
    (
        "proxy_cookie_domain",
        Impossible(
            "the domain of cookies is not changed",
            "let the application set its cookies without a domain",
        ),
    ),
    ("proxy_cookie_flags", Impossible("flags of cookies are not changed", "set them in the application")),
    ("proxy_store", Impossible("responses are not stored as files", "use `cache`")),
    (
        "proxy_ssl_certificate",
        Impossible("no client certificate is sent to servers", "limit access by address instead"),
    ),
    (
        "proxy_ssl_certificate_key",
        Impossible("no client certificate is sent to servers", "limit access by address instead"),
    ),
    ("mirror", Impossible("requests are not mirrored", "mirror them in the application")),
    ("mirror_request_body", Impossible("requests are not mirrored", "mirror them in the application")),
    ("sub_filter", Impossible("response bodies are not changed", "change the page in the application")),
    ("sub_filter_once", Impossible("response bodies are not changed", "change the page in the application")),
    ("sub_filter_types", Impossible("response bodies are not changed", "change the page in the application")),
    ("add_before_body", Impossible("response bodies are not changed", "change the page in the application")),
    ("add_after_body", Impossible("response bodies are not changed", "change the page in the application")),
    (
        "ssi",
        Impossible(
            "server-side includes are not processed",
            "write the pages with their parts included: they are plain files",
        ),
    ),
    ("ssi_types", Impossible("server-side includes are not processed", "write the pages as plain files")),
    ("image_filter", Impossible("images are not changed", "prepare them as files")),
    ("xslt_stylesheet", Impossible("XML is not transformed", "prepare the pages as files")),
    (
        "fastcgi_pass",
        Impossible(
            "FastCGI is not spoken",
            "put the application behind its own HTTP server (php-fpm: a local nginx or FrankenPHP), and proxy to that",
        ),
    ),
    ("fastcgi_param", Impossible("FastCGI is not spoken", "see `fastcgi_pass`")),
    ("fastcgi_index", Impossible("FastCGI is not spoken", "see `fastcgi_pass`")),
    ("fastcgi_split_path_info", Impossible("FastCGI is not spoken", "see `fastcgi_pass`")),
    ("scgi_pass", Impossible("SCGI is not spoken", "let the application speak HTTP or uwsgi")),
    ("scgi_param", Impossible("SCGI is not spoken", "see `scgi_pass`")),
    (
        "grpc_pass",
        Impossible(
            "calls of gRPC are not converted",
            "write a route with `proxy`, and `protocol = \"h2c\"` in its upstream (`\"h2\"` for `grpcs://`)",
        ),
    ),
    ("memcached_pass", Impossible("memcached is not asked", "use `cache`")),
    ("dav_methods", Impossible("files are read only", "serve WebDAV by an application")),
    ("dav_ext_methods", Impossible("files are read only", "serve WebDAV by an application")),
    ("create_full_put_path", Impossible("files are read only", "serve WebDAV by an application")),
    ("dav_access", Impossible("files are read only", "serve WebDAV by an application")),
    ("disable_symlinks", Read),
    ("random_index", Impossible("no file is chosen at random", "name one in `index`")),
    (
        "secure_link",
        Impossible("links are not verified", "let the application decide, and send X-Accel-Redirect"),
    ),
    (
        "secure_link_md5",
        Impossible("links are not verified", "let the application decide, and send X-Accel-Redirect"),
    ),
    (
        "auth_jwt",
        Impossible(
            "tokens are verified by an `auth` subrequest only",
            "use `[auth.NAME] request` with oauth2-proxy",
        ),
    ),
    (
        "auth_pam",
        Impossible("PAM is not asked", "use `[auth.NAME] htpasswd`, or `request` to a sidecar that asks PAM"),
    ),
    ("auth_pam_service_name", Impossible("PAM is not asked", "see `auth_pam`")),
    ("auth_ldap", Impossible("LDAP is not asked", "use `[auth.NAME] request` to a sidecar that asks LDAP")),
    (
        "split_clients",
        Impossible(
            "clients are not split by a hash",
            "use `weight` of servers, or `balance = \"hash:address\"`",
        ),
    ),
    ("js_import", Impossible("there is no scripting", "move the logic into the application")),
    ("js_content", Impossible("there is no scripting", "move the logic into the application")),
    ("content_by_lua_block", Impossible("there is no scripting", "move the logic into the application")),
    ("access_by_lua_block", Impossible("there is no scripting", "use `[auth.NAME] request`")),
    ("rewrite_by_lua_block", Impossible("there is no scripting", "move the logic into the application")),
    ("perl", Impossible("there is no scripting", "move the logic into the application")),
    ("perl_modules", Impossible("there is no scripting", "move the logic into the application")),
    ("perl_set", Impossible("there is no scripting", "move the logic into the application")),
    ("geoip_country", Impossible("addresses are not located", "list the networks in `allow` or `deny`")),
    ("geoip_city", Impossible("addresses are not located", "list the networks in `allow` or `deny`")),
    // Uploads.
    ("upload_store_access", Unnecessary(UPLOADS)),
    ("upload_pass_form_field", Unnecessary(UPLOADS)),
    ("upload_set_form_field", Unnecessary(UPLOADS)),
    ("upload_aggregate_form_field", Unnecessary(UPLOADS)),
    ("upload_pass_args", Unnecessary("the query is always passed on")),
    ("upload_cleanup", Unnecessary(UPLOADS)),
    ("upload_buffer_size", Unnecessary(BUFFERS)),
    ("upload_max_file_size", Unnecessary("`max_body` of the route limits the whole request")),
    (
        "upload_limit_rate",
        Unnecessary("uploads are written as fast as the disk takes them, without delaying others"),
    ),
    ("upload_resumable", Unnecessary("resumable uploads use tus")),
    // Caching.
    ("proxy_cache_key", Read),
    ("proxy_cache_lock", Unnecessary(CACHING)),
    ("proxy_cache_lock_timeout", Unnecessary(CACHING)),
    ("proxy_cache_lock_age", Unnecessary(CACHING)),
    ("proxy_cache_use_stale", Unnecessary(CACHING)),
    ("proxy_cache_background_update", Unnecessary(CACHING)),
    ("proxy_cache_revalidate", Unnecessary("expired responses are revalidated where they have a validator")),
    ("proxy_cache_min_uses", Unnecessary("the least recently used responses are removed first")),
    ("proxy_cache_convert_head", Unnecessary(CACHING)),
    ("proxy_cache_max_range_offset", Unnecessary("ranges are served from the stored whole")),
    // Limits.
    ("limit_req_log_level", Unnecessary("refused requests are counted in metrics, and in the access log")),
    ("limit_conn_log_level", Unnecessary("refused requests are counted in metrics, and in the access log")),
    ("limit_req_status", Unnecessary("refused requests get 429 with Retry-After")),
    ("limit_conn_status", Unnecessary("refused requests get 429 with Retry-After")),
    ("stub_status", Unnecessary("the admin listener has /metrics and /status.json")),
    ("vhost_traffic_status_zone", Unnecessary("the admin listener has /metrics")),
    ("real_ip_recursive", Unnecessary("the chain is walked from the right past all trusted peers")),
];

/// Read where they have an effect, as most others are too: a directive that nothing reads has none.
const READ: &[&str] = &[
    "access_log",
    "add_header",
    "alias",
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "auth_request",
    "auth_request_set",
    "autoindex",
    "break",
    "client_body_timeout",
    "client_header_timeout",
    "client_max_body_size",
    "default_type",
    "deny",
    "error_page",
    "expires",
    "geo",
    "gzip",
    "gzip_comp_level",
    "gzip_min_length",
    "gzip_static",
    "gzip_types",
    "hash",
    "if",
    "include",
    "index",
    "internal",
    "ip_hash",
    "keepalive_timeout",
    "least_conn",
    "limit_conn",
    "limit_conn_zone",
    "limit_except",
    "limit_rate",
    "limit_rate_after",
    "limit_req",
    "limit_req_zone",
    "listen",
    "location",
    "log_format",
    "map",
    "proxy_buffer_size",
    "proxy_cache",
    "proxy_cache_bypass",
    "proxy_cache_methods",
    "proxy_cache_path",
    "proxy_cache_valid",
    "proxy_connect_timeout",
    "proxy_cookie_path",
    "proxy_hide_header",
    "proxy_ignore_headers",
    "proxy_intercept_errors",
    "proxy_next_upstream",
    "proxy_next_upstream_tries",
    "proxy_no_cache",
    "proxy_pass",
    "proxy_pass_request_headers",
    "proxy_read_timeout",
    "proxy_redirect",
    "proxy_send_timeout",
    "proxy_set_header",
    "proxy_ssl_name",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_verify",
    "random",
    "real_ip_header",
    "resolver",
    "return",
    "rewrite",
    "root",
    "satisfy",
    "send_timeout",
    "server",
    "server_name",
    "set",
    "set_real_ip_from",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "ssl_protocols",
    "ssl_verify_client",
    "try_files",
    "types",
    "upload_pass",
    "upload_store",
    "upstream",
    "uwsgi_buffer_size",
    "uwsgi_connect_timeout",
    "uwsgi_hide_header",
    "uwsgi_ignore_headers",
    "uwsgi_intercept_errors",
    "uwsgi_param",
    "uwsgi_pass",
    "uwsgi_read_timeout",
    "uwsgi_request_buffering",
    "uwsgi_send_timeout",
    "valid_referers",
];

fn fate(name: &str) -> Option<&'static Fate> {
    let found = TABLE.iter().find(|(known, _)| *known == name).map(|(_, fate)| fate);
    found.or_else(|| READ.contains(&name).then_some(&Read))
}

/// Blocks whose content is data or is marked as a whole.
const OPAQUE: [&str; 5] = ["map", "geo", "types", "split_clients", "limit_except"];

/// Marks what nothing has marked: by the table, or as without effect, or as unknown.
pub fn finish(tree: &[Directive], ledger: &Ledger) {
    for directive in tree {
        if ledger.outcome(directive).is_none() {
            match fate(&directive.name) {
                Some(Unnecessary(why)) => ledger.unnecessary(directive, *why),
                Some(Impossible(_, _)) if directive.first() == "off" => ledger.unnecessary(directive, "off"),
                Some(Impossible(why, instead)) => ledger.reported(directive, *why, *instead),
                Some(Read) => ledger.unnecessary(directive, "has no effect on any location"),
                None => ledger.reported(
                    directive,
                    "the directive is unknown, perhaps one of a third-party module",
                    "see whether the site needs it",
                ),
            }
        }
        match ledger.outcome(directive) {
            Some(outcome) if OPAQUE.contains(&directive.name.as_str()) => {
                inherit(directive, &outcome, ledger);
            }
            Some(outcome @ Outcome::Reported { .. }) if is_whole(&directive.name) => {
                inherit(directive, &outcome, ledger);
            }
            _ => finish(directive.children(), ledger),
        }
    }
}

/// Blocks of which nothing is carried over when they are reported.
fn is_whole(name: &str) -> bool {
    matches!(name, "stream" | "mail") || name.ends_with("_block")
}

/// Entries of a block share its outcome.
fn inherit(directive: &Directive, outcome: &Outcome, ledger: &Ledger) {
    for child in directive.children() {
        match outcome {
            Outcome::Carried => ledger.carried(child),
            Outcome::Unnecessary(why) => ledger.unnecessary(child, why.clone()),
            Outcome::Reported { why, instead } => ledger.reported(child, why.clone(), instead.clone()),
        }
        inherit(child, outcome, ledger);
    }
}
