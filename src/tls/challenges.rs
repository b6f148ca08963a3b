//! Responses to ACME challenges, by which a CA validates names.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderValue, Method, StatusCode};
use instant_acme::KeyAuthorization;
use rustls::{ServerConfig, server::ClientHello, sign::SingleCertAndKey};

use crate::{
    message::RequestHead,
    response::Response,
    tls::{self, self_signed},
};

/// Path prefix of HTTP-01 tokens (RFC 8555 §8.3).
const PATH_PREFIX: &str = "/.well-known/acme-challenge/";

/// Only ALPN protocol that a CA offers in a TLS-ALPN-01 handshake (RFC 8737 §3).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Pending challenges.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    /// Response bodies by token.
    tokens: HashMap<String, String>,
    /// TLS configurations by name.
    names: HashMap<String, Arc<ServerConfig>>,
}

/// Guard of a pending challenge, which is removed on drop.
pub(crate) struct ChallengeGuard<'a> {
    challenges: &'a Challenges,
    id: ChallengeId,
}

enum ChallengeId {
    Token(String),
    Name(String),
}

impl Challenges {
    /// Response to a CA's request for a token, if it is pending.
    pub(crate) fn answer(&self, request: &RequestHead) -> Option<Response> {
        let token = std::str::from_utf8(request.target.path()).ok()?.strip_prefix(PATH_PREFIX)?;
        let response = self.pending().tokens.get(token)?.clone();
        let content_type = HeaderValue::from_static("application/octet-stream");
        matches!(request.method, Method::GET | Method::HEAD)
            .then(|| Response::text(StatusCode::OK, content_type, response))
    }

    /// TLS configuration for a CA's handshake, if its name is pending.
    pub(crate) fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let is_challenge = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == PROTOCOL));
        is_challenge.then(|| self.pending().names.get(hello.server_name()?).cloned())?
    }

    /// Adds an HTTP-01 challenge.
    pub(crate) fn add_token(&self, token: &str, key: &KeyAuthorization) -> ChallengeGuard<'_> {
        self.pending().tokens.insert(token.to_owned(), key.as_str().to_owned());
        ChallengeGuard { challenges: self, id: ChallengeId::Token(token.to_owned()) }
    }

    /// Adds a TLS-ALPN-01 challenge: a certificate for the name that contains the digest of the key authorization.
    ///
    /// # Errors
    ///
    /// The certificate cannot be created.
    pub(crate) fn add_name(&self, name: &str, key: &KeyAuthorization) -> Result<ChallengeGuard<'_>, String> {
        let key = self_signed::for_challenge(name, key.digest().as_ref())?;
        let config = ServerConfig::builder_with_provider(tls::provider());
        let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let resolver = Arc::new(SingleCertAndKey::from(key));
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        self.pending().names.insert(name.to_owned(), Arc::new(config));
        Ok(ChallengeGuard { challenges: self, id: ChallengeId::Name(name.to_owned()) })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ChallengeGuard<'_> {
    fn drop(&mut self) {
        let mut pending = self.challenges.pending();
        match &self.id {
            ChallengeId::Token(token) => drop(pending.tokens.remove(token)),
            ChallengeId::Name(name) => drop(pending.names.remove(name)),
        }
    }
}
