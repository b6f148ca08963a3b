//! A simulated worker behind a unix socket. It costs no CPU: it waits for as long as the work would take.
//!
//! A request for `/work/20` is 20 ms of work. Connections are kept open until the other side closes them.

use std::{
    io,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::worker::Worker;

/// Listens until dropped.
pub struct Backend {
    accepting: JoinHandle<()>,
}

/// A request that waits for its answer.
struct Job {
    /// In seconds.
    work: f64,
    done: oneshot::Sender<()>,
}

impl Backend {
    /// Starts one that listens on `socket`.
    pub fn start(socket: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let (jobs, received) = mpsc::channel();
        std::thread::spawn(move || work_off(&received));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let jobs = jobs.clone();
                // A proxy that closes its connection ends the task with an error, which is nobody's concern here.
                tokio::spawn(async move { drop(serve(stream, jobs).await) });
            }
        });
        Ok(Self { accepting })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Runs the worker in real time until nobody can send jobs any more.
///
/// On a thread of its own, because the timers of the runtime are a millisecond coarse. A wake-up that comes late delays
/// an answer and nothing else: the work goes on at the moments that the arithmetic says.
fn work_off(jobs: &mpsc::Receiver<Job>) {
    let started = Instant::now();
    let mut worker = Worker::default();
    loop {
        let job = match worker.next_done() {
            Some(done) => {
                let done = Duration::from_secs_f64(done);
                jobs.recv_timeout(done.saturating_sub(started.elapsed()))
            }
            None => jobs.recv().map_err(RecvTimeoutError::from),
        };
        let now = started.elapsed().as_secs_f64();
        while let Some((_, done)) = worker.done_until(now) {
            // It fails when the one who asked has gone.
            let _ = oneshot::Sender::<()>::send(done, ());
        }
        match job {
            Ok(Job { work, done }) => worker.arrive(now, work, done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// One connection, one request after the other.
async fn serve(stream: UnixStream, jobs: mpsc::Sender<Job>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(work) = read_request(&mut stream).await? {
        let (done, waiting) = oneshot::channel();
        jobs.send(Job { work, done }).map_err(io::Error::other)?;
        waiting.await.map_err(io::Error::other)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndone\n").await?;
    }
    Ok(())
}

/// The work that the next request asks for, in seconds; `None` when there is no further request.
async fn read_request(stream: &mut BufReader<UnixStream>) -> io::Result<Option<f64>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let work = line.split(' ').nth(1).and_then(|path| path.strip_prefix("/work/")?.parse::<f64>().ok());
    let work = work.ok_or_else(|| io::Error::other(format!("not a request for work: {line}")))?;
    while line.trim_end() != "" {
        line.clear();
        stream.read_line(&mut line).await?;
    }
    Ok(Some(work / 1000.0))
}
