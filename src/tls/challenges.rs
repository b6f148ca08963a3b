//! What is shown to a CA that looks whether a name leads here.

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

/// Where tokens are asked for (RFC 8555 §8.3).
const PLACE: &str = "/.well-known/acme-challenge/";

/// What a CA that makes a handshake offers alone (RFC 8737 §3).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// What can be shown now.
#[derive(Debug, Default)]
pub(crate) struct Challenges(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// What is answered for a token.
    tokens: HashMap<String, String>,
    /// The handshake for a name.
    names: HashMap<String, Arc<ServerConfig>>,
}

/// Shown until dropped.
pub(crate) struct Showing<'a> {
    challenges: &'a Challenges,
    what: What,
}

enum What {
    Token(String),
    Name(String),
}

impl Challenges {
    /// The answer for a CA that asks for a token.
    pub(crate) fn answer(&self, request: &RequestHead) -> Option<Response> {
        let token = std::str::from_utf8(request.target.path()).ok()?.strip_prefix(PLACE)?;
        let answer = self.shown().tokens.get(token)?.clone();
        let of_bytes = HeaderValue::from_static("application/octet-stream");
        matches!(request.method, Method::GET | Method::HEAD)
            .then(|| Response::text(StatusCode::OK, of_bytes, answer))
    }

    /// The handshake for a CA that asks for one.
    pub(crate) fn handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let is_challenge = hello.alpn().is_some_and(|mut offered| offered.any(|one| one == PROTOCOL));
        is_challenge.then(|| self.shown().names.get(hello.server_name()?).cloned())?
    }

    /// Shows a token.
    pub(crate) fn show_token(&self, token: &str, key: &KeyAuthorization) -> Showing<'_> {
        self.shown().tokens.insert(token.to_owned(), key.as_str().to_owned());
        Showing { challenges: self, what: What::Token(token.to_owned()) }
    }

    /// Shows a certificate for a name that says it was made for this order.
    ///
    /// # Errors
    ///
    /// When none can be made.
    pub(crate) fn show_name(&self, name: &str, key: &KeyAuthorization) -> Result<Showing<'_>, String> {
        let key = self_signed::for_challenge(name, key.digest().as_ref())?;
        let config = ServerConfig::builder_with_provider(tls::provider());
        let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let resolver = Arc::new(SingleCertAndKey::from(key));
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        self.shown().names.insert(name.to_owned(), Arc::new(config));
        Ok(Showing { challenges: self, what: What::Name(name.to_owned()) })
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        let mut shown = self.challenges.shown();
        match &self.what {
            What::Token(token) => drop(shown.tokens.remove(token)),
            What::Name(name) => drop(shown.names.remove(name)),
        }
    }
}
