//! Buffers for data in transit: taken when there is something to read, returned when it has been passed on.
//!
//! An idle connection holds none. Active connections take turns with a few, which stay in the CPU cache.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use bytes::BytesMut;

/// Most bytes that are read at a time.
pub(crate) const ROOM: usize = 256 * 1024;

/// Limit below which unsent data moves to an allocation of its own size; larger allocations are freed as soon as no
/// more than this is left.
const SMALL: usize = 16 * 1024;

/// Space before the data for the size of a chunk in hexadecimal and its line end; after the data there is space for
/// the end of the last chunk. Chunks are therefore framed without copying.
pub(crate) const BEFORE: usize = 18;
const AFTER: usize = 16;

/// Free buffers that a thread keeps. Few are in use at a time, because unsent data is moved out.
const MOST_FREE: usize = 4;

thread_local! {
    static FREE_BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Buffer for reading, from [`BEFORE`] on.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// Takes a free buffer.
    pub(crate) fn take() -> Self {
        let spare = FREE_BUFFERS.with_borrow_mut(Vec::pop);
        Self(spare.unwrap_or_else(|| vec![0; BEFORE + ROOM + AFTER].into_boxed_slice()))
    }

    /// Part to read into.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.0[BEFORE..BEFORE + ROOM]
    }
}

/// Appends data that could not be sent to `kept`.
pub(crate) fn keep(kept: &mut BytesMut, left: &[u8]) {
    if kept.is_empty() && left.len() <= SMALL {
        *kept = BytesMut::from(left);
    } else {
        kept.extend_from_slice(left);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        // Fails only while the thread ends.
        let _ = FREE_BUFFERS.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < MOST_FREE {
                free.push(bytes);
            }
        });
    }
}
