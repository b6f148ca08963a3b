//! Header blocks of clients, decoded and judged before `h2` sees them, and handed to it in a plain form.
//!
//! `h2` (0.4.20) decodes them into types of the `http` crate, and ends the whole connection over a byte that these do not
//! take (`hpack::header::Header::new`), where RFC 9113 §8.1.1 asks for an error of the stream. It does not take all
//! targets that clients send over HTTP/1.1, resets the streams of requests that it refuses without telling anybody, and
//! its table of fields keeps the buffers that blocks came in. So a block that it would not take, or that is large, becomes
//! plain fields that it takes, cookies are joined (§8.2.3), and a request that cannot be served becomes one that says why
//! ([`Fault`]). Blocks before the first of these, nearly always all of a connection, go on as they came: that costs `h2`
//! less. After it none does: the table of `h2` is no longer that of the client.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use h2::Reason;

use crate::{
    downstream::http2::{
        MAX_FRAME,
        error::Fault,
        frames::FrameHead,
        hpack::{self, Decoder},
    },
    message::Authority,
};

/// Kinds of frames (§6).
pub(crate) const HEADERS: u8 = 1;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags (§6.2).
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WEIGHED: u8 = 0x20;

/// Bytes that each field counts beside its name and value (§6.5.2).
const FIELD: usize = 32;

/// Past so many times the largest list of fields the connection ends, as it does in `h2`.
const ABUSE: usize = 4;

/// Bytes of a block that goes on as it came, and what its fields may count: what `h2` keeps of it is little.
const PASSED: usize = 4096;
const PASSED_FIELDS: usize = 8192;

/// Gaps in the numbers of streams that are remembered. Clients leave none.
const MOST_UNUSED: usize = 16;

/// The number of a [`Fault`], in place of the fields of a request that has it. No client can send these names.
pub(crate) const FAULT: &str = "bowshock-fault";
/// The request line that HTTP/1.1 would have.
pub(crate) const LINE: &str = "bowshock-line";
/// The target as it came, where `h2` does not take it.
pub(crate) const TARGET: &str = "bowshock-target";

/// The header blocks of one connection.
#[derive(Debug)]
pub(crate) struct Heads {
    decoder: Decoder,
    /// Bytes that the fields of a block may count (SETTINGS_MAX_HEADER_LIST_SIZE).
    most: usize,
    /// The stream of the last request, and numbers before it that no stream has had: no trailer can be of these.
    last: u32,
    unused: Vec<Range<u32>>,
    open: Option<Box<Block>>,
    /// True while every block has been passed on as it came.
    passes: bool,
    /// Room for the next block.
    spare: Option<Box<Block>>,
}

/// A block that has begun.
#[derive(Debug, Default)]
struct Block {
    stream: u32,
    flags: u8,
    is_trailer: bool,
    /// Bytes of it that have come, and those that are not decoded.
    came: usize,
    rest: Vec<u8>,
    /// Length of `rest` when decoding it was tried last.
    tried: usize,
    fields: HeaderBlock,
}

impl From<hpack::MalformedBlock> for Reason {
    fn from(_: hpack::MalformedBlock) -> Self {
        Self::COMPRESSION_ERROR
    }
}

/// The fields of a block, as far as they have come.
#[derive(Debug, Default)]
struct HeaderBlock {
    /// The pseudo-header fields of a request, by [`PSEUDO`], in `text`.
    pseudo: [Option<Range<usize>>; PSEUDO.len()],
    text: Vec<u8>,
    /// Fields other than cookies, as `h2` gets them.
    plain: Vec<u8>,
    has_plain: bool,
    cookies: Vec<u8>,
    length: Option<u64>,
    /// `h2` does not take the target as it is.
    is_odd: bool,
    /// A field has one of our own names, and is left out.
    is_reserved: bool,
    /// Bytes that they count, and [`TARGET`] where it is needed.
    size: usize,
    fault: Option<Fault>,
}

const PSEUDO: [&[u8]; 5] = [b":method", b":scheme", b":authority", b":path", b":protocol"];
const METHOD: usize = 0;
const SCHEME: usize = 1;
const AUTHORITY: usize = 2;
const PATH: usize = 3;
const PROTOCOL: usize = 4;

