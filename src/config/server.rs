//! `[server]`: settings of the process.

use std::{net::SocketAddr, time::Duration};

use super::{
    address,
    diagnostic::Problem,
    model::Server,
    paths,
    read::{SERVER, Value, integer, text},
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
    }
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
