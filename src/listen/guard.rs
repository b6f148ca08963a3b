//! Guards that count connections: open ones, and active ones with a request in progress.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::listen::{
    address_counts::{AddressCounts, AddressGuard},
    listener::Listener,
    reserved_fds::{RefillGuard, ReservedFds},
    threads::WorkerGuard,
};

/// Guard of an open connection, which occupies a place until dropped.
pub(crate) struct ConnectionGuard {
    listener: Arc<Listener>,
    _room: OwnedSemaphorePermit,
    counted: Option<AddressGuard>,
    _seat: Option<WorkerGuard>,
    _refill: Option<RefillGuard>,
}

impl ConnectionGuard {
    /// Reserves a client connection; `counted` counts it against `max_connections_per_address`.
    pub(super) fn of_client(
        listener: Arc<Listener>,
        room: OwnedSemaphorePermit,
        counted: Option<AddressGuard>,
        seat: WorkerGuard,
    ) -> Self {
        listener.metrics.accepted.inc();
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener, _room: room, counted, _seat: Some(seat), _refill: None }
    }

    /// Reserves an operator connection. The file descriptor that is free when it ends is reserved for the next one.
    pub(crate) fn of_operator(
        listener: Arc<Listener>,
        room: OwnedSemaphorePermit,
        spare: ReservedFds,
    ) -> Self {
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener, _room: room, counted: None, _seat: None, _refill: Some(RefillGuard(spare)) }
    }

    /// Counts the connection against the address that a balancer has announced. Returns false if that has too many.
    pub(crate) fn count(&mut self, addresses: &Arc<AddressCounts>, announced: IpAddr, most: usize) -> bool {
        self.counted = addresses.take(announced, most);
        if self.counted.is_none() {
            self.listener.metrics.too_many.inc();
        }
        self.counted.is_some()
    }

    /// Listener that accepted the connection.
    pub(crate) fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Counts the connection as active until the guard is dropped.
    pub(crate) fn active(&self) -> ActiveGuard {
        self.listener.active.fetch_add(1, Ordering::Relaxed);
        ActiveGuard(Arc::clone(&self.listener))
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Guard of a connection with a request in progress.
pub(crate) struct ActiveGuard(Arc<Listener>);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
