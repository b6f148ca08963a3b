//! Connection requirements of a site: HTTPS, a TLS version, and client certificates.

use http::{Method, StatusCode, header};

use crate::{
    client::Client,
    config::{ClientTls, RedirectHttps, SiteSettings, TlsVersion},
    message::{EditHeaders, RequestHead, value, write_number},
    response::{Explanation, Response},
    route::host_without_port,
    tls::TlsSession,
};

/// Connection requirements of a site.
#[derive(Debug, Default)]
pub(crate) struct HttpsPolicy {
    /// Redirect from HTTP to HTTPS.
    redirect: Option<RedirectHttps>,
    /// Port of the HTTPS listener.
    port: Option<u16>,
    /// Oldest version of TLS that is accepted.
    min_version: Option<TlsVersion>,
    /// Client certificates.
    client: Option<ClientTls>,
}

impl HttpsPolicy {
    pub(crate) fn new(site: &SiteSettings, port: Option<u16>) -> Self {
        let tls = site.tls.as_ref();
        Self {
            redirect: site.redirect_https.clone(),
            port,
            min_version: tls.map(|tls| tls.min_version),
            client: tls.and_then(|tls| tls.client.clone()),
        }
    }

    /// Refuses a request whose connection does not meet the requirements, or redirects it to HTTPS.
    pub(crate) fn redirect_to_https(
        &self,
        client: &Client,
        tls_session: Option<&TlsSession>,
        host: &str,
        request: &RequestHead,
    ) -> Option<Response> {
        let explain =
            |status, sentence: &str| Some(Explanation::new(status, sentence).answer(&request.headers));
        if self.redirect.is_some() && !client.https {
            if host_without_port(host).is_empty() {
                return explain(
                    StatusCode::BAD_REQUEST,
                    "This site is served over HTTPS only, and the request has no Host header to redirect by.",
                );
            }
            return Some(self.https_redirect(host, request));
        }
        // The server name of the handshake may have been that of another site with other requirements.
        let misdirected = || {
            explain(
                StatusCode::MISDIRECTED_REQUEST,
                "This TLS session was made for another site with weaker requirements. Open a new connection for this one.",
            )
        };
        let is_old = tls_session.is_some_and(|session| session.version == TlsVersion::Tls12);
        if is_old && self.min_version == Some(TlsVersion::Tls13) {
            return misdirected();
        }
        let required = self.client.as_ref()?;
        match tls_session {
            Some(session) if session.client.as_deref() == Some(required) => None,
            Some(_) => misdirected(),
            None if required.required => {
                explain(StatusCode::FORBIDDEN, "This site requires HTTPS and a client certificate.")
            }
            None => None,
        }
    }

    /// Redirect to the same URL over HTTPS.
    fn https_redirect(&self, host: &str, request: &RequestHead) -> Response {
        let status = match request.method {
            Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
            // Keeps the method and the body (RFC 9110 §15.4.9).
            _ => StatusCode::PERMANENT_REDIRECT,
        };
        let port = self
            .port
            .filter(|port| !matches!(port, 0 | 443))
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let target = request.target.quoted();
        let slash = if target.starts_with('/') { "" } else { "/" };
        Response::redirect(status, &format!("https://{}{port}{slash}{target}", host_without_port(host)))
    }

    /// Adds `Strict-Transport-Security` to responses over HTTPS (RFC 6797 §7.2: over HTTP it must not be sent).
    pub(crate) fn add_hsts(&self, response: &mut impl EditHeaders, client: Option<&Client>) {
        let Some(redirect) = self.redirect.as_ref().filter(|_| client.is_some_and(|client| client.https))
        else {
            return;
        };
        let Some(hsts) = redirect.hsts else { return };
        let text = value(|out| {
            out.extend_from_slice(b"max-age=");
            write_number(out, hsts.as_secs());
            if redirect.subdomains {
                out.extend_from_slice(b"; includeSubDomains");
            }
        });
        if response.get(&header::STRICT_TRANSPORT_SECURITY).is_none() {
            response.set(header::STRICT_TRANSPORT_SECURITY, text);
        }
    }
}