impl Heads {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            decoder: Decoder::new(),
            most: most as usize,
            last: 0,
            unused: Vec::new(),
            open: None,
            passes: true,
            spare: None,
        }
    }

    /// Whether a block has begun and not ended: only more of it may come.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Lets `h2` know of a block that has begun, so that it ends the connection over what follows, which is no more of it.
    pub(crate) fn give_up(&mut self, out: &mut BytesMut) {
        if let Some(block) = self.open.take() {
            FrameHead { length: 0, kind: HEADERS, flags: 0, stream: block.stream }.write(out);
        }
    }

    /// Takes HEADERS or CONTINUATION; what `h2` gets for it, once the block is whole, is added to `out`.
    ///
    /// # Errors
    ///
    /// The code with which the connection ends.
    pub(crate) fn take(&mut self, head: FrameHead, payload: &[u8], out: &mut BytesMut) -> Result<(), Reason> {
        let (mut block, fragment) = match (head.kind, self.open.take()) {
            (HEADERS, None) => match self.begin(head, payload) {
                Some(begun) => begun,
                None => {
                    // `h2` says what is wrong with it.
                    head.write(out);
                    out.put_slice(payload);
                    return Ok(());
                }
            },
            (CONTINUATION, Some(block)) if block.stream == head.stream => (block, payload),
            (_, open) => {
                self.open = open;
                self.give_up(out);
                head.write(out);
                out.put_slice(payload);
                return Ok(());
            }
        };
        block.came += fragment.len();
        let (most, fields) = (self.most, &mut block.fields);
        let too_many = most.saturating_mul(ABUSE);
        if block.came > too_many {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        let take = |name: &[u8], value: &[u8]| {
            fields.take(name, value, most);
            if fields.size > too_many { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
        };
        let is_whole = head.flags & END_HEADERS != 0;
        // Nearly always a block comes whole.
        if block.rest.is_empty() {
            let read = self.decoder.read(fragment, take)?;
            block.rest.extend_from_slice(&fragment[read..]);
            block.tried = block.rest.len();
        } else {
            block.rest.extend_from_slice(fragment);
            // A field that comes in very many frames is not decoded anew for each of them.
            if is_whole || block.rest.len() >= 2 * block.tried {
                let read = self.decoder.read(&block.rest, take)?;
                block.rest.drain(..read);
                block.tried = block.rest.len();
            }
        }
        if !is_whole {
            self.open = Some(block);
            return Ok(());
        }
        if !block.rest.is_empty() {
            return Err(Reason::COMPRESSION_ERROR);
        }
        self.decoder.end();
        self.passes &= head.kind == HEADERS && block.may_pass();
        if self.passes {
            head.write(out);
            out.put_slice(payload);
            block.fields.clear();
            self.spare = Some(block);
        } else {
            block.write(out);
        }
        Ok(())
    }

    /// A block, and the first of it; `None` for a frame that cannot begin one.
    fn begin<'p>(&mut self, head: FrameHead, payload: &'p [u8]) -> Option<(Box<Block>, &'p [u8])> {
        let mut fragment = payload;
        if head.flags & PADDED != 0 {
            let (padding, rest) = fragment.split_first()?;
            fragment = rest.get(..rest.len().checked_sub((*padding).into())?)?;
        }
        let mut fault = None;
        if head.flags & WEIGHED != 0 {
            let (on, rest) = fragment.split_at_checked(5)?;
            fragment = rest;
            let on = u32::from_be_bytes([on[0] & 0x7f, on[1], on[2], on[3]]);
            fault = (on == head.stream).then_some(Fault::Dependency);
        }
        if head.stream.is_multiple_of(2) {
            return None;
        }
        let is_trailer =
            head.stream <= self.last && !self.unused.iter().any(|unused| unused.contains(&head.stream));
        if head.stream > self.last {
            let next = if self.last == 0 { 1 } else { self.last + 2 };
            if next < head.stream && self.unused.len() < MOST_UNUSED {
                self.unused.push(next..head.stream);
            }
            self.last = head.stream;
        }
        let mut block = self.spare.take().unwrap_or_default();
        (block.stream, block.flags, block.is_trailer) = (head.stream, head.flags & END_STREAM, is_trailer);
        (block.came, block.tried, block.fields.fault) = (0, 0, fault);
        Some((block, fragment))
    }
}

