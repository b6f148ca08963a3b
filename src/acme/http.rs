//! HTTP client for a CA: one connection for each of the few requests of an order.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Uri,
    header::{HOST, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::{net::TcpStream, time::timeout};

use crate::tls::TlsClient;

/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest response in bytes.
const MOST_BYTES: usize = 1 << 20;

const NAME: &str = concat!("bowshock/", env!("CARGO_PKG_VERSION"));

/// HTTP client for a CA.
#[derive(Clone)]
pub(super) struct Http {
    connector: Arc<TlsClient>,
    /// Time from `Retry-After` before which the CA expects no further request.
    not_before: Arc<Mutex<Option<SystemTime>>>,
}

impl Http {
    pub(super) fn new(connector: Arc<TlsClient>) -> Self {
        Self { connector, not_before: Arc::default() }
    }

    /// Time at which the CA may be asked again after it has refused something.
    pub(super) fn not_before(&self) -> Option<SystemTime> {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, BoxError> {
        let uri = request.uri().clone();
        let authority = uri.authority().ok_or("the CA's URL has no host")?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{uri} is not an https:// URL").into());
        }
        let (host, port) = (authority.host(), authority.port_u16().unwrap_or(443));
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = Uri::try_from(target)?;
        request.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str())?);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(NAME));

        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await?;
        let stream = self.connector.stream(stream, host).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
            Ok::<_, BoxError>((parts, body))
        };
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        let (parts, body) = tokio::select! {
            response = &mut exchange => response?,
            // The connection ends when the response is complete, or with an error that the exchange reports.
            _ = &mut connection => exchange.await?,
        };
        if parts.status.is_client_error() || parts.status.is_server_error() {
            let not_before = retry_after(&parts.headers, SystemTime::now());
            *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = not_before;
        }
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let sent = self.clone().send(request);
        Box::pin(async move {
            let response =
                timeout(REQUEST_TIMEOUT, sent).await.unwrap_or_else(|_| Err("the request timed out".into()));
            response.map_err(|error| Error::Other(format!("{host}: {error}").into()))
        })
    }
}

/// Parses `Retry-After`: a number of seconds or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(now + Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let of = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]), now)
        };
        assert_eq!(of(" 90 "), Some(now + Duration::from_secs(90)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(now));
        assert_eq!((of("soon"), of("-1")), (None, None));
    }
}
