//! Memory limit: probing it new requests are refused, so that those in progress can finish.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;

use crate::response::Explanation;

/// Interval at which memory usage is measured. Requests use the last result.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// `Retry-After` in seconds for refused clients.
const RETRY_AFTER: u32 = 5;

/// Hysteresis: requests are admitted again when this part of the limit is free, a sixteenth. At the limit itself, one
/// measurement would admit more than the next could stop in time.
const ROOM: u64 = 16;

/// Part of the limit by which growth is ignored: threads and caches allocate something for the first time.
const NOISE: u64 = 64;

/// Measurements after which grown memory is accepted as the new baseline: half a minute.
const ACCEPTED_AFTER: u32 = 300;

/// Most requests admitted between two measurements: no limit in practice.
const UNLIMITED: u32 = 1 << 20;

/// Memory limit, and whether it is exceeded.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Limit in bytes; 0 for none.
    ceiling: AtomicU64,
    is_full: AtomicBool,
    /// Requests that may still be admitted until the next measurement.
    admitted: AtomicU32,
}

impl Memory {
    /// Sets the limit; `None` removes it.
    pub(crate) fn change(&self, ceiling: Option<u64>) {
        self.ceiling.store(ceiling.unwrap_or(0), Ordering::Relaxed);
        if ceiling.is_none() {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the limit is exceeded.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Limit in bytes, if there is one.
    pub(crate) fn ceiling(&self) -> Option<u64> {
        Some(self.ceiling.load(Ordering::Relaxed)).filter(|ceiling| *ceiling > 0)
    }

    /// Admits or refuses a new request.
    pub(crate) fn pass(&self) -> Result<(), Explanation> {
        let decrement = |left: u32| left.checked_sub(1);
        if !self.is_full()
            || self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, decrement).is_ok()
        {
            return Ok(());
        }
        let sentence = "The server is busy: its memory is in use by other requests. Please try again soon.";
        Err(Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(RETRY_AFTER))
    }

    /// Applies a measurement.
    fn look(&self, used: u64, probing: &mut Probing) {
        let Some(ceiling) = self.ceiling() else { return };
        let was_full = self.is_full();
        let is_full = used > if was_full { ceiling - ceiling / ROOM } else { ceiling };
        if is_full {
            self.admitted.store(
                if was_full { probing.look(used, ceiling) } else { probing.begin(used) },
                Ordering::Relaxed,
            );
        }
        self.is_full.store(is_full, Ordering::Relaxed);
        let (used, ceiling) = (used >> 20, ceiling >> 20);
        match (was_full, is_full) {
            (false, true) => {
                tracing::warn!(
                    "{used} MiB of memory in use, max_memory is {ceiling}: new requests are refused"
                );
            }
            (true, false) => {
                tracing::info!(
                    "{used} MiB of memory in use, max_memory is {ceiling}: accepting new requests again"
                );
            }
            (false, false) | (true, true) => {}
        }
    }
}

/// Probing probing the limit: the number of requests to admit.
///
/// Resident memory need not be in use: allocators keep what was freed, which could lock all clients out for ever. One
/// request is therefore admitted to see whether memory grows, then two, then four; none once it grows.
#[derive(Debug, Default)]
struct Probing {
    /// Usage when the last of them were admitted, or less.
    used: u64,
    admitted: u32,
    /// Measurements since memory grew probing that.
    grown_for: u32,
}

impl Probing {
    /// Handles the first measurement probing the limit: memory is growing.
    fn begin(&mut self, used: u64) -> u32 {
        *self = Self { used, ..Self::default() };
        0
    }

