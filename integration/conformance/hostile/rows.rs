//! The table.

use super::{Expect, Row};

/// A whole answer, in which the word `whole` says that it is one.
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";

/// What must never be an answer.
const EVIL: &str = "HTTP/1.1 200 OK\r\nX-Evil: yes\r\nContent-Length: 4\r\n\r\nevil";

fn row(name: impl Into<String>, answer: impl AsRef<[u8]>, expect: Expect) -> Row {
    Row { name: name.into(), method: "GET", answer: answer.as_ref().to_vec(), closes: false, expect }
}

impl Row {
    fn and_closes(mut self) -> Self {
        self.closes = true;
        self
    }

    fn to(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }
}

fn whole(status: u16, body: &str) -> Expect {
    Expect::Whole(status, body.into())
}

/// An answer with these fields and this body.
fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}")
}

pub(super) fn rows() -> Vec<Row> {
    let groups = [
        lengths(),
        statuses(),
        heads(),
        bytes(),
        chunks(),
        bodiless(),
        interim(),
        cut(),
        beside(),
        connection(),
    ];
    groups.into_iter().flatten().collect()
}

fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5,6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5;",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 18446744073709551621",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
        "Transfer-Encoding: \u{b}chunked",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
    ] {
        rows.push(row(format!("{fields:?}"), ok(fields, &format!("whole{EVIL}")), Expect::BadGateway));
    }
    rows.push(row(
        "a coding in HTTP/1.0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Expect::BadGateway,
    ));
    rows.push(row("a length", WHOLE, whole(200, "whole")));
    rows.push(row("no length, and the end", ok("X: y", "whole"), whole(200, "whole")).and_closes());
    rows.push(row("HTTP/1.0, and the end", "HTTP/1.0 200 OK\r\n\r\nwhole", whole(200, "whole")).and_closes());
    rows.push(row("a length that looks octal", ok("Content-Length: 05", "whole"), whole(200, "whole")));
    rows
}

fn statuses() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 000 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/2 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200 OK",
        "http/1.1 200 OK",
        "HTTPS/1.1 200 OK",
        "ICY 200 OK",
        "200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\u{7f}K",
        "HTTP/1.1 200 OK\rX-Evil: yes",
        "HTTP/1.1 200 OK\nX-Evil: yes",
        "GET / HTTP/1.1",
        "SSH-2.0-OpenSSH_9.2",
        "\u{16}\u{3}\u{1}",
        "",
    ] {
        rows.push(row(
            format!("the line {line:?}"),
            format!("{line}\r\nContent-Length: 5\r\n\r\nwhole"),
            Expect::BadGateway,
        ));
    }
    for (line, status) in [
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200 All: is well", 200),
        ("HTTP/1.1 404 caf\u{e9}", 404),
        ("HTTP/1.1 299 OK", 299),
        ("HTTP/1.1 599 OK", 599),
        ("HTTP/1.0 200 OK", 200),
    ] {
        let answer = format!("{line}\r\nContent-Length: 5\r\n\r\nwhole");
        rows.push(row(format!("the line {line:?}"), answer, whole(status, "whole")));
    }
    rows.push(row("nothing", "", Expect::BadGateway).and_closes());
    rows.push(row("HTTP/0.9", "<html>whole</html>", Expect::BadGateway).and_closes());
    rows.push(row("only an end of line", "\r\n", Expect::BadGateway).and_closes());
    rows.push(row("an empty line before it", format!("\r\n{WHOLE}"), whole(200, "whole")));
    rows.push(row("two empty lines before it", format!("\r\n\r\n{WHOLE}"), Expect::BadGateway));
    rows.push(row("nothing but empty lines", "\r\n".repeat(100_000), Expect::BadGateway));
    rows.push(row("LF before it", format!("\n{WHOLE}"), Expect::BadGateway));
    rows
}

