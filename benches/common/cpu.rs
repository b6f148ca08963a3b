//! What a program takes of the processors.

use std::{collections::BTreeMap, fs, io};

use crate::family::{family, threads};

/// How long each thread of a program has run so far, user and system, in nanoseconds.
pub struct Cpu(BTreeMap<u32, u64>);

impl Cpu {
    /// Of the process `pid` and its descendants. The scheduler counts in nanoseconds; the clock that `ps` shows ticks in
    /// hundredths of a second, which is too coarse for a download.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut times = BTreeMap::new();
        for process in family(pid) {
            for thread in threads(process) {
                // A thread may end at any time.
                if let Ok(text) = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")) {
                    let time = text.split(' ').next().and_then(|time| time.parse().ok());
                    times.insert(thread, time.ok_or_else(|| io::Error::other(text))?);
                }
            }
        }
        Ok(Self(times))
    }

    /// Seconds of CPU since `earlier`. What a thread took that has ended since then is not known and not counted: idle
    /// ones end.
    pub fn since(&self, earlier: &Self) -> f64 {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or(0);
        let taken: u64 = self.0.iter().map(|(thread, now)| now - before(thread)).sum();
        taken as f64 / 1e9
    }
}
