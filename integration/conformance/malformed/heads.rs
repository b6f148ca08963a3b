//! Rows about request lines and fields.

use super::{Expect, Row, SMUGGLED, answered, passes, refused, row};

/// Every byte that no head has in it, but for the two that end lines.
pub(super) fn control_bytes() -> impl Iterator<Item = u8> {
    (0..0x20).chain([0x7f]).filter(|byte| !b"\r\n".contains(byte))
}

/// What is no part of a token (RFC 9110 §5.6.2), as far as it can be seen.
const DELIMITERS: &[u8] = b"\"(),/:;<=>?@[\\]{}";

/// A request with this line.
fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: x\r\n\r\n"].concat()
}

/// A request with this line among its fields.
fn field(field: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /r HTTP/1.1\r\nHost: x\r\n", field.as_ref(), b"\r\n\r\n"].concat()
}

/// A request with this `Host`.
fn host(host: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /r HTTP/1.1\r\nHost:", host.as_ref(), b"\r\n\r\n"].concat()
}

fn gets(target: &str) -> Expect {
    passes([("GET", target, "")])
}

pub(super) fn rows() -> Vec<Row> {
    let groups = [
        bytes(),
        delimiters(),
        line_ends(),
        methods(),
        targets(),
        urls(),
        versions(),
        hosts(),
        fields(),
        limits(),
    ];
    groups.into_iter().flatten().collect()
}

/// Bytes that must not be there, at each place of a head.
fn bytes() -> Vec<Row> {
    let mut rows = Vec::new();
    for byte in control_bytes().chain([b'\r', b'\n']) {
        let around = |before: &str, after: &str| [before.as_bytes(), &[byte], after.as_bytes()].concat();
        for (place, bytes) in [
            ("the method", line(around("G", "T /r HTTP/1.1"))),
            ("the target", line(around("GET /a", "b HTTP/1.1"))),
            ("the place between method and target", line(around("GET", "/r HTTP/1.1"))),
            ("the place between target and version", line(around("GET /r", "HTTP/1.1"))),
            ("the version", line(around("GET /r HTTP/1", ".1"))),
            ("the end of the line", line(around("GET /r HTTP/1.1", ""))),
            ("a name", field(around("X", "Y: z"))),
            ("the start of a name", field(around("", "X: z"))),
            ("the end of a name", field(around("X", ": z"))),
            ("Host", host(around("x", "y"))),
        ] {
            rows.push(row(format!("{byte:#04x} in {place}"), bytes, refused(400)));
        }
        let value = if byte == b'\t' { gets("/r") } else { refused(400) };
        rows.push(row(format!("{byte:#04x} in a value"), field(around("X: a", "b")), value.clone()));
        rows.push(row(format!("{byte:#04x} before a value"), field(around("X:", "b")), value.clone()));
        if byte != b'\r' {
            rows.push(row(format!("{byte:#04x} behind a value"), field(around("X: a", "")), value));
        }
    }
    for (name, text) in
        [("a high byte", &b"\x80"[..]), ("NBSP", b"\xa0"), ("0xff", b"\xff"), ("U+00A0", b"\xc2\xa0")]
    {
        let around = |before: &str, after: &str| [before.as_bytes(), text, after.as_bytes()].concat();
        for (place, bytes) in [
            ("the method", line(around("G", "T /r HTTP/1.1"))),
            ("the place between method and target", line(around("GET", "/r HTTP/1.1"))),
            ("the version", line(around("GET /r HTTP/1", ".1"))),
            ("a name", field(around("X", "Y: z"))),
            ("the end of a name", field(around("X", ": z"))),
            ("the end of a name that frames", field(around("Content-Length", ": 5"))),
            ("the start of a length", field(around("Content-Length: ", "5"))),
            ("the end of a length", field(around("Content-Length: 5", ""))),
            ("the start of a coding", field(around("Transfer-Encoding: ", "chunked"))),
            ("the end of a coding", field(around("Transfer-Encoding: chunked", ""))),
            ("Host", host(around("x", "y"))),
        ] {
            rows.push(row(format!("{name} in {place}"), bytes, refused(400)));
        }
        rows.push(row(format!("{name} in a value"), field(around("X: a", "b")), gets("/r")));
    }
    rows
}

