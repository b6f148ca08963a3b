//! A panic costs the request that was served, and nobody else's.

use std::{os::unix::net::UnixStream, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{Reason, client::SendRequest};
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, Semaphore},
    time::timeout,
};

use crate::{
    config,
    downstream::{Serve, Served, connection, handshake::EstablishedConnection, http2, transport::Transport},
    listen::{
        AcceptedSocket, ConnectionGuard, ConnectionSettings, Listener, Peer, PeerAddress, Purpose,
        ReservedFds,
    },
    net::{RawSocket, Socket},
    observe::Metrics,
};

const SOON: Duration = Duration::from_secs(10);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A listener, and what serves its requests: `/panic` before there is a response, `/part` within it; `/wait` waits for
/// `go`.
struct TestSite {
    listener: Arc<Listener>,
    room: Arc<Semaphore>,
    limits: Arc<ConnectionSettings>,
    serve: Serve,
    go: Arc<Notify>,
}

impl TestSite {
    fn new() -> Self {
        let text = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[site]]\nroutes = { \"/\" = { answer = 200 } }\n";
        let config = config::parse("a.toml", text).unwrap().config;
        let listen = &config.listen[0];
        let (address, metrics) = (listen.address.clone(), Metrics::new().listener("test"));
        let listener =
            Arc::new(Listener::new(listen, address, Purpose::Sites, None, Arc::new(|_| {}), metrics));
        let go = Arc::new(Notify::new());
        let gate = Arc::clone(&go);
        let serve: Serve = Arc::new(move |mut transport: Box<Transport>, request| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                match std::str::from_utf8(request.head.target.path()).unwrap() {
                    "/panic" => panic!("as asked for"),
                    "/part" => {
                        transport.write_all(&ANSWER[..ANSWER.len() - 1]).await.unwrap();
                        transport.flush().await.unwrap();
                        panic!("as asked for, in the middle");
                    }
                    "/wait" => gate.notified().await,
                    _ => {}
                }
                transport.begin(request.body.clone(), false);
                transport.write_all(ANSWER).await.unwrap();
                transport.flush().await.unwrap();
                Served::Kept(transport)
            })
        });
        let limits = Arc::new(ConnectionSettings::from(&config.server));
        Self { listener, room: Arc::new(Semaphore::new(9)), limits, serve, go }
    }

    fn place(&self) -> ConnectionGuard {
        let room = Arc::clone(&self.room).try_acquire_owned().unwrap();
        ConnectionGuard::of_operator(Arc::clone(&self.listener), room, ReservedFds::of(0))
    }

    /// Connects to it, and gives both ends.
    fn pair() -> (tokio::net::UnixStream, UnixStream) {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        (tokio::net::UnixStream::from_std(client).unwrap(), server)
    }

    fn connect(&self) -> tokio::net::UnixStream {
        let (client, server) = Self::pair();
        let (limits, serve) = (Arc::clone(&self.limits), Arc::clone(&self.serve));
        connection::start(AcceptedSocket::Unix(server, 0), self.place(), limits, serve, Arc::default());
        client
    }

    async fn connect_h2(&self) -> SendRequest<Bytes> {
        let (client, server) = Self::pair();
        let socket = Socket::Plain(RawSocket::Unix(tokio::net::UnixStream::from_std(server).unwrap()));
        let (address, listener) = (PeerAddress::Unix { uid: 0 }, Arc::clone(&self.listener));
        let established = EstablishedConnection {
            socket,
            peer: Peer { listener, address, announced_port: None, tls: None },
            is_h2: true,
        };
        let (limits, serve) = (Arc::clone(&self.limits), Arc::clone(&self.serve));
        tokio::spawn(http2::serve(established, self.place(), limits, serve));
        let (requests, connection) = h2::client::handshake(client).await.unwrap();
        tokio::spawn(connection);
        requests
    }

    /// Waits until so many connections are open, and so many requests in hand.
    async fn has(&self, open: usize, active: usize) {
        let wait = async {
            while self.listener.connections() != (open, active) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let counted = || format!("{:?} are not {open}, {active}", self.listener.connections());
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{}", counted()));
    }
}

async fn ask(requests: &SendRequest<Bytes>, path: &str) -> Result<(StatusCode, Bytes), h2::Error> {
    let mut requests = requests.clone().ready().await?;
    let request = http::Request::get(format!("http://a{path}")).body(()).unwrap();
    let answer = timeout(SOON, requests.send_request(request, true)?.0).await.unwrap()?;
    let (status, mut body) = (answer.status(), answer.into_body());
    let mut all = Vec::new();
    while let Some(data) = timeout(SOON, body.data()).await.unwrap() {
        all.extend_from_slice(&data?);
    }
    Ok((status, all.into()))
}

#[tokio::test]
async fn in_http2_it_ends_its_stream_alone() {
    let site = TestSite::new();
    let requests = site.connect_h2().await;
    let ok = (StatusCode::OK, Bytes::from_static(b"ok"));
    let neighbour = requests.clone();
    let neighbour = tokio::spawn(async move { ask(&neighbour, "/wait").await });
    site.has(1, 1).await;
    for path in ["/panic", "/part", "/panic"] {
        let error = ask(&requests, path).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        site.has(1, 1).await;
        assert_eq!(ask(&requests, "/").await.unwrap(), ok, "after {path}");
    }
    site.go.notify_one();
    assert_eq!(neighbour.await.unwrap().unwrap(), ok);
    site.has(1, 0).await;
    drop(requests);
    site.has(0, 0).await;
}

#[tokio::test]
async fn in_http1_it_ends_its_connection_alone() {
    let site = TestSite::new();
    let mut neighbour = site.connect();
    neighbour.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    site.has(1, 1).await;
    for (path, part) in [("/panic", &b""[..]), ("/part", &ANSWER[..ANSWER.len() - 1])] {
        let mut client = site.connect();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, client.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, part, "{path}");
        site.has(1, 1).await;
    }
    site.go.notify_one();
    let mut answer = vec![0; ANSWER.len()];
    timeout(SOON, neighbour.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, ANSWER);
    drop(neighbour);
    site.has(0, 0).await;
}
