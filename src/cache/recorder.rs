//! A response on its way to a client, recorded for the cache.

use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::mpsc::{OwnedPermit, Receiver, Sender, channel, error::SendError},
    task::spawn_blocking,
};

use super::{Fill, Stored, StoredBody, disk::NewFile};

/// Bytes that are gathered before they are written.
const PART: usize = 64 * 1024;

/// Parts that wait for the disk. A response that comes faster than the disk takes it waits, where its sender asks
/// [`Recorder::poll_ready`]; else it is not stored.
const PARTS: usize = 16;

/// Recorder of the body of a response. Dropped before its end, it stores nothing.
pub(crate) struct Recorder {
    gathered: BytesMut,
    /// Bytes so far, and at most.
    bytes: u64,
    most: u64,
    to: Sink,
    /// Waits for the disk.
    room: Option<Room>,
}

type Room = Pin<Box<dyn Future<Output = Result<OwnedPermit<Part>, SendError<()>>> + Send>>;

enum Sink {
    Memory(Box<(Fill, Stored)>),
    /// A thread that writes a file; it ends without the last part when this is dropped.
    Disk(Sender<Part>),
    /// The response is not stored.
    Nowhere,
}

enum Part {
    Bytes(Bytes),
    Last(Bytes),
}

impl Recorder {
    /// Records the body of `stored`.
    pub(crate) fn new(fill: Fill, stored: Stored) -> Self {
        let (most, directory) = (fill.cache().most(), fill.cache().directory());
        let to = match directory {
            None => Sink::Memory(Box::new((fill, stored))),
            Some(directory) => {
                let (parts, mut taken) = channel(PARTS);
                let write = move || {
                    if let Err(error) = write(&directory, &mut taken, fill, stored) {
                        tracing::warn!(%error, "a response could not be stored in the cache");
                    }
                };
                spawn_blocking(write);
                Sink::Disk(parts)
            }
        };
        Self { gathered: BytesMut::new(), bytes: 0, most, to, room: None }
    }

    /// Waits until there is room for a part: a disk that is slower than the server holds the response up.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Sink::Disk(parts) = &self.to else { return Poll::Ready(()) };
        if self.room.is_none() && parts.capacity() > 0 {
            return Poll::Ready(());
        }
        let room = self.room.get_or_insert_with(|| Box::pin(parts.clone().reserve_owned()));
        // A disk that has failed is noticed when the next part is written.
        let _ = ready!(room.as_mut().poll(cx));
        self.room = None;
        Poll::Ready(())
    }

    /// Records a part of the body.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.most {
            self.to = Sink::Nowhere;
        }
        match &self.to {
            Sink::Nowhere => self.gathered = BytesMut::new(),
            Sink::Memory(_) => self.gathered.extend_from_slice(bytes),
            Sink::Disk(parts) => {
                self.gathered.extend_from_slice(bytes);
                if self.gathered.len() >= PART {
                    let part = Part::Bytes(self.gathered.split().freeze());
                    if parts.try_send(part).is_err() {
                        self.to = Sink::Nowhere;
                    }
                }
            }
        }
    }

    /// Stores the response, whose body is whole.
    pub(crate) fn finish(self) {
        let last = self.gathered.freeze();
        match self.to {
            Sink::Nowhere => {}
            Sink::Memory(target) => {
                let (fill, mut stored) = *target;
                stored.body = StoredBody::Memory(last);
                fill.store(stored, None);
            }
            Sink::Disk(parts) => {
                // The thread drops what it has when this fails.
                tokio::spawn(async move { parts.send(Part::Last(last)).await });
            }
        }
    }
}

/// Writes the parts of a body into a file, and stores the response when the last one has come.
fn write(directory: &Path, parts: &mut Receiver<Part>, fill: Fill, mut stored: Stored) -> io::Result<()> {
    let mut file = NewFile::create(directory)?;
    loop {
        match parts.blocking_recv() {
            Some(Part::Bytes(bytes)) => file.write(&bytes)?,
            Some(Part::Last(bytes)) => {
                file.write(&bytes)?;
                let key = fill.key_of(&mut stored);
                file.finish(key, &mut stored)?;
                fill.store(stored, Some(key));
                return Ok(());
            }
            // The response has broken off.
            None => return Ok(()),
        }
    }
}
