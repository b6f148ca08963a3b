//! Asking a server whether it can be used: at once and often while it is down, at intervals while it is up.

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

use super::{Server, Upstream, connect::connect, server};
use crate::{config::Health, message::write_fields};

/// Pause between two questions to a server that has just gone.
const SOON: Duration = Duration::from_millis(100);

/// Pause once it has been gone for longer than [`LONG_GONE`]: a worker that loads for minutes need not be asked
/// ten times a second.
const LATER: Duration = Duration::from_millis(500);
const LONG_GONE: Duration = Duration::from_secs(60);

/// Most bytes read of the answer to a question: its first line is enough.
const STATUS_LINE: usize = 512;

/// A way to find out whether a server can be used.
pub(super) trait Probe: Send + Sync + 'static {
    /// Asks a server.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    fn ask(
        &self,
        upstream: &Upstream,
        server: &Server,
    ) -> impl Future<Output = io::Result<HealthReply>> + Send;
}

/// Connects to the server, and asks for the path of `health` where there is one.
struct Network;

impl Probe for Network {
    fn ask(
        &self,
        upstream: &Upstream,
        server: &Server,
    ) -> impl Future<Output = io::Result<HealthReply>> + Send {
        let (tls, settings) = (upstream.tls(), upstream.settings());
        async move {
            let socket = connect(server, tls.as_ref(), settings.connect_timeout).await?;
            ask(socket, settings.health.as_ref()).await
        }
    }
}

/// Watches a server over the network for as long as it and its upstream are in use.
pub(super) fn watch(upstream: &Arc<Upstream>, server: &Arc<Server>) {
    let prober = tokio::spawn(run(Arc::downgrade(upstream), Arc::clone(server), Network));
    server.watched_by(prober.abort_handle());
}

/// Keeps an upstream informed of a server's health.
pub(super) async fn run(upstream: Weak<Upstream>, server: Arc<Server>, probe: impl Probe) {
    let mut down_since = None;
    let settings = || upstream.upgrade().map(|upstream| upstream.settings());
    while let Some(mut now) = settings() {
        if server.health() == server::ServerHealth::Up {
            down_since = None;
            tokio::select! {
                () = server.look.notified() => {}
                () = pause_while_up(now.health.as_ref()) => {}
            }
            // A reload may have woken us.
            now = match settings() {
                Some(settings) => settings,
                None => return,
            };
            if server.health() == server::ServerHealth::Up && now.health.is_none() {
                // Nothing to ask of a server that is up.
                continue;
            }
        }
        let asked = match upstream.upgrade() {
            Some(upstream) => probe.ask(&upstream, &server).await,
            None => return,
        };
        let Some(upstream) = upstream.upgrade() else { return };
        if let Some(pause) = take_note(&upstream, &server, asked, &mut down_since) {
            drop(upstream);
            sleep(pause).await;
        }
    }
}

/// Tells the upstream what came of a question; gives the pause before the next one to a server that is down.
fn take_note(
    upstream: &Arc<Upstream>,
    server: &Arc<Server>,
    asked: io::Result<HealthReply>,
    down_since: &mut Option<Instant>,
) -> Option<Duration> {
    match asked {
        Ok(HealthReply::Well) => {
            server.silence().spoke(Instant::now());
            upstream.recovered(server);
            upstream.probed(server, true);
            None
        }
        Ok(HealthReply::Nothing) if server.health() == server::ServerHealth::Up => {
            // It may only be busy: others are preferred, and the last one is never given up for it.
            server.silence().timed_out(Instant::now());
            None
        }
        Ok(HealthReply::Nothing) => {
            upstream.failed(server, "does not answer the question about its health");
            Some(SOON)
        }
        Err(error) if is_our_own_want(&error) => {
            tracing::error!(%error, "cannot ask servers how they are; is the limit of open files too low?");
            Some(LATER)
        }
        Err(error) => {
            match why(&error) {
                "error" | "tls" => upstream.failed(server, &error.to_string()),
                word => upstream.failed(server, word),
            }
            upstream.probed(server, false);
            let since = *down_since.get_or_insert_with(Instant::now);
            Some(if since.elapsed() < LONG_GONE { SOON } else { LATER })
        }
    }
}

/// Whether it is us who lack something (descriptors, ports, memory): no fault of the server.
pub(crate) fn is_our_own_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|error| wants.contains(&error))
}

/// The words of [`why`] for a server that was not there.
pub(super) const OUT_OF_REACH: [&str; 3] = ["refused", "absent", "unreachable"];

/// Why a connection failed, in a word.
pub(crate) fn why(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused",
        io::ErrorKind::NotFound => "absent",
        io::ErrorKind::PermissionDenied => "forbidden",
        io::ErrorKind::WouldBlock => "busy",
        io::ErrorKind::TimedOut => "timeout",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        // What comes of a handshake.
        io::ErrorKind::InvalidData => "tls",
        _ => "error",
    }
}

/// Until the next question to a server that is up; for ever when there is none to ask.
async fn pause_while_up(health: Option<&Health>) {
    match health {
        Some(health) => sleep(health.every).await,
        None => std::future::pending().await,
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthReply {
    Well,
    /// It takes connections, and does not answer in time.
    Nothing,
}

/// Whether a server that takes a connection can be used: where a path is configured, it answers to it as expected.
async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    health: Option<&Health>,
) -> io::Result<HealthReply> {
    let Some(health) = health else { return Ok(HealthReply::Well) };
    match timeout(health.timeout, question(stream, health)).await {
        Ok(answered) => answered.map(|()| HealthReply::Well),
        Err(_) => Ok(HealthReply::Nothing),
    }
}

/// The request of a probe. Applications refuse what does not look like one of their clients' (Django's `ALLOWED_HOSTS`),
/// and Galaxy what comes without X-Forwarded-For.
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

async fn question(mut stream: impl AsyncRead + AsyncWrite + Unpin, health: &Health) -> io::Result<()> {
    let path = &health.path;
    stream.write_all(&request(health)).await?;
    let mut answer = Vec::with_capacity(STATUS_LINE);
    while !answer.contains(&b'\n') && answer.len() < STATUS_LINE {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut response = httparse::Response::new(&mut []);
    // Only the first line matters; that no room is left for fields is no error here.
    let _ = response.parse(&answer);
    let as_expected = |code: u16| match health.expect.as_slice() {
        [] => (200..=299).contains(&code),
        expected => expected.iter().any(|status| status.as_u16() == code),
    };
    match response.code {
        Some(code) if as_expected(code) => Ok(()),
        Some(code) => Err(io::Error::other(format!("answered {code} to {path}"))),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
