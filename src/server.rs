//! The process: start, signals, shutdown.

use std::{fs, io, ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use rustix::process::Signal as Kind;
use sd_notify::NotifyState;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    config::{Config, ConfigPath, LoadError},
    downstream, limits,
    listen::WorkerThreads,
    machine,
    notify::notify,
    observe::{LogSettings, Rarely, start_logging},
    service,
    state::{ReloadError, State},
};

/// Error that keeps the proxy from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid or unreadable.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The configuration cannot be applied.
    #[error(transparent)]
    Effect(#[from] ReloadError),
    /// The system refuses a resource that the process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs the proxy until a signal stops it.
///
/// # Errors
///
/// See [`StartError`].
pub fn run(path: ConfigPath) -> Result<(), StartError> {
    let runtime = runtime()?;
    // Installed before anything slow: a reload requested meanwhile then happens once there is something to reload.
    let signals = Signals::new(&runtime)?;
    let loaded = machine::load(&path.0)?;
    let log = start_logging(&loaded.config.log)?;
    if let Some(warnings) = &loaded.warnings {
        tracing::warn!("{warnings}");
    }
    run_on(runtime, signals, path, &loaded.config, log, || ())
}

/// Runs the proxy with a loaded configuration; calls `ready` once it accepts connections.
///
/// # Errors
///
/// See [`StartError`].
pub fn run_with(
    source: ConfigPath,
    config: &Config,
    log: Option<LogSettings>,
    ready: impl FnOnce(),
) -> Result<(), StartError> {
    let runtime = runtime()?;
    let signals = Signals::new(&runtime)?;
    run_on(runtime, signals, source, config, log, ready)
}

/// Runtime of the main thread, for work that concerns the whole process; connections are served on threads of their
/// own.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run_on(
    runtime: Runtime,
    signals: Signals,
    source: ConfigPath,
    config: &Config,
    log: Option<LogSettings>,
    ready: impl FnOnce(),
) -> Result<(), StartError> {
    let last_messages = log.clone();
    let result = runtime.block_on(serve(signals, source, config, log, ready));
    // Requests still in progress have had their time.
    runtime.shutdown_background();
    if let Some(log) = last_messages {
        log.finish();
    }
    result
}

/// Raises the soft limit of open files to the hard one, and warns when that is too low: a proxied request takes two.
fn raise_open_files(config: &Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let enough = 2 * config.server.max_connections as u64 + 64;
    if let Some(most) = getrlimit(Resource::Nofile).current.filter(|most| *most < enough) {
        tracing::warn!(
            "the limit of open files is {most}, and max_connections = {} may need {enough}: raise the limit \
             (LimitNOFILE= in the systemd unit) or lower max_connections; until then client connections take three \
             quarters of it at most",
            config.server.max_connections
        );
    }
}

async fn serve(
    mut signals: Signals,
    source: ConfigPath,
    config: &Config,
    log: Option<LogSettings>,
    ready: impl FnOnce(),
) -> Result<(), StartError> {
    raise_open_files(config);
    // Until now the default action of these signals was right: no request was in progress.
    let mut stop_signals = StopSignals::new()?;
    for (name, signal) in signals.others.drain(..) {
        tokio::spawn(ignore_signal(name, signal));
    }
    let state = Arc::new(State::new(source, &config.server, log));
    tokio::spawn(limits::watch(Arc::clone(&state.memory)));
    let workers = Arc::new(WorkerThreads::start(config.server.threads)?);
    let connect = downstream::connect(service::service(&state));
    tokio::select! {
        opened = state.open(config, connect, service::record_refused(&state), workers) => opened?,
        // The configuration may name files on a file system that hangs.
        () = stop_signals.recv() => return Ok(()),
    }
    let _pid_file = config.server.pid_file.as_ref().map(PidFile::write).transpose()?;
    state.report_reload(None);
    ready();
    loop {
        tokio::select! {
            _ = signals.reload.recv() => {
                // Spawned, because a file system that hangs must not delay shutdown. The result is in the log, in
                // metrics and in the status.
                let state = Arc::clone(&state);
                tokio::spawn(async move { state.reload().await });
            }
            _ = signals.reopen.recv() => state.reopen_logs(),
            () = stop_signals.recv() => break,
        }
    }
    stop(&state, &mut stop_signals).await;
    Ok(())
}

