//! The ceiling of memory: past it new requests are refused, so that those in progress come to their end.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;

use crate::answer::Explanation;

/// How often it is looked how much memory is in use. Requests look at the result alone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Seconds after which a client that was refused may ask again.
const ASK_AGAIN: u32 = 5;

/// How much of the ceiling memory may go above it while one request at a time is let in: a sixteenth.
const ABOVE: u64 = 16;

/// How much memory may be used, and whether it is.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Bytes; 0 is no ceiling.
    ceiling: AtomicU64,
    is_full: AtomicBool,
    /// While it is full, one request may pass: else memory that the allocator keeps, and nobody uses, could lock out
    /// all clients for ever.
    may_one_pass: AtomicBool,
}

impl Memory {
    /// Sets the ceiling; `None` is none.
    pub(crate) fn change(&self, ceiling: Option<u64>) {
        self.ceiling.store(ceiling.unwrap_or(0), Ordering::Relaxed);
        if ceiling.is_none() {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }

    /// Whether requests are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// The ceiling in bytes, if there is one.
    pub(crate) fn ceiling(&self) -> Option<u64> {
        Some(self.ceiling.load(Ordering::Relaxed)).filter(|ceiling| *ceiling > 0)
    }

    /// Whether a new request may pass.
    pub(super) fn pass(&self) -> Result<(), Explanation> {
        if !self.is_full() || self.may_one_pass.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let sentence = "The server is busy: its memory is in use by other requests. Please try again soon.";
        Err(Explanation::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(ASK_AGAIN))
    }

    /// So much is in use now, and was when it was looked last.
    fn look(&self, used: u64, before: u64) {
        let ceiling = self.ceiling().unwrap_or(u64::MAX);
        let is_full = used > ceiling;
        self.may_one_pass.store(used <= before && used <= ceiling + ceiling / ABOVE, Ordering::Relaxed);
        if self.is_full.swap(is_full, Ordering::Relaxed) == is_full {
            return;
        }
        let (used, ceiling) = (used >> 20, ceiling >> 20);
        if is_full {
            tracing::warn!("{used} MiB of memory in use, max_memory is {ceiling}: new requests are refused");
        } else {
            tracing::info!(
                "{used} MiB of memory in use, max_memory is {ceiling}: new requests are taken again"
            );
        }
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
    let mut before = 0;
    loop {
        clock.tick().await;
        if memory.ceiling().is_none() {
            continue;
        }
        match resident(&statm) {
            Ok(used) => {
                memory.look(used, before);
                before = used;
            }
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

    fn memory() -> Memory {
        let memory = Memory::default();
        memory.change(Some(CEILING));
        memory
    }

    #[test]
    fn past_the_ceiling_none_passes_until_there_is_room() {
        let memory = memory();
        memory.look(CEILING, 0);
        assert!(memory.pass().is_ok());
        memory.look(CEILING + 1, CEILING);
        let refusal = memory.pass().unwrap_err();
        assert_eq!((refusal.status.as_u16(), refusal.retry_after), (503, Some(ASK_AGAIN)));
        memory.look(CEILING, CEILING + 1);
        assert!((0..9).all(|_| memory.pass().is_ok()));
    }

    #[test]
    fn memory_that_only_stays_lets_one_pass_at_a_look_and_growing_memory_none() {
        let memory = memory();
        memory.look(CEILING + 1, CEILING + 1);
        assert_eq!((0..9).filter(|_| memory.pass().is_ok()).count(), 1);
        memory.look(CEILING + 2, CEILING + 1);
        assert!(memory.pass().is_err());
        memory.look(CEILING * 2, CEILING * 2);
        assert!(memory.pass().is_err());
    }

    #[test]
    fn a_ceiling_that_is_lifted_refuses_nobody() {
        let memory = memory();
        memory.look(CEILING + 2, CEILING + 1);
        memory.change(None);
        assert!(memory.pass().is_ok() && memory.ceiling().is_none());
    }

    #[test]
    fn what_this_process_takes_is_known() {
        let used = resident(&File::open("/proc/self/statm").unwrap()).unwrap();
        assert!((1 << 20..1 << 40).contains(&used), "{used}");
    }
}
