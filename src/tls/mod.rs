//! TLS: certificates, their selection by server name, and the parameters of each connection.
//!
//! A client sends a server name ([`names`]), gets the certificate of that site ([`certificate`]), and must present a
//! certificate of its own if the site requires one. Files are read at each reload and when they change ([`watch`]).

mod certificate;
mod challenges;
mod connector;
mod names;
mod pem;
mod self_signed;
mod watch;

use std::{io, sync::Arc, time::Duration};

use rustls::{crypto::CryptoProvider, server::Acceptor};
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

pub(crate) use certificate::{CertificateError, authorities, read_key_pair};
pub(crate) use challenges::{ChallengeGuard, Challenges};
pub(crate) use connector::{TlsClient, read_system_roots};
pub(crate) use names::CertificateMap;
pub(crate) use watch::Certificates;

use crate::{
    config::{Address, ClientTls, TlsVersion},
    net::{RawSocket, Socket},
};

/// Parameters negotiated for a connection.
#[derive(Debug)]
pub struct TlsSession {
    /// Protocol version.
    pub version: TlsVersion,
    /// Name of the cipher suite.
    pub cipher: &'static str,
    /// Client authentication settings of the connection; a required certificate has been verified.
    pub client: Option<Arc<ClientTls>>,
}

impl TlsSession {
    /// Protocol version and cipher suite.
    pub(crate) fn used(&self) -> (TlsVersion, &'static str) {
        (self.version, self.cipher)
    }
}

/// A connection after its handshake.
pub(crate) struct Secured {
    /// Encrypted socket.
    pub(crate) socket: Socket,
    /// Negotiated parameters.
    pub(crate) facts: Arc<TlsSession>,
    /// Whether HTTP/2 was negotiated (ALPN, RFC 7301).
    pub(crate) is_h2: bool,
}

/// Cryptography provider: AWS-LC, whose key exchange also resists quantum computers (X25519MLKEM768).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Performs the handshake with a client of `listener`, within a time limit.
///
/// # Errors
///
/// The handshake fails or times out.
pub(crate) async fn accept(
    socket: RawSocket,
    names: &CertificateMap,
    challenges: &Challenges,
    listener: &Address,
    within: Duration,
) -> io::Result<Secured> {
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        if let Some(config) = challenges.handshake(&hello.client_hello()) {
            // The CA has validated the name in the handshake, and sends nothing (RFC 8737 §3).
            hello.into_stream(config).await?.shutdown().await?;
            return Err(io::Error::other("TLS-ALPN-01 challenge completed"));
        }
        let entry = names.find(listener, hello.client_hello().server_name());
        let entry = entry.ok_or_else(|| io::Error::other("no certificate for this server name"))?;
        let client = entry.client.clone();
        let stream = hello.into_stream(Arc::clone(&entry.config)).await?;
        let (_, session) = stream.get_ref();
        let facts = TlsSession {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher: session
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or_default(),
            client,
        };
        let is_h2 = session.alpn_protocol() == Some(b"h2");
        Ok(Secured {
            socket: Socket::Tls(Box::new(TlsStream::Server(stream))),
            facts: Arc::new(facts),
            is_h2,
        })
    };
    match timeout(within, handshake).await {
        Ok(secured) => secured,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake timed out")),
    }
}