fn heads() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, fields) in [
        ("no colon", "X-Evil"),
        ("no name", ": x"),
        ("a space in a name", "X Evil: yes"),
        ("a space before the colon", "X : y"),
        ("a folded field", "X: y\r\n X-Evil: yes"),
        ("a folded length", "Content-Length:\r\n 5"),
        ("a fold before the first field", " X: y"),
        ("a bare LF in a value", "X: y\nX-Evil: yes"),
        ("a bare CR in a value", "X: y\rX-Evil: yes"),
        ("CR CR LF behind a value", "X: y\r\r\nX-Evil: yes"),
        ("a NUL in a value", "X: y\0X-Evil: yes"),
        ("an escape in a value", "X: \u{1b}[2J"),
        ("DEL in a value", "X: \u{7f}"),
        ("a high byte in a name", "X\u{e9}: y"),
        ("a parenthesis in a name", "X(: y"),
        ("a second answer in the head", "X: y\n\nHTTP/1.1 200 OK"),
    ] {
        rows.push(row(name, ok(&format!("{fields}\r\nContent-Length: 5"), "whole"), Expect::BadGateway));
    }
    for (name, answer) in [
        ("all lines end in LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\nwhole".to_owned()),
        ("the last line ends in LF", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nwhole".into()),
        ("a field ends in LF", "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nwhole".into()),
        ("all lines end in CR", "HTTP/1.1 200 OK\rContent-Length: 5\r\rwhole".into()),
        (
            "a head larger than max_response_head",
            ok(&format!("X: {}\r\nContent-Length: 5", "x".repeat(66_000)), "whole"),
        ),
        (
            "a head far larger than that",
            ok(&format!("X: {}\r\nContent-Length: 5", "x".repeat(2 << 20)), "whole"),
        ),
        ("a head without end", format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000))),
        ("a name without end", format!("HTTP/1.1 200 OK\r\n{}", "X".repeat(400_000))),
        ("a reason without end", format!("HTTP/1.1 200 {}", "X".repeat(400_000))),
        ("too many fields", ok(&format!("{}Content-Length: 5", "X: y\r\n".repeat(300)), "whole")),
    ] {
        rows.push(row(name, answer, Expect::BadGateway));
    }
    rows.push(row(
        "a head just below max_response_head",
        ok(&format!("X: {}\r\nContent-Length: 5", "x".repeat(65_000)), "whole"),
        whole(200, "whole"),
    ));
    rows.push(row(
        "many fields",
        ok(&format!("{}Content-Length: 5", "X: y\r\n".repeat(250)), "whole"),
        whole(200, "whole"),
    ));
    rows.push(row("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Expect::BadGateway).and_closes());
    rows.push(
        row("a head without its end", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Expect::BadGateway)
            .and_closes(),
    );
    rows
}

/// Control bytes, of which no field has any.
fn bytes() -> Vec<Row> {
    let mut rows = Vec::new();
    for byte in (0..0x20_u8).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        for (place, before, after) in [
            ("a value", "X: y", "z\r\n"),
            ("a name", "X", "Y: z\r\n"),
            ("the length", "Content-Length: 5", "\r\n"),
        ] {
            let answer =
                [b"HTTP/1.1 200 OK\r\n", before.as_bytes(), &[byte], after.as_bytes(), b"\r\nwhole"].concat();
            rows.push(row(format!("{byte:#04x} in {place}"), answer, Expect::BadGateway));
        }
    }
    rows
}

