//! Caches by name: lookup of responses, one fill per response, and bounds of memory and disk.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use moka::{policy::EvictionPolicy, sync::Cache as Moka};
use tokio::sync::watch;

use super::{
    disk,
    stored::{Key, Stored, StoredBody, Vary},
};
use crate::{bulkhead::lock, config::CacheSettings};

/// Largest body that is kept in memory beside a cache on disk; larger ones are sent from their file.
const SMALL: u64 = 64 * 1024;

/// Share of a cache that one response may take.
const MOST_SHARE: u64 = 4;

/// Memory of a response beside its body: policy, headers, entry.
const OVERHEAD: u64 = 2048;

/// Keys whose `Vary` is known, and keys that are not stored, at most.
const MOST_KNOWN: u64 = 100_000;

/// Time for which requests of a key do not wait for one another, after a response that may not be stored.
const PASS: Duration = Duration::from_secs(10);

/// Caches by name.
#[derive(Default)]
pub(crate) struct Caches(Mutex<BTreeMap<String, Arc<ResponseCache>>>);

impl Caches {
    /// Applies a configuration. A cache whose settings have not changed keeps its responses.
    pub(crate) fn apply(&self, configured: &BTreeMap<String, CacheSettings>) {
        let mut caches = lock(&self.0);
        caches.retain(|name, cache| configured.get(name) == Some(&cache.settings));
        for (name, settings) in configured {
            caches.entry(name.clone()).or_insert_with(|| ResponseCache::open(settings));
        }
    }

    /// The cache of a name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<ResponseCache>> {
        lock(&self.0).get(name).cloned()
    }

    /// All caches.
    pub(crate) fn list(&self) -> Vec<Arc<ResponseCache>> {
        lock(&self.0).values().cloned().collect()
    }
}

/// A cache of responses.
pub(crate) struct ResponseCache {
    settings: CacheSettings,
    /// Responses in memory: with their bodies, or with the file that has it.
    memory: Moka<Key, Arc<Stored>>,
    /// Files of responses.
    files: Moka<Key, OnDisk>,
    /// Request headers by which the responses of a key differ.
    varies: Moka<Key, Arc<Vary>>,
    /// Keys whose response may not be stored.
    passed: Moka<Key, ()>,
    /// Keys whose response is on its way, with what waits for it.
    fills: Mutex<HashMap<Key, watch::Receiver<()>>>,
}

#[derive(Clone)]
struct OnDisk {
    path: PathBuf,
    /// Bytes of the file.
    size: u64,
}

/// Role of a request for a response that is not stored.
pub(crate) enum Begun {
    /// The request asks the server, and its response is stored.
    Fill(Fill),
    /// Another request does that: the end of it is waited for.
    Wait(watch::Receiver<()>),
    /// The request asks the server: the last response could not be stored.
    Pass,
}

impl ResponseCache {
    fn open(settings: &CacheSettings) -> Arc<Self> {
        let weight = |_: &Key, stored: &Arc<Stored>| {
            let body = match &stored.body {
                StoredBody::Memory(bytes) => bytes.len() as u64,
                StoredBody::File { .. } => 0,
            };
            u32::try_from(body + OVERHEAD).unwrap_or(u32::MAX)
        };
        // In KiB, as a weight has 32 bits.
        let size = |_: &Key, on_disk: &OnDisk| u32::try_from(on_disk.size.div_ceil(1024)).unwrap_or(u32::MAX);
        let removed = |_: Arc<Key>, on_disk: OnDisk, _| disk::remove(on_disk.path);
        let cache = Arc::new(Self {
            memory: Moka::builder()
                .weigher(weight)
                .max_capacity(settings.memory)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            files: Moka::builder()
                .weigher(size)
                .max_capacity(settings.disk_size.div_ceil(1024))
                .eviction_policy(EvictionPolicy::lru())
                .eviction_listener(removed)
                .build(),
            varies: Moka::new(MOST_KNOWN),
            passed: Moka::builder().max_capacity(MOST_KNOWN).time_to_live(PASS).build(),
            fills: Mutex::default(),
            settings: settings.clone(),
        });
        if let Some(directory) = settings.disk.clone() {
            let cache = Arc::clone(&cache);
            // Responses are found while requests are served; until then they are misses.
            let read = move || {
                let scanned = fs::create_dir_all(&directory)
                    .and_then(|()| disk::scan(&directory, |found| cache.found(found)));
                if let Err(error) = scanned {
                    tracing::error!(directory = %directory.display(), %error, "cannot read the cache");
                }
            };
            if tokio::runtime::Handle::try_current().is_ok() {
                tokio::task::spawn_blocking(read);
            }
        }
        cache
    }

    /// Adds a response that was found on disk.
    fn found(&self, found: disk::OnDisk) {
        if !found.stored.vary.names.is_empty() {
            self.varies.insert(found.stored.primary, Arc::new(found.stored.vary));
        }
        if self.files.contains_key(&found.key) {
            // A newer one has been stored in the meantime.
            return disk::remove(found.path);
        }
        self.files.insert(found.key, OnDisk { path: found.path, size: found.size });
    }

    /// Name in metrics and in `Cache-Status`.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Largest body that is stored.
    pub(super) fn most(&self) -> u64 {
        match self.settings.disk {
            Some(_) => self.settings.disk_size / MOST_SHARE,
            None => self.settings.memory / MOST_SHARE,
        }
    }

