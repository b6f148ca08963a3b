//! Which server gets a request: the one with the fewest requests in flight for its weight (`least_conn`).

/// A server as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Requests in flight on it.
    pub inflight: usize,
    /// Its share; at least 1.
    pub weight: u32,
    /// Whether it can be used, as far as is known.
    pub up: bool,
    /// Only for when no other is up.
    pub backup: bool,
    /// It has as many requests as it may have.
    pub full: bool,
    /// This request has failed there before: another server first.
    pub tried: bool,
    /// It owes answers and begins none: another server first.
    pub silent: bool,
}

/// The place of the chosen candidate; `None` when every usable one is full or none is usable.
///
/// Ties are broken at random by weight; `random(n)` gives a number below `n`.
pub fn least_conn(
    candidates: impl Iterator<Item = Candidate> + Clone,
    mut random: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let primary = candidates.clone().any(|candidate| candidate.up && !candidate.backup);
    let mut best: Option<(usize, Candidate)> = None;
    // The weights of those that tie with the best, itself included.
    let mut tied = 0;
    for (place, candidate) in candidates.enumerate() {
        if !candidate.up || candidate.full || (primary && candidate.backup) {
            continue;
        }
        let weight = u64::from(candidate.weight.max(1));
        match best.map(|(_, best)| compare(candidate, best)) {
            Some(std::cmp::Ordering::Greater) => continue,
            Some(std::cmp::Ordering::Equal) => {
                tied += weight;
                if random(tied) < weight {
                    best = Some((place, candidate));
                }
            }
            None | Some(std::cmp::Ordering::Less) => {
                best = Some((place, candidate));
                tied = weight;
            }
        }
    }
    best.map(|(place, _)| place)
}

/// By what was tried before, then by who answers, then by load per weight.
fn compare(a: Candidate, b: Candidate) -> std::cmp::Ordering {
    let load = |inflight: usize, weight: u32| inflight as u64 * u64::from(weight.max(1));
    let doubts = |candidate: Candidate| (candidate.tried, candidate.silent);
    doubts(a).cmp(&doubts(b)).then_with(|| load(a.inflight, b.weight).cmp(&load(b.inflight, a.weight)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Candidate = Candidate {
        inflight: 0,
        weight: 1,
        up: true,
        backup: false,
        full: false,
        tried: false,
        silent: false,
    };

    fn pick(candidates: &[Candidate]) -> Option<usize> {
        least_conn(candidates.iter().copied(), |_| u64::MAX)
    }

    #[test]
    fn the_least_loaded_is_chosen() {
        let loads = [3, 1, 2].map(|inflight| Candidate { inflight, ..IDLE });
        assert_eq!(pick(&loads), Some(1));
        let heavy = Candidate { inflight: 5, weight: 3, ..IDLE };
        let light = Candidate { inflight: 2, ..IDLE };
        assert_eq!(pick(&[light, heavy]), Some(1));
        assert_eq!(pick(&[]), None);
    }

    #[test]
    fn backups_wait_for_all_others_to_be_down() {
        let backup = Candidate { backup: true, ..IDLE };
        let busy = Candidate { inflight: 50, ..IDLE };
        assert_eq!(pick(&[backup, busy]), Some(1));
        assert_eq!(pick(&[backup, Candidate { up: false, ..busy }]), Some(0));
        assert_eq!(pick(&[backup, Candidate { full: true, ..busy }]), None, "full is not down: wait for it");
    }

    #[test]
    fn a_server_that_failed_this_request_is_the_last_choice() {
        let tried = Candidate { tried: true, ..IDLE };
        let busy = Candidate { inflight: 50, ..IDLE };
        assert_eq!(pick(&[tried, busy]), Some(1));
        assert_eq!(pick(&[tried]), Some(0));
    }

    #[test]
    fn a_silent_server_is_used_when_no_other_can_take_more() {
        let silent = Candidate { silent: true, ..IDLE };
        let busy = Candidate { inflight: 50, ..IDLE };
        assert_eq!(pick(&[silent, busy]), Some(1));
        assert_eq!(pick(&[silent, Candidate { full: true, ..busy }]), Some(0));
        assert_eq!(pick(&[silent, Candidate { up: false, ..busy }]), Some(0));
    }

    #[test]
    fn ties_follow_the_weights() {
        let mut seed = fastrand::Rng::with_seed(7);
        let servers = [Candidate { weight: 3, ..IDLE }, IDLE];
        let picks =
            (0..10_000).filter(|_| least_conn(servers.iter().copied(), |n| seed.u64(0..n)) == Some(0));
        let share = picks.count();
        assert!((7_300..7_700).contains(&share), "{share}");
    }

    prop_compose! {
        fn candidate()(inflight in 0..20usize, weight in 1..5u32, up: bool, backup: bool, full: bool, tried: bool, silent: bool)
            -> Candidate {
            Candidate { inflight, weight, up, backup, full, tried, silent }
        }
    }

    proptest! {
        #[test]
        fn never_one_that_is_down_or_full(servers in prop::collection::vec(candidate(), 0..8), random: u64) {
            let chosen = least_conn(servers.iter().copied(), |n| random % n);
            let usable = |server: &Candidate| server.up && !server.full;
            if let Some(chosen) = chosen {
                prop_assert!(usable(&servers[chosen]));
                let better = servers.iter().any(|server| usable(server)
                    && server.backup == servers[chosen].backup
                    && compare(*server, servers[chosen]).is_lt());
                prop_assert!(!better);
            } else {
                let primary = servers.iter().any(|server| server.up && !server.backup);
                prop_assert!(!servers.iter().any(|server| usable(server) && !(primary && server.backup)));
            }
        }

        #[test]
        fn as_much_as_can_be_equal_is_equal(count in 1..6usize, requests in 0..100usize, seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut servers = vec![IDLE; count];
            for _ in 0..requests {
                let chosen = least_conn(servers.iter().copied(), |n| random.u64(0..n));
                servers[chosen.unwrap()].inflight += 1;
            }
            let loads = servers.iter().map(|server| server.inflight);
            prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
        }
    }
}
