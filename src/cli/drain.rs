//! `bowshock drain` and `bowshock resume`.

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{admin, pause, status};
use crate::config::Address;

/// Pause between two queries of the requests in progress.
const INTERVAL: Duration = Duration::from_millis(250);

/// Drains a server; with `wait`, returns when its requests are finished.
pub(super) fn drain(admin: &Address, server: &str, upstream: Option<&str>, wait: bool) -> ExitCode {
    let result = admin::change(admin, &path("/drain", server, upstream));
    if !wait || result != ExitCode::SUCCESS {
        return result;
    }
    let shows_progress = std::io::stderr().is_terminal();
    loop {
        let status = match status::fetch(admin) {
            Ok(status) => status,
            Err(code) => return code,
        };
        let left = inflight(&status, server, upstream);
        if shows_progress {
            eprint!("\r{left} in flight \x1b[K{}", if left == 0 { "\n" } else { "" });
        }
        if left == 0 {
            println!("Nothing is in flight on {server}.");
            return ExitCode::SUCCESS;
        }
        pause(INTERVAL);
    }
}

/// Ends the drain of a server.
pub(super) fn resume(admin: &Address, server: &str, upstream: Option<&str>) -> ExitCode {
    admin::change(admin, &path("/resume", server, upstream))
}

fn path(action: &str, server: &str, upstream: Option<&str>) -> String {
    let quoted = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let within = upstream.map(|name| format!("&upstream={}", quoted(name))).unwrap_or_default();
    format!("{action}?server={}{within}", quoted(server))
}

/// Requests in progress on a server, or on all servers of a host name.
fn inflight(status: &Value, server: &str, upstream: Option<&str>) -> u64 {
    let upstreams = status::list(status, "upstreams");
    let within = upstreams.filter(|one| upstream.is_none_or(|name| one["name"] == name));
    let servers = within.flat_map(|upstream| status::list(upstream, "servers"));
    let selected = servers.filter(|one| one["address"] == server || one["name"] == server);
    selected.filter_map(|server| server["inflight"].as_u64()).sum()
}
