//! A listening socket: its purpose, trusted peers, and connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, futures::Notified};

use super::{OnRefused, RefusedRequest, bind};
use crate::{
    config::{Address, Listen},
    observe::ListenerMetrics,
    tls::Certificates,
};

/// Purpose of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sites, for clients.
    Sites,
    /// Metrics and status, for operators.
    Admin,
}

/// A listening socket.
pub struct Listener {
    /// Address as in the configuration; the `listener` label of metrics.
    pub configured: Address,
    /// Bound address, with the actual port if the configuration says 0.
    pub address: Address,
    /// Purpose of the listener.
    pub purpose: Purpose,
    settings: ArcSwap<Listen>,
    /// Certificates for TLS clients.
    certificates: Option<Arc<Certificates>>,
    /// Callback for requests that are refused before they are read.
    noted: OnRefused,
    is_closing: AtomicBool,
    /// Notifies tasks when the listener closes.
    closing: Notify,
    pub(crate) open: AtomicUsize,
    pub(crate) active: AtomicUsize,
    pub(crate) metrics: ListenerMetrics,
}

impl Listener {
    pub(crate) fn new(
        listen: &Listen,
        address: Address,
        purpose: Purpose,
        certificates: Option<Arc<Certificates>>,
        noted: OnRefused,
        metrics: ListenerMetrics,
    ) -> Self {
        Self {
            configured: listen.address.clone(),
            address,
            purpose,
            settings: ArcSwap::from_pointee(listen.clone()),
            certificates,
            noted,
            is_closing: AtomicBool::new(false),
            closing: Notify::new(),
            open: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Applies a new configuration to a listener that remains.
    pub(crate) fn change(&self, listen: &Listen) {
        self.settings.store(Arc::new(listen.clone()));
        bind::set_mode(listen);
    }

    /// Current configuration: among others, trusted peers and whether clients use TLS.
    pub fn settings(&self) -> arc_swap::Guard<Arc<Listen>> {
        self.settings.load()
    }

    pub(crate) fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// Number of open connections, and of those with a request in progress.
    pub fn connections(&self) -> (usize, usize) {
        (self.open.load(Ordering::Relaxed), self.active.load(Ordering::Relaxed))
    }

    /// Whether connections are to be closed after the current request.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Future that completes when the listener closes, even if that happens before the first poll. Check
    /// [`is_closing`](Self::is_closing) after creating it.
    pub(crate) fn closed(&self) -> Notified<'_> {
        self.closing.notified()
    }

    /// Logs a request that was refused before it was read in the access log; operators' requests are not logged.
    pub(crate) fn note(&self, refused: &RefusedRequest<'_>) {
        if self.purpose == Purpose::Sites {
            (self.noted)(refused);
        }
    }

    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        self.closing.notify_waiters();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener on {}", self.address)
    }
}
