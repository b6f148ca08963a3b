//! Health checks: probes a server often while it is down, and at the configured interval while it is up.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

use super::{Server, Upstream, connect::connect, http2, server, uwsgi};
use crate::{
    config::{Health, UpstreamSettings},
    message::write_fields,
    tls::TlsClient,
};

/// Pause between two probes of a server that has just gone down.
const PAUSE: Duration = Duration::from_millis(100);

/// Pause between two probes once the server has been down for longer than [`LONG_DOWN`]: a worker that loads for
/// minutes need not be probed ten times a second.
const LONG_PAUSE: Duration = Duration::from_millis(500);
const LONG_DOWN: Duration = Duration::from_secs(60);

/// Most bytes read of a probe's response: the status line suffices.
const STATUS_LINE: usize = 512;

/// A way to probe a server.
pub(super) trait Probe: Send + Sync + 'static {
    /// Probes a server.
    ///
    /// # Errors
    ///
    /// The reason why the server cannot be used.
    fn probe(
        &self,
        upstream: &Upstream,
        server: &Server,
    ) -> impl Future<Output = io::Result<HealthReply>> + Send;
}

/// Probes over the network: connects, and requests the path of `health` if one is configured.
struct Network;

impl Probe for Network {
    fn probe(
        &self,
        upstream: &Upstream,
        server: &Server,
    ) -> impl Future<Output = io::Result<HealthReply>> + Send {
        let (tls, settings) = (upstream.tls(), upstream.settings());
        async move {
            if settings.http2 {
                return Box::pin(check_http2(server, tls.as_ref(), &settings)).await;
            }
            let socket = connect(server, tls.as_ref(), settings.connect_timeout).await?;
            check(socket, settings.health.as_ref(), settings.uwsgi.is_some()).await
        }
    }
}

/// Starts a prober that runs for as long as the server and its upstream are in use.
pub(super) fn watch(upstream: &Arc<Upstream>, server: &Arc<Server>) {
    let prober = tokio::spawn(run(Arc::downgrade(upstream), Arc::clone(server), Network));
    server.set_prober(prober.abort_handle());
}

/// Probes a server repeatedly and updates its health.
pub(super) async fn run(upstream: Weak<Upstream>, server: Arc<Server>, probe: impl Probe) {
    let mut down_since = None;
    let settings = || upstream.upgrade().map(|upstream| upstream.settings());
    while let Some(mut now) = settings() {
        if server.health() == server::ServerHealth::Up {
            down_since = None;
            tokio::select! {
                () = server.wake_prober.notified() => {}
                () = pause_while_up(now.health.as_ref()) => {}
            }
            // A reload may have ended the pause.
            now = match settings() {
                Some(settings) => settings,
                None => return,
            };
            if server.health() == server::ServerHealth::Up && now.health.is_none() {
                // Without `health`, a server that is up is not probed.
                continue;
            }
        }
        let result = match upstream.upgrade() {
            Some(upstream) => probe.probe(&upstream, &server).await,
            None => return,
        };
        let Some(upstream) = upstream.upgrade() else { return };
        if let Some(pause) = apply_result(&upstream, &server, result, &mut down_since) {
            drop(upstream);
            sleep(pause).await;
        }
    }
}

/// Applies the result of a probe. Returns the pause before the next one if the server is down.
fn apply_result(
    upstream: &Arc<Upstream>,
    server: &Arc<Server>,
    result: io::Result<HealthReply>,
    down_since: &mut Option<Instant>,
) -> Option<Duration> {
    match result {
        Ok(HealthReply::Healthy) => {
            server.silence().progressed(Instant::now());
            upstream.recovered(server);
            upstream.probed(server, true);
            None
        }
        Ok(HealthReply::TimedOut) if server.health() == server::ServerHealth::Up => {
            // The server may only be busy: prefer others, but keep the last one in use.
            server.silence().timed_out(Instant::now());
            None
        }
        Ok(HealthReply::TimedOut) => {
            upstream.failed(server, "health check timed out");
            Some(PAUSE)
        }
        Err(error) if is_local_shortage(&error) => {
            tracing::error!(%error, "cannot probe servers: out of file descriptors, ports or memory (LimitNOFILE too low?)");
            Some(LONG_PAUSE)
        }
        Err(error) => {
            match error_label(&error) {
                "error" | "tls" | "protocol" => upstream.failed(server, &error.to_string()),
                word => upstream.failed(server, word),
            }
            upstream.probed(server, false);
            let since = *down_since.get_or_insert_with(Instant::now);
            Some(if since.elapsed() < LONG_DOWN { PAUSE } else { LONG_PAUSE })
        }
    }
}

