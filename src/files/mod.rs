//! Files: which one a route means, whether the client needs it, which part, and how it is sent.
//!
//! Static files and accelerated downloads go the same way: [`Wanted`] → [`open`] → [`respond`].

pub mod accelerated;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "wired in by the next commit"))]
pub mod archive;
mod conditional;
mod multipart;
mod open;
mod range;
mod types;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

pub use open::{Opened, Wanted, open};

use crate::{
    answer::{Answer, Body, Piece},
    config::{Files, Part},
    route::By,
};
use conditional::Condition;
use open::Content;
use range::{Range, Span};

/// The one field of those that describe content which a 304 keeps (RFC 9110 §15.4.5).
const KEPT_BY_304: HeaderName = header::CONTENT_LOCATION;

/// The file that a route means by a path; `None` for names that are never served (hidden files).
pub fn wanted(files: &Files, by: &By<'_>) -> Option<Wanted> {
    let (path, root) = match by {
        By::Prefix(rest) => {
            let root = files.root.render(|_| None);
            if is_hidden(rest) {
                return None;
            }
            (format!("{}{rest}", root.trim_end_matches('/')), Some(root))
        }
        By::Exact => (files.root.render(|_| None), None),
        By::Regex(captures) => {
            let path = files.root.render(|name| captures.name(name).map(|capture| capture.as_str().into()));
            let root = fixed_directory(files);
            if is_hidden(path.strip_prefix(&root).unwrap_or(&path)) {
                return None;
            }
            (path, Some(root))
        }
    };
    let within = match (files.within.is_empty(), root) {
        (false, _) => files.within.clone(),
        (true, root) => root.filter(|root| root != "/").map(PathBuf::from).into_iter().collect(),
    };
    let path = if path.is_empty() { "/".into() } else { path };
    Some(Wanted { candidates: vec![path.into()], within })
}

/// The part of a template before its first capture, as far as it is whole directories: what it may not leave.
fn fixed_directory(files: &Files) -> String {
    match files.root.0.as_slice() {
        [Part::Text(text)] => text.clone(),
        [Part::Text(text), ..] => text[..text.rfind('/').unwrap_or(0).max(1)].to_owned(),
        _ => "/".to_owned(),
    }
}

/// Whether a segment starts with a dot (`..` among them). `/.well-known/` is public by its purpose (RFC 8615).
fn is_hidden(path: &str) -> bool {
    path.split('/').any(|segment| segment.starts_with('.') && segment != ".well-known")
}

/// Answers with an open file, or the part of it that the client asks for.
///
/// `base` holds fields that the answer has anyway (the application's, for an accelerated download): its
/// `Content-Type`, `ETag` and `Last-Modified` go before the file's own.
pub fn respond(opened: &Opened, method: &Method, request: &HeaderMap, base: HeaderMap) -> Answer {
    let mut answer = Answer { headers: base, ..Answer::empty(StatusCode::OK) };
    let validators = complete(&mut answer.headers, opened);
    let conditional = matches!(*method, Method::GET | Method::HEAD);
    match if conditional { validators.weigh(request) } else { Condition::Met } {
        Condition::Met => {}
        Condition::NotModified => return without_content(answer, StatusCode::NOT_MODIFIED),
        Condition::Failed => return without_content(answer, StatusCode::PRECONDITION_FAILED),
    }
    answer.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Only GET has ranges (RFC 9110 §14.2).
    let ranged = *method == Method::GET && validators.range_applies(request);
    match Range::parse(request.get(header::RANGE).filter(|_| ranged), opened.size) {
        Range::Whole => {
            answer.body(Body::piece(piece(&opened.content, Span { start: 0, length: opened.size })))
        }
        Range::Parts(spans) => {
            answer.status = StatusCode::PARTIAL_CONTENT;
            match spans[..] {
                [span] => answer
                    .with(header::CONTENT_RANGE, value(multipart::content_range(span, opened.size)))
                    .body(Body::piece(piece(&opened.content, span))),
                _ => multipart::answer(answer, &spans, opened.size, |span| piece(&opened.content, span)),
            }
        }
        Range::Unsatisfiable => without_content(answer, StatusCode::RANGE_NOT_SATISFIABLE)
            .with(header::CONTENT_RANGE, value(format!("bytes */{}", opened.size))),
    }
}

