//! One server of an upstream: what is known about it outlives reloads for as long as its address stays.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::silence::Silence;
use crate::config::ServerAddress;

/// A server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// Where it listens; its name in metrics and commands.
    pub address: ServerAddress,
    /// [`address`](Self::address) as text, made once.
    pub label: String,
    /// Requests in flight. Changed only under the lock of its upstream.
    pub(super) inflight: AtomicUsize,
    /// Whether it can be used, as far as is known.
    pub(super) up: AtomicBool,
    /// The address that a host name stands for at present.
    pub(super) resolved: ArcSwapOption<SocketAddr>,
    /// Wakes its prober.
    pub(super) look: Notify,
    silence: Mutex<Silence>,
    /// The task that asks whether it can be used.
    prober: Mutex<Option<AbortHandle>>,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Server {
    /// A server of which nothing is known is taken to be up, so that the first request finds out; one with a host
    /// name must be resolved first.
    pub(super) fn new(address: ServerAddress) -> Arc<Self> {
        Arc::new(Self {
            label: address.to_string(),
            inflight: AtomicUsize::new(0),
            up: AtomicBool::new(!matches!(address, ServerAddress::Name(..))),
            resolved: ArcSwapOption::empty(),
            look: Notify::new(),
            silence: Mutex::default(),
            prober: Mutex::default(),
            address,
        })
    }

    /// Requests in flight on it.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Whether it can be used, as far as is known.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether it owes answers and has begun none for a while: others are preferred.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.silence().is_silent(now)
    }

    pub(super) fn silence(&self) -> MutexGuard<'_, Silence> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a prober watches it.
    pub(super) fn is_watched(&self) -> bool {
        self.prober().is_some()
    }

    /// From now on this task watches it.
    pub(super) fn watched_by(&self, prober: AbortHandle) {
        if let Some(before) = self.prober().replace(prober) {
            before.abort();
        }
    }

    /// Nobody watches it any more.
    pub(super) fn unwatch(&self) {
        if let Some(prober) = self.prober().take() {
            prober.abort();
        }
    }

    fn prober(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to connect to; `None` for a host name that does not resolve.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match &self.address {
            ServerAddress::Tcp(address) => Some(Endpoint::Tcp(*address)),
            ServerAddress::Unix(path) => Some(Endpoint::Unix(path.clone())),
            ServerAddress::Name(..) => self.resolved.load().as_deref().copied().map(Endpoint::Tcp),
        }
    }
}