/// Whether the error is a shortage on this machine (file descriptors, ports, memory) and not the server's fault.
pub(crate) fn is_local_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|error| shortages.contains(&error))
}

/// Results of [`why`] that mean that no server was listening.
pub(super) const OUT_OF_REACH: [&str; 3] = ["refused", "absent", "unreachable"];

/// Short reason why a connection failed.
pub(crate) fn error_label(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::NotFound => "absent",
        io::ErrorKind::PermissionDenied => "forbidden",
        io::ErrorKind::WouldBlock => "busy",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        // Errors of the TLS handshake.
        io::ErrorKind::InvalidData => "tls",
        // The server does not speak HTTP/2.
        io::ErrorKind::Unsupported => "protocol",
        _ => "error",
    }
}

/// Waits until the next probe of a server that is up; for ever without `health`.
async fn pause_while_up(health: Option<&Health>) {
    match health {
        Some(health) => sleep(health.every).await,
        None => std::future::pending().await,
    }
}

/// Result of a probe that could connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthReply {
    Healthy,
    /// The server accepted the connection and did not respond in time.
    TimedOut,
}

/// Probes over an open connection: if a path is configured, the response must have an expected status.
async fn check(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    health: Option<&Health>,
    speaks_uwsgi: bool,
) -> io::Result<HealthReply> {
    let Some(health) = health else { return Ok(HealthReply::Healthy) };
    match timeout(health.timeout, request_status(stream, health, speaks_uwsgi)).await {
        Ok(checked) => checked.map(|()| HealthReply::Healthy),
        Err(_) => Ok(HealthReply::TimedOut),
    }
}

/// Probes a server that speaks HTTP/2.
async fn check_http2(
    server: &Server,
    tls: Option<&Arc<TlsClient>>,
    settings: &UpstreamSettings,
) -> io::Result<HealthReply> {
    let probe = http2::probe(server, tls, settings).await?;
    let Some(health) = &settings.health else { return Ok(HealthReply::Healthy) };
    match timeout(health.timeout, probe.status(&request(health))).await {
        Ok(status) => expect(Some(status?.as_u16()), health).map(|()| HealthReply::Healthy),
        Err(_) => Ok(HealthReply::TimedOut),
    }
}

/// Request of a probe. Applications refuse requests that do not look like those of their clients (Django's
/// `ALLOWED_HOSTS`), and Galaxy refuses requests without X-Forwarded-For.
fn request(health: &Health) -> BytesMut {
    let host = health.host.as_deref().unwrap_or("localhost");
    let mut request = BytesMut::from(format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", health.path).as_bytes());
    let mut fields = HeaderMap::new();
    fields.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
    fields.insert(header::USER_AGENT, HeaderValue::from_static("bowshock-health"));
    for (name, value) in &health.headers {
        fields.insert(name, value.clone());
    }
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    write_fields(&mut request, &fields);
    request
}

async fn request_status(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    health: &Health,
    speaks_uwsgi: bool,
) -> io::Result<()> {
    let request = request(health);
    let request =
        if speaks_uwsgi { uwsgi::packet(&request, &[]).map_err(io::Error::other)? } else { request };
    stream.write_all(&request).await?;
    let mut received = Vec::with_capacity(STATUS_LINE);
    while !received.contains(&b'\n') && received.len() < STATUS_LINE {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut response = httparse::Response::new(&mut []);
    // Only the status line matters: running out of room for headers is not an error here.
    let _ = response.parse(&received);
    if let Some(status) = received.strip_prefix(b"Status: ").filter(|_| speaks_uwsgi) {
        // The form of CGI.
        response.code = status.get(..3).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    }
    expect(response.code, health)
}

/// Whether the status is one that is expected.
fn expect(status: Option<u16>, health: &Health) -> io::Result<()> {
    let as_expected = |code: u16| match health.expect.as_slice() {
        [] => (200..=299).contains(&code),
        expected => expected.iter().any(|status| status.as_u16() == code),
    };
    match status {
        Some(code) if as_expected(code) => Ok(()),
        Some(code) => Err(io::Error::other(format!("health check got status {code} for {}", health.path))),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
