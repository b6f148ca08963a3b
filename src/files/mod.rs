//! Files: finds the file of a route, evaluates conditions and ranges, and builds the response.
//!
//! Static files and accelerated downloads share one path: [`FileRequest`] → [`open`] → [`respond`].

pub mod accelerated;
pub mod archive;
mod beneath;
mod cache;
mod conditional;
pub mod listing;
mod multipart;
mod open;
pub(crate) mod range;
mod types;

use std::{path::PathBuf, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

pub use cache::Cache;
pub use open::{FileRequest, Missing, Opened, open};

use crate::{
    clock,
    config::{Files, Name, Part, Template},
    message::{RawHeaders, choose, http_date, starts_with},
    response::{Body, FileIdentity, Piece, Response},
    route::PathMatch,
};
use conditional::{Condition, Validators};
use range::{ByteSpan, Range};

/// Headers that describe a body that is not sent. Not every `Content-` header does: `Content-Security-Policy` is
/// about the site, and `Content-Location` stays in a 304 (RFC 9110 §15.4.5).
const OF_A_BODY: [HeaderName; 9] = [
    header::ACCEPT_RANGES,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// File of a route for a path; `None` for names that are never served (hidden files).
///
/// `write` adds the value of a name in a path to the path so far.
pub fn wanted(files: &Files, by: &PathMatch<'_>, write: &dyn Fn(&Name, &mut Vec<u8>)) -> Option<FileRequest> {
    let places = 1 + files.otherwise.len();
    let (mut candidates, mut roots) = (Vec::with_capacity(places), Vec::with_capacity(places));
    for root in std::iter::once(&files.root).chain(&files.otherwise) {
        let mut path = rendered(root, write)?;
        match by {
            PathMatch::Prefix(rest) => {
                if is_hidden(rest) {
                    return None;
                }
                roots.push(if root.literal().is_some() { path.clone() } else { fixed_directory(root) });
                path.truncate(path.trim_end_matches('/').len());
                path.push_str(rest);
            }
            PathMatch::Regex(_) => roots.push(fixed_directory(root)),
            PathMatch::Exact if root.literal().is_some() => {}
            PathMatch::Exact => roots.push(fixed_directory(root)),
        }
        let path = if path.is_empty() { "/".into() } else { path };
        if path.ends_with('/') && !files.index.is_empty() {
            candidates.extend(files.index.iter().map(|name| PathBuf::from(format!("{path}{name}"))));
        } else {
            candidates.push(path.into());
        }
    }
    let within = match files.within.is_empty() {
        false => files.within.clone(),
        true => roots.into_iter().filter(|root| root != "/").map(PathBuf::from).collect(),
    };
    Some(FileRequest {
        candidates,
        within,
        symlinks: files.symlinks,
        precompressed: Arc::clone(&files.precompressed),
        types: Arc::clone(&files.types),
    })
}

/// Directory to list for a path that ends with a slash.
pub fn directory(files: &Files, by: &PathMatch<'_>, write: &dyn Fn(&Name, &mut Vec<u8>)) -> Option<PathBuf> {
    let PathMatch::Prefix(rest) = by else { return None };
    let root = rendered(&files.root, write)?;
    let wanted = files.listing && rest.ends_with('/') && !is_hidden(rest);
    wanted.then(|| format!("{}{}", root.trim_end_matches('/'), rest.trim_end_matches('/')).into())
}

/// Path of a template for a request; `None` for one that has a hidden part, or cannot be a path, by what a request chose.
fn rendered(root: &Template, write: &dyn Fn(&Name, &mut Vec<u8>)) -> Option<String> {
    let path = String::from_utf8(root.render(write)).ok()?;
    if root.literal().is_some() {
        return Some(path);
    }
    let chosen = path.strip_prefix(&fixed_directory(root)).unwrap_or(&path);
    (!is_hidden(chosen) && !path.contains('\0')).then_some(path)
}

/// Part of a template before its first capture, up to the last whole directory: the file must lie in it.
fn fixed_directory(root: &Template) -> String {
    match root.0.as_slice() {
        [Part::Text(text)] => text.clone(),
        [Part::Text(text), ..] => text[..text.rfind('/').unwrap_or(0).max(1)].to_owned(),
        _ => "/".to_owned(),
    }
}

/// Whether a segment starts with a dot (including `..`). `/.well-known/` is public by its purpose (RFC 8615).
fn is_hidden(path: &str) -> bool {
    let starts = memchr::memchr_iter(b'.', path.as_bytes());
    let mut segments =
        starts.filter(|at| path[..*at].bytes().next_back().is_none_or(|before| before == b'/'));
    segments.any(|at| path[at..].split('/').next() != Some(".well-known"))
}

/// Builds the response with an open file, or with the requested range of it.
///
/// `base` holds headers for the response (the application's, for an accelerated download): its `Content-Type`, `ETag`
/// and `Last-Modified` take precedence over those of the file. A 304 has all headers that a 200 in its place would
/// have; which of them are sent is decided together with the content coding.
pub fn respond(opened: &Opened, method: &Method, request: &RawHeaders, base: HeaderMap) -> Response {
    let mut response = Response { headers: base, ..Response::empty(StatusCode::OK) };
    // The type is that of the original; a range always refers to the original.
    let mut chosen = opened;
    if !opened.variants.is_empty() {
        response.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        let codings = opened.variants.iter().map(|(coding, _)| *coding);
        let wants_all = !request.has(header::RANGE);
        if let Some(place) = choose(request, codings).filter(|_| wants_all) {
            let (coding, variant) = &opened.variants[place];
            response.headers.insert(header::CONTENT_ENCODING, coding.value());
            chosen = variant;
        }
    }
    let validators = complete(&mut response.headers, chosen, opened.content_type.clone());
    let content =
        Content { size: chosen.size, file: chosen.settled.as_ref(), piece: &|span| piece(chosen, span) };
    evaluate(response, &validators, &content, method, request)
}

/// Content that ranges are taken of.
pub(crate) struct Content<'a> {
    /// Size in bytes.
    pub(crate) size: u64,
    /// Version of the file, if it has a reliable identity.
    pub(crate) file: Option<&'a Arc<FileIdentity>>,
    /// Gives a part of it.
    pub(crate) piece: &'a dyn Fn(ByteSpan) -> Piece,
}

impl Content<'_> {
    fn whole(&self) -> Body {
        Body::piece((self.piece)(ByteSpan { start: 0, length: self.size }))
    }
}

