//! Rows about `Content-Length` and `Transfer-Encoding`.

use super::{Row, SMUGGLED, passes, post, reaches, refused, row};

pub(super) fn rows() -> Vec<Row> {
    [lengths(), codings(), both()].into_iter().flatten().collect()
}

fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "+0",
        "0x5",
        "0X5",
        "5h",
        "5,5",
        "5, 5",
        "5,6",
        "5;5",
        "5 5",
        "5\t5",
        "5 ,",
        ", 5",
        "5.0",
        "5.",
        ".5",
        "5e0",
        "1e1",
        "0b101",
        "0o5",
        "5_0",
        "1'0",
        "\"5\"",
        "'5'",
        "(5)",
        "five",
        "NaN",
        "inf",
        "5\u{660}",
        "\u{ff15}",
        "%35",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999",
        "-18446744073709551611",
        "4294967301x",
        "5\\r\\n",
        "5; charset=utf-8",
        "bytes=5",
        "5\r\n 0",
        "5\r\n\t5",
        "0\r\n 5",
    ] {
        let bytes = post(&format!("Content-Length: {value}"), format!("hello{SMUGGLED}"));
        rows.push(row(format!("the length {value:?}"), bytes, refused(400)));
    }
    for value in ["5", " 5", "5 ", "\t5\t", "05", "0005", &format!("{}5", "0".repeat(100))] {
        rows.push(row(
            format!("the length {value:?}"),
            post(&format!("Content-Length:{value}"), "hello"),
            reaches("hello"),
        ));
    }
    // Eight to one, ten to another.
    rows.push(row(
        "a length that looks octal",
        post("Content-Length: 010", "0123456789"),
        reaches("0123456789"),
    ));
    rows.push(row("a length of zeros", post("Content-Length: 000", ""), reaches("")));
    for (name, fields) in [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6"),
        ("two equal lengths", "Content-Length: 5\r\nContent-Length: 5"),
        ("a length and none", "Content-Length: 5\r\nContent-Length: 0"),
        ("none and a length", "Content-Length: 0\r\nContent-Length: 5"),
        ("a length and an empty one", "Content-Length: 5\r\nContent-Length:"),
        ("two lengths apart", "Content-Length: 5\r\nX: y\r\ncontent-length: 5"),
        ("three equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5"),
        ("a length with a space before its colon", "Content-Length : 5"),
        ("a second length with a space before its colon", "Content-Length: 5\r\nContent-Length : 0"),
        ("a length with a space before its name", "X: y\r\n Content-Length: 5"),
        ("a length behind a bare LF", "X: y\nContent-Length: 5"),
        ("a length behind a bare CR", "X: y\rContent-Length: 5"),
        ("a length behind a NUL", "X: y\0Content-Length: 5"),
        ("a length before a bare LF", "Content-Length: 5\nX: y"),
        ("a length with an equals sign", "Content-Length=5"),
    ] {
        rows.push(row(name, post(fields, format!("hello{SMUGGLED}")), refused(400)));
    }
    for (name, fields) in [
        ("a length and one by _", "Content-Length: 5\r\nContent_Length: 0"),
        ("a length and one for something else", "Content-Length: 5\r\nX-Content-Length: 0"),
        (
            "a length that Connection names, with a body",
            "Connection: close-not, Content-Length\r\nContent-Length: 5",
        ),
        ("a length in other letters", "cOnTeNt-LeNgTh: 5"),
        ("a length and a content coding", "Content-Length: 5\r\nContent-Encoding: chunked"),
        ("a length and TE", "Content-Length: 5\r\nTE: chunked"),
    ] {
        rows.push(row(name, post(fields, "hello"), reaches("hello")));
    }
    for method in ["GET", "DELETE", "OPTIONS", "PROPFIND"] {
        let bytes = format!(
            "{method} /r HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        );
        rows.push(row(format!("a body of {method}"), bytes, passes([(method, "/r", SMUGGLED)])));
    }
    rows.push(row("no body without a length", post("X: y", ""), reaches("")));
    rows
}

