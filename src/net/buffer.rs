//! Room for bytes that pass through: taken when there is something to read, given back when it has gone on.
//!
//! A connection that waits holds none, and those that flow take turns with a few, which stay in the processor's cache.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
};

use bytes::BytesMut;

/// Most bytes that are read at a time.
pub(crate) const ROOM: usize = 256 * 1024;

/// What cannot be passed on is kept in memory of its own, which is freed as soon as no more than this is to be kept.
const LITTLE: usize = 16 * 1024;

/// Before what is read there is room for the size of a chunk in hexadecimal and its line end, after it for the end of
/// the last chunk: so chunks are made without copying.
pub(crate) const BEFORE: usize = 18;
const AFTER: usize = 16;

/// Buffers that a thread keeps for the next to come: few are taken at a time, as what cannot be passed on is moved out.
const SPARE: usize = 4;

thread_local! {
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Room to read into, from [`BEFORE`] on.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    /// One that is free.
    pub(crate) fn take() -> Self {
        let spare = SPARES.with_borrow_mut(Vec::pop);
        Self(spare.unwrap_or_else(|| vec![0; BEFORE + ROOM + AFTER].into_boxed_slice()))
    }

    /// The part to read into.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.0[BEFORE..BEFORE + ROOM]
    }
}

/// Keeps what could not be passed on behind what is kept already.
pub(crate) fn keep(kept: &mut BytesMut, left: &[u8]) {
    if kept.is_empty() && left.len() <= LITTLE {
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
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                spares.push(bytes);
            }
        });
    }
}
