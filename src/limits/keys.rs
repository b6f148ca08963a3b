//! Table of clients, by hash of their keys, with a bounded number of entries.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::limits::rate::RateLimit;

/// Shards with a lock each, to avoid contention.
const SHARDS: usize = 16;

/// Entries that are examined for reuse when the table is full.
const EXAMINED: usize = 8;

/// Entries that are examined for reuse before that, so that the size of the table follows the number of current
/// clients and not of past ones.
const EXAMINED_EARLY: usize = 2;

/// Clients, by hash of their keys.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    shards: [Mutex<Shard>; SHARDS],
    most: AtomicUsize,
}

/// Limits of each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Rate of requests.
    pub(crate) rate: Option<RateLimit>,
    /// Most requests in progress.
    pub(crate) connections: Option<u32>,
}

/// Reason why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRefused {
    /// Too soon, by this many nanoseconds.
    TooSoon(u64),
    /// Too many other requests of the client are in progress.
    TooMany,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<u64, usize, foldhash::fast::RandomState>,
    clients: Vec<ClientState>,
    /// Position at which the search for a reusable entry continues.
    hand: usize,
}

#[derive(Debug, Clone, Copy)]
struct ClientState {
    key: u64,
    /// See [`RateLimit`]. Once this time has passed there is nothing to remember.
    due: u64,
    /// Requests in progress; an entry with any is not reused.
    active: u32,
}

