//! One line per request, written by a thread of its own so that a slow disk delays no request.

use std::{
    fmt::{self, Write as _},
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    net::IpAddr,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, Version};

use crate::{
    config::{AccessFormat, AccessLog as Settings, AccessTarget},
    tls::Facts,
};

/// Lines that may wait to be written; past it they are dropped and counted.
const WAITING_LINES: usize = 16 * 1024;

/// Lines are written together, at the latest after this time.
const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// How long the thread sleeps when there is nothing to flush.
const IDLE: Duration = Duration::from_secs(3600);

/// A request that is over, as the log tells it.
#[derive(Debug)]
pub struct Entry<'a> {
    pub time: SystemTime,
    pub client: Option<IpAddr>,
    pub line: Line<'a>,
    pub tls: Option<&'a Facts>,
    pub host: &'a str,
    pub status: u16,
    pub bytes: u64,
    pub referer: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub request_id: &'a str,
    pub site: &'a str,
    pub route: &'a str,
    pub took: Duration,
    pub waited: Option<Duration>,
    pub upstream: Option<&'a str>,
    pub server: Option<&'a str>,
    pub upstream_took: Option<Duration>,
}

/// The first line of a request.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    Read {
        method: &'a Method,
        target: &'a str,
        version: Version,
    },
    /// What came of it, which was refused unread.
    Unread(&'a [u8]),
}

/// An open access log. Dropping it has its thread write what is left and close it.
pub struct AccessLog {
    settings: Settings,
    messages: SyncSender<Message>,
    thread: JoinHandle<()>,
}

enum Message {
    Line(String),
    Reopen,
}

/// The log could not keep up with the requests.
#[derive(Debug, Clone, Copy)]
pub struct Dropped;

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened for appending.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let target = Target::open(&settings.to)?;
        let (messages, receiver) = sync_channel(WAITING_LINES);
        let thread = std::thread::Builder::new().name("access-log".into());
        let thread = thread.spawn(move || write_lines(target, &receiver))?;
        Ok(Self { settings: settings.clone(), messages, thread })
    }

    /// Waits until everything is written. Blocks.
    pub fn finish(self) {
        drop(self.messages);
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread has failed");
        }
    }

    /// Whether it is as the configuration wants it.
    pub fn is(&self, settings: &Settings) -> bool {
        self.settings == *settings
    }

    /// Writes a line.
    ///
    /// # Errors
    ///
    /// When too many lines wait to be written; the line is lost.
    pub fn write(&self, entry: &Entry<'_>) -> Result<(), Dropped> {
        let line = match self.settings.format {
            AccessFormat::Combined => combined(entry),
            AccessFormat::Json => json(entry),
        };
        self.messages.try_send(Message::Line(line)).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Dropped,
        })
    }

    /// Opens the file again under its name (after logrotate has moved it away).
    pub fn reopen(&self) {
        // A full queue means that the thread is busy writing; the next signal will do.
        let _ = self.messages.try_send(Message::Reopen);
    }
}

/// Where lines go.
struct Target {
    path: Option<PathBuf>,
    to: BufWriter<Box<dyn Write + Send>>,
}

