//! One socket that is listened on: what it is for, whom it trusts, and who is connected.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, futures::Notified};

use super::{Noted, RefusedRequest, bind};
use crate::{
    config::{Address, Listen},
    observe::ListenerMetrics,
    tls::Certificates,
};

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sites, for clients.
    Sites,
    /// Metrics and status, for operators.
    Admin,
}

/// One socket that is listened on.
pub struct Listener {
    /// Its address as the configuration has it; the `listener` label of metrics.
    pub configured: Address,
    /// Its address as bound: with a port where the configuration says 0.
    pub address: Address,
    /// What it is for.
    pub purpose: Purpose,
    settings: ArcSwap<Listen>,
    /// What clients who speak TLS are shown.
    certificates: Option<Arc<Certificates>>,
    /// Takes note of requests that are refused unread.
    noted: Noted,
    is_closing: AtomicBool,
    /// Tells those who wait for it.
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
        noted: Noted,
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

    /// Takes over what a new configuration says of a listener that stays.
    pub(crate) fn change(&self, listen: &Listen) {
        self.settings.store(Arc::new(listen.clone()));
        bind::set_mode(listen);
    }

    /// What the configuration says of it: whose forwarded headers are believed, whether clients speak TLS.
    pub fn settings(&self) -> arc_swap::Guard<Arc<Listen>> {
        self.settings.load()
    }

    pub(crate) fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.certificates.as_ref()
    }

    /// Connections open now, and how many of them have a request in hand.
    pub fn connections(&self) -> (usize, usize) {
        (self.open.load(Ordering::Relaxed), self.active.load(Ordering::Relaxed))
    }

    /// Whether connections are to be closed after the request in hand.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Ready when they are from now on. Whoever has this may ask [`is_closing`](Self::is_closing) and be sure to hear.
    pub(crate) fn closed(&self) -> Notified<'_> {
        self.closing.notified()
    }

    /// Has the access log say that a request was refused unread; operators' are not in it.
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
