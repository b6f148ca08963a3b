//! Files of the replay: for each request to a route with files, the file that it asks for.

use std::{fs, io, path::Path};

use toml::{Table, Value};

use super::{recorder::ACCEL, requests::Request, stage::HTPASSWD};

/// An error page.
pub const PAGE: &str = "<h1>An own error page</h1>\n";

/// Creates what a configuration names below `folder`, and the files that the requests ask for.
pub fn create(folder: &Path, config: &Table, requests: &[Request]) -> io::Result<()> {
    named(folder, "", &Value::Table(config.clone()))?;
    let sites = config.get("site").and_then(Value::as_array).cloned().unwrap_or_default();
    for site in &sites {
        let Some(routes) = site.get("routes").and_then(Value::as_table) else { continue };
        for (key, value) in routes {
            let alternatives = match value {
                Value::Array(tables) => tables.clone(),
                one => vec![one.clone()],
            };
            for table in alternatives.iter().filter_map(Value::as_table) {
                for request in requests {
                    route(folder, key, table, request)?;
                }
            }
        }
    }
    Ok(())
}

/// Creates directories, pages and password files that the configuration names.
fn named(folder: &Path, key: &str, value: &Value) -> io::Result<()> {
    match value {
        Value::Table(table) => {
            for (inner, value) in table {
                let is_page = key == "errors" || inner == "page";
                named(folder, if is_page { "page" } else { inner }, value)?;
            }
        }
        Value::Array(items) => items.iter().try_for_each(|item| named(folder, key, item))?,
        Value::String(text) if text.starts_with(&*folder.to_string_lossy()) => match key {
            "page" => write(folder, text, PAGE)?,
            "htpasswd" => write(folder, text, HTPASSWD)?,
            "files" | "try" | "within" => {
                let fixed = text.split('{').next().unwrap_or_default();
                let is_whole = fixed.len() == text.len();
                let name = fixed.rsplit('/').next().unwrap_or_default();
                match is_whole {
                    true if name.contains('.') => write(folder, text, "a file\n")?,
                    true => fs::create_dir_all(fixed)?,
                    false => fs::create_dir_all(Path::new(fixed).parent().unwrap_or(folder))?,
                }
            }
            _ => {}
        },
        _ => {}
    }
    Ok(())
}

/// Creates the file of a route for a request.
fn route(folder: &Path, key: &str, table: &Table, request: &Request) -> io::Result<()> {
    let Some(files) = table.get("files").and_then(Value::as_str) else { return Ok(()) };
    let accel = request.headers.iter().find(|(name, _)| name == ACCEL).map(|(_, path)| path.as_str());
    let target = accel.unwrap_or_else(|| request.target.split('?').next().unwrap_or_default());
    let path = percent_encoding::percent_decode_str(target).decode_utf8_lossy().into_owned();
    if path.contains("missing") || path.contains("..") || path.contains('\0') {
        return Ok(());
    }
    let others = table.get("try").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut places: Vec<&str> = vec![files];
    places.extend(others.iter().filter_map(Value::as_str));
    // Some files are in the second place only.
    let place = places[path.len() % places.len()];
    if let Some(file) = file(key, place, &path, &request.host) {
        if file.ends_with('/') {
            // A file of another request may be in its place.
            let _ = fs::create_dir_all(&file);
        } else {
            write(
                folder,
                &file,
                &format!("the content of {}\n", path.rsplit('/').next().unwrap_or_default()).repeat(80),
            )?;
        }
    }
    Ok(())
}

/// The file of a route for a path.
fn file(key: &str, place: &str, path: &str, host: &str) -> Option<String> {
    let common = place.replace("{host}", host).replace("{path}", path).replace("{uri}", path);
    if let Some(exact) = key.strip_prefix("= ") {
        return (exact == path).then_some(common);
    }
    let regex = key
        .strip_prefix("~* ")
        .map(|source| (source, true))
        .or_else(|| key.strip_prefix("~ ").map(|source| (source, false)));
    if let Some((source, any_case)) = regex {
        let regex = super::super::map::compiled(source, any_case)?;
        let found = regex.captures(path)?;
        let mut file = common;
        for name in regex.capture_names().flatten() {
            file = file.replace(&format!("{{{name}}}"), found.name(name).map_or("", |one| one.as_str()));
        }
        return Some(file);
    }
    let prefix = key.trim_start_matches("^~ ").trim_end_matches('/');
    let rest = path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(format!("{}{}", common.trim_end_matches('/'), if rest.is_empty() { "/" } else { rest }))
}

/// Writes a file below the scratch directory, unless a directory is there.
fn write(folder: &Path, file: &str, content: &str) -> io::Result<()> {
    let file = Path::new(file);
    if !file.starts_with(folder) || file.is_dir() {
        return Ok(());
    }
    match file.parent().map(fs::create_dir_all) {
        // A file of another request is where a directory would have to be.
        Some(Err(_)) => Ok(()),
        _ => fs::write(file, content),
    }
}
