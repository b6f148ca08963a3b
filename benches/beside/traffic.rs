//! Requests that come at their time, whatever became of those before them.
//!
//! A request takes a connection that is kept and idle, or a new one if there is none; every tenth takes a new one and
//! does not keep it. A kept connection that its server has closed by then is not used, as any client would do; one that
//! is closed at the same moment costs its request.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    runtime::Handle,
    task::{JoinError, JoinHandle, spawn_blocking},
};

use crate::figures::Figures;

/// A request without an answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every so many requests one has a connection of its own.
const OWN: u32 = 10;

const REQUEST: &[u8] = b"GET /bytes/100 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What became of all requests.
pub struct Outcome {
    /// How long after their times requests were started, in seconds.
    pub late: Figures,
    /// From their scheduled times, in seconds.
    pub latencies: Figures,
    /// How often each failure happened.
    pub failures: BTreeMap<String, usize>,
}

/// Connections that are idle, the last one used at the end.
#[derive(Default)]
struct Kept(Mutex<Vec<BufReader<TcpStream>>>);

/// Sends `rate` requests a second for some time, and waits for all answers.
pub async fn run(address: SocketAddr, rate: u32, time: Duration) -> Result<Outcome, JoinError> {
    let runtime = Handle::current();
    let requests = spawn_blocking(move || start_all(address, rate, time, &runtime)).await?;
    let (mut late, mut latencies) = (Vec::new(), Vec::new());
    let mut failures = BTreeMap::new();
    for request in requests {
        let Answered { started, latency } = request.await?;
        late.push(started);
        match latency {
            Ok(latency) => latencies.push(latency),
            Err(failure) => *failures.entry(failure).or_default() += 1,
        }
    }
    Ok(Outcome { late: Figures::of(late), latencies: Figures::of(latencies), failures })
}

/// What became of one request, in seconds from its scheduled time.
struct Answered {
    started: f64,
    /// Or why there is no answer.
    latency: Result<f64, String>,
}

/// Starts each request at its time.
///
/// On a thread of its own, because the timers of the runtime are a millisecond coarse.
#[expect(clippy::disallowed_methods, reason = "it blocks no event loop")]
fn start_all(address: SocketAddr, rate: u32, time: Duration, runtime: &Handle) -> Vec<JoinHandle<Answered>> {
    let kept = Arc::new(Kept::default());
    let started = Instant::now();
    let start = |number: u32| {
        let scheduled = started + Duration::from_secs(number.into()) / rate;
        std::thread::sleep(scheduled.saturating_duration_since(Instant::now()));
        runtime.spawn(one(address, number.is_multiple_of(OWN), Arc::clone(&kept), scheduled))
    };
    (0..rate * time.as_secs() as u32).map(start).collect()
}

async fn one(address: SocketAddr, own: bool, kept: Arc<Kept>, scheduled: Instant) -> Answered {
    let started = scheduled.elapsed().as_secs_f64();
    let latency = match tokio::time::timeout(PATIENCE, get(address, own, &kept)).await {
        Ok(Ok(())) => Ok(scheduled.elapsed().as_secs_f64()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer for {PATIENCE:?}")),
    };
    Answered { started, latency }
}

async fn get(address: SocketAddr, own: bool, kept: &Kept) -> io::Result<()> {
    let idle = if own { None } else { kept.take() };
    let mut stream = match idle {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(address).await?),
    };
    stream.write_all(REQUEST).await?;
    if answer(&mut stream).await? && !own {
        kept.keep(stream);
    }
    Ok(())
}

/// Reads an answer, and tells whether the connection can be used again.
async fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    if line.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(if line.is_empty() {
            "closed without an answer"
        } else {
            line.trim_end()
        }));
    }
    let (mut length, mut again) = (0, true);
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::Error::other("closed within an answer"));
        }
        let field = line.to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        again &= !(field.starts_with("connection:") && field.contains("close"));
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(again)
}

impl Kept {
    /// The one that was used last, if its server has not closed it.
    fn take(&self) -> Option<BufReader<TcpStream>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(stream) = kept.pop() {
            let read = stream.get_ref().try_read(&mut [0]);
            if read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }

    fn keep(&self, stream: BufReader<TcpStream>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }
}
