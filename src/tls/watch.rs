//! Certificates in effect: reloaded when their files change, with warnings before they expire.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    CertificateError, CertificateMap,
    names::{SiteCertificate, Tickets, entry, settings},
};
use crate::{
    config::{Config, Tls},
    observe::Metrics,
    tls::challenges::Challenges,
};

/// Interval at which files are checked. Polling follows symlinks that are replaced (certbot's); file notifications
/// would not see every such change.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Time before expiry at which warnings begin.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// Interval between warnings.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Certificates in effect.
pub(crate) struct Certificates {
    names: ArcSwap<CertificateMap>,
    tickets: Arc<Tickets>,
    source: Mutex<CertificateSource>,
    /// Publishes the configuration in effect to the task that orders certificates.
    applied: watch::Sender<Option<Arc<Config>>>,
    challenges: Challenges,
    metrics: Arc<Metrics>,
}

/// Source of the certificates.
#[derive(Default)]
struct CertificateSource {
    config: Option<Arc<Config>>,
    /// Stamps of each entry's files, taken before they were read. An entry that could not be used is read again.
    stamps: Vec<Vec<Stamp>>,
    /// Errors of changed entries, as last logged.
    logged_errors: HashMap<usize, String>,
}

/// Certificates read for a configuration, with the stamps of their files.
pub(crate) struct Read {
    names: CertificateMap,
    stamps: Vec<Vec<Stamp>>,
}

/// Detects changes of a file, including changes in place that keep its size and time.
type Stamp = Option<(u64, u64, [i64; 4], u64)>;

/// Entry whose files have changed.
struct Changed {
    place: usize,
    label: String,
    stamps: Vec<Stamp>,
    read: Result<Arc<SiteCertificate>, CertificateError>,
}

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

    /// Certificates in effect.
    pub(crate) fn names(&self) -> Arc<CertificateMap> {
        self.names.load_full()
    }

    /// Pending ACME challenges.
    pub(crate) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Configuration in effect.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<Arc<Config>>> {
        self.applied.subscribe()
    }

    /// Reads the certificates of a configuration; they take effect with [`apply`](Self::apply).
    ///
    /// # Errors
    ///
    /// The first certificate that cannot be used.
    pub(crate) async fn read(&self, config: &Config) -> Result<Read, CertificateError> {
        let (config, tickets) = (config.clone(), Arc::clone(&self.tickets));
        // Stamps are taken first, so that a change in between is detected later.
        let read =
            move || Ok(Read { stamps: stamps(&config), names: CertificateMap::read(&config, &tickets)? });
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|panic| {
            Err(CertificateError::Unusable { path: PathBuf::new(), reason: panic.to_string() })
        })
    }

    /// Puts certificates into effect.
    pub(crate) fn apply(&self, config: &Config, read: Read) {
        let config = Some(Arc::new(config.clone()));
        *self.source() =
            CertificateSource { stamps: read.stamps, config: config.clone(), logged_errors: HashMap::new() };
        self.replace(read.names);
        self.applied.send_replace(config);
    }

    /// Watches the files, for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut logged_errors: Option<SystemTime> = None;
        loop {
            self.refresh().await;
            if logged_errors
                .is_none_or(|logged_errors| logged_errors.elapsed().unwrap_or_default() > WARN_EVERY)
            {
                logged_errors = Some(SystemTime::now());
                self.names().entries().for_each(warn_of_expiry);
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// Reloads files that have changed. An error is logged, and retried the next time; meanwhile the previous
    /// certificate stays in effect, and other entries are reloaded.
    pub(crate) async fn refresh(&self) {
        let (config, stamps) = {
            let source = self.source();
            let Some(config) = source.config.clone() else { return };
            (config, source.stamps.clone())
        };
        let looked = {
            let (config, tickets) = (Arc::clone(&config), Arc::clone(&self.tickets));
            tokio::task::spawn_blocking(move || changed(&config, &stamps, &tickets)).await
        };
        let Ok(changed) = looked else { return };
        let mut source = self.source();
        if changed.is_empty() || !source.config.as_ref().is_some_and(|now| Arc::ptr_eq(now, &config)) {
            return;
        }
        let names = self.names();
        let mut taken = Vec::new();
        for Changed { place, label, stamps, read } in changed {
            let before = names.entry(place);
            match read {
                // The issued certificate has disappeared; the one in effect is better than a placeholder.
                Ok(entry) if entry.is_placeholder && before.is_some_and(|before| !before.is_placeholder) => {}
                Ok(entry) => {
                    source.logged_errors.remove(&place);
                    if let Some(known) = source.stamps.get_mut(place) {
                        *known = stamps;
                    }
                    tracing::info!(site = label, "certificate files have changed: reloaded");
                    taken.push((place, entry));
                }
                Err(error) => {
                    let error = error.to_string();
                    if source.logged_errors.get(&place) != Some(&error) {
                        tracing::error!(
                            site = label,
                            "changed certificate files cannot be used; keeping the previous certificate: {error}"
                        );
                        source.logged_errors.insert(place, error);
                    }
                }
            }
        }
        if !taken.is_empty() {
            self.replace(names.with(&config, taken));
        }
    }

    fn replace(&self, names: CertificateMap) {
        self.metrics.certificates(names.entries().map(|entry| (entry.label.as_str(), entry.expires)));
        names.entries().for_each(warn_of_expiry);
        self.names.store(Arc::new(names));
    }

    fn source(&self) -> std::sync::MutexGuard<'_, CertificateSource> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn_of_expiry(entry: &SiteCertificate) {
    let site = &entry.label;
    if entry.is_placeholder {
        return tracing::warn!(site, "no certificate yet: browsers reject the site until the CA issues one");
    }
    match entry.expires.duration_since(SystemTime::now()) {
        Err(_) => tracing::error!(site, "the certificate has expired: browsers reject the site"),
        Ok(left) if left < WARN_BEFORE => {
            tracing::warn!(site, "the certificate expires in {} days", left.as_secs() / (24 * 3600));
        }
        Ok(_) => {}
    }
}

/// Stamps of the files of all entries.
fn stamps(config: &Config) -> Vec<Vec<Stamp>> {
    settings(config).map(|(_, tls)| file_stamps(tls)).collect()
}

/// Reads the entries whose stamps have changed.
fn changed(config: &Config, before: &[Vec<Stamp>], tickets: &Tickets) -> Vec<Changed> {
    let entries = settings(config).enumerate().filter_map(|(place, (label, tls))| {
        // Stamps are taken first, so that a change in between is detected later.
        let stamps = file_stamps(tls);
        let is_same = before.get(place) == Some(&stamps);
        (!is_same).then(|| Changed { place, read: entry(&label, tls, tickets).map(Arc::new), label, stamps })
    });
    entries.collect()
}

fn file_stamps(tls: &Tls) -> Vec<Stamp> {
    let ca = tls.client.as_ref().map(|client| client.ca.as_path());
    [tls.cert.as_path(), tls.key.as_path()].into_iter().chain(ca).map(stamp).collect()
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    Some((file.dev(), file.ino(), times, file.len()))
}
