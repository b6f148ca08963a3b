//! Golden files: an input, a line of dashes, and the expected result. `BLESS=1` writes the current result.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;

const DASHES: &str = "\n----------\n";

/// A machine with four cores and every file but those below `/missing` and `/secret`.
struct TestMachine;

impl System for TestMachine {
    fn exists(&self, path: &Path) -> io::Result<()> {
        match path {
            path if path.starts_with("/missing") => Err(io::ErrorKind::NotFound.into()),
            path if path.starts_with("/secret") => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        match path {
            path if path.extension().is_some() => Err(io::ErrorKind::NotADirectory.into()),
            path => self.exists(path),
        }
    }

    fn writable(&self, path: &Path) -> io::Result<()> {
        self.exists(path)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.exists(path)?;
        Ok(match path.file_name().and_then(|name| name.to_str()) {
            Some("drop.txt") => {
                "; published\n192.0.2.0/24 ; one\n\n2001:db8::/32 # two\n198.51.100.7\n".into()
            }
            Some("htpasswd") => "anna:$2y$05$abc\nbob:{SHA}abc=\n".into(),
            Some("bad-htpasswd.txt") => "anna\nbob:secret\n:x\n".into(),
            Some("secret.txt") => "s3cret\n".into(),
            Some("moved.txt") => "/old /new 301\n# comment\n/a%20b https://example.org/x\n".into(),
            Some("bad-moved.txt") => "/old\nold /new\n/a /b 200\n/c new\n/d /e\n/d /f\n/g?h /i\n".into(),
            // A file with mistakes of its own, and with what another file has too.
            Some("extra.toml") => {
                "[server]\nthreads = 4\n\n[upstream.galaxy]\nservers = []\n\n[upstream.other]\nserver = []\n".into()
            }
            Some("lab.toml") => {
                "[[site]]\nhost = \"lab.example.org\"\nroutes = { \"/\" = { answer = 204 } }\n\n[upstream.other]\nservers = []\n".into()
            }
            Some("bad.txt") => format!("10.0.0.0/8\ndeny 1.2.3.4\n300.0.0.1\n{}", "x\n".repeat(9)),
            Some(name) => fs::read_to_string(samples().join(name)).unwrap_or_default(),
            None => String::new(),
        })
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(if pattern == Path::new("sites/*.toml") { vec!["sites/lab.toml".into()] } else { Vec::new() })
    }

    fn cores(&self) -> usize {
        4
    }
}

/// Files of Galaxy, whatever directory they are in on the [`TestMachine`].
fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/galaxy/samples")
}

pub(super) fn parse_here(text: &str) -> Result<Loaded, Report> {
    parse_on("bowshock.toml", text, &TestMachine)
}

/// The error report, or the warnings, or the effective configuration.
fn outcome(input: &str) -> String {
    let shown = match parse_here(input) {
        Err(report) => report.to_string(),
        Ok(Loaded { warnings: Some(report), .. }) => report.to_string(),
        Ok(Loaded { config, warnings: None }) => print(&config),
    };
    let lines: Vec<&str> = shown.trim_end().lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

/// Name, input and expected outcome of every golden file.
pub(super) fn golden() -> Vec<(String, String, String)> {
    let directory = Path::new(file!()).with_file_name("golden");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let (input, expected) = text.split_once(DASHES).unwrap_or((text.trim_end(), ""));
        (file.display().to_string(), input.to_owned() + "\n", expected.to_owned())
    };
    files.iter().map(read).collect()
}

/// Lines that stay, go (`-`) and come (`+`), without the common lines at both ends.
pub(super) fn diff(expected: &str, found: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old[same..].iter().rev().zip(new[same..].iter().rev());
    let tail = rest.take_while(|(old, new)| old == new).count();
    let mut text = format!("  (line {})\n", same + 1);
    old[same..old.len() - tail].iter().for_each(|line| writeln!(text, "- {line}").unwrap());
    new[same..new.len() - tail].iter().for_each(|line| writeln!(text, "+ {line}").unwrap());
    text
}

#[test]
fn golden_files() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differences = String::new();
    for (file, input, expected) in golden() {
        let found = outcome(&input);
        if found != expected && bless {
            fs::write(&file, format!("{}{DASHES}{found}", input.trim_end())).unwrap();
        } else if found != expected {
            writeln!(differences, "{file}\n{}", diff(&expected, &found)).unwrap();
        }
    }
    assert!(differences.is_empty(), "\n{differences}BLESS=1 takes what is found as expected");
}

