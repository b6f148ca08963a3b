//! Response with an archive, or with the requested range of it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    files::{
        accelerated,
        archive::Archive,
        conditional::{Condition, Validators},
        multipart,
        range::{ByteSpan, Range},
        value, without_content,
    },
    message::{EditHeaders, RawHeaders},
    observe::BodySource,
    response::{Body, Response},
};

/// Most bytes that are read for a range without being in it: half a second of a slow disk, before anything is sent. A
/// client that resumes needs none, or only what was lost in transit.
const MOST_UNSENT: u64 = 64 * 1024 * 1024;

/// Builds the response with an archive, or with the requested range of it. `from_application` has the headers of the
/// application's response; those about its list are left out.
///
/// A range that requires too much extra reading (more than 64 MiB of members whose CRCs are unknown and which are not
/// in the range) gets the whole archive, and so do several ranges.
pub fn answer(
    archive: Archive,
    method: &Method,
    request: &RawHeaders,
    from_application: &HeaderMap,
) -> Response {
    let mut response = Response { headers: kept_fields(from_application), ..Response::empty(StatusCode::OK) };
    response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    response.headers.extend(archive.etag().map(|etag| (header::ETAG, etag.clone())));
    let validators = Validators::of(&mut response.headers);
    let conditional = matches!(*method, Method::GET | Method::HEAD);
    match if conditional { validators.weigh(request) } else { Condition::Met } {
        Condition::Met => {}
        Condition::NotModified => return without_content(response, StatusCode::NOT_MODIFIED),
        Condition::Failed => return without_content(response, StatusCode::PRECONDITION_FAILED),
    }
    if archive.is_rangeable() {
        response.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let length = archive.length();
    let ranged = *method == Method::GET && !archive.is_whole_only() && validators.range_applies(request);
    match Range::parse(request.text(header::RANGE).filter(|_| ranged), length) {
        Range::Unsatisfiable => without_content(response, StatusCode::RANGE_NOT_SATISFIABLE)
            .with(header::CONTENT_RANGE, value(format!("bytes */{length}"))),
        Range::Parts(spans) => match spans[..] {
            [span] if archive.unsent(span) <= MOST_UNSENT => {
                response.status = StatusCode::PARTIAL_CONTENT;
                let response =
                    response.with(header::CONTENT_RANGE, value(multipart::content_range(span, length)));
                send(response, archive, span)
            }
            _ => send(response, archive, ByteSpan { start: 0, length }),
        },
        Range::Whole => send(response, archive, ByteSpan { start: 0, length }),
    }
}

fn send(response: Response, archive: Archive, span: ByteSpan) -> Response {
    response.body(Body::Pieces { pieces: archive.body(span), length: span.length, how: BodySource::Archive })
}

/// Headers that describe the list and not the archive.
const ABOUT_THE_LIST: [HeaderName; 7] = [
    header::CONTENT_ENCODING,
    header::ACCEPT_RANGES,
    header::ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// Removes the headers that are untrue of the archive from the response to HEAD, which has the headers of a list and
/// no list.
pub(crate) fn forget_list(response: &mut impl EditHeaders) {
    for name in ABOUT_THE_LIST.iter().chain([&header::CONTENT_LENGTH]) {
        response.remove(name);
    }
    response.set(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
}

/// Headers of the application's response that also apply to the archive.
fn kept_fields(response: &HeaderMap) -> HeaderMap {
    let mut kept = accelerated::kept_fields(response);
    accelerated::drop_bad_dates(&mut kept);
    let gone: Vec<HeaderName> = kept
        .keys()
        .filter(|name| ABOUT_THE_LIST.contains(name) || name.as_str().starts_with("x-archive-"))
        .cloned()
        .collect();
    for name in gone {
        kept.remove(name);
    }
    kept
}
