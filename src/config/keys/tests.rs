//! Help, schema, reference and `print` agree with what is read.

use std::{collections::BTreeSet, env, fs, path::Path};

use super::*;
use crate::config::{
    file::TOP,
    print,
    tests::{diff, golden, parse_here},
};

/// Completes an example to a whole file: with the required keys of its table, a site, and the tables it refers to.
fn completed(keys: &Keys, key: &dyn Described) -> String {
    let mut example = key.example().to_owned();
    let in_braces = keys.place.contains('{');
    let needed = keys.iter().filter(|other| other.absent() == Absent::Refused && !std::ptr::eq(keys, &TOP));
    for other in needed {
        if !example.contains(&format!("{} = ", other.name())) {
            example = format!("{}{}{example}", other.example(), if in_braces { ", " } else { "\n" });
        }
    }
    let mut text = keys.example(key).replacen(key.example(), &example, 1);
    if text.starts_with("[site.galaxy]") && !text.contains("config =") && !text.contains("upstream =") {
        text.push_str("\nconfig = \"/srv/galaxy/config/galaxy.yml\"");
    }
    if text.starts_with("[site.") {
        text.insert_str(0, "[[site]]\n");
    }
    let has_routes = ["routes", "galaxy =", ".galaxy]"].iter().any(|word| text.contains(word));
    if text.starts_with("[[site]]") && !has_routes {
        text.push_str("\nroutes = { \"/\" = { answer = 204 } }");
    }
    if !text.contains("[[site]]") {
        let tls = if text.contains("tls = true") { "tls = { acme = \"admin@example.org\" }" } else { "" };
        let site = format!("host = \"galaxy.example.org\"\n{tls}\nroutes = {{ \"/\" = {{ answer = 204 }} }}");
        text.push_str(&format!("\n[[site]]\n{site}"));
    }
    if text.contains("\"pages\"") {
        text.push_str("\n[cache.pages]\nmemory = \"64m\"");
    }
    if text.contains("\"api\"") {
        text.push_str("\n[limit.api]\nkey = \"address\"\nrate = \"8r/s\"");
    }
    if text.contains("proxy = \"galaxy\"") || text.contains("request = \"galaxy\"") {
        text.push_str("\n[upstream.galaxy]\nservers = []");
    }
    for upstream in ["tusd", "tools", "reports"] {
        if text.contains(&format!(" = \"{upstream}\"")) {
            text.push_str(&format!("\n[upstream.{upstream}]\nservers = []"));
        }
    }
    text + "\n"
}

fn every_key() -> impl Iterator<Item = (&'static Keys, &'static dyn Described)> {
    tree::tables().into_iter().flat_map(|place| place.keys.iter().map(move |key| (place.keys, key)))
}

