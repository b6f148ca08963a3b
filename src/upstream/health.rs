//! Asking a server whether it can be used: at once and often while it is down, at intervals while it is up.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};

use super::{Endpoint, Server, Upstream};
use crate::config::{Health, ServerAddress};

/// Pause between two questions to a server that has just gone.
const SOON: Duration = Duration::from_millis(100);

/// Pause once it has been gone for longer than [`LONG_GONE`]: a worker that loads for minutes need not be asked
/// ten times a second.
const LATER: Duration = Duration::from_millis(500);
const LONG_GONE: Duration = Duration::from_secs(60);

/// How often a host name is resolved again while its server is up.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// How long a name service may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(2);

/// Most bytes read of the answer to a question: its first line is enough.
const STATUS_LINE: usize = 512;

/// Watches a server for as long as it and its upstream are in use.
pub(super) fn watch(upstream: &Arc<Upstream>, server: &Arc<Server>) {
    let prober = tokio::spawn(run(Arc::downgrade(upstream), Arc::clone(server)));
    server.watched_by(prober.abort_handle());
}

async fn run(upstream: Weak<Upstream>, server: Arc<Server>) {
    let mut down_since = None;
    let settings = || upstream.upgrade().map(|upstream| upstream.settings());
    while let Some(mut now) = settings() {
        if server.is_up() {
            down_since = None;
            tokio::select! {
                () = server.look.notified() => {}
                () = pause_while_up(&server, now.health.as_ref()) => {}
            }
            // A reload may have woken us.
            now = match settings() {
                Some(settings) => settings,
                None => return,
            };
            if server.is_up() && now.health.is_none() {
                // Nothing to ask of a server that is up, except where its name leads.
                let _ = resolve(&server).await;
                continue;
            }
        }
        let asked = probe(&server, now.health.as_ref(), now.connect_timeout).await;
        let Some(upstream) = upstream.upgrade() else { return };
        match asked {
            Ok(()) => upstream.recovered(&server),
            Err(error) if is_our_own_want(&error) => {
                tracing::error!(%error, "cannot ask servers how they are; is the limit of open files too low?");
                sleep(LATER).await;
            }
            Err(error) => {
                upstream.failed(&server, &error.to_string());
                drop(upstream);
                let since = *down_since.get_or_insert_with(Instant::now);
                let pause = if since.elapsed() < LONG_GONE { SOON } else { LATER };
                sleep(pause).await;
            }
        }
    }
}

/// Whether it is us who lack something (descriptors, ports, memory): no fault of the server.
pub(crate) fn is_our_own_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOMEM, Errno::NOBUFS];
    Errno::from_io_error(error).is_some_and(|error| wants.contains(&error))
}

/// Until the next question to a server that is up; for ever when there is none to ask.
async fn pause_while_up(server: &Server, health: Option<&Health>) {
    let resolve = matches!(server.address, ServerAddress::Name(..)).then_some(RESOLVE_EVERY);
    match health.map(|health| health.every).into_iter().chain(resolve).min() {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Whether a server can be used: it takes a connection and, where a path is configured, answers 2xx to it.
async fn probe(server: &Server, health: Option<&Health>, connect_timeout: Duration) -> io::Result<()> {
    resolve(server).await?;
    let endpoint = server.endpoint().ok_or(io::ErrorKind::HostUnreachable)?;
    let limit = health.map_or(connect_timeout, |health| health.timeout);
    let question = async {
        match endpoint {
            Endpoint::Tcp(address) => ask(TcpStream::connect(address).await?, health).await,
            Endpoint::Unix(path) => ask(UnixStream::connect(path).await?, health).await,
        }
    };
    timeout(limit, question).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, health: Option<&Health>) -> io::Result<()> {
    let Some(health) = health else { return Ok(()) };
    let path = &health.path;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\nUser-Agent: bowshock-health\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(STATUS_LINE);
    while !answer.contains(&b'\n') && answer.len() < STATUS_LINE {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut response = httparse::Response::new(&mut []);
    // Only the first line matters; that no room is left for fields is no error here.
    let _ = response.parse(&answer);
    match response.code {
        Some(200..=299) => Ok(()),
        Some(code) => Err(io::Error::other(format!("answered {code} to {path}"))),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Looks up where a host name leads now; keeps the last address while the name service is away.
async fn resolve(server: &Server) -> io::Result<()> {
    let ServerAddress::Name(host, port) = &server.address else { return Ok(()) };
    let lookup = timeout(RESOLVE_WITHIN, tokio::net::lookup_host((host.as_str(), *port)));
    let found = lookup.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match found.map(|mut found| found.next()) {
        Ok(Some(address)) => server.resolved.store(Some(Arc::new(address))),
        Ok(None) if server.endpoint().is_none() => return Err(io::ErrorKind::NotFound.into()),
        Err(error) if server.endpoint().is_none() => return Err(error),
        Ok(None) | Err(_) => {}
    }
    Ok(())
}
