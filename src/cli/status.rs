//! `bowshock status`: the servers of the running proxy as a table.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;

use super::{UNREACHABLE, admin, pause};
use crate::config::Address;

/// Prints the status of the running proxy.
pub(super) fn show(admin: &Address, json: bool) -> ExitCode {
    let shown = if json { body(admin) } else { fetch(admin).map(|status| table(&status)) };
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Pause between two updates.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints the status repeatedly, until interrupted or the proxy is gone.
pub(super) fn watch(admin: &Address) -> ExitCode {
    let on_terminal = std::io::stdout().is_terminal();
    loop {
        let text = match fetch(admin) {
            Ok(status) => table(&status),
            Err(code) => return code,
        };
        // On a terminal each status replaces the one before.
        let shown = if on_terminal { format!("\x1b[H\x1b[2J{text}") } else { text + "\n" };
        if write!(std::io::stdout(), "{shown}").and_then(|()| std::io::stdout().flush()).is_err() {
            // The reader has closed the pipe.
            return ExitCode::SUCCESS;
        }
        pause(INTERVAL);
    }
}

fn body(admin: &Address) -> Result<String, ExitCode> {
    match admin::ask(admin, "GET", "/status.json") {
        Ok((200, body)) => Ok(body),
        Ok((code, body)) => {
            eprintln!("bowshock: the admin listener returned {code}: {body}");
            Err(ExitCode::from(UNREACHABLE))
        }
        Err(error) => Err(admin::unreachable(admin, &error)),
    }
}

/// Status of the running proxy. An error is printed, and its exit code returned.
pub(super) fn fetch(admin: &Address) -> Result<Value, ExitCode> {
    serde_json::from_str(&body(admin)?).map_err(|error| {
        eprintln!("bowshock: cannot parse the response of the admin listener: {error}");
        ExitCode::from(UNREACHABLE)
    })
}

/// Formats one line per server, with aligned columns.
fn table(status: &Value) -> String {
    let mut notes = String::new();
    let mut rows =
        vec![["UPSTREAM", "SERVER", "STATE", "IN FLIGHT", "STREAMS", "WEIGHT", "WAITING"].map(String::from)];
    for upstream in list(status, "upstreams") {
        let waiting = text(upstream, "waiting");
        notes.extend(hint(upstream));
        for server in list(upstream, "servers") {
            let backup = server["backup"].as_bool().unwrap_or_default();
            let state = text(server, "state") + if backup { " (backup)" } else { "" };
            let inflight = match &server["max_requests"] {
                Value::Null => text(server, "inflight"),
                most => format!("{}/{most}", text(server, "inflight")),
            };
            let weight = text(server, "weight");
            let address = match server["name"].as_str().filter(|name| server["address"] != *name) {
                Some(name) => format!("{} ({name})", text(server, "address")),
                None => text(server, "address"),
            };
            if let (Some(reason), true) = (server["reason"].as_str(), server["state"] == "failing") {
                notes += &format!("{address} of {} is failing: {reason}\n", text(upstream, "name"));
            }
            let streams = text(server, "streams");
            rows.push([text(upstream, "name"), address, state, inflight, streams, weight, waiting.clone()]);
        }
    }
    let mut table = format!("bowshock {}, process {}\n", text(status, "version"), text(status, "pid"));
    for listener in list(status, "listeners") {
        let (address, open) = (text(listener, "address"), text(listener, "connections"));
        table +=
            &format!("listening on {address}: {open} connections, {} active\n", text(listener, "active"));
    }
    if let Some(error) = status["config"]["error"].as_str() {
        table += &format!("\nthe last reload failed, the previous configuration stays in effect:\n{error}\n");
    }
    if !notes.is_empty() {
        notes.insert(0, '\n');
    }
    table + "\n" + &aligned(&rows) + &notes
}

/// Advice on the queue of an upstream.
fn hint(upstream: &Value) -> Option<String> {
    let (name, waiting) = (text(upstream, "name"), text(upstream, "waiting"));
    match upstream["waiting_for"].as_str()? {
        "servers" => Some(format!("{waiting} requests wait at {name} because no server is available\n")),
        _ => Some(format!(
            "{waiting} requests wait at {name} because every server has as many requests as max_requests allows: if \
             workers have free slots, raise it\n"
        )),
    }
}

fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// The items of a list.
pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_lined_up() {
        let server = |address: &str, state: &str, inflight: u32, max: Option<u32>| {
            serde_json::json!({
                "address": address, "name": null, "reason": (state == "failing").then_some("refused"), "state": state, "inflight": inflight, "streams": 7, "weight": 1, "backup": false,
                "max_requests": max,
            })
        };
        let status = serde_json::json!({
            "version": "0.1.0", "pid": 7,
            "listeners": [{ "address": "127.0.0.1:8080", "connections": 3, "active": 1 }],
            "upstreams": [{ "name": "galaxy", "waiting": 2, "waiting_for": "places", "servers": [
                server("unix:/run/gunicorn0.sock", "up", 4, Some(4)), server("unix:/b", "failing", 0, None),
            ] }],
            "config": { "error": null },
        });
        assert_eq!(
            table(&status),
            "bowshock 0.1.0, process 7\n\
             listening on 127.0.0.1:8080: 3 connections, 1 active\n\
             \n\
             UPSTREAM  SERVER                    STATE    IN FLIGHT  STREAMS  WEIGHT  WAITING\n\
             galaxy    unix:/run/gunicorn0.sock  up       4/4        7        1       2\n\
             galaxy    unix:/b                   failing  0          7        1       2\n\
             \n\
             2 requests wait at galaxy because every server has as many requests as max_requests allows: if workers \
             have free slots, raise it\n\
             unix:/b of galaxy is failing: refused\n"
        );
    }
}
