//! Log writer with a thread of its own, so that a disk that is slow, full or dead, or a reader that stalls, delays no
//! request.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use prometheus::IntCounter;
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::OFlags,
    io::Errno,
};

use super::Rarely;

/// Memory of a waiting line beside its bytes.
const OVERHEAD: usize = 64;

/// Most bytes that are written together.
const BATCH: usize = 64 * 1024;

/// Sleep of the thread when nothing waits to be flushed.
const IDLE: Duration = Duration::from_secs(3600);

/// Target of the lines.
#[derive(Debug)]
pub(super) enum LogTarget {
    Stdout,
    Stderr,
    /// A file that is reopened by its name after it was moved away.
    File(PathBuf, File),
}

impl LogTarget {
    /// Opens a file for appending. Blocks on the file system, but not on a named pipe, whose reader may come later.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let opened = match options.open(path) {
            // A pipe without a reader. Opened for reading too, it keeps lines for a later reader.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => options.read(true).open(path),
            opened => opened,
        };
        Ok(Self::File(path.into(), opened?))
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(path, _) = self {
            *self = Self::file(path)?;
        }
        Ok(())
    }

    /// Writes a part of `bytes`, without the locks and buffers of the standard library.
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.with_fd(|fd| rustix::io::write(fd, bytes))
    }

    /// Waits for a terminal or a pipe that another process has set to non-blocking mode.
    fn wait(&self) -> Result<(), Errno> {
        match self.with_fd(|fd| poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)) {
            // `EINTR`: the caller writes again, and waits again if need be.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn with_fd<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Stdout => work(io::stdout().as_fd()),
            Self::Stderr => work(io::stderr().as_fd()),
            Self::File(_, file) => work(file.as_fd()),
        }
    }
}

/// Settings of a log.
pub(super) struct Options {
    /// Name in messages and of the thread.
    pub(super) name: &'static str,
    /// Bytes that may wait to be written; further lines are lost and counted.
    pub(super) most: usize,
    /// Longest time for which lines are collected before they are written together.
    pub(super) flush_after: Duration,
    /// Counter of lost lines.
    pub(super) lost: IntCounter,
    /// Whether it is the process log, which cannot report its own failures.
    pub(super) is_own: bool,
}

/// Handle that queues lines for the thread. Dropping it lets the thread write the remaining lines.
pub(super) struct Writer {
    shared: Arc<WriterState>,
    messages: Sender<WriterMessage>,
    thread: JoinHandle<()>,
}

struct WriterState {
    options: Options,
    /// Bytes of lines that wait for the thread.
    waiting: AtomicUsize,
    /// Lines lost since the loss was last logged.
    lost: AtomicU64,
    full_limit: Rarely,
}

enum WriterMessage {
    Line(Vec<u8>),
    Reopen,
    Flush(SyncSender<()>),
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(target: LogTarget, options: Options) -> io::Result<Self> {
        let (messages, receiver) = channel();
        let (waiting, lost, full_limit) = (AtomicUsize::new(0), AtomicU64::new(0), Rarely::new(1));
        let shared = Arc::new(WriterState { options, waiting, lost, full_limit });
        let output = Output {
            target,
            pending: Vec::new(),
            is_mid_line: false,
            error: None,
            failure_limit: Rarely::new(1),
            recovery_limit: Rarely::new(1),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name(shared.options.name.replace(' ', "-"));
        let thread = thread.spawn(move || run(output, &receiver))?;
        Ok(Self { shared, messages, thread })
    }

    /// Queues a line, which ends with a newline. It is lost when too many bytes wait.
    pub(super) fn push(&self, line: Vec<u8>) {
        let shared = &self.shared;
        let size = line.capacity() + OVERHEAD;
        if shared.waiting.fetch_add(size, Ordering::Relaxed) + size <= shared.options.most {
            // Cannot fail: the thread lives as long as `self`.
            let _ = self.messages.send(WriterMessage::Line(line));
            return;
        }
        shared.waiting.fetch_sub(size, Ordering::Relaxed);
        shared.count_lost(1);
        if !shared.options.is_own && shared.full_limit.tell().is_some() {
            let lost = shared.lost.load(Ordering::Relaxed);
            tracing::error!(
                lost,
                "the {} is too slow or does not accept data: lines are lost",
                shared.options.name
            );
        }
    }

    /// Reopens the file by its name (after logrotate has moved it away).
    pub(super) fn reopen(&self) {
        let _ = self.messages.send(WriterMessage::Reopen);
    }

    /// Waits until every line queued before is written, at most for `limit`. Blocks.
    pub(super) fn flush(&self, limit: Duration) {
        let (done, is_done) = sync_channel(1);
        let _ = self.messages.send(WriterMessage::Flush(done));
        let _ = is_done.recv_timeout(limit);
    }

    /// Waits until every line is written. Blocks.
    pub(super) fn finish(self) {
        drop(self.messages);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the {} panicked", self.shared.options.name);
        }
    }
}

impl WriterState {
    fn count_lost(&self, lines: u64) {
        self.options.lost.inc_by(lines);
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }
}

/// State of the thread.
struct Output {
    target: LogTarget,
    pending: Vec<u8>,
    /// Whether a part of the first pending line has been written.
    is_mid_line: bool,
    error: Option<io::Error>,
    failure_limit: Rarely,
    recovery_limit: Rarely,
    shared: Arc<WriterState>,
}

