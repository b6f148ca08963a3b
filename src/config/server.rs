//! `[server]`: settings of the process.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use super::{
    address,
    diagnostic::Problem,
    model::{Http2, Server},
    paths,
    read::{self as keys, SERVER, Value, integer, text},
    units::show_size,
};

/// The settings of a file without `[server]`, on a machine with so many cores.
pub fn default(cores: usize) -> Server {
    Server {
        threads: cores.max(1),
        grace: Duration::from_secs(30),
        pid_file: None,
        client_header_timeout: Duration::from_secs(10),
        client_body_timeout: Duration::from_secs(60),
        send_timeout: Duration::from_secs(60),
        min_rate: 500,
        keepalive_timeout: Duration::from_secs(75),
        max_connections: 16_384,
        max_connections_per_address: None,
        max_memory: None,
        resolver: Vec::new(),
        http2: HTTP2,
    }
}

/// One hundred requests at once, as browsers expect; windows that a path of 100 ms fills at 600 Mbit/s. The counts are
/// far above what clients do, and far below what would keep us busy.
const HTTP2: Http2 = Http2 {
    max_concurrent_streams: 100,
    stream_window: 8 << 20,
    connection_window: 16 << 20,
    max_header_list: 64 << 10,
    max_resets: 200,
    max_pings: 50,
    max_settings: 20,
    max_empty_frames: 200,
};

/// Reads `[server.http2]`.
fn http2(value: Value<'_>) -> Option<Http2> {
    let mut table = value.table(&keys::HTTP2, "[server.http2]")?;
    let window = |value: Value<'_>| size(value, 1 << 16..=1 << 30);
    let http2 = Http2 {
        max_concurrent_streams: table
            .optional("max_concurrent_streams", integer(1..=10_000))
            .unwrap_or(HTTP2.max_concurrent_streams),
        stream_window: table.optional("stream_window", window).unwrap_or(HTTP2.stream_window),
        connection_window: table.optional("connection_window", window).unwrap_or(HTTP2.connection_window),
        max_header_list: table
            .optional("max_header_list", |value| size(value, 1024..=1 << 20))
            .unwrap_or(HTTP2.max_header_list),
        max_resets: table.optional("max_resets", integer(1..=u32::MAX)).unwrap_or(HTTP2.max_resets),
        max_pings: table.optional("max_pings", integer(1..=u32::MAX)).unwrap_or(HTTP2.max_pings),
        max_settings: table.optional("max_settings", integer(1..=u32::MAX)).unwrap_or(HTTP2.max_settings),
        max_empty_frames: table
            .optional("max_empty_frames", integer(1..=u32::MAX))
            .unwrap_or(HTTP2.max_empty_frames),
    };
    table.finish();
    Some(http2)
}

/// A size within bounds.
fn size(value: Value<'_>, range: RangeInclusive<u32>) -> Option<u32> {
    let size = value.size()?;
    let fits = size.and_then(|size| u32::try_from(size).ok()).filter(|size| range.contains(size));
    if fits.is_none() {
        let (least, most) =
            (show_size(Some((*range.start()).into())), show_size(Some((*range.end()).into())));
        value.error(Problem::new(
            format!("`{}` is out of bounds", value.name),
            format!("from {least} to {most}"),
        ));
    }
    fits
}

/// Reads `[server]`.
pub fn read(value: Value<'_>) -> Option<Server> {
    let mut table = value.table(&SERVER, "[server]")?;
    let default = default(table.context.system.cores());
    let server = Server {
        threads: match table.optional("threads", integer(0..=1024)) {
            None | Some(0) => default.threads,
            Some(threads) => threads as usize,
        },
        grace: table.optional("grace", Value::duration).unwrap_or(default.grace),
        pid_file: table.optional("pid_file", |value| {
            let path = value.parse(value.string("pid_file = \"/run/bowshock/bowshock.pid\"")?, |text| {
                paths::absolute(text, "/run/bowshock")
            })?;
            paths::need_parent(value, &path);
            Some(path)
        }),
        client_header_timeout: table
            .optional("client_header_timeout", Value::time)
            .unwrap_or(default.client_header_timeout),
        client_body_timeout: table
            .optional("client_body_timeout", Value::time)
            .unwrap_or(default.client_body_timeout),
        send_timeout: table.optional("send_timeout", Value::time).unwrap_or(default.send_timeout),
        min_rate: table.optional("min_rate", Value::size).map_or(default.min_rate, Option::unwrap_or_default),
        // Zero is meant: no connection is kept.
        keepalive_timeout: table
            .optional("keepalive_timeout", Value::duration)
            .unwrap_or(default.keepalive_timeout),
        max_connections: table
            .optional("max_connections", integer(1..=u32::MAX))
            .map_or(default.max_connections, |count| count as usize),
        max_connections_per_address: table
            .optional("max_connections_per_address", integer(1..=u32::MAX))
            .map(|count| count as usize),
        max_memory: table.optional("max_memory", max_memory),
        resolver: table.optional("resolver", resolver).unwrap_or_default(),
        http2: table.optional("http2", http2).unwrap_or(HTTP2),
    };
    table.finish();
    Some(server)
}

/// What the program takes itself, and room for requests beside it.
const LEAST_MEMORY: u64 = 64 << 20;

fn max_memory(value: Value<'_>) -> Option<u64> {
    let bytes = value.size()??;
    if bytes < LEAST_MEMORY {
        let problem = Problem::new("`max_memory` is too little to serve with", "must be `64m` or more");
        value.error(problem.help("write for example `max_memory = \"1g\"`"));
        return None;
    }
    Some(bytes)
}

const NAME_SERVER: &str = "\"127.0.0.1:53\"";

/// One name server or a list of them.
fn resolver(value: Value<'_>) -> Option<Vec<SocketAddr>> {
    let one = text(NAME_SERVER, address::name_server);
    match value.as_list() {
        Some(items) => Some(items.into_iter().filter_map(one).collect()),
        None => one(value).map(|address| vec![address]),
    }
}
