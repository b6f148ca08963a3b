//! `bowshock status`: the servers of the running proxy as a table.

use std::process::ExitCode;

use serde_json::Value;

use super::{UNREACHABLE, admin};
use crate::config::Address;

/// Prints the status of the running proxy.
pub(super) fn show(admin: &Address, json: bool) -> ExitCode {
    let body = match admin::ask(admin, "GET", "/status.json") {
        Ok((200, body)) => body,
        Ok((code, body)) => {
            eprintln!("bowshock: the proxy answers {code}: {body}");
            return ExitCode::from(UNREACHABLE);
        }
        Err(error) => return admin::unreachable(admin, &error),
    };
    if json {
        print!("{body}");
        return ExitCode::SUCCESS;
    }
    match serde_json::from_str(&body) {
        Ok(status) => {
            print!("{}", table(&status));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bowshock: the proxy's answer cannot be read: {error}");
            ExitCode::from(UNREACHABLE)
        }
    }
}

/// One line per server, columns aligned.
fn table(status: &Value) -> String {
    let mut rows = vec![["UPSTREAM", "SERVER", "STATE", "IN FLIGHT", "WEIGHT", "WAITING"].map(String::from)];
    for upstream in list(status, "upstreams") {
        let waiting = text(upstream, "waiting");
        for server in list(upstream, "servers") {
            let backup = server["backup"].as_bool().unwrap_or_default();
            let state = text(server, "state") + if backup { " (backup)" } else { "" };
            let inflight = match &server["max_requests"] {
                Value::Null => text(server, "inflight"),
                most => format!("{}/{most}", text(server, "inflight")),
            };
            let weight = text(server, "weight");
            rows.push([
                text(upstream, "name"),
                text(server, "address"),
                state,
                inflight,
                weight,
                waiting.clone(),
            ]);
        }
    }
    let mut table = format!("bowshock {}, process {}\n", text(status, "version"), text(status, "pid"));
    for listener in list(status, "listeners") {
        let (address, open) = (text(listener, "address"), text(listener, "connections"));
        table +=
            &format!("listening on {address}: {open} connections, {} active\n", text(listener, "active"));
    }
    if let Some(error) = status["config"]["error"].as_str() {
        table += &format!(
            "\nthe last reload was refused, and the configuration before it is in effect:\n{error}\n"
        );
    }
    table + "\n" + &aligned(&rows)
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

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
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
                "address": address, "state": state, "inflight": inflight, "weight": 1, "backup": false,
                "max_requests": max,
            })
        };
        let status = serde_json::json!({
            "version": "0.1.0", "pid": 7,
            "listeners": [{ "address": "127.0.0.1:8080", "connections": 3, "active": 1 }],
            "upstreams": [{ "name": "galaxy", "waiting": 2, "servers": [
                server("unix:/run/gunicorn0.sock", "up", 4, Some(4)), server("unix:/b", "failing", 0, None),
            ] }],
            "config": { "error": null },
        });
        assert_eq!(
            table(&status),
            "bowshock 0.1.0, process 7\n\
             listening on 127.0.0.1:8080: 3 connections, 1 active\n\
             \n\
             UPSTREAM  SERVER                    STATE    IN FLIGHT  WEIGHT  WAITING\n\
             galaxy    unix:/run/gunicorn0.sock  up       4/4        1       2\n\
             galaxy    unix:/b                   failing  0          1       2\n"
        );
    }
}
