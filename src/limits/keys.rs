//! What is remembered of clients, by a hash of what tells them apart: never more of them than may be, whoever asks.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::limits::rate::RateLimit;

/// Parts that are locked one at a time: threads seldom want the same.
const SHARDS: usize = 16;

/// Places that are looked at for one to use again, when there may be no more.
const LOOKS: usize = 8;

/// And while there may be: so a table is about as large as the clients of now are many, not those of the past.
const EARLY_LOOKS: usize = 2;

/// Clients by the hash of their key.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    shards: [Mutex<Shard>; SHARDS],
    most: AtomicUsize,
}

/// What holds for each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// How often it may ask.
    pub(crate) rate: Option<RateLimit>,
    /// How many of its requests may be in progress.
    pub(crate) connections: Option<u32>,
}

/// Why a request does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyRefused {
    /// It comes too soon, by so many nanoseconds.
    TooSoon(u64),
    /// Too many others of the client are in progress.
    TooMany,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<u64, usize, foldhash::fast::RandomState>,
    clients: Vec<ClientState>,
    /// Where the search for one that can be forgotten goes on.
    hand: usize,
}

#[derive(Debug, Clone, Copy)]
struct ClientState {
    key: u64,
    /// See [`RateLimit`]. Once it has passed there is nothing to remember.
    due: u64,
    /// Its requests in progress; while there are any it is not forgotten.
    active: u32,
}

impl KeyTable {
    /// Remembers so many clients at most from now on. Those beyond it that are there stay until others need their place.
    pub(crate) fn hold(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// How many clients are remembered.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).clients.len()).sum()
    }

    /// Lets a request of a client pass, or not; if it passes and requests in progress are counted, it is one until
    /// [`leave`](Self::leave).
    pub(crate) fn enter(&self, key: u64, now: u64, terms: &Terms) -> Result<(), KeyRefused> {
        let most = self.most.load(Ordering::Relaxed) / SHARDS;
        let mut shard = self.shard(key);
        let client = shard.client(key, now, most);
        if terms.connections.is_some_and(|most| client.active >= most) {
            return Err(KeyRefused::TooMany);
        }
        if let Some(rate) = terms.rate {
            rate.ask(&mut client.due, now).map_err(KeyRefused::TooSoon)?;
        }
        if terms.connections.is_some() {
            client.active += 1;
        }
        Ok(())
    }

    /// A request that counted as in progress is over.
    pub(crate) fn leave(&self, key: u64) {
        if let Some(client) = self.shard(key).known(key) {
            client.active = client.active.saturating_sub(1);
        }
    }

    /// A request has passed here and not elsewhere: it is as if it had not come.
    pub(crate) fn take_back(&self, key: u64, rate: RateLimit) {
        if let Some(client) = self.shard(key).known(key) {
            rate.take_back(&mut client.due);
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
    fn known(&mut self, key: u64) -> Option<&mut ClientState> {
        self.places.get(&key).map(|place| &mut self.clients[*place])
    }

    /// The client of a key, which gets a place when it has none.
    fn client(&mut self, key: u64, now: u64, most: usize) -> &mut ClientState {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                let new = ClientState { key, due: 0, active: 0 };
                let place = match self.free(now, most) {
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

    /// A place that can be used again: of a client of whom there is nothing to remember, else of the one, among a few,
    /// of whom there is least. Where all of these have requests in progress there is none, and one more is made: there
    /// are never many more of them than requests.
    fn free(&mut self, now: u64, most: usize) -> Option<usize> {
        let is_full = self.clients.len() >= most;
        let looks = if is_full { LOOKS } else { EARLY_LOOKS };
        let mut least: Option<usize> = None;
        for _ in 0..looks.min(self.clients.len()) {
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

    /// A key as hashing makes it.
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
        // A look at all keys for each would be 10^10 looks.
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
            // A thousand at a time have something to remember.
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
        /// Against a table without bounds: while there is room for all, the answers are the same.
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
                    let asked = terms.rate.unwrap().ask(due, now).map_err(KeyRefused::TooSoon);
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
