//! Certificates in effect: read anew when their files change, and looked at before they end.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    CertificateError, Names,
    names::{Entry, Tickets},
};
use crate::{
    acme::Challenges,
    config::{Config, Tls},
    observe::Metrics,
};

/// How often the files are looked at. Links that lead elsewhere (certbot's) are followed, so nothing else would see all.
const EVERY: Duration = Duration::from_secs(5);

/// When a certificate that ends is told of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// How often that is told.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The certificates in effect.
pub(crate) struct Certificates {
    names: ArcSwap<Names>,
    tickets: Arc<Tickets>,
    source: Mutex<Source>,
    /// Tells those who order certificates what is in effect.
    applied: watch::Sender<Option<Arc<Config>>>,
    challenges: Challenges,
    metrics: Arc<Metrics>,
}

/// Where they come from.
#[derive(Default)]
struct Source {
    config: Option<Arc<Config>>,
    stamps: Vec<Stamp>,
}

/// What was read of a configuration, and how the files looked.
pub(crate) struct Read {
    names: Names,
    stamps: Vec<Stamp>,
}

/// By what a file is seen to have changed.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl Certificates {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            names: ArcSwap::default(),
            tickets: Arc::default(),
            source: Mutex::default(),
            applied: watch::Sender::default(),
            challenges: Challenges::default(),
            metrics,
        }
    }

    /// Those in effect.
    pub(crate) fn names(&self) -> Arc<Names> {
        self.names.load_full()
    }

    /// What is shown to a CA that looks whether a name leads here.
    pub(crate) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// The configuration in effect.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<Arc<Config>>> {
        self.applied.subscribe()
    }

    /// Reads those of a configuration; they take effect with [`apply`](Self::apply).
    ///
    /// # Errors
    ///
    /// The first that cannot be used.
    pub(crate) async fn read(&self, config: &Config) -> Result<Read, CertificateError> {
        let (config, tickets) = (config.clone(), Arc::clone(&self.tickets));
        // Looked at first: what changes in between is seen later.
        let read = move || Ok(Read { stamps: stamps(&config), names: Names::read(&config, &tickets)? });
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|panic| {
            Err(CertificateError::Unusable { path: PathBuf::new(), reason: panic.to_string() })
        })
    }

    /// From now on these are shown.
    pub(crate) fn apply(&self, config: &Config, read: Read) {
        let config = Some(Arc::new(config.clone()));
        *self.source() = Source { stamps: read.stamps, config: config.clone() };
        self.replace(read.names);
        self.applied.send_replace(config);
    }

    /// Looks after the files for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut told: Option<SystemTime> = None;
        loop {
            self.refresh().await;
            if told.is_none_or(|told| told.elapsed().unwrap_or_default() > AGAIN) {
                told = Some(SystemTime::now());
                self.names().entries().for_each(warn_of_end);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Takes files that have changed; what cannot be used is told, and the ones before it stay.
    pub(crate) async fn refresh(&self) {
        let Some(config) = self.source().config.clone() else { return };
        let looked = {
            let config = Arc::clone(&config);
            tokio::task::spawn_blocking(move || stamps(&config)).await
        };
        let Ok(stamps) = looked else { return };
        {
            let mut source = self.source();
            let is_same = source.config.as_ref().is_some_and(|now| Arc::ptr_eq(now, &config));
            if !is_same || source.stamps == stamps {
                return;
            }
            source.stamps = stamps;
        }
        match self.read(&config).await {
            Ok(Read { names, .. }) => {
                let source = self.source();
                if source.config.as_ref().is_some_and(|now| Arc::ptr_eq(now, &config)) {
                    self.replace(names);
                    tracing::info!("certificates have changed and are in effect");
                }
            }
            Err(error) => {
                tracing::error!("certificates have changed and cannot be used; those before go on: {error}");
            }
        }
    }

    fn replace(&self, names: Names) {
        self.metrics.certificates(names.entries().map(|entry| (entry.label.as_str(), entry.expires)));
        names.entries().for_each(warn_of_end);
        self.names.store(Arc::new(names));
    }

    fn source(&self) -> std::sync::MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn_of_end(entry: &Entry) {
    let site = &entry.label;
    if entry.stands_in {
        return tracing::warn!(
            site,
            "it has no certificate yet: browsers refuse the site until the CA gives one"
        );
    }
    match entry.expires.duration_since(SystemTime::now()) {
        Err(_) => tracing::error!(site, "its certificate has expired: browsers refuse the site"),
        Ok(left) if left < SOON => {
            tracing::warn!(site, "its certificate expires in {} days", left.as_secs() / (24 * 3600));
        }
        Ok(_) => {}
    }
}

/// How all files of certificates look.
fn stamps(config: &Config) -> Vec<Stamp> {
    let own = config.listen.iter().filter_map(|listen| listen.tls.as_ref()?.own.as_ref());
    let all = config.sites.iter().filter_map(|site| site.tls.as_ref()).chain(own);
    all.flat_map(files).map(stamp).collect()
}

fn files(tls: &Tls) -> impl Iterator<Item = &Path> {
    let ca = tls.client.as_ref().map(|client| client.ca.as_path());
    [tls.cert.as_path(), tls.key.as_path()].into_iter().chain(ca)
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
}
