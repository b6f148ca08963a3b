//! Counting connections: each has a place while it is open, and is active while it has a request in hand.

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

/// A connection's place among all: counted while it is open.
pub(crate) struct ConnectionGuard {
    listener: Arc<Listener>,
    _room: OwnedSemaphorePermit,
    counted: Option<AddressGuard>,
    _seat: Option<WorkerGuard>,
    _refill: Option<RefillGuard>,
}

impl ConnectionGuard {
    /// That of a client, `counted` among those of its address if that is limited.
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

    /// That of an operator. The file that is free when it ends is kept for the next.
    pub(crate) fn of_operator(
        listener: Arc<Listener>,
        room: OwnedSemaphorePermit,
        spare: ReservedFds,
    ) -> Self {
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener, _room: room, counted: None, _seat: None, _refill: Some(RefillGuard(spare)) }
    }

    /// Counts it among those of the address that a balancer has announced; false when that has too many.
    pub(crate) fn count(&mut self, addresses: &Arc<AddressCounts>, announced: IpAddr, most: usize) -> bool {
        self.counted = addresses.take(announced, most);
        if self.counted.is_none() {
            self.listener.metrics.too_many.inc();
        }
        self.counted.is_some()
    }

    /// The listener that the connection came by.
    pub(crate) fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Counts the connection as active until the result is dropped.
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

/// A connection with a request in hand.
pub(crate) struct ActiveGuard(Arc<Listener>);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