impl Target {
    fn open(target: &AccessTarget) -> io::Result<Self> {
        Ok(match target {
            AccessTarget::Stdout => Self { path: None, to: BufWriter::new(Box::new(io::stdout())) },
            AccessTarget::File(path) => {
                Self { path: Some(path.clone()), to: BufWriter::new(Box::new(append(path)?)) }
            }
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.to.flush()?;
        if let Some(path) = &self.path {
            self.to = BufWriter::new(Box::new(append(path)?));
        }
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn write_lines(mut target: Target, messages: &Receiver<Message>) {
    // When what is written so far must be flushed.
    let mut due: Option<Instant> = None;
    loop {
        let wait = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        let result = match messages.recv_timeout(wait) {
            Ok(Message::Line(line)) => {
                due.get_or_insert_with(|| Instant::now() + FLUSH_AFTER);
                target.to.write_all(line.as_bytes())
            }
            Ok(Message::Reopen) => target.reopen(),
            Err(RecvTimeoutError::Timeout) => {
                due = None;
                target.to.flush()
            }
            Err(RecvTimeoutError::Disconnected) => {
                // Nobody is left to tell.
                let _ = target.to.flush();
                return;
            }
        };
        if let Err(error) = result {
            tracing::error!(%error, "cannot write the access log");
        }
    }
}

/// The combined format of Apache and nginx.
fn combined(entry: &Entry<'_>) -> String {
    let client = entry.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
    format!(
        "{} - - [{}] \"{}\" {} {} \"{}\" \"{}\"\n",
        client,
        common_log_time(entry.time),
        entry.line,
        entry.status,
        entry.bytes,
        escape(entry.referer.unwrap_or("-")),
        escape(entry.user_agent.unwrap_or("-")),
    )
}

/// As it was sent; what could not be read has only letters, digits and signs of ASCII left.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { method, target, version } => {
                write!(f, "{} {} {version:?}", escape(method.as_str()), escape(target))
            }
            Self::Unread([]) => f.write_str("-"),
            Self::Unread(bytes) => bytes.iter().try_for_each(|byte| match byte {
                b'"' | b'\\' | ..b' ' | 0x7f.. => write!(f, "\\x{byte:02X}"),
                byte => f.write_char(char::from(*byte)),
            }),
        }
    }
}

/// As nginx: what could end a field or a line is written as `\xHH`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '"' || letter == '\\' || letter.is_control() {
            escaped.push_str(&format!("\\x{:02X}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

fn json(entry: &Entry<'_>) -> String {
    let seconds = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e6;
    let (read, unread) = match entry.line {
        Line::Read { method, target, version } => {
            (Some((method.as_str(), target, format!("{version:?}"))), None)
        }
        Line::Unread(_) => (None, Some(entry.line.to_string())),
    };
    let mut line = serde_json::json!({
        "time": humantime::format_rfc3339_millis(entry.time).to_string(),
        "client": entry.client,
        "method": read.as_ref().map(|(method, ..)| method),
        "host": entry.host,
        "target": read.as_ref().map(|(_, target, _)| target),
        "protocol": read.as_ref().map(|(.., version)| version),
        "tls": entry.tls.map(|tls| tls.version.name()),
        "cipher": entry.tls.map(|tls| tls.cipher),
        "status": entry.status,
        "bytes": entry.bytes,
        "referer": entry.referer,
        "user_agent": entry.user_agent,
        "request_id": entry.request_id,
        "site": entry.site,
        "route": entry.route,
        "seconds": seconds(entry.took),
        "held_seconds": entry.waited.map(seconds),
        "upstream": entry.upstream,
        "server": entry.server,
        "upstream_seconds": entry.upstream_took.map(seconds),
    });
    if let Some(unread) = unread {
        line["unread"] = unread.into();
    }
    line.to_string() + "\n"
}

/// `01/May/2026:08:49:37 +0000`, from the parts of `Fri, 01 May 2026 08:49:37 GMT`.
fn common_log_time(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time);
    let (day, month, year, clock) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    format!("{day}/{month}/{year}:{clock} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            client: Some("192.0.2.1".parse().unwrap()),
            line: Line::Read { method: &Method::GET, target: "/a?b=\"c\"", version: Version::HTTP_11 },
            tls: None,
            host: "galaxy",
            status: 200,
            bytes: 12,
            referer: None,
            user_agent: Some("curl"),
            request_id: "id",
            site: "galaxy",
            route: "/",
            took: Duration::from_millis(1500),
            waited: None,
            upstream: Some("galaxy"),
            server: Some("unix:/a"),
            upstream_took: Some(Duration::from_millis(1499)),
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
        let line = |bytes| combined(&Entry { line: Line::Unread(bytes), status: 400, ..entry() });
        let text = line(b"GET /\" 200\r\n\x16\x03\\\xc3\xa4\x7f");
        assert!(
            text.contains("] \"GET /\\x22 200\\x0D\\x0A\\x16\\x03\\x5C\\xC3\\xA4\\x7F\" 400 12 "),
            "{text}"
        );
        assert!(line(b"").contains("] \"-\" 400 12 "));
        let text = json(&Entry { line: Line::Unread(b"GET \xff"), ..entry() });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["unread"], &line["method"]), (&"GET \\xFF".into(), &serde_json::Value::Null));
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
