//! The reference page of the documentation, in Markdown.

use super::{Absent, Described, Keys, help::wrap, tree};

const INTRODUCTION: &str = "\
<!-- Written by `bowshock help --markdown`: change the descriptions in src/config, not this page. -->

# Keys of the configuration

Every table of the file (TOML 1.0), and every key in it. `bowshock help KEY` prints the same in a terminal, `bowshock print`
the effective configuration with all defaults, and `bowshock schema` a JSON Schema for editors. An unknown key is an error,
never ignored.
";

/// Columns of a line, as in the other pages.
const WIDTH: usize = 120;

/// Writes the page.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for place in tree::tables().iter().filter(|place| place.paths.iter().all(|path| !path.is_empty())) {
        page.push_str(&table(place.keys));
    }
    page
}

fn table(keys: &'static Keys) -> String {
    let mut text = format!("\n## {}\n\n{}", heading(keys.title), wrap(keys.about, "", "", WIDTH));
    for key in keys.iter() {
        text.push_str(&entry(keys, key));
    }
    if !keys.later.is_empty() {
        let later: Vec<String> = keys.later.iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("\nNot available in this version: {}.\n", later.join(", ")));
    }
    text
}

/// The title, with a capital where it begins with a word.
fn heading(title: &str) -> String {
    let mut rest = title.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

fn entry(keys: &Keys, key: &dyn Described) -> String {
    let default = match key.absent() {
        Absent::Value(value) => format!("`{value}`"),
        other => other.words(keys),
    };
    format!(
        "\n### `{}`\n\n- Type: {}\n- Default: {default}\n\n{}\n{}\n",
        key.name(),
        key.shape().words(),
        wrap(key.about(), "", "", WIDTH),
        example(keys, key)
    )
}

/// Formats an example: inline when it is one line, without the piece of file around it.
fn example(keys: &Keys, key: &dyn Described) -> String {
    let whole = keys.example(key);
    let above = keys.place.rfind('\n').map_or(0, |end| end + 1);
    match whole.get(above..) {
        Some(line) if !line.contains('\n') => format!("Example: `{line}`"),
        _ => format!("```toml,ignore\n{whole}\n```"),
    }
}
