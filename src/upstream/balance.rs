//! Load balancing: pure functions that choose the server for a request.
//!
//! Every method chooses among the same candidates. A candidate is usable and not full. A backup is a candidate only
//! while no other server is usable, or after this request has failed at all of them. Among those, only the servers
//! with the fewest doubts remain; the methods differ in how they choose among these.

/// Snapshot of a server for one choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Requests in flight, in hundredths of a request.
    pub load: u64,
    /// Configured weight, in thousandths; at least 1.
    pub weight: u64,
    /// Whether the server is up, as far as is known, and not draining.
    pub usable: bool,
    /// A backup server: eligible only while no other server is usable, or after the request has failed at all others.
    pub backup: bool,
    /// Whether the server has reached its `max_requests`.
    pub full: bool,
    /// Reasons to prefer another server.
    pub doubts: Doubts,
    /// Hash of the server's label, for `hash`.
    pub id: u64,
    /// Accumulated weight for `round_robin`, carried from one choice to the next.
    pub credit: i64,
}

impl Candidate {
    /// Whether this server keeps the backups out of the choice.
    fn blocks_backups(&self) -> bool {
        self.usable && !self.backup && !self.doubts.tried
    }
}

/// Reasons to avoid a server while another has fewer. Fields are in order of importance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubts {
    /// Whether this request has already failed at the server.
    pub tried: bool,
    /// Passive health check: the server has responses outstanding and has begun none for a while.
    pub silent: bool,
    /// Passive health check: the server fails far more often than its peers.
    pub outlier: bool,
}

/// Load-balancing method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Fewest requests in flight relative to the weight; ties are broken at random by weight.
    LeastConn,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Power of two choices: the less loaded of two servers drawn at random by weight.
    Random,
    /// Rendezvous hashing: the same server for the same key.
    Hash(u64),
}

/// Index of the chosen candidate; `None` when no usable candidate has room.
///
/// `random(n)` returns a number below `n`.
pub fn choose(method: Method, candidates: &mut [Candidate], random: impl FnMut(u64) -> u64) -> Option<usize> {
    let primary = candidates.iter().any(Candidate::blocks_backups);
    let open = |candidate: &Candidate| candidate.usable && !candidate.full && !(primary && candidate.backup);
    let least =
        candidates.iter().filter(|candidate| open(candidate)).map(|candidate| candidate.doubts).min()?;
    let eligible = |candidate: &Candidate| open(candidate) && candidate.doubts == least;
    match method {
        Method::LeastConn => least_conn(candidates, eligible, random),
        Method::RoundRobin => round_robin(candidates, eligible),
        Method::Random => two_choices(candidates, eligible, random),
        Method::Hash(key) => rendezvous(candidates, eligible, key),
    }
}

fn least_conn(
    candidates: &[Candidate],
    eligible: impl Fn(&Candidate) -> bool,
    mut random: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let mut best: Option<(usize, &Candidate)> = None;
    // Sum of the weights of the candidates that tie with the best, including the best.
    let mut tied = 0;
    for (place, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| eligible(candidate)) {
        match best.map(|(_, best)| by_load(candidate, best)) {
            Some(std::cmp::Ordering::Greater) => continue,
            Some(std::cmp::Ordering::Equal) => {
                tied += candidate.weight;
                if random(tied) < candidate.weight {
                    best = Some((place, candidate));
                }
            }
            None | Some(std::cmp::Ordering::Less) => {
                best = Some((place, candidate));
                tied = candidate.weight;
            }
        }
    }
    best.map(|(place, _)| place)
}

/// Compares load relative to weight.
fn by_load(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    // Loads reported by servers may be large enough to overflow 64 bits.
    let product = |load: u64, weight: u64| u128::from(load) * u128::from(weight);
    product(a.load, b.weight).cmp(&product(b.load, a.weight))
}

/// Smooth weighted round robin. Each choice adds every candidate's weight to its credit; the candidate with the most
/// credit is chosen and pays the total. The turns of a heavy server are therefore spread out between those of the
/// others.
fn round_robin(candidates: &mut [Candidate], eligible: impl Fn(&Candidate) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (place, candidate) in candidates.iter_mut().enumerate() {
        if !candidate.usable {
            // A server that returns does not catch up on the turns it missed.
            candidate.credit = 0;
        }
        if !eligible(candidate) {
            continue;
        }
        let weight = i64::try_from(candidate.weight).unwrap_or(i64::MAX / 1_000_000);
        candidate.credit += weight;
        total += weight;
        if best.is_none_or(|(_, most)| candidate.credit > most) {
            best = Some((place, candidate.credit));
        }
    }
    let (place, _) = best?;
    candidates[place].credit -= total;
    Some(place)
}

