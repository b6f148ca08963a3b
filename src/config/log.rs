//! `[log]`: the process log and the access log.

use std::path::PathBuf;

use super::{
    diagnostic::{self, Problem},
    keys::{
        Defaulted, Is, Key, Keys, Needed, Required, Shape, TextShape,
        kind::{Of, Shaped, Words},
    },
    paths,
    print::{Out, Pairs, path, quote, word},
    read::{Context, Table, Value},
};

/// `[log]`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Least severe level that is logged.
    pub level: Level,
    /// Format of messages on standard error.
    pub format: LogFormat,
    /// The access log; `None` turns it off.
    pub access: Option<AccessLog>,
}

/// `log.level`, from most to least severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Failures that an operator must act on.
    Error,
    /// Also conditions that an operator should know of.
    Warn,
    /// Also the events of the process as a whole.
    Info,
    /// Also the events of single requests.
    Debug,
    /// Also all other events.
    Trace,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines of text.
    Text,
    /// Lines of JSON.
    Json,
}

/// `log.access`
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Target of the lines.
    pub to: AccessTarget,
    /// Format of a line.
    pub format: AccessFormat,
}

/// Target of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// Format of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// The combined format of Apache and nginx.
    Combined,
    /// JSON, one object per line.
    Json,
}

/// The keys of `[log]`.
pub static KEYS: Keys = Keys {
    title: "`[log]`",
    place: "[log]\n…",
    about: "The log of the process on standard error, and the access log.",
    groups: &[&[&LEVEL, &FORMAT, &ACCESS]],
    later: &[],
};

static LEVEL: Defaulted<Words<Level>> = Key {
    name: "level",
    kind: Words(&[
        ("info", Level::Info),
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ]),
    default: Is(|| Level::Info),
    about: "Least severe level that is logged. `\"debug\"` logs the steps of single requests.",
    example: "level = \"debug\"",
};

static FORMAT: Defaulted<Words<LogFormat>> = Key {
    name: "format",
    kind: Words(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    default: Is(|| LogFormat::Text),
    about: "Lines of text, or one JSON object a line for a log collector. A change takes effect at a restart.",
    example: "format = \"json\"",
};

static ACCESS: Defaulted<Of<Option<AccessLog>>> = Key {
    name: "access",
    kind: Of {
        shape: || Shape::Either(vec![Shape::Text(TARGET), Shape::Table(&ACCESS_KEYS)]),
        read: access,
        show: show_access,
    },
    default: Is(|| None),
    about: "The access log, one line a request: a file, which is appended to, `\"stdout\"` or `\"off\"`. SIGUSR1 and \
            a reload reopen the file.",
    example: "access = \"/var/log/bowshock/access.log\"",
};

/// The keys of `log.access`.
static ACCESS_KEYS: Keys = Keys {
    title: "`access` of `[log]`",
    place: "[log]\naccess = { … }",
    about: "The access log with a format of its own.",
    groups: &[&[&TO, &ACCESS_FORMAT]],
    later: &[],
};

static TO: Required<Shaped> = Key {
    name: "to",
    kind: Shaped(|| Shape::Text(TARGET)),
    default: Needed,
    about: "Target of the lines: a file, `\"stdout\"` or `\"off\"`.",
    example: "to = \"/var/log/bowshock/access.log\"",
};

static ACCESS_FORMAT: Defaulted<Of<AccessFormat>> = Key {
    name: "format",
    kind: Of {
        shape: || Shape::Words(ACCESS_FORMATS.iter().map(|(word, _)| *word).collect()),
        read: access_format,
        show: |format| word(&ACCESS_FORMATS, format),
    },
    default: Is(|| AccessFormat::Combined),
    about: "`\"combined\"` is the format of nginx and Apache with that name. `\"json\"` has more fields.",
    example: "to = \"stdout\", format = \"json\"",
};

const TARGET: TextShape =
    TextShape { what: "absolute path, `\"stdout\"` or `\"off\"`", pattern: "^(/.*|stdout|off)$" };

const ACCESS_FORMATS: [(&str, AccessFormat); 2] =
    [("combined", AccessFormat::Combined), ("json", AccessFormat::Json)];

/// Reads `[log]`, or takes the defaults where the file has none.
pub fn read(context: &Context<'_>, value: Option<Value<'_>>) -> Log {
    let table = value.and_then(|value| value.table(&KEYS));
    let mut table = table.unwrap_or_else(|| Table::absent(context, &KEYS));
    let log = Log { level: table.read(&LEVEL), format: table.read(&FORMAT), access: table.read(&ACCESS) };
    table.finish();
    log
}

/// Writes `[log]`.
pub fn show(out: &mut Out, log: &Log) {
    let pairs = Pairs::default().key(&LEVEL, &log.level).key(&FORMAT, &log.format).key(&ACCESS, &log.access);
    out.table("[log]", &pairs);
}

fn show_access(access: &Option<AccessLog>) -> String {
    let Some(AccessLog { to, format }) = access else { return quote("off") };
    let to = match to {
        AccessTarget::Stdout => quote("stdout"),
        AccessTarget::File(file) => path(file),
    };
    Pairs::default().written(&TO, to).key(&ACCESS_FORMAT, format).braces()
}

/// Reads `access`; `Some(None)` is `"off"`.
fn access(value: Value<'_>) -> Option<Option<AccessLog>> {
    if value.as_str().is_some() {
        return Some(target(value)?.map(|to| AccessLog { to, format: AccessFormat::Combined }));
    }
    let mut table = value.table(&ACCESS_KEYS)?;
    let to = table.take_required(&TO).and_then(target);
    let format = table.read(&ACCESS_FORMAT);
    table.finish();
    Some(to?.map(|to| AccessLog { to, format }))
}

fn access_format(value: Value<'_>) -> Option<AccessFormat> {
    // A custom template is documented for a later version; its braces distinguish it from a mistyped word.
    match value.as_str() {
        Some(template) if template.contains('{') => value.choice(&ACCESS_FORMATS, &[template]),
        _ => value.choice(&ACCESS_FORMATS, &["timing"]),
    }
}

fn target(value: Value<'_>) -> Option<Option<AccessTarget>> {
    let text = value.string()?;
    match text {
        "off" => Some(None),
        "stdout" => Some(Some(AccessTarget::Stdout)),
        path if path.starts_with('/') => {
            let path = value.parse(path, |text| paths::absolute(text, "/var/log/bowshock"))?;
            paths::need_parent(value, &path);
            Some(Some(AccessTarget::File(path)))
        }
        syslog if syslog.starts_with("syslog:") => {
            value.choice(&[("stdout", ()), ("off", ())], &["syslog:"]).map(|()| None)
        }
        _ => {
            let title = format!("{} is not a target for the access log", diagnostic::show(text));
            value.error(
                Problem::new(title, "unknown").help(format!(
                    "write `\"off\"`, `\"stdout\"` or a whole path such as `{}`",
                    value.example
                )),
            );
            None
        }
    }
}
