//! All that lives as long as the process, and how a new configuration takes effect in it.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;

use crate::{
    acme,
    config::{self, Config, ConfigPath, LoadError},
    files::archive,
    limits::{Limiters, Memory},
    listen::{Connect, ListenError, Listener, Listeners, Noted, WorkerThreads},
    machine,
    message::RequestHead,
    notify::notify,
    observe::{AccessLogEntry, AccessLogWriter, LogSettings, Metrics},
    response::Response,
    site::SiteTable,
    upstream::{self, Upstreams},
};

/// All that lives as long as the process.
pub struct State {
    source: ConfigPath,
    table: ArcSwap<SiteTable>,
    settings: ArcSwap<config::ServerSettings>,
    /// The settings that the process was started with, some of which stay.
    started: config::ServerSettings,
    /// Groups of workers.
    pub(crate) upstreams: Upstreams,
    /// How often clients may ask.
    pub(crate) limits: Limiters,
    /// How much memory may be used.
    pub(crate) memory: Arc<Memory>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    access_log: ArcSwapOption<AccessLogWriter>,
    listeners: OnceLock<Arc<Listeners>>,
    log: Option<LogSettings>,
    crcs: Arc<archive::Crcs>,
    /// Why the last reload did not take effect.
    last_error: ArcSwapOption<ReloadError>,
    /// Reloads go one after the other.
    reloading: tokio::sync::Mutex<()>,
}

/// Why a configuration did not take effect; the one before it goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is bad or unreadable.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// Its listeners cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The access log cannot be opened.
    #[error("cannot open the access log: {0}")]
    AccessLog(#[source] io::Error),
}

impl State {
    /// A process that serves nothing yet; [`open`](Self::open) has the configuration take effect.
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
            memory: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            access_log: ArcSwapOption::empty(),
            listeners: OnceLock::new(),
            log,
            crcs: Arc::default(),
            last_error: ArcSwapOption::empty(),
            reloading: tokio::sync::Mutex::default(),
        }
    }

    /// Has `config` take effect for the first time; `connect` serves the connections to its listeners
    /// on `workers`, `noted` records what is refused of them unread.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on, or the access log not be opened.
    pub(crate) async fn open(
        self: &Arc<Self>,
        config: &Config,
        connect: Connect,
        noted: Noted,
        workers: Arc<WorkerThreads>,
    ) -> Result<(), ReloadError> {
        let listeners = Listeners::new(&config.server, connect, noted, workers, Arc::clone(&self.metrics));
        self.listeners.get_or_init(|| Arc::new(listeners));
        self.take_over(config).await?;
        if let Some(listeners) = self.listeners.get() {
            let certificates = listeners.certificates();
            tokio::spawn(Arc::clone(certificates).watch());
            tokio::spawn(acme::run(Arc::clone(certificates), Arc::clone(&self.metrics)));
        }
        Ok(())
    }

    /// Stops accepting clients, and gives the future of the last of them leaving.
    pub(crate) async fn close(&self) {
        if let Some(listeners) = self.listeners.get() {
            listeners.close().await;
        }
    }

    /// The answer for a CA that looks whether a name leads here.
    pub(crate) fn challenge(&self, request: &RequestHead) -> Option<Response> {
        self.listeners.get()?.certificates().challenges().answer(request)
    }

    /// Closes what is left at the end.
    pub(crate) fn finish_listeners(&self) {
        if let Some(listeners) = self.listeners.get() {
            listeners.finish();
        }
    }

    /// Opens the access log again under its name.
    pub(crate) fn reopen_logs(&self) {
        if let Some(log) = &*self.access_log.load() {
            log.reopen();
        }
    }

    /// Waits until the access log is written; nothing is logged after it.
    pub(crate) async fn finish_logs(&self) {
        if let Some(log) = self.access_log.swap(None).and_then(Arc::into_inner) {
            // A pipe that nobody reads, or a dead disk, blocks for ever; a thread of its own can be left behind.
            let _ = tokio::task::spawn_blocking(move || log.finish()).await;
        }
    }

    /// The CRCs of files that were in archives.
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

    /// Threads of the event loop.
    pub(crate) fn threads(&self) -> usize {
        self.started.threads
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

    /// Reads the configuration again and takes it over, or keeps the one in effect and tells why.
    ///
    /// # Errors
    ///
    /// See [`ReloadError`]; nothing has changed then.
    ///
    /// The result is what takes effect after a restart only.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Vec<&'static str>, Arc<ReloadError>> {
        let _one_at_a_time = self.reloading.lock().await;
        notify(&[
            NotifyState::Reloading,
            NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Reloading),
        ]);
        let result = match self.read().await {
            Ok(config) => self.take_over(&config).await.map(|()| self.waits_for_restart(&config)),
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
        self.tell_reload(error.as_deref());
        match error {
            None => Ok(later),
            Some(error) => Err(error),
        }
    }

    /// Settings of a new configuration that the process cannot change while it runs.
    fn waits_for_restart(&self, config: &Config) -> Vec<&'static str> {
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

    async fn take_over(self: &Arc<Self>, config: &Config) -> Result<(), ReloadError> {
        // What can fail goes first.
        let unchanged = match (&*self.access_log.load(), &config.log.access) {
            (Some(log), Some(wanted)) => log.is(wanted),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if unchanged {
            // It may have been moved away.
            self.reopen_logs();
        }
        let access_log = if unchanged { None } else { Some(self.open_access_log(config).await?) };
        let upstreams = config.upstreams.clone();
        let connectors = tokio::task::spawn_blocking(move || upstream::connectors(&upstreams)).await;
        let connectors = connectors.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let take_effect = || {
            self.upstreams.apply(&config.upstreams, &connectors, &self.metrics);
            self.limits.apply(&config.limits, &self.metrics);
            self.memory.change(config.server.max_memory);
            self.table.store(Arc::new(SiteTable::new(config, &self.upstreams, &self.limits)));
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

    /// Tells whoever wants to know what came of a start or a reload.
    pub(crate) fn tell_reload(&self, error: Option<&ReloadError>) {
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
