//! What a site asks of the connection: HTTPS, and certificates of clients.

use http::{Method, StatusCode, header};

use crate::{
    client::Client,
    config::{ClientTls, RedirectHttps, SiteSettings, TlsVersion},
    message::{EditHeaders, RequestHead, value, write_number},
    response::{Explanation, Response},
    route::name_of,
    tls::TlsSession,
};

/// What a site asks of connections.
#[derive(Debug, Default)]
pub(crate) struct HttpsPolicy {
    /// Clients are to come by HTTPS.
    redirect: Option<RedirectHttps>,
    /// The port they come to there.
    port: Option<u16>,
    /// They speak no older version.
    min_version: Option<TlsVersion>,
    /// They show certificates of their own.
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

    /// Refuses what came by a connection that will not do, or leads it to one that does.
    pub(crate) fn redirect_to_https(
        &self,
        client: &Client,
        facts: Option<&TlsSession>,
        host: &str,
        request: &RequestHead,
    ) -> Option<Response> {
        let explain =
            |status, sentence: &str| Some(Explanation::new(status, sentence).answer(&request.headers));
        if self.redirect.is_some() && !client.https {
            if name_of(host).is_empty() {
                return explain(
                    StatusCode::BAD_REQUEST,
                    "This site is had by HTTPS, and the request names no host.",
                );
            }
            return Some(self.lead(host, request));
        }
        // The name in the handshake may have been that of another site, which has asked for something else.
        let elsewhere = || {
            explain(
                StatusCode::MISDIRECTED_REQUEST,
                "This connection was made for another site, which asks for less.",
            )
        };
        let is_old = facts.is_some_and(|facts| facts.version == TlsVersion::Tls12);
        if is_old && self.min_version == Some(TlsVersion::Tls13) {
            return elsewhere();
        }
        let wanted = self.client.as_ref()?;
        match facts {
            Some(facts) if facts.client.as_deref() == Some(wanted) => None,
            Some(_) => elsewhere(),
            None if wanted.required => explain(
                StatusCode::FORBIDDEN,
                "This site is only for clients that show a certificate, by HTTPS.",
            ),
            None => None,
        }
    }

    /// The same address by HTTPS.
    fn lead(&self, host: &str, request: &RequestHead) -> Response {
        let status = match request.method {
            Method::GET | Method::HEAD => StatusCode::MOVED_PERMANENTLY,
            // The method and the body are to stay what they are (RFC 9110 §15.4.9).
            _ => StatusCode::PERMANENT_REDIRECT,
        };
        let port = self
            .port
            .filter(|port| !matches!(port, 0 | 443))
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let target = request.target.quoted();
        let slash = if target.starts_with('/') { "" } else { "/" };
        Response::redirect(status, &format!("https://{}{port}{slash}{target}", name_of(host)))
    }

    /// Tells browsers to come by HTTPS alone from now on (RFC 6797 §7.2: only where they have).
    pub(crate) fn add_hsts(&self, answer: &mut impl EditHeaders, client: Option<&Client>) {
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
        if answer.get(&header::STRICT_TRANSPORT_SECURITY).is_none() {
            answer.set(header::STRICT_TRANSPORT_SECURITY, text);
        }
    }
}