fn delimiters() -> Vec<Row> {
    let mut rows = Vec::new();
    for byte in DELIMITERS {
        let byte = char::from(*byte);
        rows.push(row(format!("{byte} in the method"), line(format!("G{byte}T /r HTTP/1.1")), refused(400)));
        rows.push(row(format!("{byte} at the start of a name"), field(format!("{byte}X: y")), refused(400)));
        if byte != ':' {
            rows.push(row(format!("{byte} in a name"), field(format!("X{byte}Y: z")), refused(400)));
        }
    }
    for byte in "!#$%&'*+-.^`|~".chars() {
        rows.push(row(format!("{byte} in a name"), field(format!("X{byte}Y: z")), gets("/r")));
    }
    rows
}

fn line_ends() -> Vec<Row> {
    let get = "GET /r HTTP/1.1";
    let bad = [
        ("all lines end in LF", format!("{get}\nHost: x\n\n")),
        ("the first line ends in LF", format!("{get}\nHost: x\r\n\r\n")),
        ("a field ends in LF", format!("{get}\r\nHost: x\nX: y\r\n\r\n")),
        ("the last field ends in LF", format!("{get}\r\nHost: x\n\r\n")),
        ("the head ends in LF", format!("{get}\r\nHost: x\r\n\n")),
        ("the head ends in LF and CR LF", format!("{get}\r\nHost: x\r\n\n\r\n")),
        ("the first line ends in CR", format!("{get}\rHost: x\r\n\r\n")),
        ("a field ends in CR", format!("{get}\r\nHost: x\rX: y\r\n\r\n")),
        ("all lines end in CR", format!("{get}\rHost: x\r\r{SMUGGLED}")),
        ("a field ends in CR CR LF", format!("{get}\r\nHost: x\r\r\nX: y\r\n\r\n")),
        ("a field ends in LF CR", format!("{get}\r\nHost: x\n\rX: y\r\n\r\n")),
        ("a request within a field, by LF", format!("{get}\r\nHost: x\r\nX: y\n\n{SMUGGLED}\r\n\r\n")),
        ("a request within a field, by CR", format!("{get}\r\nHost: x\r\nX: y\r\r{SMUGGLED}\r\n\r\n")),
        ("LF before the request", format!("\n{get}\r\nHost: x\r\n\r\n")),
        ("CR before the request", format!("\r{get}\r\nHost: x\r\n\r\n")),
        ("CR CR LF before the request", format!("\r\r\n{get}\r\nHost: x\r\n\r\n")),
        ("CR LF and LF before the request", format!("\r\n\n{get}\r\nHost: x\r\n\r\n")),
        ("a space before the request", format!(" {get}\r\nHost: x\r\n\r\n")),
        ("CR LF and a space before the request", format!("\r\n {get}\r\nHost: x\r\n\r\n")),
        ("a folded field", format!("{get}\r\nHost: x\r\nX: y\r\n z\r\n\r\n")),
        ("a field folded by a tab", format!("{get}\r\nHost: x\r\nX: y\r\n\tz\r\n\r\n")),
        ("a fold without text", format!("{get}\r\nHost: x\r\nX: y\r\n \r\n\r\n")),
        ("a fold before the first field", format!("{get}\r\n Host: x\r\n\r\n")),
        ("a folded Host", format!("{get}\r\nHost:\r\n x\r\n\r\n")),
        ("a folded length", format!("{get}\r\nHost: x\r\nContent-Length:\r\n 5\r\n\r\nhello")),
        ("a folded coding", format!("{get}\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n")),
        (
            "a coding in the fold of another",
            format!("{get}\r\nHost: x\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n"),
        ),
        ("U+010D and U+010A, whose low bytes end lines", format!("{get}\u{10d}\u{10a}Host: x\r\n\r\n")),
    ];
    let good = [
        ("an empty line before the request", format!("\r\n{get}\r\nHost: x\r\n\r\n")),
        ("ten empty lines before the request", format!("{}{get}\r\nHost: x\r\n\r\n", "\r\n".repeat(10))),
        ("empty lines before the next", format!("{get}\r\nHost: x\r\n\r\n\r\n\r\n")),
    ];
    let bad = bad.map(|(name, bytes)| row(name, bytes, refused(400)));
    bad.into_iter().chain(good.map(|(name, bytes)| row(name, bytes, gets("/r")))).collect()
}

