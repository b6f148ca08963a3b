//! The tables of a file, and where each may stand.

use super::Keys;
use crate::config::file::TOP;

/// A table, and the paths of keys that lead to it, such as `upstream.health`.
pub struct Place {
    /// The table.
    pub keys: &'static Keys,
    /// The paths; empty at the top of the file.
    pub paths: Vec<String>,
}

/// Every table once, in the order of the reference.
pub fn tables() -> Vec<Place> {
    let mut places = Vec::new();
    visit(&TOP, "", &mut places);
    places
}

fn visit(keys: &'static Keys, path: &str, places: &mut Vec<Place>) {
    match places.iter_mut().find(|place| std::ptr::eq(place.keys, keys)) {
        Some(place) => place.paths.push(path.into()),
        None => places.push(Place { keys, paths: vec![path.into()] }),
    }
    for key in keys.iter() {
        for table in key.shape().tables() {
            visit(table, &joined(path, key.name()), places);
        }
    }
}

/// The path of a key in the table at `path`.
fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// Unique name of the table: letters of its title.
pub fn slug(keys: &Keys) -> String {
    let words = keys.title.replace("a route", "route");
    let words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}
