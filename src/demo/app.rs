//! The demo's application: a few paths of different slowness.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::sleep};

use super::workers::DemoWorkers;

const PAGE: &str = include_str!("page.html");

/// Longest delay that can be requested, in seconds.
const SLOWEST: f64 = 30.0;

/// The application as seen by one worker.
pub(super) struct App {
    worker: usize,
    workers: Arc<DemoWorkers>,
}

impl App {
    pub(super) fn new(worker: usize, workers: Arc<DemoWorkers>) -> Self {
        Self { worker, workers }
    }

    /// Serves a connection until it ends.
    pub(super) async fn serve(self: Arc<Self>, stream: UnixStream) {
        let service = service_fn(|request| {
            let app = Arc::clone(&self);
            async move { app.respond(&request).await }
        });
        if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a connection to a demo worker failed");
        }
    }

    async fn respond(&self, request: &Request<impl Sized>) -> http::Result<Response<Full<Bytes>>> {
        match (request.method().as_str(), request.uri().path()) {
            ("GET" | "HEAD", "/") => content("text/html; charset=utf-8", PAGE),
            (_, "/fast") => self.after(0.005).await,
            (_, "/slow") => self.after(seconds(request.uri().query())).await,
            ("GET" | "HEAD", "/whoami") => {
                let headers: serde_json::Map<_, _> = request
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                    .collect();
                let body = serde_json::json!({ "worker": self.worker, "request": headers });
                content("application/json", &format!("{body:#}\n"))
            }
            ("GET" | "HEAD", "/dataset") => Response::builder()
                .header("X-Accel-Redirect", format!("/_x_accel_redirect{}", self.workers.dataset().display()))
                .header(header::CONTENT_TYPE, "text/plain")
                .header(header::CONTENT_DISPOSITION, "attachment; filename=\"reads.fastq\"")
                .header(header::CONTENT_LENGTH, 0)
                .body(Full::default()),
            ("POST", "/restart") => {
                tokio::spawn(Arc::clone(&self.workers).restart());
                content("text/plain; charset=utf-8", "All workers restart. They are away for five seconds.\n")
            }
            _ => Response::builder()
                .status(StatusCode::NOT_FOUND)
                .header(header::CONTENT_LENGTH, 0)
                .body(Full::default()),
        }
    }

    async fn after(&self, seconds: f64) -> http::Result<Response<Full<Bytes>>> {
        sleep(Duration::from_secs_f64(seconds)).await;
        content("text/plain; charset=utf-8", &format!("worker {}\n", self.worker))
    }
}

fn content(kind: &str, text: &str) -> http::Result<Response<Full<Bytes>>> {
    Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, text.len())
        .body(Full::from(text.to_owned()))
}

/// Reads `?s=2.5`; the default is a tenth of a second.
fn seconds(query: Option<&str>) -> f64 {
    let seconds =
        query.and_then(|query| query.strip_prefix("s=")).and_then(|seconds| seconds.parse::<f64>().ok());
    seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.1).clamp(0.0, SLOWEST)
}
