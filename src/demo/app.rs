//! The demo's application: a few addresses of different slowness.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora_core::{apps::http_app::ServeHttp, protocols::http::ServerSession};
use tokio::time::sleep;

use super::workers::Workers;

const PAGE: &str = include_str!("page.html");

/// Longest answer that can be asked for.
const SLOWEST: f64 = 30.0;

/// One worker's view of the application.
pub(super) struct App {
    worker: usize,
    workers: Arc<Workers>,
}

impl App {
    pub(super) fn new(worker: usize, workers: Arc<Workers>) -> Self {
        Self { worker, workers }
    }

    async fn answer(&self, request: &http::request::Parts) -> http::Result<Response<Vec<u8>>> {
        match (request.method.as_str(), request.uri.path()) {
            ("GET" | "HEAD", "/") => content("text/html; charset=utf-8", PAGE),
            (_, "/fast") => self.after(0.005).await,
            (_, "/slow") => self.after(seconds(request.uri.query())).await,
            ("GET" | "HEAD", "/whoami") => {
                let fields: serde_json::Map<_, _> = request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                    .collect();
                let answer = serde_json::json!({ "worker": self.worker, "request": fields });
                content("application/json", &format!("{answer:#}\n"))
            }
            ("GET" | "HEAD", "/dataset") => Response::builder()
                .header("X-Accel-Redirect", format!("/_x_accel_redirect{}", self.workers.dataset().display()))
                .header(header::CONTENT_TYPE, "text/plain")
                .header(header::CONTENT_DISPOSITION, "attachment; filename=\"reads.fastq\"")
                .header(header::CONTENT_LENGTH, 0)
                .body(Vec::new()),
            ("POST", "/restart") => {
                tokio::spawn(Arc::clone(&self.workers).restart());
                content("text/plain; charset=utf-8", "All workers restart. They are away for five seconds.\n")
            }
            _ => Response::builder()
                .status(StatusCode::NOT_FOUND)
                .header(header::CONTENT_LENGTH, 0)
                .body(Vec::new()),
        }
    }

    async fn after(&self, seconds: f64) -> http::Result<Response<Vec<u8>>> {
        sleep(Duration::from_secs_f64(seconds)).await;
        content("text/plain; charset=utf-8", &format!("worker {}\n", self.worker))
    }
}

fn content(kind: &str, text: &str) -> http::Result<Response<Vec<u8>>> {
    Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, text.len())
        .body(text.as_bytes().to_vec())
}

/// `?s=2.5`; a tenth of a second when nothing useful is said.
fn seconds(query: Option<&str>) -> f64 {
    let said =
        query.and_then(|query| query.strip_prefix("s=")).and_then(|seconds| seconds.parse::<f64>().ok());
    said.filter(|seconds| seconds.is_finite()).unwrap_or(0.1).clamp(0.0, SLOWEST)
}

#[async_trait]
impl ServeHttp for App {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header().as_owned_parts();
        self.answer(&request).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the demo cannot answer");
            Response::new(Vec::new())
        })
    }
}
