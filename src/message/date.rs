//! Dates in header values.

use std::time::SystemTime;

use http::HeaderValue;

/// A time as HTTP writes it (RFC 9110 §5.6.7).
pub(crate) fn http_date(time: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
