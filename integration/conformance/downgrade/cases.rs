//! The requests.

use super::{Case, Expected, Expected::*};

/// A request with the usual fields, those of `changes` in place of them or after them.
fn case(
    name: &'static str,
    changes: &[(&'static str, &str)],
    body: Option<&'static str>,
    expected: Expected,
) -> Case {
    let mut fields: Vec<(&'static str, String)> =
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
            .map(|(name, value)| (name, value.to_owned()))
            .into();
    for (name, value) in changes {
        match fields.iter_mut().find(|(known, _)| known.starts_with(':') && known == name) {
            Some((_, known)) => *known = (*value).to_owned(),
            None => fields.push((name, (*value).to_owned())),
        }
    }
    // What is to be left out.
    fields.retain(|(_, value)| value != "-");
    Case { name, fields, body, expected }
}

pub fn all() -> Vec<Case> {
    [methods(), paths(), authorities(), fields(), bodies(), smuggled()].into_iter().flatten().collect()
}

fn methods() -> Vec<Case> {
    let method = |method: &'static str, expected| case(method, &[(":method", method)], None, expected);
    vec![
        method("GET", Reaches("GET /", &["!content-length", "!transfer-encoding"])),
        method("HEAD", Reaches("HEAD /", &["!content-length"])),
        method("DELETE", Reaches("DELETE /", &["!content-length"])),
        method("OPTIONS", Reaches("OPTIONS /", &[])),
        method("POST", Reaches("POST /", &["content-length: 0"])),
        method("PUT", Reaches("PUT /", &["content-length: 0"])),
        method("PATCH", Reaches("PATCH /", &["content-length: 0"])),
        method("PROPFIND", Reaches("PROPFIND /", &[])),
        method("MY-METHOD", Reaches("MY-METHOD /", &[])),
        method("get", Reaches("get /", &[])),
        method("", Refused),
        method(" GET", Refused),
        method("GET ", Refused),
        method("GET /admin HTTP/1.1\r\nHost: x\r\n\r\nGET", Refused),
        method("GET\t", Refused),
        method("GET\n", Refused),
        method("G\0T", Refused),
        method("G(T", Refused),
        method("CONNECT", Refused),
        case("the method twice", &[(":method", "GET"), ("x", "y"), (":method ", "POST")], None, Refused),
        case("no method", &[(":method", "-")], None, Refused),
    ]
}

fn paths() -> Vec<Case> {
    let path = |path: &'static str, expected| case(path, &[(":path", path)], None, expected);
    vec![
        path("/a/b", Reaches("GET /a/b", &[])),
        path("/?", Reaches("GET /?", &[])),
        path("/a?b=c&d", Reaches("GET /a?b=c&d", &[])),
        path("/%2e%2E/%2f", Refused),
        path("/a/%2e/b%2f", Reaches("GET /a/%2e/b%2f", &[])),
        path("/a%0d%0aX:%20y", Reaches("GET /a%0d%0aX:%20y", &[])),
        path("/a;b=c", Reaches("GET /a;b=c", &[])),
        path("/a//b", Reaches("GET /a//b", &[])),
        path("/?a=/../b", Reaches("GET /?a=/../b", &[])),
        path("/a:b@c", Reaches("GET /a:b@c", &[])),
        path("/a|b", Reaches("GET /a|b", &[])),
        path("", Refused),
        path("a", Refused),
        path("*", Refused),
        path("?a", Refused),
        path("http://other/", Refused),
        path("https://localhost/", Refused),
        path("/a b", Refused),
        path("/a\tb", Refused),
        path("/a\0", Refused),
        path("/a\r", Refused),
        path("/a\n", Refused),
        path("/ HTTP/1.1\r\nHost: evil\r\nX: y", Refused),
        path("/ HTTP/1.1\r\n\r\nGET /admin", Refused),
        // The `http` crate forgets fragments.
        path("/a#b", Reaches("GET /a", &[])),
        path("#", Reaches("GET /", &[])),
        path(" /", Refused),
        path("/ ", Refused),
        path("/\u{7f}", Refused),
        path("\\", Refused),
        case("OPTIONS *", &[(":method", "OPTIONS"), (":path", "*")], None, Reaches("OPTIONS *", &[])),
        case("no path", &[(":path", "-")], None, Refused),
    ]
}

fn authorities() -> Vec<Case> {
    let authority =
        |authority: &'static str, expected| case(authority, &[(":authority", authority)], None, expected);
    vec![
        authority("localhost", Reaches("GET /", &["host: localhost"])),
        authority("LOCALHOST:8443", Reaches("GET /", &["host: localhost:8443"])),
        authority("[::1]:443", Reaches("GET /", &["host: [::1]:443"])),
        authority("127.0.0.1", Reaches("GET /", &["host: 127.0.0.1"])),
        authority("", Refused),
        authority("user@localhost", Refused),
        authority("user:secret@localhost", Refused),
        authority("a b", Refused),
        authority("a/b", Refused),
        authority("a?b", Refused),
        authority("a#b", Refused),
        authority("a\r\nX: y", Refused),
        authority("a\0", Refused),
        authority("a, b", Refused),
        authority(" localhost", Refused),
        authority("a\\b", Refused),
        case(
            "Host alone",
            &[(":authority", "-"), ("host", "localhost")],
            None,
            Reaches("GET /", &["host: localhost"]),
        ),
        case("the same Host", &[("host", "localhost")], None, Reaches("GET /", &["host: localhost"])),
        case("another Host", &[("host", "other")], None, Refused),
        case("an empty Host", &[("host", "")], None, Refused),
        case("Host twice", &[("host", "localhost"), ("host", "localhost")], None, Refused),
        case("a bad Host alone", &[(":authority", "-"), ("host", "a b")], None, Refused),
        case("neither", &[(":authority", "-")], None, Refused),
        case("scheme http", &[(":scheme", "http")], None, Reaches("GET /", &["x-forwarded-proto: https"])),
        case("another scheme", &[(":scheme", "ftp")], None, Refused),
        case("a scheme with more", &[(":scheme", "https://evil/")], None, Refused),
        case("an empty scheme", &[(":scheme", "")], None, Refused),
    ]
}

fn fields() -> Vec<Case> {
    let field = |name: &'static str, key: &'static str, value: &'static str, expected| {
        case(name, &[(key, value)], None, expected)
    };
    vec![
        field("a field", "x-a", "b", Reaches("GET /", &["x-a: b"])),
        field("an empty value", "x-a", "", Reaches("GET /", &["x-a:"])),
        field("a tab within", "x-a", "b\tc", Reaches("GET /", &["x-a: b\tc"])),
        field("colons", "x-a", ": b: c", Reaches("GET /", &["x-a: : b: c"])),
        field("te: trailers", "te", "trailers", Reaches("GET /", &["!te:"])),
        field("te: gzip", "te", "gzip", Refused),
        field("a capital letter", "X-A", "b", Refused),
        field("a space in a name", "x a", "b", Refused),
        field("a colon in a name", "x:a", "b", Refused),
        field("an empty name", "", "b", Refused),
        field("a line end in a name", "x\r\ny", "b", Refused),
        field("a NUL in a name", "x\0", "b", Refused),
        field("no ASCII in a name", "x\u{e4}", "b", Refused),
        field("CRLF in a value", "x-a", "b\r\nx-c: d", Refused),
        field("LF in a value", "x-a", "b\nx-c: d", Refused),
        field("CR in a value", "x-a", "b\rc", Refused),
        field("NUL in a value", "x-a", "b\0", Refused),
        field("a space before a value", "x-a", " b", Refused),
        field("a space after a value", "x-a", "b ", Refused),
        field("connection", "connection", "x-a", Refused),
        field("keep-alive", "keep-alive", "1", Refused),
        field("proxy-connection", "proxy-connection", "close", Refused),
        field("upgrade", "upgrade", "h2c", Refused),
        field("a pseudo field that comes late", ":late", "x", Refused),
        field("an underscore", "x_forwarded_for", "1.2.3.4", Reaches("GET /", &["!x_forwarded_for"])),
        field(
            "a forged address",
            "x-forwarded-for",
            "1.2.3.4",
            Reaches("GET /", &["x-forwarded-for: 127.0.0.1"]),
        ),
        case(
            "two cookies",
            &[("cookie", "a=1"), ("cookie", "b=2")],
            None,
            Reaches("GET /", &["cookie: a=1; b=2"]),
        ),
        case("a cookie with a line end", &[("cookie", "a=1\r\nx: y")], None, Refused),
        case(
            "the same field twice",
            &[("x-a", "1"), ("x-a", "2")],
            None,
            Reaches("GET /", &["x-a: 1", "x-a: 2"]),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let post = |name, length: &[(&'static str, &str)], body, expected| {
        case(name, &[&[(":method", "POST")], length].concat(), body, expected)
    };
    let length = |length| [("content-length", length)];
    vec![
        post(
            "a body",
            &[],
            Some("body"),
            Reaches("POST /", &["transfer-encoding: chunked", "!content-length"]),
        ),
        post("a body with a length", &length("4"), Some("body"), Reaches("POST /", &["content-length: 4"])),
        post("an empty body", &[], Some(""), Reaches("POST /", &[])),
        post(
            "an empty body with a length",
            &length("0"),
            Some(""),
            Reaches("POST /", &["content-length: 0"]),
        ),
        post("no body, a length of 0", &length("0"), None, Reaches("POST /", &["content-length: 0"])),
        post(
            "a body that looks like a chunk",
            &[],
            Some("0\r\n\r\nGET /x HTTP/1.1\r\n\r\n"),
            Reaches("POST /", &[]),
        ),
        case("GET with a body", &[], Some("body"), Reaches("GET /", &["transfer-encoding: chunked"])),
        post("a length too short", &length("3"), Some("body"), Refused),
        post("a length too long", &length("5"), Some("body"), Refused),
        post("a length and no body", &length("4"), None, Refused),
        post("a length twice", &[("content-length", "4"), ("content-length", "4")], Some("body"), Refused),
        post("two lengths", &[("content-length", "4"), ("content-length", "5")], Some("body"), Refused),
        post("a list of lengths", &length("4, 4"), Some("body"), Refused),
        post("a length with a sign", &length("+4"), Some("body"), Refused),
        post("a length below zero", &length("-1"), Some(""), Refused),
        post("an empty length", &length(""), Some("body"), Refused),
        post("a hexadecimal length", &length("0x4"), Some("body"), Refused),
        post("a length that no number holds", &length("99999999999999999999"), Some("body"), Refused),
        post("a length in words", &length("four"), Some("body"), Refused),
        post("a length with zeros before it", &length("0004"), Some("body"), Reaches("POST /", &[])),
    ]
}

/// Bodies with a framing that is another in HTTP/1.1 ("H2.TE", "H2.CL").
fn smuggled() -> Vec<Case> {
    let rest = Some("0\r\n\r\nGET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let te = |name, value: &'static str| {
        case(name, &[(":method", "POST"), ("transfer-encoding", value)], rest, Refused)
    };
    vec![
        te("chunked", "chunked"),
        te("identity", "identity"),
        te("Chunked with a space", " chunked"),
        te("xchunked", "xchunked"),
        te("gzip, chunked", "gzip, chunked"),
        case("H2.CL", &[(":method", "POST"), ("content-length", "0")], rest, Harmless),
        case(
            "both",
            &[(":method", "POST"), ("content-length", "4"), ("transfer-encoding", "chunked")],
            rest,
            Refused,
        ),
        case("in a value", &[(":method", "POST"), ("x", "y\r\ntransfer-encoding: chunked")], rest, Refused),
        case("in a name", &[(":method", "POST"), ("x: y\r\ntransfer-encoding", "chunked")], rest, Refused),
        case(
            "with an underscore",
            &[(":method", "POST"), ("transfer_encoding", "chunked")],
            rest,
            Reaches("POST /", &["!transfer_encoding"]),
        ),
        case("with a tab", &[(":method", "POST"), ("transfer-encoding\t", "chunked")], rest, Refused),
        case("in capitals", &[(":method", "POST"), ("Transfer-Encoding", "chunked")], rest, Refused),
        case("in the path", &[(":path", "/ HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: ")], rest, Refused),
        case(
            "in the method",
            &[(":method", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nx:")],
            rest,
            Refused,
        ),
        case("in the authority", &[(":authority", "x\r\ntransfer-encoding: chunked")], rest, Refused),
        case("in the scheme", &[(":scheme", "https\r\ntransfer-encoding: chunked")], rest, Refused),
        case(
            "a websocket by hand",
            &[("sec-websocket-version", "13"), ("upgrade", "websocket")],
            None,
            Refused,
        ),
        case("another protocol", &[(":method", "CONNECT"), (":protocol", "connect-udp")], None, Refused),
        case("a protocol of GET", &[(":protocol", "websocket")], None, Refused),
        case(
            "a protocol with a line end",
            &[(":method", "CONNECT"), (":protocol", "websocket\r\nx: y")],
            None,
            Refused,
        ),
    ]
}
