//! Listeners: sockets that clients connect to, opened and closed according to the configuration.
//!
//! [`accept`] hands each connection, counted by its [`guard`], to the client's side of the proxy (`downstream`).

mod accept;
mod address_counts;
mod bind;
mod guard;
mod listener;
mod peer;
mod reserved_fds;
mod threads;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::sync::Semaphore;

use crate::{
    config::{self, Address, Config, Listen},
    observe::Metrics,
    tls::{CertificateError, Certificates},
};
pub(crate) use accept::AcceptedSocket;
pub(crate) use address_counts::AddressCounts;
use bind::BindError;
pub(crate) use guard::ConnectionGuard;
pub use listener::{Listener, Purpose};
pub(crate) use peer::includes;
pub use peer::{Peer, PeerAddress};
#[cfg(test)]
pub(crate) use reserved_fds::ReservedFds;
pub(crate) use threads::WorkerThreads;

/// Serves an accepted connection, on the calling thread.
pub(crate) type Connect =
    Arc<dyn Fn(AcceptedSocket, ConnectionGuard, Arc<ConnectionSettings>, Arc<AddressCounts>) + Send + Sync>;

/// Callback for requests that are refused before they are read.
pub(crate) type OnRefused = Arc<dyn Fn(&RefusedRequest<'_>) + Send + Sync>;

/// A request that is refused before it is read.
#[derive(Debug)]
pub(crate) struct RefusedRequest<'a> {
    /// Client of the request.
    pub(crate) peer: &'a Peer,
    /// Request line, as far as it was received.
    pub(crate) line: &'a [u8],
    /// Status of the response.
    pub(crate) status: StatusCode,
    /// Length of the response body in bytes.
    pub(crate) bytes: u64,
}

/// Timeouts and limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionSettings {
    pub(crate) client_header_timeout: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) send_timeout: Duration,
    pub(crate) min_rate: u64,
    pub(crate) http2: config::Http2,
    /// Most connections per address.
    pub(crate) per_address: Option<usize>,
}

impl From<&config::ServerSettings> for ConnectionSettings {
    fn from(server: &config::ServerSettings) -> Self {
        Self {
            client_header_timeout: server.client_header_timeout,
            keepalive_timeout: server.keepalive_timeout,
            send_timeout: server.send_timeout,
            min_rate: server.min_rate,
            http2: server.http2,
            per_address: server.max_connections_per_address,
        }
    }
}

/// Listeners of the process.
pub struct Listeners {
    open: Mutex<Vec<OpenListener>>,
    /// No listener opens any more. Changed and read under the lock of `open`.
    stopping: AtomicBool,
    limits: ArcSwap<ConnectionSettings>,
    /// Places for client connections. Operators have their own, because they must get in when it is full.
    room: Arc<Semaphore>,
    admin_room: Arc<Semaphore>,
    /// Number of places in `room`.
    places: u32,
    addresses: Arc<AddressCounts>,
    connect: Connect,
    noted: OnRefused,
    workers: Arc<WorkerThreads>,
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
}

/// Most connections of operators.
const ADMIN_CONNECTIONS: usize = 64;

/// Reason why the listeners of a configuration cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// An address is in use, or not of this machine.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The process is stopping.
    #[error("the proxy is stopping")]
    Stopping,
}

/// An open listener.
struct OpenListener {
    listener: Arc<Listener>,
    accepting: tokio::task::JoinHandle<()>,
    /// Whether it accepts IPv6 only, although it listens on `[::]`.
    only_v6: bool,
    /// Socket file, removed with the listener.
    file: Option<bind::SocketFile>,
}

impl Listeners {
    /// Creates an empty list. `connect` will get the connections, on the threads of `workers`, and `noted` the
    /// requests that are refused before they are read.
    pub(crate) fn new(
        server: &config::ServerSettings,
        connect: Connect,
        noted: OnRefused,
        workers: Arc<WorkerThreads>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let max_connections = u32::try_from(server.max_connections).unwrap_or(u32::MAX);
        let places = max_connections.min(connections_for_files());
        Self {
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
            limits: ArcSwap::from_pointee(server.into()),
            room: Arc::new(Semaphore::new(places as usize)),
            admin_room: Arc::new(Semaphore::new(ADMIN_CONNECTIONS)),
            places,
            addresses: Arc::default(),
            connect,
            noted,
            workers,
            certificates: Arc::new(Certificates::new(Arc::clone(&metrics))),
            metrics,
        }
    }