/// What follows the last chunk must be no request, whoever believes in the coding and whoever does not.
fn codings() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in [
        "",
        " ",
        "xchunked",
        "chunkedx",
        "chunked-x",
        "x-chunked",
        "chunke",
        "chunk",
        "identity",
        "gzip",
        "deflate",
        "compress",
        "cow",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,chunked",
        "chunked,",
        ",chunked",
        ", chunked",
        "chunked ,",
        "identity, chunked",
        "chunked, identity",
        "identity,chunked,identity",
        "chunked;q=1",
        "chunked; q=1",
        "chunked;",
        ";chunked",
        "chunked=1",
        "\"chunked\"",
        "'chunked'",
        "\"chunked",
        "(chunked)",
        "<chunked>",
        "chunked\0",
        "\0chunked",
        "chun\0ked",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\u{b}",
        "chunked\u{c}",
        "chunked\u{1f}",
        "\u{8}chunked",
        "chunked\u{7f}",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "\u{feff}chunked",
        "\u{2003}chunked",
        "chunk ed",
        "chun\tked",
        "c hunked",
        "chunked chunked",
        "chunked x",
        "x chunked",
        "chunked:",
        ":chunked",
        "chunked/1",
        "*",
        "0",
        "true",
        "trailers",
        "\u{ff43}hunked",
        "chun\u{212a}ed",
        "CHUN\u{212a}ED",
        "chunked\r\n x",
        "\r\n chunked",
        "\r\n\tchunked",
        "x\r\n chunked",
        "\\chunked",
        "chunked\\r\\n",
        "&chunked",
        "chunked&x",
        "%63hunked",
        "chunked#",
        "nul, chunked",
    ] {
        let bytes = post(&format!("Transfer-Encoding: {value}"), format!("0\r\n\r\n{SMUGGLED}"));
        rows.push(row(format!("the coding {value:?}"), bytes, refused(400)));
    }
    for value in
        ["chunked", " chunked", "chunked ", "\tchunked\t", "  chunked \t ", "Chunked", "CHUNKED", "cHuNkEd"]
    {
        let bytes = post(&format!("Transfer-Encoding:{value}"), "5\r\nhello\r\n0\r\n\r\n");
        rows.push(row(format!("the coding {value:?}"), bytes, reaches("hello")));
    }
    for (name, fields) in [
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        ("chunked and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("identity and chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        ("chunked and an unknown coding", "Transfer-Encoding: chunked\r\nTransfer-encoding: cow"),
        ("an unknown coding and chunked", "Transfer-encoding: cow\r\nTransfer-Encoding: chunked"),
        ("chunked and an empty coding", "Transfer-Encoding: chunked\r\nTransfer-Encoding:"),
        ("a coding with a space before its colon", "Transfer-Encoding : chunked"),
        ("a coding with a tab before its colon", "Transfer-Encoding\t: chunked"),
        ("a coding with VT before its colon", "Transfer-Encoding\u{b}: chunked"),
        ("a coding with a space before its name", " Transfer-Encoding: chunked"),
        ("a coding in a fold", "X: y\r\n Transfer-Encoding: chunked"),
        ("a coding behind a bare LF", "X: y\nTransfer-Encoding: chunked"),
        ("a coding behind a bare CR", "X: y\rTransfer-Encoding: chunked"),
        ("a coding behind CR CR LF", "X: y\r\r\nTransfer-Encoding: chunked"),
        ("a coding with a NUL in its name", "Transfer\0-Encoding: chunked"),
        ("a coding in quotes", "\"Transfer-Encoding\": chunked"),
        ("a coding whose name goes over two lines", "Transfer-\r\nEncoding: chunked"),
    ] {
        rows.push(row(name, post(fields, format!("0\r\n\r\n{SMUGGLED}")), refused(400)));
    }
    for (name, fields) in [
        ("a coding and one by _", "Transfer-Encoding: chunked\r\nTransfer_Encoding: identity"),
        (
            "a coding and one for something else",
            "Transfer-Encoding: chunked\r\nX-Transfer-Encoding: identity",
        ),
        ("a coding that Connection names", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
        ("a coding and a length by _", "Transfer-Encoding: chunked\r\nContent_Length: 3"),
        ("a coding and h2c", "Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked"),
        ("a coding and WebSocket", "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked"),
    ] {
        rows.push(row(name, post(fields, "5\r\nhello\r\n0\r\n\r\n"), reaches("hello")));
    }
    for method in ["GET", "DELETE", "PROPFIND"] {
        let head = format!("{method} /r HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        rows.push(row(
            format!("chunks of {method}"),
            head + "5\r\nhello\r\n0\r\n\r\n",
            passes([(method, "/r", "hello")]),
        ));
    }
    rows.push(row(
        "a coding in HTTP/1.0",
        format!("POST /r HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        refused(400),
    ));
    rows.push(row(
        "identity in HTTP/1.0",
        "POST /r HTTP/1.0\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        refused(400),
    ));
    rows
}

/// Lengths and codings together: CL.TE, TE.CL, and their relatives.
fn both() -> Vec<Row> {
    let mut rows = Vec::new();
    for coding in ["chunked", "Chunked", " chunked", "identity", "xchunked", "gzip, chunked", ""] {
        for length in ["0", "3", "5", "6", "x", ""] {
            for (order, fields) in [
                ("before", format!("Transfer-Encoding: {coding}\r\nContent-Length: {length}")),
                ("behind", format!("Content-Length: {length}\r\nTransfer-Encoding: {coding}")),
            ] {
                let bytes = post(&fields, format!("0\r\n\r\n{SMUGGLED}"));
                rows.push(row(
                    format!("the coding {coding:?} {order} the length {length:?}"),
                    bytes,
                    refused(400),
                ));
            }
        }
    }
    for (name, fields) in [
        ("a length in the fold of a coding", "Transfer-Encoding: chunked\r\n Content-Length: 5"),
        (
            "both, the coding with a space before its colon",
            "Content-Length: 5\r\nTransfer-Encoding : chunked",
        ),
        (
            "both, the length that Connection names",
            "Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        (
            "both, the coding that Connection names",
            "Connection: Transfer-Encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        (
            "both, and an upgrade",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
    ] {
        rows.push(row(name, post(fields, format!("0\r\n\r\n{SMUGGLED}")), refused(400)));
    }
    rows
}
