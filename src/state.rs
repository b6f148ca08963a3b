//! State of the process, and how a new configuration takes effect.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::{
    acme,
    cache::Caches,
    config::{self, Config, ConfigPath, LoadError},
    files::archive,
    limits::{Limiters, Memory},
    listen::{Connect, ListenError, Listener, Listeners, OnRefused, WorkerThreads},
    machine,
    message::RequestHead,
    notify::notify,
    observe::{AccessLogEntry, AccessLogWriter, LogSettings, Metrics},
    response::Response,
    site::SiteTable,
    tools::ToolMaps,
    upstream::{self, Upstreams},
};

/// Longest time over which the streams of a process that stops, or of a server that is drained, are ended.
pub(crate) const STREAMS_END_OVER: Duration = Duration::from_secs(10);

/// State with the lifetime of the process.
pub struct State {
    source: ConfigPath,
    table: ArcSwap<SiteTable>,
    settings: ArcSwap<config::ServerSettings>,
    /// Settings at the start of the process, some of which cannot change.
    started: config::ServerSettings,
    /// Upstreams by name.
    pub(crate) upstreams: Upstreams,
    /// Limits by name.
    pub(crate) limits: Limiters,
    /// Caches by name.
    pub(crate) caches: Caches,
    /// Maps of interactive tools.
    pub(crate) tools: ToolMaps,
    /// Memory limit.
    pub(crate) memory: Arc<Memory>,
    /// Metrics.
    pub(crate) metrics: Arc<Metrics>,
    access_log: ArcSwapOption<AccessLogWriter>,
    listeners: OnceLock<Arc<Listeners>>,
    log: Option<LogSettings>,
    crcs: Arc<archive::Crcs>,
    /// Error of the last reload.
    last_error: ArcSwapOption<ReloadError>,
    /// Whether the process is stopping.
    stopping: watch::Sender<bool>,
    /// Serializes reloads.
    reloading: tokio::sync::Mutex<()>,
}

/// Error that keeps a configuration from taking effect; the previous one stays in effect.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is invalid or unreadable.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The access log cannot be opened.
    #[error("cannot open the access log: {0}")]
    AccessLog(#[source] io::Error),
}

impl State {
    /// A process without a configuration in effect; [`open`](Self::open) applies the first one.
    pub(crate) fn new(
        source: ConfigPath,
        settings: &config::ServerSettings,
        log: Option<LogSettings>,
    ) -> Self {
        Self {
            source,
            table: ArcSwap::default(),
            settings: ArcSwap::from_pointee(settings.clone()),
            started: settings.clone(),
            upstreams: Upstreams::default(),
            limits: Limiters::default(),
            caches: Caches::default(),
            tools: ToolMaps::default(),
            memory: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            access_log: ArcSwapOption::empty(),
            listeners: OnceLock::new(),
            log,
            crcs: Arc::default(),
            last_error: ArcSwapOption::empty(),
            stopping: watch::Sender::new(false),
            reloading: tokio::sync::Mutex::default(),
        }
    }

    /// Applies the first configuration. `connect` serves the connections to its listeners on `workers`; `noted`
    /// records requests that are refused before they are parsed.
    ///
    /// # Errors
    ///
    /// When a listener or the access log cannot be opened.
    pub(crate) async fn open(
        self: &Arc<Self>,
        config: &Config,
        connect: Connect,
        noted: OnRefused,
        workers: Arc<WorkerThreads>,
    ) -> Result<(), ReloadError> {
        let listeners = Listeners::new(&config.server, connect, noted, workers, Arc::clone(&self.metrics));
        self.listeners.get_or_init(|| Arc::new(listeners));
        self.apply(config).await?;
        if let Some(listeners) = self.listeners.get() {
            let certificates = listeners.certificates();
            tokio::spawn(Arc::clone(certificates).watch());
            tokio::spawn(acme::run(Arc::clone(certificates), Arc::clone(&self.metrics)));
        }
        Ok(())
    }

    /// Stops accepting connections, and waits until the last one is closed.
    pub(crate) async fn close(&self) {
        if let Some(listeners) = self.listeners.get() {
            listeners.close().await;
        }
    }

    /// The response to a CA's HTTP-01 challenge (RFC 8555 §8.3).
    pub(crate) fn challenge(&self, request: &RequestHead) -> Option<Response> {
        self.listeners.get()?.certificates().challenges().answer(request)
    }

