//! What the client gets: the archive, or the part of it that is asked for.

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
    observe::How,
    response::{Body, Response},
};

/// Most bytes that are read for a range and are not in it: half a second of a slow disk, before anything is sent. A
/// client that comes back for the rest of an archive needs none, or what was lost on the way to it.
const MOST_UNSENT: u64 = 64 * 1024 * 1024;

/// Answers with an archive, or the part of it that the client asks for. `response` has the fields of the application's
/// answer; those that are about its list are left out.
///
/// A range that takes too much reading (more than 64 MiB of members whose CRCs are not known, and which are not in the
/// range) is answered with the whole archive, as are several ranges.
pub fn answer(archive: Archive, method: &Method, request: &RawHeaders, response: &HeaderMap) -> Response {
    let mut answer = Response { headers: kept_fields(response), ..Response::empty(StatusCode::OK) };
    answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    answer.headers.extend(archive.etag().map(|etag| (header::ETAG, etag.clone())));
    let validators = Validators::of(&mut answer.headers);
    let conditional = matches!(*method, Method::GET | Method::HEAD);
    match if conditional { validators.weigh(request) } else { Condition::Met } {
        Condition::Met => {}
        Condition::NotModified => return without_content(answer, StatusCode::NOT_MODIFIED),
        Condition::Failed => return without_content(answer, StatusCode::PRECONDITION_FAILED),
    }
    if archive.is_rangeable() {
        answer.headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let length = archive.length();
    let ranged = *method == Method::GET && !archive.is_whole_only() && validators.range_applies(request);
    match Range::parse(request.text(header::RANGE).filter(|_| ranged), length) {
        Range::Unsatisfiable => without_content(answer, StatusCode::RANGE_NOT_SATISFIABLE)
            .with(header::CONTENT_RANGE, value(format!("bytes */{length}"))),
        Range::Parts(spans) => match spans[..] {
            [span] if archive.unsent(span) <= MOST_UNSENT => {
                answer.status = StatusCode::PARTIAL_CONTENT;
                let answer =
                    answer.with(header::CONTENT_RANGE, value(multipart::content_range(span, length)));
                send(answer, archive, span)
            }
            _ => send(answer, archive, ByteSpan { start: 0, length }),
        },
        Range::Whole => send(answer, archive, ByteSpan { start: 0, length }),
    }
}

fn send(answer: Response, archive: Archive, span: ByteSpan) -> Response {
    answer.body(Body::Pieces { pieces: archive.body(span), length: span.length, how: How::Archive })
}

/// What is true of a list, and not of the archive.
const ABOUT_THE_LIST: [HeaderName; 7] = [
    header::CONTENT_ENCODING,
    header::ACCEPT_RANGES,
    header::ETAG,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// Makes of the answer to HEAD, which has a list's fields and no list, one that says nothing untrue of the archive.
pub(crate) fn forget_list(response: &mut impl EditHeaders) {
    for name in ABOUT_THE_LIST.iter().chain([&header::CONTENT_LENGTH]) {
        response.remove(name);
    }
    response.set(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
}

/// Fields of the application's answer that are true of the archive too.
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
