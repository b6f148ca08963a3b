//! Reserved file descriptors, closed so that `accept` succeeds when the process hits `RLIMIT_NOFILE`.

use std::{
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Reserved file descriptors, shared by all clones: the requested number, as far as the system allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReservedFds {
    files: Arc<Mutex<Vec<File>>>,
    count: usize,
}

impl ReservedFds {
    /// Reserves `count` descriptors.
    pub(crate) fn of(count: usize) -> Self {
        let spare = Self { files: Arc::default(), count };
        spare.refill();
        spare
    }

    /// Closes one; returns false if there is none.
    pub(crate) fn give_up(&self) -> bool {
        self.lock().pop().is_some()
    }

    /// Reserves those that are missing.
    pub(crate) fn refill(&self) {
        let mut files = self.lock();
        while files.len() < self.count {
            let Ok(file) = File::open("/dev/null") else { return };
            files.push(file);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refills the reserve on drop: place it so that it is dropped just after something is closed.
#[derive(Debug)]
pub(crate) struct RefillGuard(pub(crate) ReservedFds);

impl Drop for RefillGuard {
    fn drop(&mut self) {
        self.0.refill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_opened_again() {
        let spare = ReservedFds::of(2);
        let refill = RefillGuard(spare.clone());
        assert!(spare.give_up() && spare.give_up() && !spare.give_up());
        drop(refill);
        assert!(spare.give_up());
        assert!(!ReservedFds::default().give_up());
    }
}