    /// Has event streams and tunnels told that the process is stopping.
    pub(crate) fn stop_streams(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until the process is stopping. Returns the time over which event streams and tunnels are to end then.
    pub(crate) fn stopping(&self) -> impl Future<Output = Duration> + Send + use<> {
        let (mut stop, over) = (self.stopping.subscribe(), STREAMS_END_OVER.min(self.settings().grace / 2));
        async move {
            // Fails only when the process ends.
            let _ = stop.wait_for(|stopping| *stopping).await;
            over
        }
    }

    /// Closes the remaining connections at the end.
    pub(crate) fn finish_listeners(&self) {
        if let Some(listeners) = self.listeners.get() {
            listeners.finish();
        }
    }

    /// Reopens the access log by its name.
    pub(crate) fn reopen_logs(&self) {
        if let Some(log) = &*self.access_log.load() {
            log.reopen();
        }
    }

    /// Waits until the access log is written; nothing is logged after that.
    pub(crate) async fn finish_logs(&self) {
        if let Some(log) = self.access_log.swap(None).and_then(Arc::into_inner) {
            // A pipe that is not read, or a dead disk, blocks for ever. A thread of its own can be left behind.
            let _ = tokio::task::spawn_blocking(move || log.finish()).await;
        }
    }

    /// Cached CRCs of files that were in archives.
    pub(crate) fn crcs(&self) -> &Arc<archive::Crcs> {
        &self.crcs
    }

    /// The sites and routes in effect.
    pub(crate) fn table(&self) -> Arc<SiteTable> {
        self.table.load_full()
    }

    /// The settings of the process in effect.
    pub(crate) fn settings(&self) -> Arc<config::ServerSettings> {
        self.settings.load_full()
    }

    /// The listeners that accept connections.
    pub(crate) fn listeners(&self) -> Vec<Arc<Listener>> {
        self.listeners.get().map(|listeners| listeners.list()).unwrap_or_default()
    }

    /// Error of the last reload.
    pub(crate) fn last_error(&self) -> Option<Arc<ReloadError>> {
        self.last_error.load_full()
    }

    /// The configuration file.
    pub(crate) fn config_path(&self) -> String {
        self.source.0.display().to_string()
    }

    /// Whether there is an access log.
    pub(crate) fn has_access_log(&self) -> bool {
        self.access_log.load().is_some()
    }

    /// Writes a line of the access log, if there is one.
    pub(crate) fn log_access(&self, entry: &AccessLogEntry<'_>) {
        if let Some(log) = &*self.access_log.load() {
            log.write(entry);
        }
    }

    /// Reloads the configuration. On success returns the settings that take effect after a restart only.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; the previous configuration then stays in effect.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Vec<&'static str>, Arc<ReloadError>> {
        let _one_at_a_time = self.reloading.lock().await;
        notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading),
        ]);
        let result = match self.read().await {
            Ok(config) => self.apply(&config).await.map(|()| self.restart_settings(&config)),
            Err(error) => Err(error.into()),
        };
        let (later, error) = match result {
            Ok(later) => (later, None),
            Err(error) => (Vec::new(), Some(Arc::new(error))),
        };
        for setting in &later {
            tracing::warn!("the new `{setting}` takes effect after a restart");
        }
        self.last_error.store(error.clone());
        self.report_reload(error.as_deref());
        match error {
            None => Ok(later),
            Some(error) => Err(error),
        }
    }

    /// Changed settings that take effect after a restart only.
    fn restart_settings(&self, config: &Config) -> Vec<&'static str> {
        let (old, new) = (&self.started, &config.server);
        let format = self.log.as_ref().is_some_and(|log| log.format != config.log.format);
        let all = [
            ("server.threads", old.threads != new.threads),
            ("server.pid_file", old.pid_file != new.pid_file),
            ("server.max_connections", old.max_connections != new.max_connections),
            ("log.format", format),
        ];
        all.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name).collect()
    }

    async fn read(&self) -> Result<Config, LoadError> {
        let path = self.source.0.clone();
        let loaded = tokio::task::spawn_blocking(move || machine::load(&path)).await;
        let unreadable =
            |panic| LoadError::Unreadable { path: self.config_path(), source: io::Error::other(panic) };
        let loaded = loaded.map_err(unreadable)??;
        if let Some(warnings) = &loaded.warnings {
            tracing::warn!("{warnings}");
        }
        Ok(loaded.config)
    }

    async fn open_access_log(&self, config: &Config) -> Result<Option<Arc<AccessLogWriter>>, ReloadError> {
        let Some(settings) = config.log.access.clone() else { return Ok(None) };
        let lost = self.metrics.process.access_log_dropped.clone();
        let open = move || AccessLogWriter::open(&settings, lost).map(|log| Some(Arc::new(log)));
        let opened = tokio::task::spawn_blocking(open).await;
        opened.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(ReloadError::AccessLog)
    }

    async fn apply(self: &Arc<Self>, config: &Config) -> Result<(), ReloadError> {
        // Steps that can fail come first.
        let unchanged = match (&*self.access_log.load(), &config.log.access) {
            (Some(log), Some(settings)) => log.is(settings),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if unchanged {
            // Reopened, because logrotate may have moved it away.
            self.reopen_logs();
        }
        let access_log = if unchanged { None } else { Some(self.open_access_log(config).await?) };
        let upstreams = config.upstreams.clone();
        let connectors = tokio::task::spawn_blocking(move || upstream::connectors(&upstreams)).await;
        let connectors = connectors.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let tools = self.tools.open(config, &self.metrics).await;
        let take_effect = || {
            self.upstreams.apply(&config.upstreams, &connectors, &self.metrics);
            self.limits.apply(&config.limits, &self.metrics);
            self.caches.apply(&config.caches);
            self.memory.change(config.server.max_memory);
            self.tools.replace(tools);
            let table = SiteTable::new(config, &self.upstreams, &self.limits, &self.tools);
            self.table.store(Arc::new(table));
            self.upstreams.retire_others(&config.upstreams);
            self.settings.store(Arc::new(config.server.clone()));
            if let Some(access_log) = access_log {
                self.access_log.store(access_log);
            }
            if let Some(log) = &self.log {
                log.change(&config.log);
            }
        };
        match self.listeners.get() {
            Some(listeners) => listeners.apply(config, take_effect).await?,
            None => take_effect(),
        }
        Ok(())
    }

    /// Reports the result of a start or a reload to the log, metrics and the service manager.
    pub(crate) fn report_reload(&self, error: Option<&ReloadError>) {
        match error {
            None => {
                self.metrics.reloaded(true);
                tracing::info!("the configuration is in effect");
                notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
            }
            Some(error) => {
                self.metrics.reloaded(false);
                tracing::error!(
                    "the new configuration is rejected, the previous one stays in effect:\n{error}"
                );
                notify(&[
                    NotifyState::Ready,
                    NotifyState::Status("serving; the last reload failed, see the log"),
                ]);
            }
        }
    }
}