/// Also fails for a key that is described but never read, as it is then reported as unknown.
#[test]
fn every_example_is_a_good_configuration() {
    let mut wrong = String::new();
    for (keys, key) in every_key() {
        let text = completed(keys, key);
        if let Err(report) = parse_here(&text) {
            wrong.push_str(&format!("`{}` of {}\n{text}\n{report}\n", key.name(), keys.title));
        }
        if !std::ptr::eq(keys, &TOP)
            && format!("value = {}", key.example_value()).parse::<toml::Table>().is_err()
        {
            wrong.push_str(&format!(
                "the example of `{}` of {} does not end with it\n",
                key.name(),
                keys.title
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_key_is_listed_once_and_described_in_sentences() {
    for place in tree::tables() {
        let mut names = BTreeSet::new();
        for key in place.keys.iter() {
            let name = format!("`{}` of {}", key.name(), place.keys.title);
            assert!(names.insert(key.name()), "{name} stands there twice");
            assert!(!place.keys.later.contains(&key.name()), "{name} is there and announced for later");
            assert!(key.about().ends_with('.') && !key.about().contains("  "), "{name}: {:?}", key.about());
        }
        assert!(place.keys.about.ends_with('.') && place.keys.place.contains('…'), "{:?}", place.keys);
    }
    let tables = tree::tables();
    let slugs: BTreeSet<String> = tables.iter().map(|place| tree::slug(place.keys)).collect();
    assert_eq!(slugs.len(), tables.len(), "two tables have one name: {slugs:?}");
}

/// Collects the keys of a value of this form.
fn keys_in(shape: &Shape, value: &toml::Value, found: &mut BTreeSet<(&'static str, &'static str)>) {
    match (shape, value) {
        (Shape::Table(keys), toml::Value::Table(table)) => {
            for (name, value) in table {
                let Some(key) = keys.find(name) else {
                    panic!("`{name}` of {} is shown and not described", keys.title)
                };
                found.insert((keys.title, key.name()));
                keys_in(&key.shape(), value, found);
            }
        }
        (Shape::Map { values, .. }, toml::Value::Table(table)) => {
            table.values().for_each(|value| keys_in(values, value, found));
        }
        (Shape::List(of), toml::Value::Array(items)) => {
            items.iter().for_each(|item| keys_in(of, item, found));
        }
        (Shape::Either(forms), _) => forms.iter().for_each(|form| keys_in(form, value, found)),
        _ => {}
    }
}

/// Keys that `print` shows elsewhere, at the place where they take effect.
const ELSEWHERE: [(&str, &str); 19] = [
    // As the routes and the upstream that come of it.
    ("`[[site]]`", "galaxy"),
    ("`[site.galaxy]`", "config"),
    ("`[site.galaxy]`", "instance"),
    ("`[site.galaxy]`", "root"),
    ("`[site.galaxy]`", "upstream"),
    ("`[site.galaxy]`", "data"),
    ("`[site.galaxy]`", "prefix"),
    ("`[site.galaxy]`", "uploads"),
    ("`[site.galaxy]`", "interactive_tools"),
    ("`[site.galaxy]`", "reports"),
    ("`[site.galaxy]`", "welcome"),
    ("the file's top level", "include"),
    ("`[[site]]`", "request_headers"),
    ("`[[site]]`", "max_body"),
    ("`[[site]]`", "allow"),
    ("`[[site]]`", "deny"),
    ("`[[site]]`", "limits"),
    ("`[[site]]`", "compress"),
    ("`[upstream.NAME]`", "max_requests"),
];

#[test]
fn print_shows_every_key() {
    let mut shown = BTreeSet::new();
    for (_, input, _) in golden() {
        let Ok(loaded) = parse_here(&input) else { continue };
        let printed: toml::Table = print(&loaded.config).parse().unwrap();
        keys_in(&Shape::Table(&TOP), &printed.into(), &mut shown);
    }
    let described: BTreeSet<_> = every_key().map(|(keys, key)| (keys.title, key.name())).collect();
    let missing: Vec<_> = described.difference(&shown).filter(|key| !ELSEWHERE.contains(key)).collect();
    assert!(
        missing.is_empty(),
        "`print` does not show {missing:?}: add them to `show` or `pairs` of their table, and a golden file with them"
    );
    let twice: Vec<_> =
        ELSEWHERE.iter().filter(|key| shown.contains(*key) || !described.contains(*key)).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// A validator of the schema.
struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("bowshock.json", schema()).unwrap();
        let index = compiler.compile("bowshock.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let table: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
        let json = serde_json::to_value(table).unwrap();
        self.schemas.validate(&json, self.index).map_err(|error| format!("{error:#}"))
    }
}

/// Valid files with their names: examples, pages of the documentation, golden files and their printed form.
fn good_files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |folder: &str, end: &str| -> Vec<(String, String)> {
        let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == end));
        files.map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
    };
    let mut files = read("conf", "toml");
    let pages = read("docs/src", "md").into_iter().chain(read(".", "md"));
    for (page, text) in pages {
        let blocks = text.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap());
        files.extend(blocks.map(|block| (page.clone(), whole(block))));
    }
    for (file, input, _) in golden() {
        let Ok(loaded) = parse_here(&input) else { continue };
        files.push((file.clone(), input));
        files.push((format!("{file}, printed"), print(&loaded.config)));
    }
    files.extend(every_key().map(|(keys, key)| (format!("example of {}", key.name()), completed(keys, key))));
    files
}

/// A piece of a file, with a site and routes.
fn whole(block: &str) -> String {
    let first = block.lines().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let start = if first.starts_with(['"', '\'']) { "[[site]]\n[site.routes]\n" } else { "" };
    let mut text = format!("{start}{block}");
    if !text.contains("[[site]]") {
        text.push_str("\n[[site]]\n");
    }
    if !text.contains("[site.routes]") && !text.contains("[site.galaxy]") {
        text.push_str("\n[site.routes]\n");
    }
    text
}

#[test]
fn the_schema_accepts_what_is_good() {
    let validator = Validator::new();
    let files = good_files();
    assert!(files.len() > 100);
    for (name, text) in files {
        if let Err(error) = validator.check(&text) {
            panic!("{name}: {error}\n{text}");
        }
    }
}

#[test]
fn the_schema_refuses_unknown_keys_and_wrong_types() {
    let validator = Validator::new();
    let good = "[server]\ngrace = \"30s\"\nthreads = 4\n[log]\nlevel = \"info\"\n[[site]]\n[site.routes]\n\
                \"/\" = { proxy = \"a\", retry = { unsafe = true } }\n[upstream.a]\nservers = [\"a:80\"]\n";
    validator.check(good).unwrap();
    for (right, wrong) in [
        ("grace =", "grcae ="),
        ("[server]", "[sever]"),
        ("unsafe =", "unsave ="),
        ("proxy =", "prxy ="),
        ("\"30s\"", "30"),
        ("\"30s\"", "\"30 seconds\""),
        ("= 4", "= \"4\""),
        ("= 4", "= 4000"),
        ("\"info\"", "\"information\""),
        ("= true", "= \"true\""),
        ("[\"a:80\"]", "\"a:80\""),
        ("servers = [\"a:80\"]", "hold = \"1m\""),
    ] {
        let text = good.replace(right, wrong);
        assert_ne!(text, good);
        assert!(validator.check(&text).is_err(), "{text}");
    }
}

#[test]
fn the_reference_is_that_of_this_version() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/reference.md");
    let (expected, found) = (fs::read_to_string(&file).unwrap_or_default(), reference());
    if env::var_os("BLESS").is_some() {
        fs::write(&file, found).unwrap();
    } else {
        assert!(
            expected == found,
            "\n{}\n`bowshock help --markdown > docs/src/reference.md` (or this test with BLESS=1) writes it anew",
            diff(&expected, &found)
        );
    }
}

