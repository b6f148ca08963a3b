//! Counting connections: each has a place while it is open, and is active while it has a request in hand.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Listener,
    addresses::{Addresses, Counted},
    spare::{Refill, Spare},
    workers::Seat,
};

/// A connection's place among all: counted while it is open.
pub(crate) struct Place {
    listener: Arc<Listener>,
    _room: OwnedSemaphorePermit,
    counted: Option<Counted>,
    _seat: Option<Seat>,
    _refill: Option<Refill>,
}

impl Place {
    /// That of a client, `counted` among those of its address if that is limited.
    pub(super) fn of_client(
        listener: Arc<Listener>,
        room: OwnedSemaphorePermit,
        counted: Option<Counted>,
        seat: Seat,
    ) -> Self {
        listener.metrics.accepted.inc();
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener, _room: room, counted, _seat: Some(seat), _refill: None }
    }

    /// That of an operator. The file that is free when it ends is kept for the next.
    pub(crate) fn of_operator(listener: Arc<Listener>, room: OwnedSemaphorePermit, spare: Spare) -> Self {
        listener.open.fetch_add(1, Ordering::Relaxed);
        Self { listener, _room: room, counted: None, _seat: None, _refill: Some(Refill(spare)) }
    }

    /// Counts it among those of the address that a balancer has announced; false when that has too many.
    pub(crate) fn count(&mut self, addresses: &Arc<Addresses>, announced: IpAddr, most: usize) -> bool {
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
    pub(crate) fn active(&self) -> Active {
        self.listener.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(&self.listener))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection with a request in hand.
pub(crate) struct Active(Arc<Listener>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
