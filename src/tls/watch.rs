//! Certificates in effect: read anew when their files change, and looked at before they end.

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

/// How often the files are looked at. Links that lead elsewhere (certbot's) are followed, so nothing else would see all.
const EVERY: Duration = Duration::from_secs(5);

/// When a certificate that ends is told of.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// How often that is told.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The certificates in effect.
pub(crate) struct Certificates {
    names: ArcSwap<CertificateMap>,
    tickets: Arc<Tickets>,
    source: Mutex<CertificateSource>,
    /// Tells those who order certificates what is in effect.
    applied: watch::Sender<Option<Arc<Config>>>,
    challenges: Challenges,
    metrics: Arc<Metrics>,
}

/// Where they come from.
#[derive(Default)]
struct CertificateSource {
    config: Option<Arc<Config>>,
    /// How the files of each entry looked before it was read; what could not be used is read again.
    stamps: Vec<Vec<Stamp>>,
    /// Why entries cannot be used that have changed, as it was told.
    told: HashMap<usize, String>,
}

/// What was read of a configuration, and how the files looked.
pub(crate) struct Read {
    names: CertificateMap,
    stamps: Vec<Vec<Stamp>>,
}

/// By what a file is seen to have changed: also in place, with its size and time as before.
type Stamp = Option<(u64, u64, [i64; 4], u64)>;

/// An entry whose files have changed.
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

    /// Those in effect.
    pub(crate) fn names(&self) -> Arc<CertificateMap> {
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
        let read =
            move || Ok(Read { stamps: stamps(&config), names: CertificateMap::read(&config, &tickets)? });
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|panic| {
            Err(CertificateError::Unusable { path: PathBuf::new(), reason: panic.to_string() })
        })
    }

    /// From now on these are shown.
    pub(crate) fn apply(&self, config: &Config, read: Read) {
        let config = Some(Arc::new(config.clone()));
        *self.source() =
            CertificateSource { stamps: read.stamps, config: config.clone(), told: HashMap::new() };
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

    /// Takes files that have changed. What cannot be used is told, and tried again the next time; meanwhile the
    /// certificate before it stays, and others are taken.
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
                // Its certificate is away, and is better than one that stands in.
                Ok(entry) if entry.stands_in && before.is_some_and(|before| !before.stands_in) => {}
                Ok(entry) => {
                    source.told.remove(&place);
                    if let Some(known) = source.stamps.get_mut(place) {
                        *known = stamps;
                    }
                    tracing::info!(site = label, "certificates have changed and are in effect");
                    taken.push((place, entry));
                }
                Err(error) => {
                    let error = error.to_string();
                    if source.told.get(&place) != Some(&error) {
                        tracing::error!(
                            site = label,
                            "certificates have changed and cannot be used; those before go on: {error}"
                        );
                        source.told.insert(place, error);
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
        names.entries().for_each(warn_of_end);
        self.names.store(Arc::new(names));
    }

    fn source(&self) -> std::sync::MutexGuard<'_, CertificateSource> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn_of_end(entry: &SiteCertificate) {
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

/// How the files of all entries look.
fn stamps(config: &Config) -> Vec<Vec<Stamp>> {
    settings(config).map(|(_, tls)| look(tls)).collect()
}

/// Reads the entries whose files look otherwise.
fn changed(config: &Config, before: &[Vec<Stamp>], tickets: &Tickets) -> Vec<Changed> {
    let entries = settings(config).enumerate().filter_map(|(place, (label, tls))| {
        // Looked at first: what changes in between is seen later.
        let stamps = look(tls);
        let is_same = before.get(place) == Some(&stamps);
        (!is_same).then(|| Changed { place, read: entry(&label, tls, tickets).map(Arc::new), label, stamps })
    });
    entries.collect()
}

fn look(tls: &Tls) -> Vec<Stamp> {
    let ca = tls.client.as_ref().map(|client| client.ca.as_path());
    [tls.cert.as_path(), tls.key.as_path()].into_iter().chain(ca).map(stamp).collect()
}

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
    Some((file.dev(), file.ino(), times, file.len()))
}