/// Builds the response with a stored representation, whose headers are `headers`, or with the requested range of it.
pub(crate) fn respond_stored(
    content: &Content<'_>,
    method: &Method,
    request: &RawHeaders,
    mut headers: HeaderMap,
) -> Response {
    let validators = Validators::of(&mut headers);
    let response = Response { headers, ..Response::empty(StatusCode::OK) };
    evaluate(response, &validators, content, method, request)
}

/// Evaluates the conditions and the range of a request for a representation (RFC 9110 §13, §14).
fn evaluate(
    mut response: Response,
    validators: &Validators,
    content: &Content<'_>,
    method: &Method,
    request: &RawHeaders,
) -> Response {
    let has_conditions = request.iter().any(|(name, _)| starts_with(name, b"if-"));
    let conditional = has_conditions && matches!(*method, Method::GET | Method::HEAD);
    match if conditional { validators.weigh(request) } else { Condition::Met } {
        Condition::Met => {}
        Condition::NotModified => response.status = StatusCode::NOT_MODIFIED,
        Condition::Failed => return without_content(response, StatusCode::PRECONDITION_FAILED),
    }
    response.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if response.status == StatusCode::NOT_MODIFIED {
        return response.body(content.whole());
    }
    // Only GET has ranges (RFC 9110 §14.2).
    let range = request.text(header::RANGE);
    let ranged = *method == Method::GET && range.is_some() && validators.range_applies(request);
    match Range::parse(range.filter(|_| ranged), content.size) {
        Range::Whole => {
            response.file = content.file.cloned();
            response.body(content.whole())
        }
        Range::Parts(spans) => {
            response.status = StatusCode::PARTIAL_CONTENT;
            match spans[..] {
                [span] => response
                    .with(header::CONTENT_RANGE, value(multipart::content_range(span, content.size)))
                    .body(Body::piece((content.piece)(span))),
                _ => multipart::answer(response, &spans, content.size, |span| (content.piece)(span)),
            }
        }
        Range::Unsatisfiable => without_content(response, StatusCode::RANGE_NOT_SATISFIABLE)
            .with(header::CONTENT_RANGE, value(format!("bytes */{}", content.size))),
    }
}

