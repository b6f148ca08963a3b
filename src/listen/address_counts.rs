//! Counts of connections by client address, for the limit per address.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::net::client_prefix;

/// Number of connections by address. There are never more entries than connections.
#[derive(Debug, Default)]
pub(crate) struct AddressCounts(Mutex<HashMap<IpAddr, usize>>);

/// Guard of a connection that counts against its address until dropped.
#[derive(Debug)]
pub(crate) struct AddressGuard {
    addresses: Arc<AddressCounts>,
    address: IpAddr,
}

impl AddressCounts {
    /// Counts another connection of an address, unless it has `most` already.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<AddressGuard> {
        // An IPv6 client has more addresses than connections.
        let address = client_prefix(address);
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(AddressGuard { addresses: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.addresses.lock().entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_while_it_has_connections() {
        let addresses: Arc<AddressCounts> = Arc::default();
        let take = |address: &str| addresses.take(address.parse().unwrap(), 2);
        let (one, two) = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some() && take("192.0.2.1").is_none());
        let other = take("192.0.2.2");
        assert!(other.is_some());
        drop(one);
        assert!(take("192.0.2.1").is_some());
        let _net = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(take("2001:db8::3").is_none() && take("2001:db8:0:1::1").is_some());
        drop((two, other, _net));
        assert!(addresses.lock().is_empty());
    }
}
