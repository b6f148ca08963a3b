//! Access log: one line per request, written by a thread of its own so that a slow disk delays no request.

use std::{
    borrow::Cow,
    fmt, io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use http::{Method, Version};
use prometheus::IntCounter;

use super::writer::{LogTarget, Options, Writer};
use crate::config::{AccessFormat, AccessLog as Settings, AccessTarget, TlsVersion};

/// Bytes of lines that may wait to be written; further lines are dropped and counted.
const WAITING: usize = 8 << 20;

/// Longest time for which lines are collected before they are written together.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// Most bytes that are logged of a value chosen by the client, such as a header.
const MAX_VALUE: usize = 1024;

/// Most bytes that are logged of a request's target.
const MAX_TARGET: usize = 4096;

/// Finished request, as logged.
#[derive(Debug)]
pub struct AccessLogEntry<'a> {
    pub time: SystemTime,
    pub client: Option<IpAddr>,
    pub line: RequestLine<'a>,
    pub tls: Option<(TlsVersion, &'a str)>,
    pub host: &'a str,
    pub status: u16,
    pub bytes: u64,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub request_id: &'a str,
    pub site: &'a str,
    pub route: &'a str,
    pub took: Duration,
    pub waited: Option<Duration>,
    pub upstream: Option<&'a str>,
    pub server: Option<&'a str>,
    pub upstream_took: Option<Duration>,
    /// Attempts at servers on which something was sent.
    pub tries: u32,
}

/// The first line of a request.
#[derive(Debug, Clone, Copy)]
pub enum RequestLine<'a> {
    Read {
        method: &'a Method,
        target: &'a str,
        version: Version,
    },
    /// First bytes of a request that was refused because it could not be parsed.
    Unread(&'a [u8]),
}

/// Open access log. Dropping it lets its thread write the remaining lines and close it.
pub struct AccessLogWriter {
    settings: Settings,
    writer: Writer,
}

impl AccessLogWriter {
    /// Opens the log and starts its thread; `lost` counts dropped lines.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for appending.
    pub fn open(settings: &Settings, lost: IntCounter) -> io::Result<Self> {
        let target = match &settings.to {
            AccessTarget::Stdout => LogTarget::Stdout,
            AccessTarget::File(path) => LogTarget::file(path)?,
        };
        let options =
            Options { name: "access log", most: WAITING, flush_after: FLUSH_AFTER, lost, is_own: false };
        Ok(Self { settings: settings.clone(), writer: Writer::start(target, options)? })
    }

    /// Waits until every line is written. Blocks.
    pub fn finish(self) {
        self.writer.finish();
    }

    /// Whether the log has these settings.
    pub fn is(&self, settings: &Settings) -> bool {
        self.settings == *settings
    }

    /// Writes a line.
    pub fn write(&self, entry: &AccessLogEntry<'_>) {
        let line = match self.settings.format {
            AccessFormat::Combined => combined(entry),
            AccessFormat::Json => json(entry),
        };
        self.writer.push(line.into_bytes());
    }

    /// Reopens the file by its name (after logrotate has moved it away).
    pub fn reopen(&self) {
        self.writer.reopen();
    }
}

/// Formats a line in the combined format of Apache and nginx.
fn combined(entry: &AccessLogEntry<'_>) -> String {
    let client = entry.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
    let field = |value: Option<&'_ [u8]>| Escaped(start(value.unwrap_or(b"-"), MAX_VALUE)).to_string();
    format!(
        "{} - - [{}] \"{}\" {} {} \"{}\" \"{}\"\n",
        client,
        common_log_time(entry.time),
        entry.line,
        entry.status,
        entry.bytes,
        field(entry.referer),
        field(entry.user_agent),
    )
}

/// The line as sent, escaped to printable ASCII.
impl fmt::Display for RequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { method, target, version } => {
                let method = Escaped(start(method.as_str().as_bytes(), MAX_VALUE));
                let target = Escaped(start(target.as_bytes(), MAX_TARGET));
                write!(f, "{method} {target} {version:?}")
            }
            Self::Unread([]) => f.write_str("-"),
            Self::Unread(bytes) => write!(f, "{}", Escaped(bytes)),
        }
    }
}