#[test]
fn help_finds_keys_and_tables() {
    let hold = help("hold").unwrap();
    assert!(
        hold.contains("hold, a key of a route") && hold.contains("hold, a key of [upstream.NAME]"),
        "{hold}"
    );
    assert!(hold.contains("  default  \"5m\"") && hold.contains("    hold = \"10m\""), "{hold}");
    let hold = help("upstream.hold").unwrap();
    assert!(!hold.contains("a route") && hold.contains("[upstream.NAME]"), "{hold}");
    assert_eq!(help("[upstream.NAME].hold").unwrap(), hold);
    for (word, part) in [
        ("upstream", "max_response_head"),
        ("[upstream.NAME]", "Keys of [upstream.NAME]"),
        ("[[site]]", "redirect_https"),
        ("[site.routes]", "limit_rate_after"),
        ("route", "limit_rate_after"),
        ("route.hold", "a key of a route"),
        ("upstream.health.every", "health of [upstream.NAME]"),
        ("health.every", "health of [upstream.NAME]"),
        ("server.http2", "max_resets"),
        ("cert", "a key of tls"),
        ("allow", "[[site]] and of a route"),
    ] {
        let text = help(word).unwrap_or_else(|error| panic!("{word}: {error}"));
        assert!(text.contains(part), "{word}:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{word}:\n{text}");
    }
}

#[test]
fn help_suggests_what_was_meant() {
    let error = |word: &str| help(word).unwrap_err().to_string();
    assert_eq!(error("holt"), "there is no key `holt`; did you mean `host` or `hold`?");
    assert!(error("upstream.holt").contains("`hold`"));
    assert!(error("proxy_read_timeout").contains("`read_timeout`"));
    assert!(error("upload_store").contains("not available in this version"));
    assert!(error("colour_of_the_sky").contains("`server`"));
}