fn methods() -> Vec<Row> {
    let mut rows = vec![
        row("no method", line(" /r HTTP/1.1"), refused(400)),
        row("TRACE", line("TRACE /r HTTP/1.1"), answered(405)),
        row("CONNECT", line("CONNECT a:443 HTTP/1.1"), refused(501)),
        row("CONNECT to ourselves", line("CONNECT x:80 HTTP/1.1"), refused(501)),
        row("CONNECT of a path", line("CONNECT /r HTTP/1.1"), refused(501)),
        row("CONNECT of a URL", line("CONNECT http://x/ HTTP/1.1"), refused(501)),
        row(
            "CONNECT with a length",
            "CONNECT x:80 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            refused(501),
        ),
        row("a request for everything", line("OPTIONS * HTTP/1.1"), passes([("OPTIONS", "*", "")])),
        row("GET *", line("GET * HTTP/1.1"), refused(400)),
        row("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused(505)),
        row("HEAD", line("HEAD /r HTTP/1.1"), passes([("HEAD", "/r", "")])),
    ];
    for method in
        ["PROPFIND", "MKCOL", "M-SEARCH", "get", "connect", "TRACK", "!#$%&'*+-.^`|~", "X", &"X".repeat(200)]
    {
        let expect = passes([(method, "/r", "")]);
        rows.push(row(format!("the method {method}"), line(format!("{method} /r HTTP/1.1")), expect));
    }
    rows
}

fn targets() -> Vec<Row> {
    let mut rows = Vec::new();
    for target in [
        "/",
        "//",
        "//a",
        "///a//",
        "/a/./b",
        "/a/../b",
        "/a/b/..",
        "/a%2fb",
        "/a%2Fb",
        "/%41",
        "/%e9",
        "/caf\u{e9}",
        "/a;b=c",
        "/a:b",
        "/a@b",
        "/?",
        "/?a",
        "/a?b=c&d[]=e",
        "/a?b?c",
        "/a?/../b",
        "/a?b%20c",
        "/a+b",
        "/a|b",
        "/{a}",
        "/a^b",
        "/\"a\"",
        "/a\\b",
        "/~a",
        "/a,b",
        "/a*b",
        "/$a(b)",
        "/a?http://b/",
        "/http://b/",
        "/%25",
        "/a%",
        "/a%zz",
        "/r.php%3fx",
        "/a?%00",
        "/HTTP/1.1",
        "/<a>",
        "/`a`",
        "/?\"",
    ] {
        rows.push(row(format!("the target {target}"), line(format!("GET {target} HTTP/1.1")), gets(target)));
    }
    for (name, target) in [
        ("a space in the target", "/a b"),
        ("a space in the query", "/?a b"),
        ("two spaces before the target", " /r"),
        ("two spaces before the version", "/r "),
        ("a version within the target", "/r HTTP/1.1"),
        ("another version within the target", "/r HTTP/2.0"),
        ("a fragment", "/a#b"),
        ("a fragment in the query", "/a?b#c"),
        ("only a fragment", "#"),
        ("no slash", "r"),
        ("only a query", "?a"),
        ("a name as the target", "x"),
        ("a name and a port as the target", "x:80"),
        ("dots before the slash", "../r"),
        ("a backslash as the target", "\\r"),
        ("a NUL in percent", "/a%00b"),
        ("above the root in percent", "/%2e%2e/a"),
        ("above the root", "/../r"),
    ] {
        let expect = if target.contains("%00") || target.starts_with("/..") || target.starts_with("/%2e") {
            answered(400)
        } else {
            refused(400)
        };
        rows.push(row(name, line(format!("GET {target} HTTP/1.1")), expect));
    }
    rows.push(row("no target", line("GET HTTP/1.1"), refused(400)));
    rows.push(row("an empty target", line("GET  HTTP/1.1"), refused(400)));
    rows
}

/// Targets that name a host.
fn urls() -> Vec<Row> {
    let mut rows = Vec::new();
    for (url, target) in [
        ("http://x/r", "/r"),
        ("http://X/r", "/r"),
        ("HTTP://x:80/r?a", "/r?a"),
        ("http://x:/r", "/r"),
        ("http://x", "/"),
        ("http://x?a", "/?a"),
        ("http://x//a/../b", "//a/../b"),
    ] {
        rows.push(row(format!("the URL {url}"), line(format!("GET {url} HTTP/1.1")), gets(target)));
    }
    for url in [
        "http://y/r",
        "http://x:8080/r",
        "http://x./r",
        "http://xx/r",
        "http://x@y/r",
        "http://y@x/r",
        "http://y:z@x/r",
        "http:///r",
        "http://",
        "http:/x/r",
        "http:x",
        "http:\\\\x\\r",
        "ftp://x/r",
        "file:///etc/passwd",
        "ws://x/r",
        "javascript:x",
        "http://x:a/r",
        "http://x:99999/r",
        "http://[::1]/r",
        "http://x%2fy/r",
        "http://x,y/r",
        "http://x/r#a",
        "https://x:80/r",
        " http://x/r",
        "http://x /r",
        "http://\u{e9}/r",
        "//x/r HTTP/1.1\r\nHost: y",
    ] {
        rows.push(row(format!("the URL {url:?}"), line(format!("GET {url} HTTP/1.1")), refused(400)));
    }
    rows.pop();
    rows.push(row("OPTIONS of a host", line("OPTIONS http://x HTTP/1.1"), passes([("OPTIONS", "*", "")])));
    rows.push(row("OPTIONS of the root", line("OPTIONS http://x/ HTTP/1.1"), passes([("OPTIONS", "/", "")])));
    rows.push(row("a URL without Host", "GET http://x/r HTTP/1.1\r\n\r\n", refused(400)));
    rows
}

fn versions() -> Vec<Row> {
    let mut rows = Vec::new();
    for (version, status) in [
        ("HTTP/1.2", 505),
        ("HTTP/2.0", 505),
        ("HTTP/3.0", 505),
        ("HTTP/0.9", 505),
        ("HTTP/9.9", 505),
        ("HTTP/2", 400),
        ("HTTP/1", 400),
        ("HTTP/1.", 400),
        ("HTTP/.1", 400),
        ("HTTP/1.1.1", 400),
        ("HTTP/1.10", 400),
        ("HTTP/01.1", 400),
        ("HTTP/1.01", 400),
        ("HTTP/11", 400),
        ("HTTP/1,1", 400),
        ("HTTP/-1.1", 400),
        ("HTTP/1.x", 400),
        ("HTTP 1.1", 400),
        ("HTTP/ 1.1", 400),
        ("HTTP/1. 1", 400),
        ("HTTP\\1.1", 400),
        ("http/1.1", 400),
        ("Http/1.1", 400),
        ("HTTPS/1.1", 400),
        ("HTP/1.1", 400),
        ("XHTTP/1.1", 400),
        ("ICY", 400),
        ("HTTP/1.1 ", 400),
        ("HTTP/1.1 x", 400),
        ("HTTP/1.1HTTP/1.1", 400),
        ("HTTP/\u{661}.1", 400),
    ] {
        rows.push(row(
            format!("the version {version:?}"),
            line(format!("GET /r {version}")),
            refused(status),
        ));
    }
    rows.push(row("no version", line("GET /r"), refused(400)));
    rows.push(row("no version, and a space", line("GET /r "), refused(400)));
    rows.push(row("HTTP/0.9", "GET /r\r\n\r\n", refused(400)));
    rows.push(row("HTTP/1.0", "GET /r HTTP/1.0\r\n\r\n", gets("/r").and_closes()));
    rows.push(row("HTTP/1.0 with Host", line("GET /r HTTP/1.0"), gets("/r").and_closes()));
    rows.push(row("HTTP/1.0 with two hosts", "GET /r HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", refused(400)));
    rows.push(row("HTTP/1.0 with a bad host", "GET /r HTTP/1.0\r\nHost: a b\r\n\r\n", refused(400)));
    rows.push(row("HTTP/1.0 with a URL", "GET http://x/r HTTP/1.0\r\n\r\n", gets("/r").and_closes()));
    rows.push(row("HTTP/1.0 that stays", "GET /r HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", gets("/r")));
    rows
}

fn hosts() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in [
        "x",
        " x",
        "x ",
        "\tx\t",
        " X.example.org:8080",
        " 127.0.0.1",
        " [::1]:80",
        " x.",
        " x:",
        " a_b",
        " x-y~",
    ] {
        rows.push(row(format!("the host {name:?}"), host(name), gets("/r")));
    }
    for name in [
        "",
        " ",
        " ,",
        " x,y",
        " x, y",
        " x y",
        " x/y",
        " x?y",
        " x#y",
        " x\\y",
        " u@x",
        " u:p@x",
        " x@",
        " http://x",
        " x:y",
        " x:80:80",
        " x:-1",
        " x:+80",
        " x:080000",
        " x:65536",
        " x:8 0",
        " :80",
        " :",
        " x%41",
        " x%00",
        " \"x\"",
        " 'x'",
        " <x>",
        " [::1",
        " ::1",
        " [::1]x",
        " [x]",
        " [::1%25eth0]",
        " []",
        " x]",
        " (x)",
        " x;y",
        " x=y",
        " x&y",
        " x|y",
        " x^y",
        " `x`",
        " {x}",
        " $x",
        " x!",
        " *",
        " *.x",
    ] {
        rows.push(row(format!("the host {name:?}"), host(name), refused(400)));
    }
    for (name, fields) in [
        ("no host", ""),
        ("two hosts", "Host: x\r\nHost: y\r\n"),
        ("two equal hosts", "Host: x\r\nHost: x\r\n"),
        ("a good host and an empty one", "Host: x\r\nHost:\r\n"),
        ("two hosts in different spellings", "Host: x\r\nhOST: y\r\n"),
        ("a host with a space before its colon", "Host : x\r\n"),
        ("a second host with a space before its colon", "Host: x\r\nHost : y\r\n"),
        ("a second host in a fold", "Host: x\r\n Host: y\r\n"),
        ("a host only in X-Forwarded-Host", "X-Forwarded-Host: x\r\n"),
        ("a host only by _", "Ho_st: x\r\n"),
    ] {
        rows.push(row(name, format!("GET /r HTTP/1.1\r\n{fields}\r\n"), refused(400)));
    }
    rows.push(row("a host that Connection names", field("Connection: Host"), gets("/r")));
    rows
}