/// Power of two choices. The first server is drawn by weight alone and is chosen unless the second is less loaded.
fn two_choices(
    candidates: &[Candidate],
    eligible: impl Fn(&Candidate) -> bool,
    mut random: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let mut by_weight = |except: Option<usize>| {
        let open = || {
            let all = candidates.iter().enumerate();
            all.filter(|(place, candidate)| eligible(candidate) && Some(*place) != except)
        };
        let total: u64 = open().map(|(_, candidate)| candidate.weight).sum();
        let mut left = if total > 0 { random(total) } else { return None };
        open().find(|(_, candidate)| {
            let found = left < candidate.weight;
            left = left.saturating_sub(candidate.weight);
            found
        })
    };
    let (first, one) = by_weight(None)?;
    match by_weight(Some(first)) {
        Some((second, other)) if by_load(other, one).is_lt() => Some(second),
        Some(_) | None => Some(first),
    }
}

/// Rendezvous hashing. Each server draws a number for the key, weighted by its share; the largest number is chosen.
/// Removing a server moves only its own keys; adding one takes an equal share from every other server.
fn rendezvous(candidates: &[Candidate], eligible: impl Fn(&Candidate) -> bool, key: u64) -> Option<usize> {
    let score = |candidate: &Candidate| {
        // Strictly between 0 and 1: a float holds 53 bits.
        let drawn = ((mix(key ^ mix(candidate.id)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        candidate.weight as f64 / -drawn.ln()
    };
    let open = candidates.iter().enumerate().filter(|(_, candidate)| eligible(candidate));
    open.map(|(place, candidate)| (place, score(candidate)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(place, _)| place)
}

/// Hash of a text (FNV-1a). Identical in every process and version, so that several proxies agree.
pub fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// Spreads a number over all bits (the finalizer of SplitMix64).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Candidate = Candidate {
        load: 0,
        weight: 1000,
        usable: true,
        backup: false,
        full: false,
        doubts: Doubts { tried: false, silent: false, outlier: false },
        id: 0,
        credit: 0,
    };
    const METHODS: [Method; 4] = [Method::LeastConn, Method::RoundRobin, Method::Random, Method::Hash(7)];

    fn pick(candidates: &[Candidate]) -> Option<usize> {
        choose(Method::LeastConn, &mut candidates.to_vec(), |n| n - 1)
    }

    #[test]
    fn the_least_loaded_is_chosen() {
        let loads = [300, 100, 200].map(|load| Candidate { load, ..IDLE });
        assert_eq!(pick(&loads), Some(1));
        let heavy = Candidate { load: 500, weight: 3000, ..IDLE };
        let light = Candidate { load: 200, ..IDLE };
        assert_eq!(pick(&[light, heavy]), Some(1));
        assert_eq!(pick(&[]), None);
    }

    #[test]
    fn backups_wait_for_all_others_to_be_out() {
        let backup = Candidate { backup: true, ..IDLE };
        let busy = Candidate { load: 5000, ..IDLE };
        assert_eq!(pick(&[backup, busy]), Some(1));
        assert_eq!(pick(&[backup, Candidate { usable: false, ..busy }]), Some(0));
        assert_eq!(pick(&[backup, Candidate { full: true, ..busy }]), None, "full is not down: wait for it");
        let tried = Candidate { doubts: Doubts { tried: true, ..IDLE.doubts }, ..IDLE };
        assert_eq!(pick(&[backup, tried]), Some(0), "another one than before");
        assert_eq!(pick(&[backup, tried, busy]), Some(2));
    }

    #[test]
    fn a_doubtful_server_is_used_when_no_other_can_take_more() {
        let busy = Candidate { load: 5000, ..IDLE };
        let doubts = |tried, silent, outlier| Candidate { doubts: Doubts { tried, silent, outlier }, ..IDLE };
        for doubtful in [doubts(true, false, false), doubts(false, true, false), doubts(false, false, true)] {
            assert_eq!(pick(&[doubtful, busy]), Some(1));
            assert_eq!(pick(&[doubtful]), Some(0));
            assert_eq!(pick(&[doubtful, Candidate { full: true, ..busy }]), Some(0));
            assert_eq!(pick(&[doubtful, Candidate { usable: false, ..busy }]), Some(0));
        }
        assert_eq!(pick(&[doubts(true, false, false), doubts(false, true, false)]), Some(1));
        assert_eq!(pick(&[doubts(false, true, false), doubts(false, false, true)]), Some(1));
    }

    #[test]
    fn turns_of_a_heavy_server_are_spread_out() {
        let mut servers = [5000, 1000, 1000].map(|weight| Candidate { weight, ..IDLE });
        let turns: Vec<_> =
            (0..7).map(|_| choose(Method::RoundRobin, &mut servers, |_| 0).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn names_have_the_same_number_in_every_version() {
        assert_eq!(hash(b"unix:/run/galaxy/gunicorn0.sock"), 2_070_062_817_558_452_411);
    }

    /// Share of `times` choices that each of `servers` receives, when each request ends before the next.
    fn shares(method: impl Fn(u64) -> Method, servers: &mut [Candidate], times: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; servers.len()];
        for time in 0..times {
            counts[choose(method(mix(time)), servers, |n| random.u64(0..n)).unwrap()] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / times as f64).collect()
    }

    #[test]
    fn every_way_keeps_to_the_weights() {
        let weights = [3000, 1000, 1000, 5000];
        let mut servers: Vec<_> = weights.iter().map(|&weight| Candidate { weight, ..IDLE }).collect();
        servers.iter_mut().zip(1..).for_each(|(server, id)| server.id = mix(id));
        let ways: [fn(u64) -> Method; 4] =
            [|_| Method::LeastConn, |_| Method::RoundRobin, |_| Method::Random, Method::Hash];
        for way in ways {
            for (share, weight) in shares(way, &mut servers, 100_000).iter().zip(weights) {
                let due = weight as f64 / 10_000.0;
                assert!((share - due).abs() < 0.02, "{:?}: {share} for {due}", way(0));
            }
        }
    }

    prop_compose! {
        fn candidate()(load in 0..2000u64, weight in 1..5000u64, usable: bool, backup: bool, full: bool,
            doubts in any::<(bool, bool, bool)>(), id: u64, credit in -5000..5000i64) -> Candidate {
            let (tried, silent, outlier) = doubts;
            Candidate { load, weight, usable, backup, full, doubts: Doubts { tried, silent, outlier }, id, credit }
        }
    }

    proptest! {
        #[test]
        fn never_one_that_is_out_or_full_or_worse(
            servers in prop::collection::vec(candidate(), 0..8), random: u64, method in 0..4usize,
        ) {
            let chosen = choose(METHODS[method], &mut servers.clone(), |n| random % n);
            let usable = |server: &Candidate| server.usable && !server.full;
            if let Some(chosen) = chosen {
                let chosen = servers[chosen];
                prop_assert!(usable(&chosen));
                let others = || servers.iter().filter(|server| usable(server) && server.backup == chosen.backup);
                prop_assert!(others().all(|server| chosen.doubts <= server.doubts));
                if METHODS[method] == Method::LeastConn {
                    let mut equals = others().filter(|server| server.doubts == chosen.doubts);
                    prop_assert!(equals.all(|server| by_load(&chosen, server).is_le()));
                }
                let primary = servers.iter().any(Candidate::blocks_backups);
                prop_assert!(!(chosen.backup && primary));
            } else {
                let primary = servers.iter().any(Candidate::blocks_backups);
                prop_assert!(!servers.iter().any(|server| usable(server) && !(primary && server.backup)));
            }
        }

        #[test]
        fn as_much_as_can_be_equal_is_equal(
            weights in prop::collection::vec(1..5u64, 1..6), requests in 0..100usize, seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut servers: Vec<_> =
                weights.iter().map(|weight| Candidate { weight: weight * 1000, ..IDLE }).collect();
            for _ in 0..requests {
                let chosen = choose(Method::LeastConn, &mut servers, |n| random.u64(0..n));
                servers[chosen.unwrap()].load += 100;
            }
            // No server exceeds its share by a whole request.
            for server in &servers {
                for other in &servers {
                    prop_assert!(server.load.saturating_sub(100) * other.weight <= other.load * server.weight);
                }
            }
        }

        #[test]
        fn only_the_keys_of_a_server_that_goes_move(
            count in 2..10u64, gone in 0..10usize, seed: u64, weights in prop::collection::vec(1..4u64, 10),
        ) {
            let mut servers: Vec<_> = (0..count)
                .map(|n| Candidate { id: mix(seed ^ n), weight: weights[n as usize] * 1000, ..IDLE })
                .collect();
            let gone = gone % servers.len();
            let keys = 2000;
            let place = |servers: &mut [Candidate], key| choose(Method::Hash(mix(key)), servers, |_| 0).unwrap();
            let before: Vec<_> = (0..keys).map(|key| place(&mut servers, key)).collect();
            servers[gone].usable = false;
            let mut moved = 0;
            for (key, &before) in (0..keys).zip(&before) {
                let now = place(&mut servers, key);
                prop_assert!(now == before || before == gone, "a key of another server has moved");
                moved += u64::from(now != before);
            }
            let total: u64 = servers.iter().map(|server| server.weight).sum();
            let due = servers[gone].weight as f64 / total as f64;
            prop_assert!(moved as f64 / keys as f64 <= due + 0.05, "{moved} of {keys} for a share of {due}");
        }
    }
}
