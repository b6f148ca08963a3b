//! What is asked for, and when: the same for every system.

/// One request. Times are in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it is sent, counted from the first moment of the run.
    pub at: f64,
    /// How long an idle worker works on it.
    pub work: f64,
}

/// How many workers every system has.
pub const WORKERS: usize = 4;

/// The work of a request in seconds, and how many requests of a hundred are of that kind.
const KINDS: [(f64, usize); 3] = [(0.020, 90), (0.200, 9), (3.0, 1)];

/// The arrivals of a Poisson process over `seconds`, which keep the workers busy for the share `load` of the time.
///
/// Their number, and how many are of each kind, are exactly what is expected of such a process; when each comes, and
/// in which order the kinds come, is random. So a short run has the load that it says.
/// Every `seed` has others.
pub fn arrivals(load: f64, seconds: f64, seed: u64) -> Vec<Arrival> {
    let mean_work = KINDS.iter().map(|(work, share)| work * *share as f64 / 100.0).sum::<f64>();
    let hundreds = (load * WORKERS as f64 * seconds / mean_work / 100.0).round() as usize;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut works: Vec<f64> =
        KINDS.iter().flat_map(|(work, share)| std::iter::repeat_n(*work, share * hundreds)).collect();
    random.shuffle(&mut works);
    let mut times: Vec<f64> = works.iter().map(|_| random.f64() * seconds).collect();
    times.sort_by(f64::total_cmp);
    times.into_iter().zip(works).map(|(at, work)| Arrival { at, work }).collect()
}
