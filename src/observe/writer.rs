//! Logs are written by threads of their own, so that a disk that is slow, full or dead, or a reader that stalls, delays
//! no request.

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

/// What a line costs beside its bytes.
const OVERHEAD: usize = 64;

/// Bytes that are written together at most.
const BATCH: usize = 64 * 1024;

/// How long the thread sleeps when there is nothing to flush.
const IDLE: Duration = Duration::from_secs(3600);

/// Where lines go.
#[derive(Debug)]
pub(super) enum LogTarget {
    Stdout,
    Stderr,
    /// A file that is opened again by its name when it has been moved away.
    File(PathBuf, File),
}

impl LogTarget {
    /// Opens a file to append to it. Blocks on the file system, and not on a named pipe: its reader may come later.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let opened = match options.open(path) {
            // A pipe that nobody reads. Opened both ways it keeps lines for whoever comes.
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

    /// Writes some of `bytes`, past the locks and buffers of the standard library.
    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        self.with_fd(|fd| rustix::io::write(fd, bytes))
    }

    /// Waits for a terminal or a pipe that somebody else has set not to block.
    fn wait(&self) -> Result<(), Errno> {
        match self.with_fd(|fd| poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)) {
            // A signal: whoever waits writes again, and comes back.
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

/// How a log is written.
pub(super) struct Options {
    /// What messages and the thread call it.
    pub(super) name: &'static str,
    /// Bytes that may wait to be written; past it lines are lost and counted.
    pub(super) most: usize,
    /// Lines are written together, at the latest after this time.
    pub(super) flush_after: Duration,
    /// Lines that were lost.
    pub(super) lost: IntCounter,
    /// Its trouble cannot be told while it lasts, as it is the log that would tell it.
    pub(super) is_own: bool,
}

/// Writes lines. Dropping it has the thread write what is left.
pub(super) struct Writer {
    shared: Arc<WriterState>,
    messages: Sender<WriterMessage>,
    thread: JoinHandle<()>,
}

struct WriterState {
    options: Options,
    /// Bytes of lines that wait for the thread.
    waiting: AtomicUsize,
    /// Lines lost since that was last told.
    lost: AtomicU64,
    full: Rarely,
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
        let (waiting, lost, full) = (AtomicUsize::new(0), AtomicU64::new(0), Rarely::new(1));
        let shared = Arc::new(WriterState { options, waiting, lost, full });
        let output = Output {
            target,
            pending: Vec::new(),
            is_mid_line: false,
            trouble: None,
            told: Rarely::new(1),
            told_end: Rarely::new(1),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new().name(shared.options.name.replace(' ', "-"));
        let thread = thread.spawn(move || run(output, &receiver))?;
        Ok(Self { shared, messages, thread })
    }

    /// Has a line written, which ends with a newline. It is lost when too many bytes wait.
    pub(super) fn push(&self, line: Vec<u8>) {
        let shared = &self.shared;
        let size = line.capacity() + OVERHEAD;
        if shared.waiting.fetch_add(size, Ordering::Relaxed) + size <= shared.options.most {
            // The thread lives as long as this.
            let _ = self.messages.send(WriterMessage::Line(line));
            return;
        }
        shared.waiting.fetch_sub(size, Ordering::Relaxed);
        shared.lose(1);
        if !shared.options.is_own && shared.full.tell().is_some() {
            let lost = shared.lost.load(Ordering::Relaxed);
            tracing::error!(
                lost,
                "the {} takes nothing, or less than there is: lines are lost",
                shared.options.name
            );
        }
    }

    /// Opens the file again under its name (after logrotate has moved it away).
    pub(super) fn reopen(&self) {
        let _ = self.messages.send(WriterMessage::Reopen);
    }

    /// Waits until what was pushed before is written, but no longer than this. Blocks.
    pub(super) fn flush(&self, limit: Duration) {
        let (done, is_done) = sync_channel(1);
        let _ = self.messages.send(WriterMessage::Flush(done));
        let _ = is_done.recv_timeout(limit);
    }

    /// Waits until everything is written. Blocks.
    pub(super) fn finish(self) {
        drop(self.messages);
        if self.thread.join().is_err() {
            tracing::error!("the thread of the {} has failed", self.shared.options.name);
        }
    }
}

impl WriterState {
    fn lose(&self, lines: u64) {
        self.options.lost.inc_by(lines);
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }
}

/// The thread's side.
struct Output {
    target: LogTarget,
    pending: Vec<u8>,
    /// A part of the first line that is pending has been written.
    is_mid_line: bool,
    trouble: Option<io::Error>,
    told: Rarely,
    told_end: Rarely,
    shared: Arc<WriterState>,
}

fn run(mut output: Output, messages: &Receiver<WriterMessage>) {
    // When what is pending must be written.
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
                // Nobody may wait for it any more.
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
    /// Writes what is pending. Where that fails, whole lines are lost, so that what is written is lines.
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
            Ok(()) if had_any => self.works(),
            Ok(()) => {}
            Err(error) => self.fails(error.into()),
        }
    }

    fn reopen(&mut self) {
        self.flush();
        match self.target.reopen() {
            // The rest of a line that was cut belongs to the old file.
            Ok(()) if self.is_mid_line => {
                self.pending.clear();
                self.is_mid_line = false;
            }
            Ok(()) => {}
            Err(error) => {
                let name = self.shared.options.name;
                tracing::error!(%error, "cannot open the {name} again; it goes on in the file before");
            }
        }
    }

    /// Loses all that is pending but the rest of a line that is partly written.
    fn fails(&mut self, error: io::Error) {
        let end_of_line = || memchr::memchr(b'\n', &self.pending).map_or(self.pending.len(), |end| end + 1);
        let kept = if self.is_mid_line { end_of_line() } else { 0 };
        let lines = memchr::memchr_iter(b'\n', &self.pending[kept..]).count();
        self.pending.truncate(kept);
        self.shared.lose(lines as u64);
        let name = self.shared.options.name;
        if !self.shared.options.is_own && self.told.tell().is_some() {
            let lost = self.shared.lost.load(Ordering::Relaxed);
            tracing::error!(%error, lost, "cannot write the {name}; its lines are lost until it can be written again");
        }
        self.trouble = Some(error);
    }

    fn works(&mut self) {
        let name = self.shared.options.name;
        if self.trouble.is_none() && self.shared.lost.load(Ordering::Relaxed) == 0 {
            return;
        }
        // While there is a queue more may be lost.
        let is_behind = self.shared.waiting.load(Ordering::Relaxed) > self.shared.options.most / 2;
        if is_behind || self.told_end.tell().is_none() {
            return;
        }
        self.trouble = None;
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        tracing::warn!(lost, "the {name} is written again; lines of it were lost");
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
        // Opened both ways it waits for nobody.
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
            trouble: None,
            told: Rarely::new(1),
            told_end: Rarely::new(1),
            shared: Arc::new(WriterState {
                options: options(1),
                waiting: AtomicUsize::new(0),
                lost: AtomicU64::new(0),
                full: Rarely::new(1),
            }),
        };
        for (pending, is_mid_line, kept, lost) in [
            (&b"a\nb\n"[..], false, &b""[..], 2),
            (b"rest\nb\n", true, b"rest\n", 1),
            (b"rest\n", true, b"rest\n", 0),
        ] {
            let mut output = output(pending, is_mid_line);
            output.fails(Errno::NOSPC.into());
            assert_eq!((&output.pending[..], output.shared.options.lost.get()), (kept, lost));
        }
    }
}
