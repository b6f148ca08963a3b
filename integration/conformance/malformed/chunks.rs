//! Rows about chunks.

use super::{Row, SMUGGLED, answered, heads::control_bytes, post, reaches, refused, row};

/// A request in chunks.
fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

pub(super) fn rows() -> Vec<Row> {
    [sizes(), extensions(), ends()].into_iter().flatten().collect()
}

fn sizes() -> Vec<Row> {
    let mut rows = Vec::new();
    for size in [
        "",
        " ",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "+5",
        "-5",
        "-0",
        "0x5",
        "0X5",
        "x5",
        "5h",
        "\\x35",
        "5_",
        "5,0",
        "5.0",
        "5 5",
        "g",
        "\u{ff15}",
        "\"5\"",
        "%35",
        "00000000000000005",
        "10000000000000000",
        "10000000000000005",
        "100000005x",
        "fffffffffffffffff",
        "5\0",
        "\u{a0}5",
        "5\u{a0}",
        "5\u{b}",
        "5\u{c}",
        "5\r",
        "5\n",
        "\n5",
        "\r5",
        "5\r\r",
        "5:",
        "5=5",
        "5/",
    ] {
        let bytes = chunked(format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
        rows.push(row(format!("the size {size:?}"), bytes, refused(400)));
    }
    for size in ["5", "05", "0000000000000005"] {
        rows.push(row(
            format!("the size {size:?}"),
            chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")),
            reaches("hello"),
        ));
    }
    for size in ["a", "A", "0A"] {
        rows.push(row(
            format!("the size {size:?}"),
            chunked(format!("{size}\r\n0123456789\r\n0\r\n\r\n")),
            reaches("0123456789"),
        ));
    }
    for last in ["0", "00", "0000000000000000"] {
        rows.push(row(format!("the last size {last:?}"), chunked(format!("{last}\r\n\r\n")), reaches("")));
    }
    for last in ["00000000000000000", "-0", "+0", "0x0", "0 ", " 0", "0\0", "x"] {
        rows.push(row(
            format!("the last size {last:?}"),
            chunked(format!("{last}\r\n\r\n{SMUGGLED}")),
            refused(400),
        ));
    }
    for byte in control_bytes() {
        let at = |before: &str, after: &str| {
            [before.as_bytes(), &[byte], after.as_bytes(), SMUGGLED.as_bytes()].concat()
        };
        for (place, body) in [
            ("before a size", at("", "5\r\nhello\r\n0\r\n\r\n")),
            ("behind a size", at("5", "\r\nhello\r\n0\r\n\r\n")),
            ("behind data", at("5\r\nhello", "\r\n0\r\n\r\n")),
            ("behind the last size", at("5\r\nhello\r\n0", "\r\n\r\n")),
            ("in the name of a trailer", at("0\r\nX", "Y: z\r\n\r\n")),
            ("before the last line end", at("0\r\n", "\r\n")),
        ] {
            rows.push(row(format!("{byte:#04x} {place}"), chunked(body), refused(400)));
        }
        if byte != b'\t' {
            rows.push(row(
                format!("{byte:#04x} in an extension"),
                chunked(at("5;a", "b\r\nhello\r\n0\r\n\r\n")),
                refused(400),
            ));
            rows.push(row(
                format!("{byte:#04x} in a trailer"),
                chunked(at("0\r\nX: y", "z\r\n\r\n")),
                refused(400),
            ));
        }
    }
    rows
}

/// Nobody needs extensions and trailers: they go no further, and hide nothing.
fn extensions() -> Vec<Row> {
    let mut rows = Vec::new();
    for extension in [
        ";a",
        ";a=b",
        ";a=\"b\"",
        ";a=b;c=d",
        "; a = b",
        ";",
        ";;",
        ";=",
        ";a=\"",
        ";a\tb",
        ";\u{e9}",
        ";0\u{20}\u{20}",
        ";GET / HTTP/1.1",
        ";5",
    ] {
        let bytes = chunked(format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n"));
        rows.push(row(format!("the extension {extension:?}"), bytes, reaches("hello")));
    }
    for (name, extension) in [
        ("a bare LF in an extension", ";\n"),
        ("a bare LF behind an extension", ";a\nx"),
        ("a bare CR in an extension", ";a\rb"),
        ("CR CR LF behind an extension", ";a\r"),
        ("a line end in quotes in an extension", ";a=\"\r\nb\""),
        ("a bare LF in quotes in an extension", ";a=\"\nb\""),
        ("a space before an extension", " ;a"),
        ("a tab before an extension", "\t;a"),
        ("an extension without a semicolon", "a=b,c"),
        ("an extension behind a comma", ",a"),
    ] {
        let bytes = chunked(format!("5{extension}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
        rows.push(row(name, bytes, refused(400)));
    }
    // Where one ends the line at the LF, the rest is data of "xx" and a whole request.
    rows.push(row(
        "TERM.EXT",
        chunked(format!("2;\nxx\r\n4c\r\n0\r\n\r\n{SMUGGLED}0\r\n\r\n")),
        refused(400),
    ));
    rows.push(row(
        "EXT.TERM",
        chunked(format!("2;a\n02\r\n45\r\n0\r\n\r\n{SMUGGLED}0\r\n\r\n")),
        refused(400),
    ));
    rows.push(row(
        "TERM.SPILL",
        chunked(format!("5\r\nhello\r\r\n2\r\n45\r\n0\r\n\r\n{SMUGGLED}")),
        refused(400),
    ));
    rows.push(row("SPILL.TERM", chunked(format!("5\r\nhello\n0\r\n\r\n{SMUGGLED}")), refused(400)));
    rows.push(row(
        "a flood of extensions",
        chunked(format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000))),
        refused(400),
    ));
    rows.push(row(
        "small extensions, many of them",
        chunked("1;xxxxxxxxx\r\na\r\n".repeat(2_000) + "0\r\n\r\n"),
        refused(400),
    ));
    rows.push(row(
        "a flood of trailers",
        chunked(format!("0\r\n{}\r\n", "X: y\r\n".repeat(4_000))),
        refused(400),
    ));
    rows.push(row(
        "a flood of digits",
        chunked(format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(20_000))),
        refused(400),
    ));

    for trailer in [
        "X: y",
        "X:",
        "X-Checksum: 1\r\nY: z",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Host: y",
        "X_Y: z",
        "Authorization: x",
    ] {
        let bytes = chunked(format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
        rows.push(row(format!("the trailer {trailer:?}"), bytes, reaches("hello")));
    }
    for (name, trailer) in [
        ("a trailer without a colon", "X"),
        ("a trailer without a name", ": y"),
        ("a trailer with a space before its colon", "X : y"),
        ("a trailer that is folded", "X: y\r\n z"),
        ("a trailer that begins with a space", " X: y"),
        ("a trailer that ends in LF", "X: y\nA: b"),
        ("a trailer that ends in CR", "X: y\rA: b"),
        ("a request as a trailer", "GET /smuggled HTTP/1.1\r\nHost: x"),
        ("another chunk behind the last", "5\r\nhello"),
        ("a NUL as a trailer", "\0"),
    ] {
        rows.push(row(name, chunked(format!("0\r\n{trailer}\r\n\r\n{SMUGGLED}")), refused(400)));
    }
    rows
}

/// How lines and data of chunks end.
fn ends() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, body) in [
        ("a size that ends in LF", "5\nhello\r\n0\r\n\r\n"),
        ("a size that ends in CR", "5\rhello\r\n0\r\n\r\n"),
        ("a size that ends in LF CR", "5\n\rhello\r\n0\r\n\r\n"),
        ("data that end in LF", "5\r\nhello\n0\r\n\r\n"),
        ("data that end in CR", "5\r\nhello\r0\r\n\r\n"),
        ("data that end in nothing", "5\r\nhello0\r\n\r\n"),
        ("data longer than their chunk", "4\r\nhello\r\n0\r\n\r\n"),
        ("data shorter than their chunk", "6\r\nhello\r\n0\r\n\r\n"),
        ("the last size ends in LF", "5\r\nhello\r\n0\n\r\n"),
        ("the last size ends in CR", "5\r\nhello\r\n0\r\r\n"),
        ("the last line is LF", "5\r\nhello\r\n0\r\n\n"),
        ("both last lines end in LF", "5\r\nhello\r\n0\n\n"),
        ("everything ends in LF", "5\nhello\n0\n\n"),
        ("an empty line before a size", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("an empty line behind data", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("no chunks, but a request", ""),
        ("no chunks, but text", "hello"),
        ("only LF", "\n"),
    ] {
        rows.push(row(name, chunked(format!("{body}{SMUGGLED}")), refused(400)));
    }
    for (name, fields) in [
        ("an upgrade", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ("h2c", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    ] {
        for body in ["0\n\r\n", "1\na\n0\r\n\r\n", "1;\n\r\na\r\n0\r\n\r\n", "0\r\nX: y\n\r\n"] {
            let bytes = post(&format!("{fields}Transfer-Encoding: chunked"), format!("{body}{SMUGGLED}"));
            rows.push(row(format!("the chunks {body:?} with {name}"), bytes, refused(400)));
        }
    }
    // Answered by ourselves, who need no body: where it ends counts all the same.
    for (name, body) in
        [("LF", "0\n\r\n"), ("a request as a trailer", "0\r\n"), ("an extension", "1;\n\r\na\r\n0\r\n\r\n")]
    {
        let head = "POST /ours HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        rows.push(row(
            format!("our own answer and {name}"),
            format!("{head}{body}{SMUGGLED}"),
            answered(200).and_closes(),
        ));
    }
    rows
}
