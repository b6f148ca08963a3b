//! The process: start, reload, stop.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    config::{self, Config, ConfigPath, LoadError},
    listen::{BindError, Listener, Listeners},
    observe::{AccessLog, Entry, LogSettings, Metrics, start_logging},
    proxy,
    route::Table,
    upstream::Upstreams,
};

/// All that lives as long as the process.
pub struct State {
    source: ConfigPath,
    table: ArcSwap<Table>,
    settings: ArcSwap<config::Server>,
    /// Groups of workers.
    pub(crate) upstreams: Upstreams,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    access_log: ArcSwapOption<AccessLog>,
    listeners: OnceLock<Arc<Listeners>>,
    log: Option<LogSettings>,
    /// Why the last reload did not take effect.
    last_error: ArcSwapOption<ReloadError>,
    /// Reloads go one after the other.
    reloading: tokio::sync::Mutex<()>,
}

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

/// Why a configuration did not take effect; the one before it goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is bad or unreadable.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The access log cannot be opened.
    #[error("cannot open the access log: {0}")]
    AccessLog(#[source] io::Error),
}

impl State {
    fn new(source: ConfigPath, config: &Config, log: Option<LogSettings>) -> Result<Self, ReloadError> {
        let upstreams = Upstreams::default();
        let metrics = Arc::new(Metrics::new());
        upstreams.apply(&config.upstreams, &metrics);
        Ok(Self {
            source,
            table: ArcSwap::from_pointee(Table::new(config, &upstreams)),
            settings: ArcSwap::from_pointee(config.server.clone()),
            upstreams,
            metrics,
            access_log: ArcSwapOption::new(open_access_log(config)?),
            listeners: OnceLock::new(),
            log,
            last_error: ArcSwapOption::empty(),
            reloading: tokio::sync::Mutex::default(),
        })
    }

    /// The sites and routes in effect.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// The settings of the process in effect.
    pub(crate) fn settings(&self) -> Arc<config::Server> {
        self.settings.load_full()
    }

    /// Threads of the event loop.
    pub(crate) fn threads(&self) -> usize {
        self.settings.load().threads
    }

    /// The listeners that accept now.
    pub(crate) fn listeners(&self) -> Vec<Arc<Listener>> {
        self.listeners.get().map(|listeners| listeners.list()).unwrap_or_default()
    }

    /// Why the last reload did not take effect.
    pub(crate) fn last_error(&self) -> Option<Arc<ReloadError>> {
        self.last_error.load_full()
    }

    /// The configuration file.
    pub(crate) fn config_path(&self) -> String {
        self.source.0.display().to_string()
    }

    /// Writes a line of the access log, if there is one.
    pub(crate) fn log_access(&self, entry: &Entry<'_>) {
        if let Some(log) = &*self.access_log.load()
            && log.write(entry).is_err()
        {
            self.metrics.access_log_dropped.inc();
        }
    }