fn fields() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, line) in [
        ("no colon", "X"),
        ("no colon, but text", "X y"),
        ("no name", ": y"),
        ("neither name nor value", ":"),
        ("a space before the colon", "X : y"),
        ("a tab before the colon", "X\t: y"),
        ("a space before the name", " X: y"),
        ("a space in the name", "X Y: z"),
        ("a name in quotes", "\"X\": y"),
        ("a second request line", "GET /smuggled HTTP/1.1"),
        ("an expectation that nobody knows", "Expect: 200-ok"),
        ("a list of expectations", "Expect: 100-continue, 100-continue"),
        ("an expectation with a parameter", "Expect: 100-continue;q=1"),
        ("an expectation behind a letter", "Expect: y 100-continue"),
        ("no expectation", "Expect:"),
        ("two expectations, one unknown", "Expect: 100-continue\r\nExpect: x"),
    ] {
        let status = if line.starts_with("Expect") { 417 } else { 400 };
        rows.push(row(name, field(line), refused(status)));
    }
    for (name, line) in [
        ("an empty value", "X:"),
        ("a value of spaces", "X:   \t "),
        ("a colon in the value", "X: y: z"),
        ("two colons", "X:: y"),
        ("quotes that do not end", "X: \"y"),
        ("a name of digits", "1: 2"),
        ("a name with _", "X_Y: z"),
        ("a length by _", "Content_Length: 5"),
        ("a coding by _", "Transfer_Encoding: chunked"),
        ("a field for the length of something else", "X-Content-Length: 5"),
        ("a length that Connection names", "Connection: Content-Length"),
        ("a Connection without words", "Connection: ,, ,"),
        ("a Connection of nonsense", "Connection: \"x\"; y=(z), \u{e9}"),
        ("TE", "TE: trailers, chunked;q=0.5"),
        ("Trailer", "Trailer: Content-Length, Transfer-Encoding"),
        ("Keep-Alive", "Keep-Alive: timeout=5, max=1000"),
        ("Proxy-Connection", "Proxy-Connection: close"),
        (
            "an upgrade to h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        ),
        ("an upgrade to TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.2"),
        ("an upgrade that Connection does not name", "Upgrade: websocket"),
        ("an upgrade to a list", "Connection: Upgrade\r\nUpgrade: h2c, websocket"),
        ("two upgrades", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c"),
        ("another method by a field", "X-HTTP-Method-Override: DELETE"),
        ("an expectation without a body", "Expect: 100-continue"),
    ] {
        rows.push(row(name, field(line), gets("/r")));
    }
    rows.push(row("a line before a field that closes", field("Connection: close"), gets("/r").and_closes()));
    rows.push(row("close among others", field("Connection: x, CLOSE ,y"), gets("/r").and_closes()));
    rows.push(row("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", refused(400)));
    rows.push(row("SSH", "SSH-2.0-OpenSSH_9.2\r\n\r\n", refused(400)));
    rows
}

fn limits() -> Vec<Row> {
    let long = |length: usize| "x".repeat(length);
    let target = long(30_000);
    vec![
        row("a long target", line(format!("GET /{target} HTTP/1.1")), gets(&format!("/{target}"))),
        row("too long a target", line(format!("GET /{} HTTP/1.1", long(33_000))), refused(414)),
        row("too long a query", line(format!("GET /?{} HTTP/1.1", long(33_000))), refused(414)),
        row("a target without end", format!("GET /{}", long(200_000)), refused(414)),
        row("too long a method", line(format!("{} / HTTP/1.1", long(33_000))), refused(414)),
        row("a large field", field(format!("X: {}", long(60_000))), gets("/r")),
        row("too large a field", field(format!("X: {}", long(66_000))), refused(431)),
        row("too long a name", field(format!("{}: x", long(66_000))), refused(431)),
        row(
            "a field without end",
            format!("GET /r HTTP/1.1\r\nHost: x\r\nX: {}", long(200_000)),
            refused(431),
        ),
        row("many fields", field(["X: y"; 120].join("\r\n")), gets("/r")),
        row("too many fields", field(["X: y"; 130].join("\r\n")), refused(431)),
        row("far too many fields", field(["X: y"; 20_000].join("\r\n")), refused(431)),
        row("too many spaces", field(format!("X:{}y", " ".repeat(66_000))), refused(431)),
        row("many Connection words", field(format!("Connection: {}", ["x"; 5_000].join(","))), gets("/r")),
    ]
}
