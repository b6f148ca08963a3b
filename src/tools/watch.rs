//! Maps in effect, each with the task that reads it again when it has changed.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::watch,
    task::{AbortHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    address::ToolAddress,
    file::{FileKind, MapFile, ReadError},
    row::Row,
    snapshot::Snapshot,
    tool::ToolConnection,
};
use crate::{
    config::{ToolMap, UpstreamSettings},
    observe::Metrics,
};

/// Pause between two looks at a file. Changes are to be seen within a second.
const LOOK: Duration = Duration::from_millis(400);

/// Longest wait for the first reading of a map.
const FIRST: Duration = Duration::from_secs(1);

/// A map, its tools at present, and the task that watches it. The task ends with it.
pub(crate) struct LiveMap {
    /// Place of the map, for the log.
    place: String,
    snapshot: ArcSwapOption<Snapshot>,
    /// Whether it has been tried to read the map.
    tried: watch::Sender<bool>,
    /// What was wrong at the last reading.
    trouble: Mutex<Option<String>>,
    /// What is wrong with entries that are left out.
    left_out: Mutex<Vec<String>>,
    watcher: Mutex<Option<AbortHandle>>,
    settings: Arc<UpstreamSettings>,
    metrics: Arc<Metrics>,
}

/// Why there is no connection to a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTool {
    /// The map could not be read since the start.
    Unread,
    /// No tool has this key and token.
    Unknown,
    /// As many connections are open as may be.
    Full,
}

impl LiveMap {
    /// Starts to watch a map.
    pub(super) fn start(
        map: &ToolMap,
        settings: &Arc<UpstreamSettings>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let live = Arc::new(Self {
            place: map.to_string(),
            snapshot: ArcSwapOption::empty(),
            tried: watch::Sender::new(false),
            trouble: Mutex::default(),
            left_out: Mutex::default(),
            watcher: Mutex::default(),
            settings: Arc::clone(settings),
            metrics: Arc::clone(metrics),
        });
        let weak = Arc::downgrade(&live);
        let task = match map {
            ToolMap::Sqlite(path) => {
                tokio::spawn(watch_file(weak, MapFile::new(path.clone(), FileKind::Sqlite)))
            }
            ToolMap::Json(path) => tokio::spawn(watch_file(weak, MapFile::new(path.clone(), FileKind::Json))),
            #[cfg(feature = "postgres")]
            ToolMap::Postgres(url) => tokio::spawn(super::postgres::watch(weak, url.clone())),
            #[cfg(not(feature = "postgres"))]
            ToolMap::Postgres(_) => tokio::spawn(async {}),
        };
        *lock(&live.watcher) = Some(task.abort_handle());
        live
    }

    /// Waits a moment until the map has been read, or could not be.
    pub(super) async fn first_read(&self) {
        let _ = timeout(FIRST, self.tried.subscribe().wait_for(|tried| *tried)).await;
    }

    /// Settings of the connections to tools.
    pub(super) fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Number of tools.
    pub(super) fn len(&self) -> usize {
        self.snapshot.load().as_ref().map_or(0, |snapshot| snapshot.len())
    }

    /// Whether the map could not be read the last time.
    pub(super) fn is_troubled(&self) -> bool {
        lock(&self.trouble).is_some()
    }

    /// Finds a tool and counts a connection to it.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn connect(
        &self,
        address: ToolAddress<'_>,
        most: NonZeroUsize,
    ) -> Result<ToolConnection, NoTool> {
        let snapshot = self.snapshot.load();
        let tool = snapshot.as_ref().ok_or(NoTool::Unread)?.find(address).ok_or(NoTool::Unknown)?;
        let upstream = tool.upstream(&self.settings, &self.metrics);
        tool.connect(Arc::clone(upstream), most).ok_or(NoTool::Full)
    }

    /// Takes the entries that were read. An error leaves the tools as they are, and is logged once.
    pub(super) fn update(&self, result: Result<Vec<Row>, ReadError>) {
        match result {
            Ok(rows) => {
                let before = self.snapshot.load_full();
                let (snapshot, wrong) = Snapshot::new(rows, before.as_deref());
                let tools = snapshot.len();
                self.snapshot.store(Some(Arc::new(snapshot)));
                if lock(&self.trouble).take().is_some() {
                    tracing::info!(map = self.place, tools, "the map of interactive tools can be read again");
                }
                tracing::debug!(map = self.place, tools, "the map of interactive tools was read");
                let mut left_out = lock(&self.left_out);
                for reason in wrong.iter().filter(|reason| !left_out.contains(reason)) {
                    tracing::warn!(map = self.place, "an interactive tool is left out: {reason}");
                }
                *left_out = wrong;
            }
            Err(error) => {
                let error = error.to_string();
                let mut trouble = lock(&self.trouble);
                if trouble.as_ref() != Some(&error) {
                    tracing::error!(
                        map = self.place,
                        error,
                        tools = self.len(),
                        "the map of interactive tools cannot be read; the tools that are known stay"
                    );
                    *trouble = Some(error);
                }
            }
        }
        self.tried.send_replace(true);
    }
}

impl Drop for LiveMap {
    fn drop(&mut self) {
        if let Some(watcher) = lock(&self.watcher).take() {
            watcher.abort();
        }
    }
}

/// Reads a file again whenever it has changed. Only one thread waits for a file system that hangs.
async fn watch_file(map: Weak<LiveMap>, mut file: MapFile) {
    loop {
        let read = spawn_blocking(move || {
            let result = file.read_if_changed();
            (file, result)
        });
        // Fails only when the process ends.
        let Ok((back, result)) = read.await else { return };
        file = back;
        let Some(map) = map.upgrade() else { return };
        if let Some(result) = result {
            map.update(result);
        }
        drop(map);
        sleep(LOOK).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
