//! Files that are open for nothing, to be given up when something must be opened and no more files can be.

use std::{
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Some files, which all its clones share; as many as there are to be, as far as the system allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReservedFds {
    files: Arc<Mutex<Vec<File>>>,
    count: usize,
}

impl ReservedFds {
    /// So many.
    pub(crate) fn of(count: usize) -> Self {
        let spare = Self { files: Arc::default(), count };
        spare.refill();
        spare
    }

    /// Closes one; false when there is none.
    pub(crate) fn give_up(&self) -> bool {
        self.lock().pop().is_some()
    }

    /// Opens as many again as are lacking.
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

/// Some files that are refilled when this is dropped: put where it is dropped just after something is closed.
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