    fn look(&mut self, used: u64, ceiling: u64) -> u32 {
        let has_grown = used > self.used + ceiling / NOISE;
        self.grown_for = if has_grown { self.grown_for + 1 } else { 0 };
        if has_grown && self.grown_for < ACCEPTED_AFTER {
            self.admitted = 0;
        } else {
            self.admitted = (2 * self.admitted).clamp(1, UNLIMITED);
            self.used = if has_grown { used } else { used.min(self.used) };
            self.grown_for = 0;
        }
        self.admitted
    }
}

/// Measures memory usage repeatedly, for as long as `memory` is in use.
pub(crate) async fn watch(memory: Arc<Memory>) {
    // Kept open: when memory is short, file descriptors may be too.
    let statm = match File::open("/proc/self/statm") {
        Ok(statm) => statm,
        Err(error) => return tracing::warn!(%error, "max_memory has no effect: cannot read /proc/self/statm"),
    };
    let mut clock = tokio::time::interval(MEASURE_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut probing = Probing::default();
    loop {
        clock.tick().await;
        if memory.ceiling().is_none() {
            continue;
        }
        match resident(&statm) {
            Ok(used) => memory.look(used, &mut probing),
            Err(error) => tracing::warn!(%error, "memory usage is unknown: cannot read /proc/self/statm"),
        }
    }
}

/// Resident memory in bytes, from the second number of `/proc/self/statm` (proc_pid_statm(5)). Never waits for a
/// disk.
fn resident(statm: &File) -> io::Result<u64> {
    let mut text = [0; 128];
    let length = statm.read_at(&mut text, 0)?;
    let pages = text[..length].split(|byte| *byte == b' ').nth(1);
    let pages = pages.and_then(|pages| std::str::from_utf8(pages).ok()?.parse::<u64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: u64 = 160 << 20;
    const MIB: u64 = 1 << 20;

    /// Number of a thousand requests that pass after each measurement.
    fn passing(looks: &[u64]) -> Vec<usize> {
        let (memory, mut probing) = (Memory::default(), Probing::default());
        memory.change(Some(CEILING));
        let pass = |used: &u64| {
            memory.look(*used, &mut probing);
            (0..1000).filter(|_| memory.pass().is_ok()).count()
        };
        looks.iter().map(pass).collect()
    }

    #[test]
    fn past_the_ceiling_none_passes_until_there_is_room() {
        let room = CEILING - CEILING / ROOM;
        assert_eq!(passing(&[CEILING, CEILING + 1, CEILING + 4 * MIB, CEILING, room]), [1000, 0, 0, 1, 1000]);
        let memory = Memory::default();
        memory.is_full.store(true, Ordering::Relaxed);
        let refusal = memory.pass().unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.retry_after), (503, Some(RETRY_AFTER)));
    }

    #[test]
    fn memory_that_is_only_kept_locks_nobody_out() {
        let kept = [2 * CEILING; 13];
        assert_eq!(passing(&kept), [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000]);
    }

    #[test]
    fn requests_that_make_it_grow_are_the_last() {
        let (steady, grown) = (CEILING + MIB, CEILING + 4 * MIB);
        assert_eq!(passing(&[steady, steady, steady, grown, grown, steady]), [0, 1, 2, 0, 0, 1]);
        // Small steps are detected too.
        let steps: Vec<u64> = (1..40).map(|step| CEILING + step * MIB / 2).collect();
        assert!(passing(&steps).into_iter().sum::<usize>() <= 31);
        // Memory that has grown and stays is accepted in the end.
        let mut looks = vec![steady];
        looks.resize(1 + ACCEPTED_AFTER as usize, grown);
        let passed = passing(&looks);
        assert_eq!((passed.iter().sum::<usize>(), passed.last()), (1, Some(&1)));
    }

    #[test]
    fn a_ceiling_that_is_lifted_refuses_nobody() {
        let memory = Memory::default();
        memory.change(Some(CEILING));
        memory.look(CEILING + 1, &mut Probing::default());
        assert!(memory.pass().is_err());
        memory.change(None);
        assert!(memory.pass().is_ok() && memory.ceiling().is_none());
    }

    #[test]
    fn what_this_process_takes_is_known() {
        let used = resident(&File::open("/proc/self/statm").unwrap()).unwrap();
        assert!((1 << 20..1 << 40).contains(&used), "{used}");
    }
}