impl Block {
    /// Whether `h2` takes it as it is, and keeps little of it.
    fn may_pass(&self) -> bool {
        let fields = &self.fields;
        let is_small = self.came <= PASSED && fields.size <= PASSED_FIELDS;
        let is_good = match self.is_trailer {
            true => fields.fault.is_none() && fields.pseudo.iter().all(Option::is_none),
            false => fields.fault(self.flags & END_STREAM != 0).is_none(),
        };
        is_small && is_good && !fields.is_odd && !fields.is_reserved
    }

    fn write(self, out: &mut BytesMut) {
        let block = if self.is_trailer {
            self.fields.trailer()
        } else {
            self.fields.request(self.flags & END_STREAM != 0)
        };
        let mut parts = block.chunks(MAX_FRAME as usize).peekable();
        out.reserve(block.len() + 9);
        let (mut kind, mut flags) = (HEADERS, self.flags);
        loop {
            let part = parts.next().unwrap_or_default();
            let is_last = parts.peek().is_none();
            flags |= if is_last { END_HEADERS } else { 0 };
            FrameHead { length: part.len(), kind, flags, stream: self.stream }.write(out);
            out.put_slice(part);
            if is_last {
                return;
            }
            (kind, flags) = (CONTINUATION, 0);
        }
    }
}

impl HeaderBlock {
    /// Forgets all fields, and keeps the room that they took.
    fn clear(&mut self) {
        let Self { mut text, mut plain, mut cookies, .. } = std::mem::take(self);
        [&mut text, &mut plain, &mut cookies].into_iter().for_each(Vec::clear);
        (self.text, self.plain, self.cookies) = (text, plain, cookies);
    }

    /// Takes a field, and note of what is wrong with it.
    fn take(&mut self, name: &[u8], value: &[u8], most: usize) {
        self.size += name.len() + value.len() + FIELD;
        if self.size >= most {
            // It is not kept, whatever else is wrong with the request.
            self.fault = Some(Fault::TooLarge);
            return;
        }
        if let Some(fault) = self.judge(name, value) {
            self.fault.get_or_insert(fault);
        }
        if self.size >= most {
            self.fault = Some(Fault::TooLarge);
        }
    }