#[test]
fn what_is_printed_reads_the_same() {
    let mut read = 0;
    for (file, input, _) in golden() {
        let Ok(Loaded { config, .. }) = parse_here(&input) else { continue };
        let printed = print(&config);
        let again = parse_here(&printed).unwrap_or_else(|report| panic!("{file}\n{printed}\n{report}"));
        assert_eq!(print(&again.config), effective(&config), "{file}");
        read += 1;
    }
    assert!(read >= 5, "only {read} golden files are good");
}

#[test]
fn unreadable_and_bad_files_differ() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bowshock.toml");
    let error = load(&file, &TestMachine).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("bowshock.toml") && error.to_string().contains("-c FILE"), "{error}");

    fs::write(&file, b"[[site]]\nhost = \"b\xfccher.example\"\n").unwrap();
    let error = load(&file, &TestMachine).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("bowshock.toml:2:10"), "{error}");

    fs::write(&file, "[[site]]\nroutes = { \"/\" = { files = \"/missing/at/all\" } }\n").unwrap();
    let error = load(&file, &TestMachine).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("does not exist"), "{error}");

    fs::write(&file, "[[site]]\nroutes = { \"/\" = { answer = 404 } }\n").unwrap();
    let loaded = load(&file, &TestMachine).unwrap();
    assert!(loaded.warnings.is_none() && loaded.config.server.threads > 0);
}

#[test]
fn colours_only_when_wanted() {
    let report = parse_here("nonsense = 1").unwrap_err();
    assert_eq!(report.errors(), 1);
    assert!(!report.render(false).contains('\x1b'));
    assert!(report.render(true).contains('\x1b'));
}

#[test]
fn very_many_mistakes_are_counted_and_not_all_drawn() {
    let text: String = (0..500).map(|number| format!("wrong{number} = 1\n")).collect();
    let report = parse_here(&text).unwrap_err();
    assert_eq!(report.errors(), 500);
    assert!(report.to_string().contains("(450 more are not shown)"));
}

/// What is printed, without the reasons for routes that the file did not have itself.
fn effective(config: &Config) -> String {
    print(config).lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

/// Checks that any text gives a result that can be drawn, and that a valid one can be printed and read again.
fn survives(text: &str) {
    match parse_here(text) {
        Err(report) => assert!(report.errors() > 0 && !report.render(true).is_empty()),
        Ok(loaded) => {
            let printed = print(&loaded.config);
            let again = parse_here(&printed).unwrap_or_else(|report| panic!("{text}\n{printed}\n{report}"));
            assert_eq!(print(&again.config), effective(&loaded.config));
            loaded
                .warnings
                .iter()
                .for_each(|report| assert!(report.warnings() > 0 && !report.render(true).is_empty()));
        }
    }
}

fn any_golden_input() -> impl Strategy<Value = String> {
    let inputs: Vec<String> = golden().into_iter().map(|(_, input, _)| input).collect();
    prop::sample::select(inputs)
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_toml_of_our_words_panics(
        table in "\\[?\\[(server|admin|log|listen|site|site\\.routes|upstream|upstream\\.x)\\]\\]?",
        lines in prop::collection::vec(
            (
                concat!(
                    "(host|listen|address|trust|mode|servers|hold|max_body|level|access|health",
                    "|\"/\"|\"~ \\(\\?<a>.\\)\")",
                ),
                concat!(
                    "(\"\\PC{0,12}\"|-?[0-9]{1,22}|true|\\[\\]|\\[\"\\PC{0,8}\", 1\\]",
                    "|\\{(proxy|files|redirect|answer) = (\"\\PC{0,12}\"|[0-9]{3})\\})",
                ),
            ),
            0..6,
        ),
    ) {
        let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        survives(&format!("{table}\n{lines}"));
    }

    #[test]
    fn no_damaged_file_panics(
        input in any_golden_input(),
        at in any::<prop::sample::Index>(),
        cut in 0..12_usize,
        put in "\\PC{0,3}|[\"'\\[\\]{}=\n\\\\~,.0é\u{301}]{0,4}",
    ) {
        let chars: Vec<char> = input.chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        let (before, after) = (&chars[..at], &chars[end..]);
        let text: String = before.iter().copied().chain(put.chars()).chain(after.iter().copied()).collect();
        survives(&text);
    }
}
