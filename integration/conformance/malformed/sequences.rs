//! Rows about requests one behind the other, expectations, and bodies that are too large.

use super::{Row, SMUGGLED, answered, passes, post, reaches, refused, row};

pub(super) fn rows() -> Vec<Row> {
    [pipelines(), expectations(), limits()].into_iter().flatten().collect()
}

fn pipelines() -> Vec<Row> {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let with = |method: &str, target: &str, fields: &str, body: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{body}")
    };
    vec![
        row("two requests", get("/1") + &get("/2"), passes([("GET", "/1", ""), ("GET", "/2", "")])),
        row(
            "bodies of all kinds one behind the other",
            with("POST", "/1", "Content-Length: 3", "abc")
                + &with("PUT", "/2", "Transfer-Encoding: chunked", "3\r\ndef\r\n0\r\n\r\n")
                + &with("PROPFIND", "/3", "Content-Length: 0", "")
                + &with("DELETE", "/4", "Transfer-Encoding: chunked", "0\r\n\r\n")
                + &get("/5"),
            passes([
                ("POST", "/1", "abc"),
                ("PUT", "/2", "def"),
                ("PROPFIND", "/3", ""),
                ("DELETE", "/4", ""),
                ("GET", "/5", ""),
            ]),
        ),
        row(
            "a request in a body",
            with("POST", "/1", "Content-Length: 35", SMUGGLED),
            passes([("POST", "/1", SMUGGLED)]),
        ),
        row(
            "a request in a chunk",
            with("POST", "/1", "Transfer-Encoding: chunked", &format!("23\r\n{SMUGGLED}\r\n0\r\n\r\n")),
            passes([("POST", "/1", SMUGGLED)]),
        ),
        row(
            "a good one before a bad head",
            get("/1")
                + &with("POST", "/2", "Content-Length: 3\r\nTransfer-Encoding: chunked", "0\r\n\r\n")
                + SMUGGLED,
            passes([("GET", "/1", "")]).then_refused(400),
        ),
        row(
            "a good one before a bad body",
            with("POST", "/1", "Content-Length: 3", "abc")
                + &with("POST", "/2", "Transfer-Encoding: chunked", "x\r\n")
                + SMUGGLED,
            passes([("POST", "/1", "abc")]).then_refused(400),
        ),
        row(
            "a good one before garbage",
            get("/1") + "\0\0\0\r\n\r\n" + SMUGGLED,
            passes([("GET", "/1", "")]).then_refused(400),
        ),
        row(
            "one that closes before another",
            with("GET", "/1", "Connection: close", "") + SMUGGLED,
            passes([("GET", "/1", "")]).and_closes(),
        ),
        row(
            "HTTP/1.0 before another",
            format!("GET /1 HTTP/1.0\r\nHost: x\r\n\r\n{SMUGGLED}"),
            passes([("GET", "/1", "")]).and_closes(),
        ),
        row(
            "a body too short before another",
            with("POST", "/1", "Content-Length: 2", "abc") + &get("/2"),
            passes([("POST", "/1", "ab"), ("cGET", "/2", "")]),
        ),
        row(
            "HEAD before GET",
            "HEAD /1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + &get("/2"),
            passes([("HEAD", "/1", ""), ("GET", "/2", "")]),
        ),
        row(
            "an upgrade to h2c before another",
            {
                with(
                    "GET",
                    "/1",
                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
                    "",
                ) + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            },
            passes([("GET", "/1", "")]).then_refused(505),
        ),
        row(
            "a WebSocket that is none before another",
            with("GET", "/1", "Connection: Upgrade\r\nUpgrade: websocket", "") + &get("/2"),
            passes([("GET", "/1", ""), ("GET", "/2", "")]),
        ),
        row(
            "fifty requests",
            (0..50).map(|_| get("/r")).collect::<String>(),
            passes([("GET", "/r", ""); 50]),
        ),
    ]
}

/// 0.CL, CL.0 and others that live on an answer before the body.
fn expectations() -> Vec<Row> {
    vec![
        row(
            "an expectation and its body at once",
            post("Expect: 100-continue\r\nContent-Length: 5", "hello"),
            reaches("hello"),
        ),
        row(
            "an expectation in other letters",
            post("expect: 100-Continue\r\nContent-Length: 5", "hello"),
            reaches("hello"),
        ),
        row(
            "an expectation and chunks",
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
            reaches("hello"),
        ),
        row(
            "an expectation that Connection names",
            post("Connection: Expect\r\nExpect: 100-continue\r\nContent-Length: 5", "hello"),
            reaches("hello"),
        ),
        row(
            "an unknown expectation and a request as its body",
            post("Expect: x\r\nContent-Length: 35", SMUGGLED),
            refused(417),
        ),
        row(
            "an expectation in a fold and a request as its body",
            post("Expect:\r\n 100-continue\r\nContent-Length: 35", SMUGGLED),
            refused(400),
        ),
        row(
            "an expectation in HTTP/1.0",
            "POST /r HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            reaches("hello").and_closes(),
        ),
        row(
            "our own answer and a request as its body",
            {
                format!(
                    "POST /ours HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
                    SMUGGLED.len()
                )
            },
            answered(200).and_may_close(),
        ),
        row(
            "our own answer and an expectation",
            {
                format!(
                    "POST /ours HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
                    SMUGGLED.len()
                )
            },
            answered(200).and_may_close(),
        ),
    ]
}

fn limits() -> Vec<Row> {
    let small =
        |fields: &str, body: &str| format!("POST /small HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{body}");
    vec![
        row(
            "a body as large as may be",
            small("Content-Length: 10", "0123456789"),
            passes([("POST", "/small", "0123456789")]),
        ),
        row("too large a body", small("Content-Length: 11", "01234567890"), refused(413)),
        row("too large a body to come", small("Content-Length: 99999999999", "0123456789"), refused(413)),
        row(
            "too large a body, and an expectation",
            small("Expect: 100-continue\r\nContent-Length: 35", SMUGGLED),
            refused(413),
        ),
        row("too large a body of a request", small("Content-Length: 35", SMUGGLED), refused(413)),
        row(
            "too large a chunk",
            small("Transfer-Encoding: chunked", "b\r\n01234567890\r\n0\r\n\r\n"),
            refused(413),
        ),
        row(
            "too many chunks",
            small("Transfer-Encoding: chunked", &("1\r\nx\r\n".repeat(11) + "0\r\n\r\n")),
            refused(413),
        ),
        row(
            "a chunk without end",
            small("Transfer-Encoding: chunked", "ffffffffffff\r\n01234567890"),
            refused(413),
        ),
    ]
}
