//! Open-loop clients: every request starts at its time, whatever became of those before it.

use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    runtime::Handle,
    task::{JoinError, JoinHandle, spawn_blocking},
};

use crate::arrivals::Arrival;

/// A request without an answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of a request. Times are in seconds, counted from its scheduled time.
pub struct Outcome {
    /// When it was started.
    pub late: f64,
    /// When its answer was complete; or why there is none.
    pub latency: Result<f64, String>,
}

/// Sends `arrivals`, counted from `started`, to the socket `front`, and waits for all answers.
pub async fn run(
    front: PathBuf,
    arrivals: Arc<[Arrival]>,
    started: Instant,
) -> Result<Vec<Outcome>, JoinError> {
    let runtime = Handle::current();
    let requests = spawn_blocking(move || start_all(&front, &arrivals, started, &runtime));
    let mut outcomes = Vec::new();
    for request in requests.await? {
        outcomes.push(request.await?);
    }
    Ok(outcomes)
}

/// Starts each request at its time.
///
/// On a thread of its own, because the timers of the runtime are a millisecond coarse.
#[expect(clippy::disallowed_methods, reason = "it blocks no event loop")]
fn start_all(
    front: &Path,
    arrivals: &[Arrival],
    started: Instant,
    runtime: &Handle,
) -> Vec<JoinHandle<Outcome>> {
    let start = |arrival: &Arrival| {
        let scheduled = started + Duration::from_secs_f64(arrival.at);
        std::thread::sleep(scheduled.saturating_duration_since(Instant::now()));
        runtime.spawn(one(front.to_owned(), arrival.work, scheduled))
    };
    arrivals.iter().map(start).collect()
}

async fn one(front: PathBuf, work: f64, scheduled: Instant) -> Outcome {
    let late = scheduled.elapsed().as_secs_f64();
    let latency = match tokio::time::timeout(PATIENCE, get(&front, work)).await {
        Ok(Ok(())) => Ok(scheduled.elapsed().as_secs_f64()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer for {PATIENCE:?}")),
    };
    Outcome { late, latency }
}

/// Asks for `work` seconds of work on a connection of its own. Anything but a whole answer with status 200 is an error.
pub async fn get(front: &Path, work: f64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = UnixStream::connect(front).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // An error of the connection shows in the answer that it cuts.
    tokio::spawn(async move { drop(connection.await) });
    let path = format!("/work/{:.0}", work * 1000.0);
    let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    if status == 200 { Ok(()) } else { Err(format!("status {status}").into()) }
}