    fn judge(&mut self, name: &[u8], value: &[u8]) -> Option<Fault> {
        if name.first() == Some(&b':') {
            let Some(at) = PSEUDO.iter().position(|known| *known == name) else { return Some(Fault::Pseudo) };
            if self.has_plain || self.pseudo[at].is_some() {
                return Some(Fault::Pseudo);
            }
            // A fragment is nothing for a server: `h2` and nginx leave it out.
            let value = match memchr::memchr(b'#', value).filter(|_| at == PATH) {
                Some(0) => b"/",
                Some(end) => &value[..end],
                None => value,
            };
            if at == PATH && !is_usual_target(value) {
                self.is_odd = true;
                self.size += TARGET.len() + b"/".len() + FIELD;
            }
            self.pseudo[at] = Some(self.text.len()..self.text.len() + value.len());
            self.text.extend_from_slice(value);
            return None;
        }
        self.has_plain = true;
        if name.is_empty() || !name.iter().all(|byte| is_lower_token(*byte)) {
            return Some(Fault::Name);
        }
        if !value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
            return Some(Fault::Value);
        }
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return Some(Fault::OfConnection);
            }
            b"te" if value != b"trailers" => return Some(Fault::OfConnection),
            b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return None;
            }
            b"content-length" => {
                let digits = std::str::from_utf8(value)
                    .ok()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                // Longer ones are more than `h2` reads, and than anybody can send.
                let length =
                    digits.filter(|digits| digits.len() <= 19).and_then(|digits| digits.parse().ok());
                let Some(length) = length else { return Some(Fault::Length) };
                if self.length.replace(length).is_some_and(|other| other != length) {
                    return Some(Fault::Length);
                }
            }
            _ if [FAULT, LINE, TARGET].iter().any(|ours| ours.as_bytes() == name) => {
                self.is_reserved = true;
                return None;
            }
            _ => {}
        }
        hpack::write(&mut self.plain, name, value);
        None
    }

    fn pseudo(&self, at: usize) -> Option<&[u8]> {
        self.pseudo[at].as_ref().map(|range| &self.text[range.clone()])
    }

    /// Fault of the fields taken together (§8.3.1 and RFC 8441 §4).
    fn fault(&self, ends: bool) -> Option<Fault> {
        if self.fault.is_some() {
            return self.fault;
        }
        let [method, scheme, authority, path, protocol] =
            [METHOD, SCHEME, AUTHORITY, PATH, PROTOCOL].map(|at| self.pseudo(at));
        let is_tunnel = method == Some(b"CONNECT") && protocol.is_none();
        let is_whole = match (method, scheme, path) {
            (Some(_), None, None) => is_tunnel && authority.is_some(),
            (Some(_), Some(_), Some(path)) => !is_tunnel && !path.is_empty(),
            _ => false,
        };
        let is_token = |text: &[u8]| {
            !text.is_empty() && text.iter().all(|byte| is_lower_token(byte.to_ascii_lowercase()))
        };
        if !is_whole
            || !method.is_some_and(is_token)
            || protocol.is_some_and(|protocol| method != Some(b"CONNECT") || !is_token(protocol))
        {
            return Some(Fault::Pseudo);
        }
        if authority.is_some_and(|authority| Authority::read(authority).is_none()) {
            return Some(Fault::Authority);
        }
        let is_web =
            |scheme: &[u8]| scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"http");
        if !scheme.is_none_or(is_web) {
            return Some(Fault::Scheme);
        }
        if path.is_some_and(|path| path.iter().any(|byte| *byte <= b' ' || *byte == 0x7f)) {
            return Some(Fault::Target);
        }
        (ends && self.length.is_some_and(|length| length > 0)).then_some(Fault::Length)
    }

    /// The block of a request as `h2` gets it; `ends` when no body follows.
    fn request(mut self, ends: bool) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.text.len() + self.plain.len() + self.cookies.len() + 128);
        if let Some(fault) = self.fault(ends) {
            for (name, value) in [(":method", "GET"), (":scheme", "https"), (":path", "/")] {
                hpack::write(&mut block, name.as_bytes(), value.as_bytes());
            }
            hpack::write(&mut block, FAULT.as_bytes(), &[fault as u8]);
            hpack::write(&mut block, LINE.as_bytes(), &self.line());
            return block;
        }
        for (at, name) in PSEUDO.iter().enumerate() {
            match self.pseudo(at) {
                Some(_) if at == PATH && self.is_odd => hpack::write(&mut block, name, b"/"),
                Some(value) => hpack::write(&mut block, name, value),
                None => {}
            }
        }
        if let Some(path) = self.pseudo(PATH).filter(|_| self.is_odd) {
            hpack::write(&mut block, TARGET.as_bytes(), path);
        }
        block.append(&mut self.plain);
        if !self.cookies.is_empty() {
            hpack::write(&mut block, b"cookie", &self.cookies);
        }
        block
    }

    /// The block of a trailer; a malformed one is an error (§8.1).
    fn trailer(self) -> Vec<u8> {
        if self.fault.is_none() && self.pseudo.iter().all(Option::is_none) {
            return self.plain;
        }
        let mut block = Vec::new();
        // For this `h2` ends the stream with PROTOCOL_ERROR.
        hpack::write(&mut block, b"connection", b"close");
        block
    }

    /// The request line that HTTP/1.1 would have, in characters that a value may have.
    fn line(&self) -> Vec<u8> {
        // With it the block is smaller than the smallest list of fields that can be configured.
        const MOST: usize = 512;
        let [method, path] = [METHOD, PATH].map(|at| self.pseudo(at).unwrap_or(b"-"));
        let line = [method, b" ", path].concat();
        let mut shown = Vec::with_capacity(line.len() + 16);
        for byte in line {
            match byte {
                _ if shown.len() >= MOST => break,
                b' '..=b'~' | 0x80.. => shown.push(byte),
                control => shown.extend_from_slice(format!("%{control:02X}").as_bytes()),
            }
        }
        shown.extend_from_slice(b" HTTP/2.0");
        shown
    }
}

/// Characters of field names in HTTP/2 (§8.2.1): tokens without capitals.
fn is_lower_token(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Characters of nearly all targets, which `h2` takes as they are (RFC 3986 §3.3 and §3.4).
fn is_usual_target(path: &[u8]) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/?".contains(byte);
    path == b"*" || (path.first() == Some(&b'/') && path.iter().all(is_usual))
}

#[cfg(test)]
mod tests;