/// Adds what the application has not said, and returns the validators that count.
fn complete(headers: &mut HeaderMap, opened: &Opened) -> conditional::Validators {
    let own = &opened.validators;
    if !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, types::content_type(&opened.path));
    }
    if let Some(etag) = own.etag.clone().filter(|_| !headers.contains_key(header::ETAG)) {
        headers.insert(header::ETAG, etag);
    }
    if let Some(modified) = own.modified.filter(|_| !headers.contains_key(header::LAST_MODIFIED)) {
        headers.insert(header::LAST_MODIFIED, http_date(modified));
    }
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    conditional::Validators {
        etag: headers.get(header::ETAG).cloned(),
        modified: headers.get(header::LAST_MODIFIED).and_then(date),
    }
}

/// Drops what describes a body that is not sent; the rest stays: without its CORS fields an answer is hidden from the
/// page that asked.
fn without_content(mut answer: Answer, status: StatusCode) -> Answer {
    let describes =
        |name: &&HeaderName| name.as_str().starts_with("content-") || **name == header::ACCEPT_RANGES;
    let gone: Vec<HeaderName> =
        answer.headers.keys().filter(describes).filter(|name| **name != KEPT_BY_304).cloned().collect();
    for name in gone {
        answer.headers.remove(name);
    }
    answer.status = status;
    answer
}

fn value(text: String) -> HeaderValue {
    // Made of digits and a few signs.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

/// `Last-Modified` and `Expires` values (RFC 9110 §5.6.7).
pub(crate) fn http_date(time: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

fn piece(content: &Content, span: Span) -> Piece {
    match content {
        // Within bounds: the range was cut to the size, which is the length of these bytes.
        Content::Read(bytes) => Piece::Bytes(bytes.slice(span.start as usize..span.end() as usize)),
        Content::File(file) => {
            Piece::File { file: Arc::clone(file), offset: span.start, length: span.length }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Template;
    use regex::Regex;

    fn files(root: Template, within: &[&str]) -> Files {
        Files { root, within: within.iter().map(PathBuf::from).collect() }
    }

    fn text(text: &str) -> Template {
        Template(vec![Part::Text(text.into())])
    }

    fn template(parts: &[&str]) -> Template {
        Template(
            parts
                .iter()
                .map(|part| match part.strip_prefix('{') {
                    Some(name) => Part::Capture(name.trim_end_matches('}').into()),
                    None => Part::Text((*part).into()),
                })
                .collect(),
        )
    }

    #[test]
    fn a_prefix_is_replaced_and_its_root_not_left() {
        let wanted = |rest| wanted(&files(text("/srv/static/"), &[]), &By::Prefix(rest));
        let found = wanted("/a/b.css").unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/srv/static/a/b.css")]);
        assert_eq!(found.within, [PathBuf::from("/srv/static/")]);
        assert_eq!(wanted("/.git/config"), None);
        assert_eq!(wanted("/a/.env"), None);
        assert!(wanted("/.well-known/security.txt").is_some());
    }

    #[test]
    fn an_internal_route_on_the_root_is_kept_within() {
        let found = wanted(&files(text("/"), &["/data"]), &By::Prefix("/data/x")).unwrap();
        assert_eq!(found, Wanted { candidates: vec!["/data/x".into()], within: vec!["/data".into()] });
    }

    #[test]
    fn captures_fill_in_and_cannot_leave() {
        let regex = Regex::new(r"^/plugins/(?<kind>[^/]+)/(?<name>[^/]+)/static/(?<file>.*)$").unwrap();
        let root = template(&["/srv/plugins/", "{kind}", "/", "{name}", "/static/", "{file}"]);
        let path = "/plugins/vis/charts/static/a/b.js";
        let by = By::Regex(regex.captures(path).unwrap());
        let found = wanted(&files(root, &[]), &by).unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/srv/plugins/vis/charts/static/a/b.js")]);
        assert_eq!(found.within, [PathBuf::from("/srv/plugins")]);

        let regex = Regex::new(r"^/p/(?<a>\.\.)(?<b>.*)$").unwrap();
        let by = By::Regex(regex.captures("/p/..etc").unwrap());
        assert_eq!(wanted(&files(template(&["/srv/", "{a}", "/", "{b}"]), &[]), &by), None);
    }
}
