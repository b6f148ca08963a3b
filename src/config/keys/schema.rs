//! `bowshock schema`: the language as JSON Schema (2020-12), for editors.

use serde_json::{Map, Value as Json, json};

use super::{Absent, Described, Keys, tree};

/// JSON Schema of a file. It accepts some files that `bowshock check` refuses.
pub fn schema() -> Json {
    let mut tables = tree::tables().into_iter().map(|place| place.keys);
    let Some(top) = tables.next() else { return Json::Null };
    let definitions: Map<String, Json> = tables.map(|keys| (tree::slug(keys), table(keys))).collect();
    let mut schema = table(top);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "bowshock configuration".into();
    schema["$defs"] = definitions.into();
    schema
}

fn table(keys: &Keys) -> Json {
    let properties: Map<String, Json> = keys.iter().map(|key| (key.name().into(), property(key))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.absent() == Absent::Refused).map(Described::name).collect();
    let mut table = json!({
        "type": "object",
        "description": keys.about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let one_of: Vec<Json> = keys.one_of().iter().map(|key| json!({ "required": [key.name()] })).collect();
    if !one_of.is_empty() {
        table["oneOf"] = one_of.into();
    }
    table
}

fn property(key: &dyn Described) -> Json {
    let mut property = key.shape().schema();
    property["description"] = key.about().into();
    if let Absent::Value(value) = key.absent()
        && let Some(value) = json_of(&value)
    {
        property["default"] = value;
    }
    if let Some(value) = json_of(key.example_value()) {
        property["examples"] = json!([value]);
    }
    property
}

/// Converts a TOML value to JSON.
fn json_of(value: &str) -> Option<Json> {
    let table: toml::Table = format!("value = {value}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}
