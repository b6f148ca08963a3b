//! Whether two routes do the same with a path.

use std::{collections::BTreeSet, time::Duration};

use toml::{Table, Value};

use super::{facts::Facts, view::Found};

/// Difference without consequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A file of Galaxy is sent by the proxy in place of Galaxy.
    FromDisk,
    /// The proxy waits longer for Galaxy.
    Longer,
    /// Larger bodies are taken.
    Larger,
}

/// How times may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeouts {
    /// Not at all, where nginx says a time.
    Equal,
    /// They may be longer.
    AtLeast,
}

/// Keys that are compared by what they mean for the path, or by their values.
const ACTIONS: [&str; 6] = ["proxy", "files", "try", "path", "read_timeout", "max_body"];

/// Files that Galaxy serves itself where the proxy does not, below its prefix.
const GALAXYS_OWN: [&str; 3] = ["/favicon.ico", "/robots.txt", "/static/welcome.html"];

/// Compares what the route `old` does with what `new` does, both of which were found for `path`.
///
/// # Errors
///
/// The key that makes the difference.
pub fn routes(
    old: &Found<'_>,
    new: &Found<'_>,
    path: &str,
    timeouts: Timeouts,
    facts: &Facts,
) -> Result<BTreeSet<Change>, String> {
    let mut changes = BTreeSet::new();
    let (Value::Table(theirs), Value::Table(ours)) = (old.printed, new.printed) else {
        // Alternatives are compared as a whole.
        return match old.key == new.key && without_sizes(old.printed) == without_sizes(new.printed) {
            true => Ok(changes),
            false => Err("alternatives".into()),
        };
    };
    let mut ignored: Vec<&str> = ACTIONS.to_vec();
    if is_galaxys(old, path, facts) && new.is_files() && new.key.starts_with("= ") {
        changes.insert(Change::FromDisk);
        ignored.extend([
            "expires",
            "precompressed",
            "types",
            "request_headers",
            "uwsgi_params",
            "send_timeout",
        ]);
    } else {
        action(old, new)?;
    }
    if new.is_files() && new.printed.get("precompressed").is_some_and(|value| value.as_bool() == Some(true)) {
        // The same content in another coding.
        ignored.push("precompressed");
    }
    if new.key.ends_with("/api/events/stream") {
        // Event streams are not compressed by nginx either.
        ignored.push("compress");
    }
    let is_moved = old.key != new.key;
    for key in theirs.keys().chain(ours.keys()).map(String::as_str).filter(|key| !ignored.contains(key)) {
        let (their, our) = (theirs.get(key), ours.get(key));
        // The same text means another thing on another route.
        let depends =
            is_moved && key == "redirect" && their.is_some_and(|value| value.to_string().contains('{'));
        if their != our || depends {
            return Err(format!("`{key}`"));
        }
    }
    if old.text("proxy").is_some() && new.text("proxy").is_some() {
        let times = (old.settings.proxy.read_timeout, new.settings.proxy.read_timeout);
        changes.extend(waits(times, timeouts)?);
    }
    changes.extend(sizes(old, new)?);
    Ok(changes)
}

/// Whether a route lets Galaxy send a file that it has in its own directory.
fn is_galaxys(old: &Found<'_>, path: &str, facts: &Facts) -> bool {
    let is_own = path.strip_prefix(&facts.prefix).is_some_and(|path| GALAXYS_OWN.contains(&path));
    is_own && old.text("proxy") == Some(&facts.upstream) && old.path() == path
}

/// Compares servers with what they are asked for, or files.
fn action(old: &Found<'_>, new: &Found<'_>) -> Result<(), String> {
    if old.text("proxy") != new.text("proxy") {
        return Err("`proxy`".into());
    }
    if old.text("proxy").is_some() && old.path() != new.path() {
        return Err("`path`".into());
    }
    if old.is_files() != new.is_files() || old.files() != new.files() {
        return Err("`files`".into());
    }
    Ok(())
}

fn waits(
    (old, new): (Option<Duration>, Option<Duration>),
    timeouts: Timeouts,
) -> Result<Option<Change>, String> {
    let Some(old) = old else { return Ok(None) };
    match new {
        Some(new) if new == old => Ok(None),
        Some(new) if new > old && timeouts == Timeouts::AtLeast => Ok(Some(Change::Longer)),
        _ => Err("`read_timeout`".into()),
    }
}

fn sizes(old: &Found<'_>, new: &Found<'_>) -> Result<Option<Change>, String> {
    let (old, new) = (old.settings.max_body, new.settings.max_body);
    match (old, new) {
        _ if old == new => Ok(None),
        (Some(_), None) => Ok(Some(Change::Larger)),
        // The default of a Galaxy in place of that of other sites.
        (Some(old), Some(new)) if new > old => Ok(None),
        _ => Err("`max_body`".into()),
    }
}

/// A value without the size of bodies, which has another default for a Galaxy.
fn without_sizes(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(without_sizes).collect()),
        Value::Table(table) => {
            let kept = table.iter().filter(|(key, _)| *key != "max_body");
            Value::Table(kept.map(|(key, value)| (key.clone(), value.clone())).collect::<Table>())
        }
        other => other.clone(),
    }
}
