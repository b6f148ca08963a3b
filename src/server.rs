//! The process: start, signals, stop.

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

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is bad or unreadable.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// It cannot take effect.
    #[error(transparent)]
    Effect(#[from] ReloadError),
    /// The system refuses something that every program needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs the proxy until it is told to stop.
///
/// # Errors
///
/// See [`StartError`].
pub fn run(path: ConfigPath) -> Result<(), StartError> {
    let runtime = runtime()?;
    // Before anything that takes time: whoever asks for a reload now gets one when there is something to reload.
    let signals = Signals::new(&runtime)?;
    let loaded = machine::load(&path.0)?;
    let log = start_logging(&loaded.config.log)?;
    if let Some(warnings) = &loaded.warnings {
        tracing::warn!("{warnings}");
    }
    run_on(runtime, signals, path, &loaded.config, log, || ())
}

/// Runs the proxy with a configuration that is there already; calls `ready` once it accepts.
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

/// What concerns all connections; they are served by threads of their own.
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
    // What is still in flight had its time.
    runtime.shutdown_background();
    if let Some(log) = last_messages {
        log.finish();
    }
    result
}

/// Raises the soft limit of open files to the hard one, and says when that is too low: a proxied request takes two.
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
            "no more than {most} files may be open, and max_connections = {} may need {enough}: raise the limit \
             (LimitNOFILE= in the systemd unit) or lower max_connections; until then clients' connections take three \
             quarters of them at most",
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
    // Until now it could be stopped by the system: there was nothing in flight.
    let mut stop_signals = StopSignals::new()?;
    for (name, signal) in signals.others.drain(..) {
        tokio::spawn(disregard(name, signal));
    }
    let state = Arc::new(State::new(source, &config.server, log));
    tokio::spawn(limits::watch(Arc::clone(&state.memory)));
    let workers = Arc::new(WorkerThreads::start(config.server.threads)?);
    tokio::select! {
        opened = state.open(config, downstream::connect(service::service(&state)), service::noted(&state), workers) => {
            opened?;
        }
        // Files of it may be where nothing answers.
        () = stop_signals.recv() => return Ok(()),
    }
    let _pid_file = config.server.pid_file.as_ref().map(PidFile::write).transpose()?;
    state.tell_reload(None);
    ready();
    loop {
        tokio::select! {
            _ = signals.reload.recv() => {
                // In a task of its own: a file system that hangs must not keep us from being stopped. The result is
                // told in the log, in metrics and in the status.
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

/// How long the end waits for requests that were held to be refused.
const LAST_RESPONSES: Duration = Duration::from_millis(500);

/// How long the end waits for the access log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Lets what is in flight end, for as long as `grace` says or until told again.
async fn stop(state: &State, again: &mut StopSignals) {
    let grace = state.settings().grace;
    notify(&[NotifyState::Stopping]);
    tracing::info!(?grace, "stopping: requests in flight are finished");
    let why = tokio::select! {
        () = state.close() => None,
        () = tokio::time::sleep(grace) => Some("grace is over"),
        () = again.recv() => Some("told again"),
    };
    if let Some(why) = why {
        // Held requests have not reached a server: they are told so, and may come again.
        state.upstreams.stop();
        let _ = tokio::time::timeout(LAST_RESPONSES, state.close()).await;
        tracing::warn!("stopped with requests still in flight: {why}");
    } else {
        tracing::info!("stopped");
    }
    state.finish_listeners();
    tokio::select! {
        () = state.finish_logs() => {}
        () = tokio::time::sleep(LAST_LINES) => tracing::warn!("the access log takes nothing: its last lines are lost"),
    }
}

/// Signals that do not end the process.
struct Signals {
    reload: Signal,
    reopen: Signal,
    /// Those that mean something to other servers, or come of limits and timers, and would end or stop this one.
    others: Vec<(&'static str, Signal)>,
}

/// Signals that have no meaning here.
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

/// The real-time signals that C libraries leave to programs (musl keeps the first of them).
const REAL_TIME: RangeInclusive<i32> = 34..=64;

impl Signals {
    fn new(runtime: &Runtime) -> io::Result<Self> {
        let _here = runtime.enter();
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

/// Tells of a signal that has no meaning here.
async fn disregard(name: &'static str, mut signal: Signal) {
    let rarely = Rarely::new(3);
    while signal.recv().await.is_some() {
        // Windows are resized all the time.
        if name != "SIGWINCH" && rarely.tell().is_some() {
            tracing::warn!("{name} has no meaning here: nothing is done");
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

    /// Waits for one of them.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A file with the process id in it, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &PathBuf) -> io::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.clone()))
    }

    /// Whether nobody else, such as another instance, has written its own id.
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