fn run(mut output: Output, messages: &Receiver<WriterMessage>) {
    // Time by which pending lines must be written.
    let mut due: Option<Instant> = None;
    loop {
        let wait = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()));
        match messages.recv_timeout(wait) {
            Ok(WriterMessage::Line(line)) => {
                output.shared.waiting.fetch_sub(line.capacity() + OVERHEAD, Ordering::Relaxed);
                output.pending.extend_from_slice(&line);
                due.get_or_insert_with(|| Instant::now() + output.shared.options.flush_after);
                if output.pending.len() >= BATCH {
                    output.flush();
                }
            }
            Ok(WriterMessage::Reopen) => output.reopen(),
            Ok(WriterMessage::Flush(done)) => {
                output.flush();
                // The caller may have stopped waiting.
                let _ = done.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {
                due = None;
                output.flush();
            }
            Err(RecvTimeoutError::Disconnected) => return output.flush(),
        }
    }
}

impl Output {
    /// Writes the pending lines. On failure whole lines are dropped, so that no partial line is left in the file.
    fn flush(&mut self) {
        let had_any = !self.pending.is_empty();
        let mut written = 0;
        let result = loop {
            let left = &self.pending[written..];
            if left.is_empty() {
                break Ok(());
            }
            match self.target.write(left) {
                Ok(0) => break Err(Errno::IO),
                Ok(more) => {
                    written += more;
                    self.is_mid_line = self.pending[written - 1] != b'\n';
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if let Err(error) = self.target.wait() {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.pending.drain(..written);
        match result {
            Ok(()) if had_any => self.on_success(),
            Ok(()) => {}
            Err(error) => self.on_failure(error.into()),
        }
    }

    fn reopen(&mut self) {
        self.flush();
        match self.target.reopen() {
            // The rest of a partly written line belongs to the old file.
            Ok(()) if self.is_mid_line => {
                self.pending.clear();
                self.is_mid_line = false;
            }
            Ok(()) => {}
            Err(error) => {
                let name = self.shared.options.name;
                tracing::error!(%error, "cannot reopen the {name}; writing goes on to the old file");
            }
        }
    }

    /// Drops the pending lines, except the rest of a partly written one.
    fn on_failure(&mut self, error: io::Error) {
        let end_of_line = || memchr::memchr(b'\n', &self.pending).map_or(self.pending.len(), |end| end + 1);
        let kept = if self.is_mid_line { end_of_line() } else { 0 };
        let lines = memchr::memchr_iter(b'\n', &self.pending[kept..]).count();
        self.pending.truncate(kept);
        self.shared.count_lost(lines as u64);
        let name = self.shared.options.name;
        if !self.shared.options.is_own && self.failure_limit.tell().is_some() {
            let lost = self.shared.lost.load(Ordering::Relaxed);
            tracing::error!(%error, lost, "cannot write the {name}; its lines are lost until it can be written again");
        }
        self.error = Some(error);
    }

    fn on_success(&mut self) {
        let name = self.shared.options.name;
        if self.error.is_none() && self.shared.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        // While many lines wait, more may be lost.
        let is_behind = self.shared.waiting.load(Ordering::Relaxed) > self.shared.options.most / 2;
        if is_behind || self.recovery_limit.tell().is_none() {
            return;
        }
        self.error = None;
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        tracing::warn!(lost, "the {name} is written again; lines were lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(most: usize) -> Options {
        Options {
            name: "test log",
            most,
            flush_after: Duration::ZERO,
            lost: IntCounter::new("lost", "Lines.").unwrap(),
            is_own: false,
        }
    }

    #[test]
    fn what_is_pushed_is_written_and_goes_on_in_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
        let writer = Writer::start(LogTarget::file(&path).unwrap(), options(1 << 20)).unwrap();
        writer.push(b"one\n".to_vec());
        writer.flush(Duration::from_secs(10));
        std::fs::rename(&path, &moved).unwrap();
        writer.push(b"two\n".to_vec());
        writer.reopen();
        writer.push(b"three\n".to_vec());
        writer.finish();
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "three\n");
    }

    #[test]
    fn a_reader_that_stalls_costs_a_bounded_number_of_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        // Opened for both, it has a reader at once.
        let pipe = File::options().read(true).write(true).open(&path).unwrap();
        let options = options(1 << 20);
        let lost = options.lost.clone();
        let writer = Writer::start(LogTarget::File(path, pipe), options).unwrap();
        for _ in 0..10_000 {
            writer.push(vec![b'x'; 1000]);
        }
        assert!(writer.shared.waiting.load(Ordering::Relaxed) <= 1 << 20);
        assert!(lost.get() > 8_000, "{}", lost.get());
        writer.flush(Duration::from_millis(1));
    }

    #[test]
    fn lines_stay_whole_when_a_disk_is_full() {
        let output = |pending: &[u8], is_mid_line| Output {
            target: LogTarget::Stdout,
            pending: pending.to_vec(),
            is_mid_line,
            error: None,
            failure_limit: Rarely::new(1),
            recovery_limit: Rarely::new(1),
            shared: Arc::new(WriterState {
                options: options(1),
                waiting: AtomicUsize::new(0),
                lost: AtomicU64::new(0),
                full_limit: Rarely::new(1),
            }),
        };
        for (pending, is_mid_line, kept, lost) in [
            (&b"a\nb\n"[..], false, &b""[..], 2),
            (b"rest\nb\n", true, b"rest\n", 1),
            (b"rest\n", true, b"rest\n", 0),
        ] {
            let mut output = output(pending, is_mid_line);
            output.on_failure(Errno::NOSPC.into());
            assert_eq!((&output.pending[..], output.shared.options.lost.get()), (kept, lost));
        }
    }
}