impl KeyTable {
    /// Sets the most entries from now on. Existing entries beyond that stay until they are reused.
    pub(crate) fn hold(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).clients.len()).sum()
    }

    /// Admits or refuses a request of a client. If requests in progress are limited, an admitted one counts until
    /// [`leave`](Self::leave).
    pub(crate) fn enter(&self, key: u64, now: u64, terms: &Terms) -> Result<(), KeyRefused> {
        let most = self.most.load(Ordering::Relaxed) / SHARDS;
        let mut shard = self.shard(key);
        let client = shard.find_or_insert(key, now, most);
        if terms.connections.is_some_and(|most| client.active >= most) {
            return Err(KeyRefused::TooMany);
        }
        if let Some(rate) = terms.rate {
            rate.admit(&mut client.due, now).map_err(KeyRefused::TooSoon)?;
        }
        if terms.connections.is_some() {
            client.active += 1;
        }
        Ok(())
    }

    /// Ends a request that counted as in progress.
    pub(crate) fn leave(&self, key: u64) {
        if let Some(client) = self.shard(key).find(key) {
            client.active = client.active.saturating_sub(1);
        }
    }

    /// Undoes the admission of a request that another limit has refused.
    pub(crate) fn undo(&self, key: u64, rate: RateLimit) {
        if let Some(client) = self.shard(key).find(key) {
            rate.undo(&mut client.due);
        }
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[key as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn find(&mut self, key: u64) -> Option<&mut ClientState> {
        self.places.get(&key).map(|place| &mut self.clients[*place])
    }

    /// Entry of a key; created if there is none.
    fn find_or_insert(&mut self, key: u64, now: u64, most: usize) -> &mut ClientState {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                let new = ClientState { key, due: 0, active: 0 };
                let place = match self.reusable(now, most) {
                    Some(place) => {
                        let old = std::mem::replace(&mut self.clients[place], new);
                        self.places.remove(&old.key);
                        place
                    }
                    None => {
                        self.clients.push(new);
                        self.clients.len() - 1
                    }
                };
                self.places.insert(key, place);
                place
            }
        };
        &mut self.clients[place]
    }

    /// Entry to reuse: one with nothing to remember, otherwise the one with the least among a few. `None` if all of
    /// these have requests in progress; a new entry is then created, so there are never many more entries than
    /// requests.
    fn reusable(&mut self, now: u64, most: usize) -> Option<usize> {
        let is_full = self.clients.len() >= most;
        let examined = if is_full { EXAMINED } else { EXAMINED_EARLY };
        let mut least: Option<usize> = None;
        for _ in 0..examined.min(self.clients.len()) {
            self.hand = (self.hand + 1) % self.clients.len();
            let client = self.clients[self.hand];
            if client.active > 0 {
                continue;
            }
            if client.due <= now {
                return Some(self.hand);
            }
            if is_full && least.is_none_or(|least| client.due < self.clients[least].due) {
                least = Some(self.hand);
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Instant};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn keys(most: usize) -> KeyTable {
        let keys = KeyTable::default();
        keys.hold(most);
        keys
    }

    fn rate(interval: u64, burst: u32) -> Terms {
        Terms { rate: Some(RateLimit::new(interval, burst)), connections: None }
    }

    fn connections(most: u32) -> Terms {
        Terms { rate: None, connections: Some(most) }
    }

    /// A key that looks like the result of hashing.
    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn a_flood_of_a_million_keys_takes_no_more_than_it_may() {
        const MOST: usize = 10_000;
        let keys = keys(MOST);
        let start = Instant::now();
        for number in 0..1_000_000 {
            keys.enter(key(number), SECOND + number, &rate(SECOND, 10)).unwrap();
        }
        assert_eq!(keys.len(), MOST);
        for shard in &keys.shards {
            let shard = lock(shard);
            assert_eq!(shard.places.len(), shard.clients.len());
            assert!(shard.clients.capacity() <= 2 * MOST / SHARDS + 8, "{}", shard.clients.capacity());
            assert!(shard.places.capacity() <= 4 * MOST / SHARDS, "{}", shard.places.capacity());
        }
        // Examining all keys for each request would take 10^10 steps.
        assert!(start.elapsed().as_secs() < 300, "{:?}", start.elapsed());
    }

    #[test]
    fn a_flood_does_not_wash_away_who_is_far_ahead() {
        let keys = keys(1600);
        let terms = rate(SECOND, 100);
        let greedy = key(u64::MAX);
        while keys.enter(greedy, SECOND, &terms).is_ok() {}
        for number in 0..100_000 {
            keys.enter(key(number), SECOND, &terms).unwrap();
        }
        assert_eq!(keys.enter(greedy, SECOND, &terms), Err(KeyRefused::TooSoon(SECOND)));
    }

    #[test]
    fn who_has_recovered_is_forgotten_first_and_early() {
        let keys = keys(100_000);
        for number in 0..100_000_u64 {
            // A thousand entries at a time have something to remember.
            keys.enter(key(number), number * SECOND / 1000, &rate(SECOND, 10)).unwrap();
        }
        assert!(keys.len() < 5000, "{}", keys.len());
    }

    #[test]
    fn who_has_requests_in_progress_is_not_forgotten() {
        let keys = keys(160);
        let (terms, staying) = (connections(2), key(u64::MAX));
        keys.enter(staying, 1, &terms).unwrap();
        keys.enter(staying, 1, &terms).unwrap();
        for number in 0..10_000 {
            keys.enter(key(number), 1, &terms).unwrap();
            keys.leave(key(number));
        }
        assert_eq!(keys.enter(staying, 1, &terms), Err(KeyRefused::TooMany));
        keys.leave(staying);
        keys.enter(staying, 1, &terms).unwrap();
        assert!(keys.len() <= 160);
    }

    #[test]
    fn more_in_progress_than_keys_may_be_are_counted_all_the_same() {
        let keys = keys(160);
        for number in 0..1000 {
            keys.enter(key(number), 1, &connections(1)).unwrap();
        }
        assert!((0..1000).all(|number| keys.enter(key(number), 1, &connections(1)).is_err()));
        (0..1000).for_each(|number| keys.leave(key(number)));
        assert!(keys.len() <= 1000);
    }

    proptest! {
        /// Compares with a table without bounds: while there is room for all, the results are equal.
        #[test]
        fn with_room_for_all_each_key_has_its_own_count(
            asked in prop::collection::vec((0..20_u64, 0..SECOND / 4, any::<bool>()), 1..300),
            burst in 0..4_u32,
            most in 1..4_u32,
        ) {
            let terms = Terms { rate: Some(RateLimit::new(SECOND / 4, burst)), connections: Some(most) };
            let keys = keys(SHARDS * 20);
            let mut all: HashMap<u64, (u64, u32)> = HashMap::new();
            let mut now = 1;
            for (number, pause, leaves) in asked {
                now += pause;
                let (due, active) = all.entry(number).or_default();
                let expected = if *active >= most {
                    Err(KeyRefused::TooMany)
                } else {
                    let asked = terms.rate.unwrap().admit(due, now).map_err(KeyRefused::TooSoon);
                    *active += u32::from(asked.is_ok());
                    asked
                };
                prop_assert_eq!(keys.enter(key(number), now, &terms), expected);
                if leaves && *active > 0 {
                    *active -= 1;
                    keys.leave(key(number));
                }
            }
        }
    }
}