    /// Reads the configuration again and takes it over, or keeps the one in effect and tells why.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; nothing has changed then.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<(), Arc<ReloadError>> {
        let _one_at_a_time = self.reloading.lock().await;
        notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading),
        ]);
        let result = match self.read().await {
            Ok(config) => self.take_over(&config).await,
            Err(error) => Err(error.into()),
        };
        let error = result.err().map(Arc::new);
        self.last_error.store(error.clone());
        self.tell_reload(error.as_deref());
        match error {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    async fn read(&self) -> Result<Config, LoadError> {
        let path = self.source.0.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let unreadable =
            |panic| LoadError::Unreadable { path: self.config_path(), source: io::Error::other(panic) };
        let loaded = loaded.map_err(unreadable)??;
        if let Some(warnings) = &loaded.warnings {
            tracing::warn!("{warnings}");
        }
        Ok(loaded.config)
    }

    async fn take_over(self: &Arc<Self>, config: &Config) -> Result<(), ReloadError> {
        // What can fail goes first.
        let unchanged = match (&*self.access_log.load(), &config.log.access) {
            (Some(log), Some(wanted)) => log.is(wanted),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let access_log = if unchanged { None } else { Some(open_access_log(config)?) };
        let listeners = self.listeners.get_or_init(|| {
            Arc::new(Listeners::new(
                &config.server,
                proxy::engine(Arc::clone(self)),
                Arc::clone(&self.metrics),
            ))
        });
        let take_effect = || {
            self.upstreams.apply(&config.upstreams, &self.metrics);
            self.table.store(Arc::new(Table::new(config, &self.upstreams)));
            self.settings.store(Arc::new(config.server.clone()));
            if let Some(access_log) = access_log {
                self.access_log.store(access_log);
            }
            if let Some(log) = &self.log {
                log.change(&config.log);
            }
        };
        listeners.apply(config, take_effect).await?;
        Ok(())
    }

    fn tell_reload(&self, error: Option<&ReloadError>) {
        match error {
            None => {
                self.metrics.reloaded(true);
                tracing::info!("the configuration is in effect");
                notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
            }
            Some(error) => {
                self.metrics.reloaded(false);
                tracing::error!(
                    "the new configuration does not take effect; the one before goes on:\n{error}"
                );
                notify(&[
                    NotifyState::Ready,
                    NotifyState::Status("serving; the last reload was refused, see the log"),
                ]);
            }
        }
    }
}

fn open_access_log(config: &Config) -> Result<Option<Arc<AccessLog>>, ReloadError> {
    let settings = config.log.access.as_ref();
    settings
        .map(|settings| AccessLog::open(settings).map(Arc::new).map_err(ReloadError::AccessLog))
        .transpose()
}

/// Runs the proxy until it is told to stop.
///
/// # Errors
///
/// See [`StartError`].
pub fn run(path: ConfigPath) -> Result<(), StartError> {
    let loaded = config::load(&path.0)?;
    let log = start_logging(&loaded.config.log);
    if let Some(warnings) = &loaded.warnings {
        tracing::warn!("{warnings}");
    }
    run_with(path, &loaded.config, log, || ())
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.server.threads)
        .thread_name("bowshock")
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(source, config, log, ready));
    // What is still in flight had its time.
    runtime.shutdown_background();
    result
}

async fn serve(
    source: ConfigPath,
    config: &Config,
    log: Option<LogSettings>,
    ready: impl FnOnce(),
) -> Result<(), StartError> {
    let mut signals = Signals::new()?;
    let state = Arc::new(State::new(source, config, log)?);
    state.take_over(config).await?;
    let _pid_file = config.server.pid_file.as_ref().map(PidFile::write).transpose()?;
    state.tell_reload(None);
    ready();
    loop {
        tokio::select! {
            _ = signals.reload.recv() => {
                // The result is told in the log, in metrics and in the status.
                let _ = state.reload().await;
            }
            _ = signals.reopen.recv() => {
                if let Some(log) = &*state.access_log.load() {
                    log.reopen();
                }
            }
            () = signals.stop.recv() => break,
        }
    }
    stop(&state, &mut signals.stop).await;
    Ok(())
}

/// Lets what is in flight end, for as long as `grace` says or until told again.
async fn stop(state: &State, again: &mut StopSignals) {
    let grace = state.settings().grace;
    notify(&[NotifyState::Stopping]);
    let Some(listeners) = state.listeners.get() else { return };
    listeners.close();
    tracing::info!(?grace, "stopping: requests in flight are finished");
    tokio::select! {
        () = listeners.drained() => tracing::info!("stopped"),
        () = tokio::time::sleep(grace) => tracing::warn!("stopped with requests still in flight: grace is over"),
        () = again.recv() => tracing::warn!("stopped with requests still in flight: told again"),
    }
    if let Some(log) = state.access_log.swap(None).and_then(Arc::into_inner) {
        log.finish();
    }
}

struct Signals {
    reload: Signal,
    reopen: Signal,
    stop: StopSignals,
}

struct StopSignals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            stop: StopSignals {
                terminate: signal(SignalKind::terminate())?,
                quit: signal(SignalKind::quit())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
        })
    }
}

impl StopSignals {
    /// Waits for one of them.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd, where it is there.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot tell systemd");
    }
}

/// A file with the process id in it, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &PathBuf) -> io::Result<Self> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Self(path.clone()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove the pid file");
        }
    }
}
