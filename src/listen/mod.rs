//! Listeners: sockets that clients connect to, opened and closed as the configuration says.
//!
//! [`accept`] hands each connection, counted by its [`place`], to the client's side of the proxy (`downstream`).

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

/// Serves a connection that has been accepted, on the thread that calls it.
pub(crate) type Connect =
    Arc<dyn Fn(AcceptedSocket, ConnectionGuard, Arc<ConnectionSettings>, Arc<AddressCounts>) + Send + Sync>;

/// What takes note of requests that are refused unread.
pub(crate) type Noted = Arc<dyn Fn(&RefusedRequest<'_>) + Send + Sync>;

/// A request that is refused before it is read.
#[derive(Debug)]
pub(crate) struct RefusedRequest<'a> {
    /// Whose it is.
    pub(crate) peer: &'a Peer,
    /// Its first line, as far as it has come.
    pub(crate) line: &'a [u8],
    /// What it is answered with.
    pub(crate) status: StatusCode,
    /// Bytes of the body of the answer.
    pub(crate) bytes: u64,
}

/// The times that a connection keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionSettings {
    pub(crate) client_header_timeout: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) send_timeout: Duration,
    pub(crate) min_rate: u64,
    pub(crate) http2: config::Http2,
    /// Connections of one address at once.
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

/// All listeners of the process.
pub struct Listeners {
    open: Mutex<Vec<OpenListener>>,
    /// No listener opens any more. Changed and looked at under the lock of `open`.
    stopping: AtomicBool,
    limits: ArcSwap<ConnectionSettings>,
    /// Room for clients' connections, and for operators' beside them: they must get in when it is full.
    room: Arc<Semaphore>,
    admin_room: Arc<Semaphore>,
    /// Places in `room`.
    places: u32,
    addresses: Arc<AddressCounts>,
    connect: Connect,
    noted: Noted,
    workers: Arc<WorkerThreads>,
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
}

/// Connections of operators at once.
const ADMIN_CONNECTIONS: usize = 64;

/// Why a configuration's listeners cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// An address is taken, or not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No listener opens any more.
    #[error("the proxy is stopping")]
    Stopping,
}

/// A listener that accepts.
struct OpenListener {
    listener: Arc<Listener>,
    accepting: tokio::task::JoinHandle<()>,
    /// Takes IPv6 alone, though it listens on `[::]`.
    only_v6: bool,
    /// Removed with the listener.
    file: Option<bind::SocketFile>,
}

impl Listeners {
    /// No listeners yet; `connect` is given the connections of those to come, on the threads of `workers`, and `noted` what is
    /// refused of them.
    pub(crate) fn new(
        server: &config::ServerSettings,
        connect: Connect,
        noted: Noted,
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

    /// The certificates in effect.
    pub(crate) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// Opens what is new in `config`, keeps what stays, closes what is gone. `take_effect` runs when nothing can
    /// fail any more and nobody has been accepted on a new socket yet.
    ///
    /// # Errors
    ///
    /// When one address cannot be bound, or we are stopping; nothing has changed then.
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

    /// Stops accepting clients, and waits until the last of them has left. Operators may still look.
    pub(crate) async fn close(&self) {
        let clients = |open: &mut OpenListener| open.listener.purpose == Purpose::Sites;
        let closed: Vec<OpenListener> = {
            let mut open = self.lock();
            self.stopping.store(true, Ordering::Relaxed);
            open.extract_if(.., clients).collect()
        };
        for open in closed {
            open.close();
            // Its task ends when it has taken in whoever had connected.
            let _ = open.accepting.await;
        }
        // Every connection holds one; fails only for a closed semaphore, which this one never is.
        let _ = self.room.acquire_many(self.places).await;
    }

    /// Closes what is left, the operators' listener.
    pub(crate) fn finish(&self) {
        let left: Vec<OpenListener> = self.lock().drain(..).collect();
        left.iter().for_each(OpenListener::close);
    }

    /// The listeners that accept now.
    pub fn list(&self) -> Vec<Arc<Listener>> {
        self.lock().iter().map(|open| Arc::clone(&open.listener)).collect()
    }

    /// A listener with this address that is not spoken for yet, and that clients can find.
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
            accept::To {
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

/// Files that are kept for connections to servers, files that are sent, and operators: a quarter, and not too few.
const FILES_FOR_OTHERS: u64 = 64;

/// How many of the files that this process may open can be clients' connections. Past it clients wait in the listen
/// queue, and those that are there can be served.
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