/// Time that shutdown waits for the refusals of waiting requests to be sent.
const REFUSALS_TIMEOUT: Duration = Duration::from_millis(500);

/// Time that shutdown waits for the access log.
const ACCESS_LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits for requests in progress, until `grace` expires or a second signal arrives.
async fn stop(state: &State, stop_signals: &mut StopSignals) {
    let grace = state.settings().grace;
    notify(&[NotifyState::Stopping]);
    tracing::info!(?grace, "stopping: waiting for requests in progress");
    state.stop_streams();
    let why = tokio::select! {
        () = state.close() => None,
        () = tokio::time::sleep(grace) => Some("`grace` has expired"),
        () = stop_signals.recv() => Some("a second signal arrived"),
    };
    if let Some(why) = why {
        // Waiting requests have not reached a server: they are refused, and clients may retry them.
        state.upstreams.stop();
        let _ = tokio::time::timeout(REFUSALS_TIMEOUT, state.close()).await;
        tracing::warn!("stopped with requests still in progress: {why}");
    } else {
        tracing::info!("stopped");
    }
    state.finish_listeners();
    tokio::select! {
        () = state.finish_logs() => {}
        () = tokio::time::sleep(ACCESS_LOG_TIMEOUT) => {
            tracing::warn!("the access log does not accept data: its last lines are lost");
        }
    }
}

/// Handlers of signals that do not end the process.
struct Signals {
    reload: Signal,
    reopen: Signal,
    /// Signals that other servers use, or that limits and timers raise; unhandled they would end or stop the process.
    others: Vec<(&'static str, Signal)>,
}

/// Ignored signals.
const OTHERS: [(&str, Kind); 12] = [
    ("SIGUSR2", Kind::USR2),
    ("SIGALRM", Kind::ALARM),
    ("SIGWINCH", Kind::WINCH),
    ("SIGIO", Kind::IO),
    ("SIGTTIN", Kind::TTIN),
    ("SIGTTOU", Kind::TTOU),
    ("SIGVTALRM", Kind::VTALARM),
    ("SIGPROF", Kind::PROF),
    ("SIGXCPU", Kind::XCPU),
    ("SIGXFSZ", Kind::XFSZ),
    ("SIGPWR", Kind::POWER),
    ("SIGSTKFLT", Kind::STKFLT),
];

/// Real-time signals that C libraries leave to programs (musl keeps the first of them).
const REAL_TIME: RangeInclusive<i32> = 34..=64;

impl Signals {
    fn new(runtime: &Runtime) -> io::Result<Self> {
        let _guard = runtime.enter();
        let named =
            OTHERS.into_iter().map(|(name, kind)| Ok((name, signal(SignalKind::from_raw(kind.as_raw()))?)));
        let real_time = REAL_TIME.filter_map(|number| signal(SignalKind::from_raw(number)).ok());
        let others = named.chain(real_time.map(|signal| Ok(("a real-time signal", signal))));
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            others: others.collect::<io::Result<_>>()?,
        })
    }
}

/// Logs an ignored signal.
async fn ignore_signal(name: &'static str, mut signal: Signal) {
    let rarely = Rarely::new(3);
    while signal.recv().await.is_some() {
        // Terminals are resized all the time.
        if name != "SIGWINCH" && rarely.tell().is_some() {
            tracing::warn!("{name} is ignored");
        }
    }
}

struct StopSignals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of the signals.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// File with the process id, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &PathBuf) -> io::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.clone()))
    }

    /// Whether the file still has this process's id, and not that of another instance.
    fn is_ours(&self) -> io::Result<bool> {
        Ok(fs::read_to_string(&self.0)?.trim() == std::process::id().to_string())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let removed = self.is_ours().and_then(|ours| if ours { fs::remove_file(&self.0) } else { Ok(()) });
        if let Err(error) = removed {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the pid file");
        }
    }
}
