//! The ceiling of memory: past it new requests are refused, so that those in progress come to their end.

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

/// How often it is looked how much memory is in use. Requests look at the result alone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Seconds after which a client that was refused may ask again.
const ASK_AGAIN: u32 = 5;

/// There is room again when so much of the ceiling is free, a sixteenth: at the ceiling itself one look would let in what
/// the next is too late for.
const ROOM: u64 = 16;

/// Growth that is none, as a part of the ceiling: threads and caches take something for the first time.
const NOISE: u64 = 64;

/// Looks after which memory that has grown is taken as it is: half a minute.
const TAKE_AS_IT_IS: u32 = 300;

/// Most requests that are let in between two looks: all.
const ALL: u32 = 1 << 20;

/// How much memory may be used, and whether it is.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Bytes; 0 is no ceiling.
    ceiling: AtomicU64,
    is_full: AtomicBool,
    /// Requests that are let in all the same until the next look.
    let_in: AtomicU32,
}

impl Memory {
    /// Sets the ceiling; `None` is none.
    pub(crate) fn change(&self, ceiling: Option<u64>) {
        self.ceiling.store(ceiling.unwrap_or(0), Ordering::Relaxed);
        if ceiling.is_none() {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// Whether more is used than may be.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// The ceiling in bytes, if there is one.
    pub(crate) fn ceiling(&self) -> Option<u64> {
        Some(self.ceiling.load(Ordering::Relaxed)).filter(|ceiling| *ceiling > 0)
    }

    /// Whether a new request may pass.
    pub(crate) fn pass(&self) -> Result<(), Explanation> {
        let take_one = |left: u32| left.checked_sub(1);
        if !self.is_full() || self.let_in.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok()
        {
            return Ok(());
        }
        let sentence = "The server is busy: its memory is in use by other requests. Please try again soon.";
        Err(Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(ASK_AGAIN))
    }

    /// So much is in use now.
    fn look(&self, used: u64, above: &mut Above) {
        let Some(ceiling) = self.ceiling() else { return };
        let was_full = self.is_full();
        let is_full = used > if was_full { ceiling - ceiling / ROOM } else { ceiling };
        if is_full {
            self.let_in.store(
                if was_full { above.look(used, ceiling) } else { above.begin(used) },
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
                    "{used} MiB of memory in use, max_memory is {ceiling}: new requests are taken"
                );
            }
            (false, false) | (true, true) => {}
        }
    }
}

/// How many requests are let in while more memory is used than may be.
///
/// Memory that is resident need not be in use: allocators keep what was freed, and could lock all clients out for ever.
/// So one request is let in to see whether it makes memory grow, then two, then four; none as soon as it grows.
#[derive(Debug, Default)]
struct Above {
    /// What was used when the last of them were let in, or less.
    used: u64,
    let_in: u32,
    /// Looks since memory has grown above that.
    grown_for: u32,
}

impl Above {
    /// More is used than may be, for the first time: it is growing.
    fn begin(&mut self, used: u64) -> u32 {
        *self = Self { used, ..Self::default() };
        0
    }

    fn look(&mut self, used: u64, ceiling: u64) -> u32 {
        let has_grown = used > self.used + ceiling / NOISE;
        self.grown_for = if has_grown { self.grown_for + 1 } else { 0 };
        if has_grown && self.grown_for < TAKE_AS_IT_IS {
            self.let_in = 0;
        } else {
            self.let_in = (2 * self.let_in).clamp(1, ALL);
            self.used = if has_grown { used } else { used.min(self.used) };
            self.grown_for = 0;
        }
        self.let_in
    }
}

/// Looks how much memory is in use, as long as somebody wants to know.
pub(crate) async fn watch(memory: Arc<Memory>) {
    // Kept open: when memory is short, files may be too.
    let statm = match File::open("/proc/self/statm") {
        Ok(statm) => statm,
        Err(error) => return tracing::warn!(%error, "max_memory has no effect: memory in use is not known"),
    };
    let mut clock = tokio::time::interval(LOOK_EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut above = Above::default();
    loop {
        clock.tick().await;
        if memory.ceiling().is_none() {
            continue;
        }
        match resident(&statm) {
            Ok(used) => memory.look(used, &mut above),
            Err(error) => tracing::warn!(%error, "memory in use is not known"),
        }
    }
}

/// Bytes of resident memory, from the second number of `/proc/self/statm` (proc_pid_statm(5)). Never waits for a disk.
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

    /// How many of a thousand requests pass after each look.
    fn passing(looks: &[u64]) -> Vec<usize> {
        let (memory, mut above) = (Memory::default(), Above::default());
        memory.change(Some(CEILING));
        let pass = |used: &u64| {
            memory.look(*used, &mut above);
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
        assert_eq!((refusal.status.as_u16(), refusal.retry_after), (503, Some(ASK_AGAIN)));
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
        // Small steps are seen too.
        let steps: Vec<u64> = (1..40).map(|step| CEILING + step * MIB / 2).collect();
        assert!(passing(&steps).into_iter().sum::<usize>() <= 31);
        // What has grown and stays is taken as it is in the end.
        let mut looks = vec![steady];
        looks.resize(1 + TAKE_AS_IT_IS as usize, grown);
        let passed = passing(&looks);
        assert_eq!((passed.iter().sum::<usize>(), passed.last()), (1, Some(&1)));
    }

    #[test]
    fn a_ceiling_that_is_lifted_refuses_nobody() {
        let memory = Memory::default();
        memory.change(Some(CEILING));
        memory.look(CEILING + 1, &mut Above::default());
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
