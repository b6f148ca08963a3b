//! Process log on standard error. Its level follows the configuration at run time.

use std::{
    backtrace::Backtrace,
    io::{self, IsTerminal as _},
    sync::{Arc, LazyLock},
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use super::writer::{LogTarget, Options, Writer};
use crate::config::{Level, Log, LogFormat};

/// Bytes of messages that may wait for the reader of standard error; further ones are lost and counted.
const WAITING: usize = 1 << 20;

/// Time that shutdown waits for the last messages to be written.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// Messages that were lost.
pub(super) static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Messages of the process log lost because nobody read standard error.";
    #[expect(clippy::expect_used, reason = "a constant name; any mistake fails the first start")]
    IntCounter::new("bowshock_log_dropped_total", help).expect("a valid metric")
});

/// Handle of the started log, to change its level.
#[derive(Clone)]
pub struct LogSettings {
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
    writer: Arc<Writer>,
    /// Format of messages, fixed at the start.
    pub(crate) format: LogFormat,
}

/// Message on its way to the writer. The formatter writes it in a single call.
struct LogLine(Arc<Writer>);

impl io::Write for LogLine {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        self.0.push(message.to_vec());
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log of the process; `None` when a logger is already installed (tests).
///
/// # Errors
///
/// When its thread cannot be started.
pub(crate) fn start(log: &Log) -> io::Result<Option<LogSettings>> {
    let options = Options {
        name: "process log",
        most: WAITING,
        flush_after: Duration::ZERO,
        lost: DROPPED.clone(),
        is_own: true,
    };
    let writer = Arc::new(Writer::start(LogTarget::Stderr, options)?);
    let to = Arc::clone(&writer);
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_writer(move || LogLine(Arc::clone(&to))).with_target(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    // The default panic hook would block on the reader of standard error.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        tracing::error!("{panic}\n{backtrace}");
    }));
    Ok(started.is_ok().then_some(LogSettings { filter: handle, writer, format: log.format }))
}

impl LogSettings {
    /// Waits a short time for the last messages to be written. Blocks.
    pub(crate) fn finish(&self) {
        self.writer.flush(LAST_MESSAGES);
    }

    /// Applies the level of a new configuration.
    pub(crate) fn change(&self, log: &Log) {
        if let Err(error) = self.filter.reload(filter(log.level)) {
            tracing::warn!(%error, "cannot change the log level");
        }
    }
}

/// Filter for a level. Messages of libraries are for their developers, and are logged from `debug` on.
fn filter(level: Level) -> EnvFilter {
    let directives = match level {
        Level::Error => "off,bowshock=error",
        Level::Warn => "off,bowshock=warn",
        Level::Info => "off,bowshock=info",
        Level::Debug => "warn,bowshock=debug",
        Level::Trace => "debug,bowshock=trace",
    };
    EnvFilter::new(directives)
}