    /// Certificates in effect.
    pub(crate) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Opens listeners that are new in `config`, keeps those that remain, and closes the others. `take_effect` runs
    /// when nothing can fail any more and no connection has been accepted on a new socket yet.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or the process is stopping; nothing has changed then.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        config: &Config,
        take_effect: impl FnOnce(),
    ) -> Result<(), ListenError> {
        let admin = Listen::from(&config.admin);
        let names = self.certificates.read(config).await?;
        let mut wanted: Vec<(&Listen, Purpose)> = vec![(&admin, Purpose::Admin)];
        wanted.extend(config.listen.iter().map(|listen| (listen, Purpose::Sites)));

        let mut kept: Vec<Arc<Listener>> = Vec::new();
        let mut fresh = Vec::new();
        let addresses: Vec<&Address> = wanted.iter().map(|(listen, _)| &listen.address).collect();
        for (listen, purpose) in wanted {
            let only_v6 = bind::is_only_v6(&listen.address, &addresses);
            match self.find(&listen.address, purpose, only_v6, &kept) {
                Some(listener) => kept.push(listener),
                None => fresh.push((bind::bind(listen, only_v6).await?, listen, purpose, only_v6)),
            }
        }
        let mut open = self.lock();
        if self.stopping.load(Ordering::Relaxed) {
            return Err(ListenError::Stopping);
        }
        take_effect();
        self.certificates.apply(config, names);
        self.limits.store(Arc::new(ConnectionSettings::from(&config.server)));
        let (stay, gone): (Vec<_>, Vec<_>) =
            open.drain(..).partition(|open| kept.iter().any(|kept| Arc::ptr_eq(kept, &open.listener)));
        gone.iter().for_each(OpenListener::close);
        *open = stay;
        for listener in open.iter().map(|open| &open.listener) {
            let mut settings = config.listen.iter().filter(|_| listener.purpose == Purpose::Sites);
            match settings.find(|listen| listen.address == listener.configured) {
                Some(listen) => listener.change(listen),
                None if listener.purpose == Purpose::Admin => listener.change(&admin),
                None => {}
            }
        }
        for (bound, listen, purpose, only_v6) in fresh {
            open.push(self.start(bound, listen, purpose, only_v6));
        }
        Ok(())
    }

    /// Stops accepting clients, and waits for the last connection to close. Operators may still connect.
    pub(crate) async fn close(&self) {
        let clients = |open: &mut OpenListener| open.listener.purpose == Purpose::Sites;
        let closed: Vec<OpenListener> = {
            let mut open = self.lock();
            self.stopping.store(true, Ordering::Relaxed);
            open.extract_if(.., clients).collect()
        };
        for open in closed {
            open.close();
            // Its task ends after it has accepted the pending connections.
            let _ = open.accepting.await;
        }
        // Each connection holds one permit. Fails only if the semaphore is closed, which never happens.
        let _ = self.room.acquire_many(self.places).await;
    }

    /// Closes the remaining listeners, those of operators.
    pub(crate) fn finish(&self) {
        let left: Vec<OpenListener> = self.lock().drain(..).collect();
        left.iter().for_each(OpenListener::close);
    }

    /// Open listeners.
    pub fn list(&self) -> Vec<Arc<Listener>> {
        self.lock().iter().map(|open| Arc::clone(&open.listener)).collect()
    }

    /// A listener with this address that is not taken yet, and that clients can reach.
    fn find(
        &self,
        address: &Address,
        purpose: Purpose,
        only_v6: bool,
        taken: &[Arc<Listener>],
    ) -> Option<Arc<Listener>> {
        let open = self.lock();
        let there = open.iter().filter(|open| open.file.as_ref().is_none_or(bind::SocketFile::is_there));
        let of_family = there.filter(|open| open.only_v6 == only_v6);
        let mut free = of_family.map(|open| &open.listener).filter(|listener| {
            listener.configured == *address
                && listener.purpose == purpose
                && !taken.iter().any(|taken| Arc::ptr_eq(taken, listener))
        });
        free.next().cloned()
    }

    fn start(
        self: &Arc<Self>,
        bound: bind::Bound,
        listen: &Listen,
        purpose: Purpose,
        only_v6: bool,
    ) -> OpenListener {
        let metrics = self.metrics.listener(&listen.address.to_string());
        let listener = Arc::new(Listener::new(
            listen,
            bound.address,
            purpose,
            Some(Arc::clone(&self.certificates)),
            Arc::clone(&self.noted),
            metrics,
        ));
        tracing::info!(address = %listener.address, ?purpose, "listening");
        let this = Arc::clone(self);
        let limits = move || this.limits.load_full();
        let room = match purpose {
            Purpose::Sites => &self.room,
            Purpose::Admin => &self.admin_room,
        };
        let accepting = tokio::spawn(accept::run(
            bound.acceptor,
            Arc::clone(&listener),
            limits,
            accept::Destination {
                room: Arc::clone(room),
                addresses: Arc::clone(&self.addresses),
                connect: Arc::clone(&self.connect),
                workers: Arc::clone(&self.workers),
            },
        ));
        OpenListener { listener, accepting, only_v6, file: bound.file }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OpenListener>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// File descriptors reserved for connections to servers, files that are sent, and operators: a quarter, and at least
/// this many.
const FILES_FOR_OTHERS: u64 = 64;

/// Most client connections that the limit of open files allows. Further clients wait in the listen queue, so that
/// those that are connected can be served.
fn connections_for_files() -> u32 {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let places = most.saturating_sub(FILES_FOR_OTHERS.max(most / 4)).max(1);
    u32::try_from(places).unwrap_or(u32::MAX)
}

impl OpenListener {
    fn close(&self) {
        tracing::info!(address = %self.listener.address, "no longer listening");
        self.listener.close();
    }
}
