//! Interactive tools of Galaxy: the map that says where each running tool listens, kept up to date, and the tools in it.
//!
//! ```text
//! address   the key and the token of a tool, in a host name or in a path
//! row       an entry of the map as it is written
//! tool      a tool: its server, and the connections to it
//! snapshot  the tools of a map at one time, found without a lock
//! file      maps in files: SQLite (`sqlite`) and JSON (`json`)
//! watch     the task that reads a map again when it has changed
//! ```

mod address;
mod file;
mod json;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_tls;
mod row;
mod snapshot;
mod sqlite;
mod tool;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config::{self, Action, Config, InteractiveTools},
    observe::Metrics,
};

pub(crate) use address::{ToolAddress, of_host, of_path};
pub(crate) use tool::ToolConnection;
pub(crate) use watch::{LiveMap, NoTool};

/// Maps of the configuration in effect. One that several routes name is read once.
#[derive(Default)]
pub struct ToolMaps {
    live: Mutex<Opened>,
}

/// Maps by their place.
pub(crate) type Opened = HashMap<config::ToolMap, Arc<LiveMap>>;

impl ToolMaps {
    /// Opens the maps of a configuration, keeping those that are in effect, and waits a moment until each has been read.
    pub(crate) async fn open(&self, config: &Config, metrics: &Arc<Metrics>) -> Opened {
        let mut opened = Opened::new();
        for tools in config.sites.iter().flat_map(|site| &site.routes).filter_map(of_route) {
            let resolver = &tools.upstream.resolver;
            let live = self.find(&tools.map).filter(|live| live.settings().resolver == *resolver);
            opened.entry(tools.map.clone()).or_insert_with(|| {
                live.unwrap_or_else(|| LiveMap::start(&tools.map, &tools.upstream, metrics))
            });
        }
        for map in opened.values() {
            map.first_read().await;
        }
        opened
    }

    /// Replaces the maps. Those that no configuration has any more end.
    pub(crate) fn replace(&self, opened: Opened) {
        let before = std::mem::replace(&mut *self.lock(), opened);
        drop(before);
    }

    /// The map at this place.
    pub(crate) fn find(&self, map: &config::ToolMap) -> Option<Arc<LiveMap>> {
        self.lock().get(map).cloned()
    }

    /// Number of tools in all maps, and of maps that could not be read the last time.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let live = self.lock();
        (live.values().map(|map| map.len()).sum(), live.values().filter(|map| map.is_troubled()).count())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_route(route: &config::RouteSettings) -> Option<&InteractiveTools> {
    match &route.action {
        Action::InteractiveTools(tools) => Some(tools),
        _ => None,
    }
}
