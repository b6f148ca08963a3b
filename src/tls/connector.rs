//! TLS client for upstream servers: server names and trusted CAs.

use std::{io, net::IpAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, TlsStream, client};

use super::{
    CertificateError,
    certificate::{certificates, roots},
    provider,
};
use crate::{
    config::UpstreamTls,
    net::{RawSocket, Socket},
};

/// TLS client for the servers of an upstream.
#[derive(Debug)]
pub(crate) struct TlsClient {
    /// Settings that it was created from.
    pub(crate) settings: UpstreamTls,
    /// Client configuration, or the reason why no server can be trusted.
    config: Result<Arc<ClientConfig>, String>,
}

impl TlsClient {
    /// Creates a client for HTTP/1.1. Reads the CA file. Blocks.
    pub(crate) fn new(settings: &UpstreamTls) -> Self {
        Self::for_servers(b"http/1.1", settings)
    }

    /// Creates a client for a protocol of upstream servers, by its ALPN name (RFC 7301). Reads the CA file. Blocks.
    pub(crate) fn for_servers(protocol: &[u8], settings: &UpstreamTls) -> Self {
        let client = Self::speaking(protocol, settings);
        if let Err(error) = &client.config {
            tracing::error!("cannot connect to upstream servers over TLS: {error}");
        }
        client
    }

    /// Creates a client for another protocol, by its ALPN name (RFC 7301). Reads the CA file. Blocks.
    pub(crate) fn speaking(protocol: &[u8], settings: &UpstreamTls) -> Self {
        let config = config(settings).map(|mut config| {
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        });
        Self { settings: settings.clone(), config }
    }

    /// Performs the handshake with a server whose configured name is `host`.
    ///
    /// # Errors
    ///
    /// The certificate is not valid for the server, or the handshake fails.
    pub(crate) async fn connect(&self, raw: RawSocket, host: &str) -> io::Result<Socket> {
        let stream = self.stream(raw, host).await?;
        Ok(Socket::Tls(Box::new(TlsStream::Client(stream))))
    }

    /// Performs the handshake over any stream.
    ///
    /// # Errors
    ///
    /// Same as [`connect`](Self::connect).
    pub(crate) async fn stream<S>(&self, stream: S, host: &str) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsConnector::from(self.config()?).connect(self.name(host)?, stream).await
    }

    /// Session for blocking I/O: the handshake happens with the first bytes.
    ///
    /// # Errors
    ///
    /// `host` is not a valid server name.
    pub(crate) fn session(&self, host: &str) -> io::Result<ClientConnection> {
        ClientConnection::new(self.config()?, self.name(host)?).map_err(io::Error::other)
    }

    fn config(&self) -> io::Result<Arc<ClientConfig>> {
        self.config.clone().map_err(io::Error::other)
    }

    fn name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let invalid =
            |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a valid server name"));
        match name.parse::<IpAddr>() {
            Ok(address) => Ok(ServerName::from(address)),
            Err(_) => ServerName::try_from(name.to_owned()).map_err(invalid),
        }
    }
}

fn config(settings: &UpstreamTls) -> Result<ClientConfig, String> {
    let versions: &[_] = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let config = config.map_err(|error| error.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = match &settings.ca {
        _ if !settings.verify => Arc::new(Known { certificates: None, others: None, provider: provider() }),
        ca => {
            let to_text = |error: CertificateError| error.to_string();
            let known = ca.as_deref().map(certificates).transpose().map_err(to_text)?;
            let roots = match (ca, known.clone()) {
                (Some(ca), Some(known)) => Arc::new(roots(ca, known).map_err(to_text)?),
                _ => roots_of_the_system()?,
            };
            let others = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
            let others = others.map_err(|error| error.to_string())?;
            let certificates = Some(known.unwrap_or_default());
            Arc::new(Known { certificates, others: Some(others), provider: provider() })
        }
    };
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    Ok(config.with_no_client_auth())
}

/// CAs of the system, as read last. There are hundreds of them, shared by all upstreams.
static SYSTEM: ArcSwapOption<RootCertStore> = ArcSwapOption::const_empty();

/// Reads the CAs of the system for all connectors created from now on. Blocks.
pub(crate) fn read_system_roots() {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    SYSTEM.store(Some(Arc::new(roots)));
}

fn roots_of_the_system() -> Result<Arc<RootCertStore>, String> {
    if SYSTEM.load().is_none() {
        read_system_roots();
    }
    let roots = SYSTEM.load_full().filter(|roots| !roots.is_empty());
    roots.ok_or_else(|| "the system has no CA certificates; set `ca` to a file with some".into())
}

/// Verifier that trusts servers whose own certificate is in the file, whatever it contains, and those with a
/// certificate from a trusted CA. Handshake signatures are verified with the certificate's key in any case.
#[derive(Debug)]
struct Known {
    /// Certificates from the file; `None` when every server is trusted (`verify = false`).
    certificates: Option<Vec<CertificateDer<'static>>>,
    others: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match (&self.certificates, &self.others) {
            (Some(known), Some(others)) if !known.contains(certificate) => {
                others.verify_server_cert(certificate, above, name, ocsp, now)
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
