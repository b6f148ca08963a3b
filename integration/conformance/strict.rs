//! A second opinion: messages read by the letter of RFC 9112, by code that shares nothing with the proxy.
//!
//! Nothing is forgiven here, not even what the RFC lets a recipient forgive: what leaves the proxy must need no mercy.

use std::fmt;

/// Why bytes are no message; tells them apart from a message that has not come whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bad {
    Incomplete,
    Malformed(String),
}

fn bad<T>(why: impl fmt::Display) -> Result<T, Bad> {
    Err(Bad::Malformed(why.to_string()))
}

/// A request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The first line without its end.
    pub line: String,
    /// Names in lower case, values without the space around them.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes that it takes.
    pub length: usize,
    /// Its body ends with the connection.
    pub until_close: bool,
}

impl Message {
    /// The value of a field that is there at most once.
    pub fn get<'m>(&'m self, name: &'m str) -> Option<&'m str> {
        let mut values = self.all(name);
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice in {self:?}");
        value
    }

    pub fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The words of the first line: method and target, or version and status.
    pub fn word(&self, number: usize) -> &str {
        self.line.split(' ').nth(number).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.word(1).parse().expect("it was read")
    }
}

fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The next line without its end, which is a carriage return and a line feed, both nowhere else.
fn line<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Bad> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return match bytes.split_last() {
            Some((_, before)) if before.contains(&b'\r') => bad("a bare carriage return"),
            _ => Err(Bad::Incomplete),
        };
    };
    let (line, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return bad(format!("a bare line feed after {}", text(line)));
    };
    if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return bad(format!("a control byte in {:?}", text(line)));
    }
    Ok(line)
}

fn fields(bytes: &mut &[u8]) -> Result<Vec<(String, String)>, Bad> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return bad(format!("no colon in {:?}", text(line)));
        };
        if !is_token(&line[..colon]) {
            return bad(format!("no name in {:?}", text(line)));
        }
        let value = line[colon + 1..].trim_ascii();
        fields.push((text(&line[..colon]).to_ascii_lowercase(), text(value)));
    }
}

/// How a body ends.
#[derive(Clone, Copy)]
enum End {
    None,
    Length(usize),
    Chunks,
    Close,
}

/// What the fields say; a request without any of them has no body.
fn end(fields: &[(String, String)], otherwise: End) -> Result<End, Bad> {
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(otherwise),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            if length.len() > 1 && length.starts_with('0') {
                return bad(format!("a length that may be octal: {length}"));
            }
            length.parse().map(End::Length).or_else(bad)
        }
        ([], ["chunked"]) => Ok(End::Chunks),
        _ => bad(format!("lengths {lengths:?} and codings {codings:?}")),
    }
}

fn chunks(bytes: &mut &[u8]) -> Result<Vec<u8>, Bad> {
    let mut body = Vec::new();
    loop {
        let size = line(bytes)?;
        // Nobody needs extensions, and the proxy sends none.
        if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) {
            return bad(format!("not the size of a chunk: {:?}", text(size)));
        }
        let size = usize::from_str_radix(&text(size), 16).or_else(bad)?;
        if size == 0 {
            let trailers = fields(bytes)?;
            return if trailers.is_empty() { Ok(body) } else { bad(format!("trailers {trailers:?}")) };
        }
        if bytes.len() < size + 2 {
            return Err(Bad::Incomplete);
        }
        let (data, rest) = bytes.split_at(size);
        let Some(rest) = rest.strip_prefix(b"\r\n") else { return bad("data runs over its chunk") };
        body.extend_from_slice(data);
        *bytes = rest;
    }
}

fn body(bytes: &mut &[u8], end: End) -> Result<Vec<u8>, Bad> {
    match end {
        End::None => Ok(Vec::new()),
        End::Close => Ok(std::mem::take(bytes).to_vec()),
        End::Length(length) if bytes.len() < length => Err(Bad::Incomplete),
        End::Length(length) => {
            let (body, rest) = bytes.split_at(length);
            *bytes = rest;
            Ok(body.to_vec())
        }
        End::Chunks => chunks(bytes),
    }
}

/// The request at the start of `bytes`.
pub fn request(all: &[u8]) -> Result<Message, Bad> {
    let mut bytes = all;
    let first = line(&mut bytes)?;
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return bad(format!("not three words: {:?}", text(first)));
    };
    let is_target = matches!(target, [b'/', ..] | b"*") && !target.contains(&b'#');
    if !is_token(method) || !is_target || version != b"HTTP/1.1" {
        return bad(format!("no request line: {:?}", text(first)));
    }
    let fields = fields(&mut bytes)?;
    if fields.iter().filter(|(name, value)| name == "host" && !value.is_empty()).count() != 1 {
        return bad(format!("not one host: {fields:?}"));
    }
    if let Some((name, _)) = fields.iter().find(|(name, _)| name.contains('_')) {
        return bad(format!("{name} could be taken for another"));
    }
    let end = end(&fields, End::None)?;
    let body = body(&mut bytes, end)?;
    let length = all.len() - bytes.len();
    Ok(Message { line: text(first), fields, body, length, until_close: false })
}

/// The answer at the start of `bytes` to a request of `method`.
pub fn answer(all: &[u8], method: &str) -> Result<Message, Bad> {
    let mut bytes = all;
    let first = line(&mut bytes)?;
    let is_status = |code: &[u8]| matches!(code, [b'1'..=b'5', tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit());
    let status = match first.strip_prefix(b"HTTP/1.1 ") {
        Some(rest) if rest.len() > 3 && is_status(&rest[..3]) && rest[3] == b' ' => text(&rest[..3]),
        _ => return bad(format!("no status line: {:?}", text(first))),
    };
    let fields = fields(&mut bytes)?;
    let is_bodiless = status.starts_with('1') || status == "204";
    let says = end(&fields, End::Close)?;
    if is_bodiless && !matches!(says, End::Close) {
        return bad(format!("{status} with a body: {fields:?}"));
    }
    let says = if is_bodiless || status == "304" || method == "HEAD" { End::None } else { says };
    let until_close = matches!(says, End::Close);
    let body = body(&mut bytes, says)?;
    let length = all.len() - bytes.len();
    Ok(Message { line: text(first), fields, body, length, until_close })
}
