//! TLS: certificates, who is shown which, and what each connection has agreed on.
//!
//! A connection shows a name ([`names`]), gets the certificate of its site ([`certificate`]), and is as trustworthy as
//! the site asks. Files are read at each reload and when they change ([`watch`]).

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

pub(crate) use certificate::{CertificateError, authorities, identity};
pub(crate) use challenges::{Challenges, Showing};
pub(crate) use connector::{TlsClient, read_system_roots};
pub(crate) use names::CertificateMap;
pub(crate) use watch::Certificates;

use crate::{
    config::{Address, ClientTls, TlsVersion},
    net::{Raw, Socket},
};

/// What a connection has agreed on.
#[derive(Debug)]
pub struct TlsSession {
    /// The version that is spoken.
    pub version: TlsVersion,
    /// The name of the cipher suite.
    pub cipher: &'static str,
    /// Whose certificates the client was asked for, and has shown one where it has to.
    pub client: Option<Arc<ClientTls>>,
}

impl TlsSession {
    /// The version and the cipher suite.
    pub(crate) fn used(&self) -> (TlsVersion, &'static str) {
        (self.version, self.cipher)
    }
}

/// A connection after its handshake.
pub(crate) struct Secured {
    /// It, encrypted.
    pub(crate) socket: Socket,
    /// What was agreed on.
    pub(crate) facts: Arc<TlsSession>,
    /// The next protocol is HTTP/2 (RFC 7301).
    pub(crate) is_h2: bool,
}

/// The cryptography: of AWS-LC, whose key exchange is also safe from quantum computers (X25519MLKEM768).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Shakes hands with a client that has connected to `listener`, within so long.
///
/// # Errors
///
/// What the client has done wrong, or that it took too long.
pub(crate) async fn accept(
    socket: Raw,
    names: &CertificateMap,
    challenges: &Challenges,
    listener: &Address,
    within: Duration,
) -> io::Result<Secured> {
    let handshake = async {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        if let Some(config) = challenges.handshake(&hello.client_hello()) {
            // The CA has seen what it wanted, and sends nothing (RFC 8737 §3).
            hello.into_stream(config).await?.shutdown().await?;
            return Err(io::Error::other("a CA has looked whether a name leads here"));
        }
        let entry = names.find(listener, hello.client_hello().server_name());
        let entry = entry.ok_or_else(|| io::Error::other("there is no certificate for this name"))?;
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
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}