fn chunks() -> Vec<Row> {
    let mut rows = Vec::new();
    let chunked = |body: &str| ok("Transfer-Encoding: chunked", body);
    for body in [
        "5\r\nwhole\r\n0\r\n\r\n",
        "5;a=b\r\nwhole\r\n0;c\r\n\r\n",
        "2\r\nwh\r\n3\r\nole\r\n0\r\nX-Evil: yes\r\nContent-Length: 0\r\n\r\n",
        "05\r\nwhole\r\n00\r\n\r\n",
    ] {
        rows.push(row(format!("the chunks {body:?}"), chunked(body), whole(200, "whole")));
    }
    for (name, body) in [
        ("a size that ends in LF", "5\nwhole\r\n0\r\n\r\n"),
        ("data that end in LF", "5\r\nwhole\n0\r\n\r\n"),
        ("data longer than their chunk", "4\r\nwhole\r\n0\r\n\r\n"),
        ("data shorter than their chunk", "6\r\nwhole\r\n0\r\n\r\n"),
        ("the last line is LF", "5\r\nwhole\r\n0\r\n\n"),
        ("the last size ends in LF", "5\r\nwhole\r\n0\n\r\n"),
        ("a size that is none", "x\r\nwhole\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nwhole\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nwhole\r\n0\r\n\r\n"),
        ("a size with a space", "5 \r\nwhole\r\n0\r\n\r\n"),
        ("a size past all numbers", "10000000000000005\r\nwhole\r\n0\r\n\r\n"),
        ("no size", "\r\nwhole\r\n0\r\n\r\n"),
        ("a bare LF in an extension", "5;\n\r\nwhole\r\n0\r\n\r\n"),
        ("a bare CR in an extension", "5;\rx\r\nwhole\r\n0\r\n\r\n"),
        ("an answer as a trailer", "5\r\nwhole\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("a trailer that is folded", "5\r\nwhole\r\n0\r\nX: y\r\n z\r\n\r\n"),
        ("text in place of chunks", "whole"),
    ] {
        rows.push(row(name, chunked(&format!("{body}{EVIL}")), Expect::BadGatewayOrBrokenOff));
    }
    let flood = format!("5;{}\r\nwhole\r\n0\r\n\r\n", "x".repeat(50_000));
    rows.push(row("a flood of extensions", chunked(&flood), Expect::BadGatewayOrBrokenOff));
    let flood = format!("5\r\nwhole\r\n0\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    rows.push(row("a flood of trailers", chunked(&flood), Expect::BadGatewayOrBrokenOff));
    rows
}

/// What has no body, whatever is said and sent.
fn bodiless() -> Vec<Row> {
    let mut rows = Vec::new();
    for (status, reason) in [(204, "No Content"), (304, "Not Modified")] {
        for (name, fields, body) in [
            ("alone", "", ""),
            ("with a length", "Content-Length: 5\r\n", ""),
            ("with a length and a body", "Content-Length: 5\r\n", "whole"),
            ("with an answer as a body", "Content-Length: 68\r\n", EVIL),
            ("with chunks", "Transfer-Encoding: chunked\r\n", "5\r\nwhole\r\n0\r\n\r\n"),
            ("with the end of chunks", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            ("with a body that nobody has announced", "", "whole"),
        ] {
            let answer = format!("HTTP/1.1 {status} {reason}\r\n{fields}\r\n{body}");
            rows.push(row(format!("{status} {name}"), answer, whole(status, "")));
        }
        let both =
            format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        rows.push(row(format!("{status} with a length and chunks"), both, Expect::BadGateway));
        let two = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n");
        rows.push(row(format!("{status} with two lengths"), two, Expect::BadGateway));
    }
    for (name, fields, body) in [
        ("a length", "Content-Length: 5\r\n", ""),
        ("a body", "Content-Length: 5\r\n", "whole"),
        ("an answer as a body", "Content-Length: 68\r\n", EVIL),
        ("chunks", "Transfer-Encoding: chunked\r\n", "5\r\nwhole\r\n0\r\n\r\n"),
        ("chunks that do not come", "Transfer-Encoding: chunked\r\n", ""),
    ] {
        rows.push(
            row(
                format!("HEAD with {name}"),
                format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"),
                whole(200, ""),
            )
            .to("HEAD"),
        );
    }
    rows.push(
        row(
            "HEAD with two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            Expect::BadGateway,
        )
        .to("HEAD"),
    );
    rows.push(row(
        "205 with a length",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        whole(205, ""),
    ));
    rows
}

fn interim() -> Vec<Row> {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let mut rows = vec![
        row("100 before it", format!("HTTP/1.1 100 Continue\r\n\r\n{WHOLE}"), whole(200, "whole")),
        row("102 before it", format!("HTTP/1.1 102 Processing\r\n\r\n{WHOLE}"), whole(200, "whole")),
        row("103 before it", format!("{hints}{WHOLE}"), whole(200, "whole")),
        row("many of 103 before it", format!("{}{WHOLE}", hints.repeat(100)), whole(200, "whole")),
        row("199 before it", format!("HTTP/1.1 199 X\r\n\r\n{WHOLE}"), whole(200, "whole")),
        row("103 without end", hints.repeat(5_000), Expect::BadGateway),
        row("only 103", hints, Expect::BadGateway).and_closes(),
        row("only 100", "HTTP/1.1 100 Continue\r\n\r\n", Expect::BadGateway).and_closes(),
        row("103 before nonsense", format!("{hints}nonsense\r\n\r\n"), Expect::BadGateway),
        row(
            "103 before two lengths",
            format!("{hints}{}", ok("Content-Length: 5\r\nContent-Length: 6", "whole")),
            Expect::BadGateway,
        ),
    ];
    for (name, fields) in [
        ("a length", "Content-Length: 5"),
        ("no length", "Content-Length: 0"),
        ("chunks", "Transfer-Encoding: chunked"),
        ("a bare LF", "X: y\nX-Evil: yes"),
    ] {
        let answer = format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n\r\n{WHOLE}");
        rows.push(row(format!("103 with {name}"), answer, Expect::BadGateway));
    }
    for fields in
        ["", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade: h2c\r\nConnection: Upgrade\r\n"]
    {
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n{EVIL}");
        rows.push(row(format!("101 that nobody has asked for, with {fields:?}"), answer, Expect::BadGateway));
    }
    rows
}

/// What ends before it is whole.
fn cut() -> Vec<Row> {
    let long = "x".repeat(300_000);
    [
        ("a body that does not come", ok("Content-Length: 5", ""), Expect::BadGatewayOrBrokenOff),
        ("half a body", ok("Content-Length: 10", "whole"), Expect::BrokenOff),
        ("half of a long body", ok("Content-Length: 600000", &long), Expect::BrokenOff),
        ("chunks that do not come", ok("Transfer-Encoding: chunked", ""), Expect::BadGatewayOrBrokenOff),
        ("half a size", ok("Transfer-Encoding: chunked", "5"), Expect::BadGatewayOrBrokenOff),
        ("half a chunk", ok("Transfer-Encoding: chunked", "5\r\nwho"), Expect::BrokenOff),
        ("no last chunk", ok("Transfer-Encoding: chunked", "5\r\nwhole\r\n"), Expect::BrokenOff),
        (
            "half of the last chunk",
            ok("Transfer-Encoding: chunked", "5\r\nwhole\r\n0\r\n"),
            Expect::BrokenOff,
        ),
        (
            "no end of the trailers",
            ok("Transfer-Encoding: chunked", "5\r\nwhole\r\n0\r\nX: y\r\n"),
            Expect::BrokenOff,
        ),
        (
            "half of a long chunk",
            ok("Transfer-Encoding: chunked", &format!("fffff\r\n{long}")),
            Expect::BrokenOff,
        ),
    ]
    .into_iter()
    .map(|(name, answer, expect)| row(name, answer, expect).and_closes())
    .collect()
}

/// What comes behind an answer is nobody's.
fn beside() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, extra) in [
        ("another answer", EVIL),
        ("a line end", "\r\n"),
        ("text", "more than that"),
        ("nonsense", "\0\0\0\0"),
        ("half an answer", "HTTP/1.1 200 OK\r\nX-Evil: yes\r\n"),
    ] {
        rows.push(row(format!("{name} behind a length"), format!("{WHOLE}{extra}"), whole(200, "whole")));
        let chunks = ok("Transfer-Encoding: chunked", &format!("5\r\nwhole\r\n0\r\n\r\n{extra}"));
        rows.push(row(format!("{name} behind chunks"), chunks, whole(200, "whole")));
        rows.push(row(format!("{name} behind nothing"), ok("Content-Length: 0", extra), whole(200, "")));
        rows.push(row(
            format!("{name} behind an error"),
            format!("HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\nwhole{extra}"),
            whole(500, "whole"),
        ));
    }
    rows
}

/// What a server says of its connection is not for the client.
fn connection() -> Vec<Row> {
    let mut rows = Vec::new();
    for fields in [
        "Connection: X-Evil\r\nX-Evil: yes",
        "Connection: close, X-Evil\r\nX-Evil: yes",
        "Connection: keep-alive\r\nConnection: x-evil\r\nX-EVIL: yes",
        "Connection: X-Evil-Other, X-Evil\r\nX-Evil: yes\r\nX-Evil: no\r\nX-Evil-Other: yes",
        "Connection: Content-Length",
        "Connection: Transfer-Encoding, Content-Type",
        "Connection: \"x\"; (y), \u{e9}",
        "Keep-Alive: timeout=5\r\nConnection: keep-alive",
        "Proxy-Connection: close",
        "Upgrade: h2c\r\nConnection: Upgrade",
        "Trailer: X-Evil",
        "TE: chunked",
    ] {
        rows.push(row(
            format!("{fields:?}"),
            ok(&format!("{fields}\r\nContent-Length: 5"), "whole"),
            whole(200, "whole"),
        ));
    }
    rows
}