    /// Whether a body of this length is stored.
    pub(crate) fn takes(&self, length: u64) -> bool {
        length <= self.most()
    }

    /// Directory of the files.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.settings.disk.clone()
    }

    /// Bytes in memory and on disk.
    pub(crate) fn bytes(&self) -> [(&'static str, u64); 2] {
        self.memory.run_pending_tasks();
        self.files.run_pending_tasks();
        [("memory", self.memory.weighted_size()), ("disk", self.files.weighted_size() * 1024)]
    }

    /// The key of a request among those of `primary`.
    fn key(&self, primary: Key, request: &HeaderMap) -> Key {
        match self.varies.get(&primary) {
            Some(vary) => primary.variant(&vary, request),
            None => primary,
        }
    }

    /// Looks up the response to a request, which may be stale.
    pub(crate) async fn find(
        &self,
        primary: Key,
        request: &HeaderMap,
        now: SystemTime,
    ) -> Option<Arc<Stored>> {
        let key = self.key(primary, request);
        if let Some(stored) = self.memory.get(&key) {
            // What is on disk is used too.
            self.files.get(&key);
            return stored.fits(request, now).then_some(stored);
        }
        let path = self.files.get(&key)?.path;
        let read = tokio::task::spawn_blocking(move || disk::read(&path, SMALL)).await;
        match read {
            Ok(Ok((found, stored))) if found == key && stored.fits(request, now) => {
                let stored = Arc::new(stored);
                self.memory.insert(key, Arc::clone(&stored));
                Some(stored)
            }
            _ => {
                self.files.invalidate(&key);
                None
            }
        }
    }

    /// Begins to ask the server for a response.
    pub(crate) fn begin(self: &Arc<Self>, primary: Key, request: &HeaderMap) -> Begun {
        let key = self.key(primary, request);
        if self.passed.contains_key(&key) {
            return Begun::Pass;
        }
        let mut fills = lock(&self.fills);
        if let Some(other) = fills.get(&key) {
            return Begun::Wait(other.clone());
        }
        let (done, waits) = watch::channel(());
        fills.insert(key, waits);
        Begun::Fill(Fill { cache: Arc::clone(self), primary, key, request: request.clone(), _done: done })
    }

    /// Removes all responses of a key, whatever headers they differ by. Returns whether there were any.
    pub(crate) fn remove(&self, primary: Key) -> bool {
        // Without their salt, variants are out of reach, and go when there is no room.
        let varied = self.varies.remove(&primary).is_some();
        let in_memory = self.memory.remove(&primary).is_some();
        self.files.remove(&primary).is_some() || in_memory || varied
    }
}

/// A request that asks the server for a response, which others wait for until this is dropped.
pub(crate) struct Fill {
    cache: Arc<ResponseCache>,
    primary: Key,
    key: Key,
    /// Headers of the request.
    request: HeaderMap,
    /// Closed when the fill ends.
    _done: watch::Sender<()>,
}

impl Fill {
    pub(crate) fn cache(&self) -> &Arc<ResponseCache> {
        &self.cache
    }

    pub(crate) fn primary(&self) -> Key {
        self.primary
    }

    /// Headers of the request.
    pub(crate) fn request(&self) -> &HeaderMap {
        &self.request
    }

    /// The response may not be stored: others do not wait for one another for a while.
    pub(crate) fn pass(self) {
        self.cache.passed.insert(self.key, ());
    }

    /// The key of a response among its variants, which have a salt of their own from the first one on.
    pub(super) fn key_of(&self, stored: &mut Stored) -> Key {
        if !stored.vary.names.is_empty() {
            let known = self.cache.varies.get(&self.primary).filter(|known| known.names == stored.vary.names);
            stored.vary.salt = known.map_or_else(|| fastrand::u64(..), |known| known.salt);
        }
        stored.key(&self.request)
    }

    /// Stores a response; `on_disk` is its key, where its body is in a file.
    pub(super) fn store(self, mut stored: Stored, on_disk: Option<Key>) {
        let key = on_disk.unwrap_or_else(|| self.key_of(&mut stored));
        if stored.vary.names.is_empty() {
            self.cache.varies.invalidate(&stored.primary);
        } else {
            self.cache.varies.insert(stored.primary, Arc::new(stored.vary.clone()));
        }
        if let StoredBody::File { path, length } = &stored.body {
            let size = fs::metadata(path).map_or(*length, |about| about.len());
            self.cache.files.insert(key, OnDisk { path: path.clone(), size });
            if *length <= SMALL
                && let Ok((_, small)) = disk::read(path, SMALL)
            {
                stored = small;
            }
        }
        self.cache.memory.insert(key, Arc::new(stored));
    }

    /// Stores a response again, which the server has said to hold still.
    pub(crate) fn refresh(self, stored: Stored) -> Arc<Stored> {
        let stored = Arc::new(stored);
        self.cache.memory.insert(self.key, Arc::clone(&stored));
        if let Some(on_disk) = self.cache.files.get(&self.key) {
            let (written, key) = (Arc::clone(&stored), self.key);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = disk::rewrite(&on_disk.path, key, &written) {
                    tracing::warn!(%error, "a stored response could not be refreshed on disk");
                }
                // Others wait until here.
                drop(self);
            });
        }
        stored
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        lock(&self.cache.fills).remove(&self.key);
    }
}