/// Adds the headers that the application has not set, and returns the validators that apply.
fn complete(headers: &mut HeaderMap, opened: &Opened, content_type: HeaderValue) -> Validators {
    let own = &opened.validators;
    if !headers.contains_key(header::CONTENT_TYPE) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(etag) = own.etag.clone().filter(|_| !headers.contains_key(header::ETAG)) {
        headers.insert(header::ETAG, etag);
    }
    if headers.contains_key(header::LAST_MODIFIED) {
        return Validators::of(headers);
    }
    let now = clock::calendar();
    let modified = own.modified.filter(|modified| *modified <= now);
    if let Some(date) = &opened.last_modified {
        let date = if modified.is_some() { date.clone() } else { http_date(now) };
        headers.insert(header::LAST_MODIFIED, date);
    }
    Validators { etag: headers.get(header::ETAG).cloned(), modified }
}

/// Drops headers that describe a body that is not sent and keeps the others: without its CORS headers a response is
/// hidden from the page that requested it.
pub(crate) fn without_content(mut response: Response, status: StatusCode) -> Response {
    for name in &OF_A_BODY {
        response.headers.remove(name);
    }
    response.status = status;
    response.body(Body::Empty)
}

fn value(text: String) -> HeaderValue {
    // Made of digits and a few signs.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

impl Opened {
    /// Whole file as a body.
    pub fn whole(&self) -> Body {
        Body::piece(piece(self, ByteSpan { start: 0, length: self.size }))
    }
}

fn piece(opened: &Opened, span: ByteSpan) -> Piece {
    match &opened.bytes {
        // Within bounds: the range was cut to the size, which is the length of these bytes.
        Some(bytes) => Piece::Bytes(bytes.slice(span.start as usize..span.end() as usize)),
        None => Piece::File { file: Arc::clone(&opened.file), offset: span.start, length: span.length },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    fn files(root: Template, within: &[&str]) -> Files {
        let within = within.iter().map(PathBuf::from).collect();
        Files { root, within, ..Files::default() }
    }

    fn text(text: &str) -> Template {
        Template(vec![Part::Text(text.into())])
    }

    fn template(parts: &[&str]) -> Template {
        Template(
            parts
                .iter()
                .map(|part| match part.strip_prefix('{') {
                    Some(name) => Part::Name(Name::Capture(name.trim_end_matches('}').into())),
                    None => Part::Text((*part).into()),
                })
                .collect(),
        )
    }

    #[test]
    fn a_prefix_is_replaced_and_its_root_not_left() {
        let wanted = |rest| wanted(&files(text("/srv/static/"), &[]), &PathMatch::Prefix(rest), &|_, _| {});
        let found = wanted("/a/b.css").unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/srv/static/a/b.css")]);
        assert_eq!(found.within, [PathBuf::from("/srv/static/")]);
        assert_eq!(wanted("/.git/config"), None);
        assert_eq!(wanted("/a/.env"), None);
        assert!(wanted("/.well-known/security.txt").is_some());
    }

    #[test]
    fn an_internal_route_on_the_root_is_kept_within() {
        let found = wanted(&files(text("/"), &["/data"]), &PathMatch::Prefix("/data/x"), &|_, _| {}).unwrap();
        assert_eq!((found.candidates, found.within), (vec!["/data/x".into()], vec!["/data".into()]));
    }

    #[test]
    fn captures_fill_in_and_cannot_leave() {
        let regex = Regex::new(r"^/plugins/(?<kind>[^/]+)/(?<name>[^/]+)/static/(?<file>.*)$").unwrap();
        let root = template(&["/srv/plugins/", "{kind}", "/", "{name}", "/static/", "{file}"]);
        let path = "/plugins/vis/charts/static/a/b.js";
        let write = |captures: &regex::Captures<'_>, name: &Name, out: &mut Vec<u8>| {
            if let Name::Capture(name) = name {
                out.extend_from_slice(captures[name.as_str()].as_bytes());
            }
        };
        let captures = regex.captures(path).unwrap();
        let by = PathMatch::Regex(regex.captures(path).unwrap());
        let found = wanted(&files(root, &[]), &by, &|name, out| write(&captures, name, out)).unwrap();
        assert_eq!(found.candidates, [PathBuf::from("/srv/plugins/vis/charts/static/a/b.js")]);
        assert_eq!(found.within, [PathBuf::from("/srv/plugins")]);

        let regex = Regex::new(r"^/p/(?<a>\.\.)(?<b>.*)$").unwrap();
        let captures = regex.captures("/p/..etc").unwrap();
        let by = PathMatch::Regex(regex.captures("/p/..etc").unwrap());
        let root = template(&["/srv/", "{a}", "/", "{b}"]);
        assert_eq!(wanted(&files(root, &[]), &by, &|name, out| write(&captures, name, out)), None);
    }
}
