//! `[log]`: what is written down, and where.

use super::{
    diagnostic::{Problem, show},
    model::{AccessFormat, AccessLog, AccessTarget, Level, Log, LogFormat},
    paths,
    read::{ACCESS, LOG, Value},
};

const EXAMPLE: &str = "\"/var/log/bowshock/access.log\"";

/// The log of a file without `[log]`.
pub const DEFAULT: Log = Log { level: Level::Info, format: LogFormat::Text, access: None };

/// The words of `log.level`.
pub const LEVELS: [(&str, Level); 5] = [
    ("info", Level::Info),
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];

/// The words of `log.format`.
pub const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The words of `format` of `log.access`.
pub const ACCESS_FORMATS: [(&str, AccessFormat); 2] =
    [("combined", AccessFormat::Combined), ("json", AccessFormat::Json)];

/// Reads `[log]`.
pub fn read(value: Value<'_>) -> Option<Log> {
    let mut table = value.table(&LOG, "[log]")?;
    let log = Log {
        level: table.optional("level", |value| value.choice(&LEVELS, &[])).unwrap_or(DEFAULT.level),
        format: table.optional("format", |value| value.choice(&FORMATS, &[])).unwrap_or(DEFAULT.format),
        access: table.optional("access", access).flatten(),
    };
    table.finish();
    Some(log)
}

/// `Some(None)` is off.
fn access(value: Value<'_>) -> Option<Option<AccessLog>> {
    if value.as_str().is_some() {
        return Some(target(value)?.map(|to| AccessLog { to, format: AccessFormat::Combined }));
    }
    let mut table = value.table(&ACCESS, &format!("access = {EXAMPLE}"))?;
    let to = table.required("to", EXAMPLE, target);
    let format = table.optional("format", access_format).unwrap_or(AccessFormat::Combined);
    table.finish();
    Some(to?.map(|to| AccessLog { to, format }))
}

fn access_format(value: Value<'_>) -> Option<AccessFormat> {
    // A template is documented as well, and is known by its braces.
    match value.as_str() {
        Some(template) if template.contains('{') => value.choice(&ACCESS_FORMATS, &[template]),
        _ => value.choice(&ACCESS_FORMATS, &["timing"]),
    }
}

fn target(value: Value<'_>) -> Option<Option<AccessTarget>> {
    let text = value.string(&format!("{} = {EXAMPLE}", value.name))?;
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
            let title = format!("{} is no place for the access log", show(text));
            value.error(
                Problem::new(title, "not known")
                    .help(format!("write `\"off\"`, `\"stdout\"` or a whole path such as `{EXAMPLE}`")),
            );
            None
        }
    }
}