/// Escapes as nginx does: bytes that could end a field or a line, and bytes outside ASCII, are written as `\xHH`.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while !rest.is_empty() {
            let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            let plain = rest.iter().take_while(|byte| is_plain(byte)).count();
            // Plain bytes are ASCII, and so valid UTF-8.
            f.write_str(std::str::from_utf8(&rest[..plain]).unwrap_or_default())?;
            if let Some(byte) = rest.get(plain) {
                write!(f, "\\x{byte:02X}")?;
            }
            rest = rest.get(plain + 1..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The first `most` bytes of a value.
fn start(value: &[u8], most: usize) -> &[u8] {
    &value[..value.len().min(most)]
}

/// The first `most` bytes of a value as text; invalid UTF-8 is replaced.
fn text(value: &[u8], most: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(start(value, most))
}

fn json(entry: &AccessLogEntry<'_>) -> String {
    let seconds = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e6;
    let (read, unread) = match entry.line {
        RequestLine::Read { method, target, version } => {
            let method = text(method.as_str().as_bytes(), MAX_VALUE);
            (Some((method, text(target.as_bytes(), MAX_TARGET), format!("{version:?}"))), None)
        }
        RequestLine::Unread(_) => (None, Some(entry.line.to_string())),
    };
    let mut line = serde_json::json!({
        "time": humantime::format_rfc3339_millis(entry.time).to_string(),
        "client": entry.client,
        "method": read.as_ref().map(|(method, ..)| method),
        "host": text(entry.host.as_bytes(), MAX_VALUE),
        "target": read.as_ref().map(|(_, target, _)| target),
        "protocol": read.as_ref().map(|(.., version)| version),
        "tls": entry.tls.map(|(version, _)| version.name()),
        "cipher": entry.tls.map(|(_, cipher)| cipher),
        "status": entry.status,
        "bytes": entry.bytes,
        "referer": entry.referer.map(|value| text(value, MAX_VALUE)),
        "user_agent": entry.user_agent.map(|value| text(value, MAX_VALUE)),
        "request_id": entry.request_id,
        "site": entry.site,
        "route": entry.route,
        "seconds": seconds(entry.took),
        "held_seconds": entry.waited.map(seconds),
        "upstream": entry.upstream,
        "server": entry.server,
        "upstream_seconds": entry.upstream_took.map(seconds),
        "tries": entry.tries,
    });
    if let Some(unread) = unread {
        line["unread"] = unread.into();
    }
    line.to_string() + "\n"
}

/// Formats `01/May/2026:08:49:37 +0000`, from the parts of `Fri, 01 May 2026 08:49:37 GMT`.
fn common_log_time(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    let (day, month, year, clock) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    format!("{day}/{month}/{year}:{clock} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> AccessLogEntry<'static> {
        AccessLogEntry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            client: Some("192.0.2.1".parse().unwrap()),
            line: RequestLine::Read { method: &Method::GET, target: "/a?b=\"c\"", version: Version::HTTP_11 },
            tls: None,
            host: "galaxy",
            status: 200,
            bytes: 12,
            referer: None,
            user_agent: Some(b"curl"),
            request_id: "id",
            site: "galaxy",
            route: "/",
            took: Duration::from_millis(1500),
            waited: None,
            upstream: Some("galaxy"),
            server: Some("unix:/a"),
            upstream_took: Some(Duration::from_millis(1499)),
            tries: 2,
        }
    }

    #[test]
    fn combined_is_as_others_write_it() {
        assert_eq!(
            combined(&entry()),
            "192.0.2.1 - - [29/Feb/2024:12:34:56 +0000] \"GET /a?b=\\x22c\\x22 HTTP/1.1\" 200 12 \"-\" \"curl\"\n"
        );
    }

    #[test]
    fn what_could_not_be_read_cannot_end_its_line() {
        let line =
            |bytes| combined(&AccessLogEntry { line: RequestLine::Unread(bytes), status: 400, ..entry() });
        let text = line(b"GET /\" 200\r\n\x16\x03\\\xc3\xa4\x7f");
        assert!(
            text.contains("] \"GET /\\x22 200\\x0D\\x0A\\x16\\x03\\x5C\\xC3\\xA4\\x7F\" 400 12 "),
            "{text}"
        );
        assert!(line(b"").contains("] \"-\" 400 12 "));
        let text = json(&AccessLogEntry { line: RequestLine::Unread(b"GET \xff"), ..entry() });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["unread"], &line["method"]), (&"GET \\xFF".into(), &serde_json::Value::Null));
    }

    #[test]
    fn what_is_not_ascii_is_told_as_by_nginx() {
        let entry = AccessLogEntry {
            user_agent: Some("F\u{fa}tbol/1.0".as_bytes()),
            referer: Some(b"\xff\"\t"),
            ..entry()
        };
        assert!(
            combined(&entry).ends_with(" \"\\xFF\\x22\\x09\" \"F\\xC3\\xBAtbol/1.0\"\n"),
            "{}",
            combined(&entry)
        );
        let line: serde_json::Value = serde_json::from_str(&json(&entry)).unwrap();
        assert_eq!(
            (&line["user_agent"], &line["referer"]),
            (&"F\u{fa}tbol/1.0".into(), &"\u{fffd}\"\t".into())
        );
    }

    #[test]
    fn a_line_has_no_more_than_so_many_bytes() {
        let (long, target) = (vec![b'"'; 60_000], format!("/{}", "\\".repeat(30_000)));
        let line = RequestLine::Read { method: &Method::GET, target: &target, version: Version::HTTP_11 };
        let entry = AccessLogEntry { user_agent: Some(&long), referer: Some(&long), line, ..entry() };
        let lines = [combined(&entry), json(&entry)];
        assert!(lines.iter().all(|line| line.len() < 32 * 1024), "{:?}", lines.map(|line| line.len()));
    }

    #[test]
    fn json_holds_everything() {
        let line: serde_json::Value = serde_json::from_str(&json(&entry())).unwrap();
        assert_eq!(line["time"], "2024-02-29T12:34:56.789Z");
        assert_eq!(line["seconds"], 1.5);
        assert_eq!(line["target"], "/a?b=\"c\"");
        assert_eq!(line["held_seconds"], serde_json::Value::Null);
    }
}
