//! Error pages of the proxy: a sentence for the client, as HTML or as JSON.

use http::{HeaderValue, StatusCode, header};

use crate::{message::RawHeaders, response::Response};

/// Explanation of a refused request, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) status: StatusCode,
    /// Error and remedy, in one or two sentences.
    pub(crate) sentence: String,
    /// Seconds after which the client may try again (RFC 9110 §10.2.3).
    pub(crate) retry_after: Option<u32>,
}

impl Explanation {
    pub(crate) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), retry_after: None }
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Response in the form that the client prefers: Galaxy's API clients read `err_msg`, browsers show a page.
    pub(crate) fn answer(&self, request: &RawHeaders) -> Response {
        let mut response = if prefers_json(request) {
            let code = self.status.as_u16();
            Response::json(self.status, &serde_json::json!({ "err_code": code, "err_msg": self.sentence }))
        } else {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            let page = Response::text(self.status, html, page(self.status, &self.sentence));
            Response { is_page: true, ..page }
        };
        response.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            response.headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Complete response as bytes, for a request whose head could not be parsed: a page, without keep-alive.
pub(crate) fn error_bytes(status: StatusCode, sentence: &str) -> (Vec<u8>, usize) {
    let page = page(status, sentence);
    let length = page.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{page}"
    );
    (response.into_bytes(), length)
}

/// Whether `Accept` has JSON before HTML. API clients ask for JSON; browsers list HTML first.
pub(crate) fn prefers_json(request: &RawHeaders) -> bool {
    let accept = request.text(header::ACCEPT).unwrap_or_default();
    let place = |kind: &str| accept.find(kind).unwrap_or(usize::MAX);
    place("application/json") < place("text/html")
}

/// Whether a client accepts HTML by name, as browsers do for pages.
pub(crate) fn prefers_html(request: &RawHeaders) -> bool {
    request.text(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"))
}

fn page(status: StatusCode, sentence: &str) -> String {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or("Error");
    let sentence = escape(sentence);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{code} {reason}</title>\n\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem;color:#222}}\
         h1{{font-size:1.4rem}}</style>\n\
         <h1>{code} {reason}</h1>\n<p>{sentence}</p>\n</html>\n"
    )
}

/// Escapes text for HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Body;

    fn body(accept: &str) -> String {
        let request = RawHeaders::of(&[("accept", accept)]);
        let response = Explanation::new(StatusCode::NOT_FOUND, "No <such> page.").answer(&request);
        let Body::Bytes(bytes) = response.body else { panic!("no body") };
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn people_get_a_page_and_programs_json() {
        assert!(body("text/html,application/xhtml+xml,*/*").contains("No &lt;such&gt; page."));
        assert!(body("*/*").starts_with("<!doctype html>"));
        assert_eq!(body("application/json"), "{\"err_code\":404,\"err_msg\":\"No <such> page.\"}\n");
        assert!(body("application/json, text/html").starts_with('{'));
    }

    #[test]
    fn retry_after_is_told_in_seconds() {
        let busy = Explanation::new(StatusCode::SERVICE_UNAVAILABLE, "Busy.").retry_after(5);
        assert_eq!(busy.answer(&RawHeaders::default()).headers[header::RETRY_AFTER], "5");
    }
}
