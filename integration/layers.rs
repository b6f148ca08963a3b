//! The order of the modules: each imports only modules below it.

use std::{collections::BTreeSet, fs, path::Path};

use regex::Regex;

/// The modules of `src/`, from the bottom to the top. A module may import those before it.
const ORDER: &[&str] = &[
    "notify",
    "clock",
    "bulkhead",
    "net",
    "message",
    "config",
    "route",
    "observe",
    "response",
    "compress",
    "files",
    "tls",
    "acme",
    "machine",
    "listen",
    "client",
    "downstream",
    "upstream",
    "limits",
    "auth",
    "cache",
    "tools",
    "site",
    "state",
    "exchange",
    "admin",
    "service",
    "server",
    "demo",
    "convert",
    "cli",
    "benching",
    "fuzzing",
];

/// The modules that `text` names by `crate::`, with the lines that do.
fn imports(text: &str) -> Vec<(usize, String)> {
    let comment = Regex::new("//.*").unwrap();
    let text = comment.replace_all(text, "");
    let named = Regex::new(r"crate::(\w+)").unwrap();
    let grouped = Regex::new(r"use crate::\{([^;]*)\};").unwrap();
    let line = |at: usize| 1 + text[..at].matches('\n').count();
    let mut found: Vec<_> = named
        .captures_iter(&text)
        .map(|one| (line(one.get(0).unwrap().start()), one[1].to_owned()))
        .collect();
    for group in grouped.captures_iter(&text) {
        let start = line(group.get(0).unwrap().start());
        let mut depth = 0;
        let mut item = String::new();
        for sign in group[1].chars().chain([',']) {
            match sign {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let name: String =
                        item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    found.extend((!name.is_empty()).then_some((start, name)));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(sign);
        }
    }
    found
}

/// The source without its unit tests, which may look at anything.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|name| name.to_str()) {
            // Files of unit tests alone.
            Some("tests.rs" | "tests" | "simulation.rs" | "properties.rs" | "panics.rs") => {}
            _ if path.is_dir() => sources(&path, found),
            Some(name) if name.ends_with(".rs") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn a_module_imports_only_modules_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for file in files {
        let within = file.strip_prefix(&root).unwrap();
        let first = within.iter().next().unwrap().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        if matches!(module, "lib" | "main") {
            continue;
        }
        seen.insert(module.to_owned());
        let Some(own) = place(module) else {
            wrong.push(format!(
                "src/{first} has no place in ORDER of {}: write it above all that it imports",
                file!()
            ));
            continue;
        };
        for (line, other) in imports(without_tests(&fs::read_to_string(&file).unwrap())) {
            if place(&other).is_some_and(|other| other > own) {
                let at = within.display();
                wrong.push(format!(
                    "src/{at}:{line}: `{module}` imports `{other}`, which is above it. Move what both need into a module \
                     below `{module}`, or pass it as a parameter from above"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let gone: Vec<_> = ORDER.iter().filter(|module| !seen.contains(**module)).collect();
    assert!(gone.is_empty(), "ORDER names modules that src/ does not have: {gone:?}");
}
