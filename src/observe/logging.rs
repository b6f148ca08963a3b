//! The proxy's own log, on standard error; its level follows the configuration while running.

use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{Level, Log, LogFormat};

/// A started log, whose level can be changed.
pub struct LogSettings {
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
}

/// Starts logging for the process; `None` when something else logs already (tests).
pub(crate) fn start(log: &Log) -> Option<LogSettings> {
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
    started.is_ok().then_some(LogSettings { filter: handle })
}

impl LogSettings {
    /// Takes over the level of a new configuration.
    pub(crate) fn change(&self, log: &Log) {
        if let Err(error) = self.filter.reload(filter(log.level)) {
            tracing::warn!(%error, "cannot change the log level");
        }
    }
}

/// Our own messages at the given level. The engine's are for its developers: its errors repeat what the access log
/// and our messages tell, so they show from `debug` on.
fn filter(level: Level) -> EnvFilter {
    let directives = match level {
        Level::Error => "off,bowshock=error",
        Level::Warn => "off,bowshock=warn",
        Level::Info => "off,bowshock=info",
        Level::Debug => "warn,pingora_core::protocols::http::v1::server=error,bowshock=debug",
        Level::Trace => "debug,bowshock=trace",
    };
    EnvFilter::new(directives)
}
