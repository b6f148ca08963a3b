//! Where we do otherwise than nginx, and why.

use super::*;

/// Where we answer otherwise than nginx.
pub(super) struct Exception {
    /// What we do, and why.
    pub(super) why: &'static str,
    /// To which requests.
    pub(super) to: fn(&Case) -> bool,
    /// What the answer is.
    pub(super) answer: Rather,
}

pub(super) enum Rather {
    /// That of nginx to another request.
    To(fn(&mut Case)),
    /// That of nginx with something changed.
    With(fn(&mut Seen)),
}

/// One after the other, each to what those before it have made of a request.
pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        why: "Only GET and HEAD are for files, whether they exist or not, and Allow says so (RFC 9110 §15.5.6).",
        to: |case| !case.reads() && case.method != "OPTIONS",
        answer: Rather::With(|seen| seen.refuse_method(405)),
    },
    Exception {
        why: "OPTIONS asks for just that, and is no mistake (RFC 9110 §9.3.7).",
        to: |case| case.method == "OPTIONS",
        answer: Rather::With(|seen| seen.refuse_method(204)),
    },
    Exception {
        why: "A slash that is encoded is part of a name (RFC 3986 §2.2), and no file has such a name.",
        to: |case| case.reads() && case.path.to_ascii_lowercase().contains("%2f"),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "Hidden files are nobody's business; 404 does not tell that they exist (RFC 9110 §15.5.5).",
        to: |case| case.reads() && (case.path.contains("/.hidden") || case.path.contains("/.git")),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "The same when a dot is encoded, which changes nothing (RFC 3986 §2.3).",
        to: |case| case.reads() && case.path.contains("/%2ehidden"),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "Symlinks do not lead out of the root (symlinks = \"inside\").",
        to: |case| case.reads() && case.path.starts_with("/static/out"),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "What is in a directory without an index is not told, nor that it is there (RFC 9110 §15.5.4).",
        to: |case| {
            let directories = ["/static/", "/static/without/", "/static/sub/..", "/static/with/.."];
            case.reads() && directories.contains(&&*case.path)
        },
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "The root of a route is a directory like those in it; nginx would need a second location to say so.",
        to: |case| case.reads() && case.path == "/static",
        answer: Rather::With(|seen| {
            let location = BTreeMap::from([("location", "/static/".into())]);
            *seen = Seen { status: 301, fields: location, body: Vec::new() };
        }),
    },
    Exception {
        why: "A percent sign without two digits is no escape; no file has the name as it stands (RFC 3986 §2.4).",
        to: |case| case.path.contains("%zz") || case.path.ends_with('%'),
        answer: Rather::To(Case::name_nothing),
    },
    Exception {
        why: "A neighbour that is older than the original holds something else; it is not one of its codings.",
        to: |case| case.path.ends_with("stale.js"),
        answer: Rather::To(|case| case.remove("accept-encoding")),
    },
    Exception {
        why: "So the answer does not vary either (RFC 9110 §12.5.5).",
        to: |case| case.reads() && case.path.ends_with("stale.js"),
        answer: Rather::With(|seen| seen.remove("vary")),
    },
    Exception {
        why: "The type of JavaScript is text/javascript by now (RFC 9239 §6).",
        to: |case| case.reads() && case.path.ends_with(".js"),
        answer: Rather::With(|seen| seen.replace("content-type", "text/javascript; charset=utf-8")),
    },
    Exception {
        why: "gzip has a type (RFC 6713 §3), which Debian's mime.types of nginx does not know.",
        to: |case| case.path.ends_with(".gz"),
        answer: Rather::With(|seen| seen.replace("content-type", "application/gzip")),
    },
    Exception {
        why: "A range is one of the content as it is, or parts of different downloads would not fit (RFC 9110 §14.2).",
        to: |case| case.has("range") && case.has("accept-encoding"),
        answer: Rather::To(|case| case.remove("accept-encoding")),
    },
    Exception {
        why: "An asterisk is every coding (RFC 9110 §12.5.3).",
        to: |case| case.field("accept-encoding") == Some("*"),
        answer: Rather::To(|case| case.replace("accept-encoding", "gzip")),
    },
    Exception {
        why: "x-gzip is gzip (RFC 9110 §8.4.1.3).",
        to: |case| case.field("accept-encoding") == Some("x-gzip"),
        answer: Rather::To(|case| case.replace("accept-encoding", "gzip")),
    },
    Exception {
        why: "Who likes the content as it is better gets it so (RFC 9110 §12.5.3).",
        to: |case| case.field("accept-encoding") == Some("identity, gzip;q=0.5"),
        answer: Rather::To(|case| case.remove("accept-encoding")),
    },
    Exception {
        why: "There are ranges of a file whatever its coding in this answer (RFC 9110 §14.3).",
        to: |case| {
            case.has("accept-encoding") && (case.path.ends_with("app.js") || case.path.ends_with("large.txt"))
        },
        answer: Rather::With(|seen| {
            if seen.fields.contains_key("content-encoding") {
                seen.fields.insert("accept-ranges", "bytes".into());
            }
        }),
    },
    Exception {
        why: "Only GET has ranges (RFC 9110 §14.2).",
        to: |case| case.method == "HEAD" && case.has("range"),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "A range that is malformed is ignored (RFC 9110 §14.2); 416 would tell that the file has another size.",
        to: |case| case.field("range").is_some_and(|range| MALFORMED.contains(&range)),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "Of an empty file everything is sent, which is nothing: 416 would be a mistake (RFC 9110 §14.2 allows it).",
        to: |case| case.path.ends_with("empty.txt") && case.has("range"),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "Empty elements of a list are nothing (RFC 9110 §5.6.1.2).",
        to: |case| case.field("range") == Some("bytes=0-0,"),
        answer: Rather::To(|case| case.replace("range", "bytes=0-0")),
    },
    Exception {
        why: "Ranges that overlap, or are nearer than the head of a part is long, are one (RFC 9110 §15.3.7.2).",
        to: |case| case.near().is_some(),
        answer: Rather::To(|case| case.replace("range", case.near().expect("one of these"))),
    },
    Exception {
        why: "More than a hundred ranges are somebody's attack (RFC 9110 §17.15).",
        to: |case| case.field("range").is_some_and(|range| range.matches(',').count() >= 100),
        answer: Rather::To(|case| case.remove("range")),
    },
    Exception {
        why: "A file is not modified since a later date either (RFC 9110 §13.1.3).",
        to: |case| case.field("if-modified-since").is_some_and(|date| [NEWER, FUTURE].contains(&date)),
        answer: Rather::To(|case| case.replace("if-modified-since", WRITTEN)),
    },
    Exception {
        why: "If-None-Match counts alone (RFC 9110 §13.1.3).",
        to: |case| case.has("if-none-match") && case.has("if-modified-since"),
        answer: Rather::To(|case| case.remove("if-modified-since")),
    },
    Exception {
        why: "If-Match counts alone (RFC 9110 §13.1.4).",
        to: |case| case.has("if-match") && case.has("if-unmodified-since"),
        answer: Rather::To(|case| case.remove("if-unmodified-since")),
    },
    Exception {
        why: "A date that is none is ignored (RFC 9110 §13.1.4).",
        to: |case| {
            case.field("if-unmodified-since").is_some_and(|date| httpdate::parse_http_date(date).is_err())
        },
        answer: Rather::To(|case| case.remove("if-unmodified-since")),
    },
];
