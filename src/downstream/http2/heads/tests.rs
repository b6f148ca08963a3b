//! Header blocks on their way to `h2`.

use super::*;

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| hpack::write(&mut block, name.as_bytes(), value.as_bytes()));
    block
}

fn head(kind: u8, flags: u8, payload: &[u8]) -> FrameHead {
    FrameHead { length: payload.len(), kind, flags, stream: 1 }
}

/// The fields that `h2` gets of a request with these.
fn handed_over(heads: &mut Heads, sent: &[(&str, &str)], piece: usize) -> Vec<(String, String)> {
    let (block, mut out) = (fields(sent), BytesMut::new());
    let mut parts = block.chunks(piece).peekable();
    let mut kind = HEADERS;
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { END_HEADERS } else { 0 } | END_STREAM;
        heads.take(head(kind, flags, part), part, &mut out).unwrap();
        kind = CONTINUATION;
    }
    let mut got = Vec::new();
    assert_eq!((out[3], out[4]), (HEADERS, END_HEADERS | END_STREAM));
    Decoder::new()
        .read(&out[9..], |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            got.push((text(name), text(value)));
            Ok::<_, hpack::MalformedBlock>(())
        })
        .unwrap();
    got
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/b?c")];

fn faulty(sent: &[(&str, &str)]) -> Option<Fault> {
    let got = handed_over(&mut Heads::new(1000), sent, 1000);
    got.iter().find(|(name, _)| name == FAULT).and_then(|(_, number)| Fault::of(number.as_bytes()))
}

#[test]
fn a_request_stays_what_it_is_and_cookies_are_joined() {
    for piece in [1, 3, 1000] {
        let sent = [&GET[..], &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), (FAULT, "0")]].concat();
        let got = handed_over(&mut Heads::new(1000), &sent, piece);
        let expected = [&GET[..], &[("x", "y"), ("cookie", "a=1; b=2")]].concat();
        assert!(got.iter().map(|(name, value)| (&**name, &**value)).eq(expected), "{piece}: {got:?}");
    }
    let odd = [&GET[..3], &[(":path", "/a?{\"b\":1}<é>")]].concat();
    let got = handed_over(&mut Heads::new(1000), &odd, 1000);
    assert!(got.contains(&(":path".into(), "/".into())), "{got:?}");
    assert!(got.contains(&(TARGET.into(), "/a?{\"b\":1}<é>".into())), "{got:?}");
}

#[test]
fn what_is_wrong_is_told() {
    assert_eq!(faulty(&GET), None);
    for (more, fault) in [
        (("X", "y"), Fault::Name),
        (("x y", "z"), Fault::Name),
        (("x", "a\0b"), Fault::Value),
        (("x", "a\r\nb: c"), Fault::Value),
        (("connection", "close"), Fault::OfConnection),
        (("te", "gzip"), Fault::OfConnection),
        ((":status", "200"), Fault::Pseudo),
        ((":path", "/c"), Fault::Pseudo),
        ((":protocol", "websocket"), Fault::Pseudo),
        (("content-length", "x"), Fault::Length),
        (("content-length", "5"), Fault::Length),
    ] {
        assert_eq!(faulty(&[&GET[..], &[more]].concat()), Some(fault), "{more:?}");
    }
    for (place, pair, fault) in [
        (0, (":method", "G T"), Fault::Pseudo),
        (1, (":scheme", "ftp"), Fault::Scheme),
        (2, (":authority", "u@a"), Fault::Authority),
        (3, (":path", ""), Fault::Pseudo),
        (3, (":path", "/a b"), Fault::Target),
        (3, (":path", "/\u{1}"), Fault::Target),
    ] {
        let mut sent = GET;
        sent[place] = pair;
        assert_eq!(faulty(&sent), Some(fault), "{pair:?}");
    }
    assert_eq!(faulty(&[("x", "y"), GET[0], GET[1], GET[3]]), Some(Fault::Pseudo));
    let long = "x".repeat(1000);
    assert_eq!(faulty(&[&GET[..], &[("x", &long)]].concat()), Some(Fault::TooLarge));
    assert!(Fault::ALL.into_iter().all(|fault| Fault::of(&[fault as u8]) == Some(fault)));
}

#[test]
fn a_trailer_has_no_pseudo_header_fields() {
    let mut heads = Heads::new(1000);
    handed_over(&mut heads, &GET, 1000);
    for (sent, goes_on) in [(("x", "y"), true), ((":path", "/"), false), (("X", "y"), false)] {
        let got = handed_over(&mut heads, &[sent], 1000);
        let is_malformed = got.iter().any(|(name, _)| name == "connection");
        assert_eq!(is_malformed, !goes_on, "{sent:?}: {got:?}");
    }
}

/// The client's table and that of `h2` are the same until the first block that does not go on as it came.
#[test]
fn blocks_go_on_as_they_came_until_one_cannot() {
    let mut heads = Heads::new(100_000);
    let mut take = |stream, block: &[u8]| {
        let frame = FrameHead { length: block.len(), kind: HEADERS, flags: END_HEADERS | END_STREAM, stream };
        let mut out = BytesMut::new();
        heads.take(frame, block, &mut out).unwrap();
        out[9..].to_vec()
    };
    // `x-a: 1`, from now on field 62 of the table, and then that field (RFC 7541 §6.2.1 and §6.1).
    let first = [&fields(&GET)[..], b"\x40\x03x-a\x011"].concat();
    let again = [&fields(&GET)[..], b"\xbe"].concat();
    assert_eq!(take(1, &first), first);
    assert_eq!(take(3, &again), again);
    let large = fields(&[&GET[..], &[("x-b", &*"b".repeat(5_000))]].concat());
    assert_eq!(take(5, &large), large, "in plain fields it is the same");
    assert_eq!(take(7, &again), fields(&[&GET[..], &[("x-a", "1")]].concat()));
}

/// A byte may stand for a field of thousands, and a name may come in very many frames.
#[test]
fn a_block_costs_no_more_than_its_length() {
    let (mut heads, mut out) = (Heads::new(1000), BytesMut::new());
    let long = fields(&[("x", &"y".repeat(4000))]);
    // As one that is to be remembered, which it is as number 62.
    let bomb = [&[0x40], &long[1..], &[0xbe; 60_000]].concat();
    let bombed = heads.take(head(HEADERS, END_HEADERS, &bomb), &bomb, &mut out);
    assert_eq!(bombed, Err(Reason::ENHANCE_YOUR_CALM));

    let (mut heads, mut block) =
        (Heads::new(1 << 20), fields(&[(&"\0".repeat(200_000), &"y".repeat(200_000))]));
    // In the Huffman code, which takes longer than copying: zeros.
    block[1] |= 0x80;
    let began = std::time::Instant::now();
    heads.take(head(HEADERS, 0, b""), b"", &mut out).unwrap();
    for byte in &block {
        heads.take(head(CONTINUATION, 0, &[*byte]), &[*byte], &mut out).unwrap();
    }
    heads.take(head(CONTINUATION, END_HEADERS, b""), b"", &mut out).unwrap();
    assert!(began.elapsed().as_secs() < 60, "the name is decoded anew for each frame");
}

#[test]
fn a_target_that_is_handed_over_apart_counts_as_it_is_handed_over() {
    let size = |fields: &[(&str, &str)]| {
        fields.iter().map(|(name, value)| name.len() + value.len() + FIELD).sum::<usize>()
    };
    for length in 800..1000 {
        let path = format!("/{}", "{".repeat(length));
        let sent = [&GET[..3], &[(":path", &*path)]].concat();
        let got = handed_over(&mut Heads::new(1000), &sent, 1000);
        let got: Vec<_> = got.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert!(size(&got) < 1000, "{length}");
    }
}

#[test]
fn an_endless_block_ends_the_connection() {
    let mut heads = Heads::new(1000);
    let (block, mut out) = (fields(&[("x", "y")]), BytesMut::new());
    heads.take(head(HEADERS, 0, &block), &block, &mut out).unwrap();
    let end = (0..1000).find_map(|_| heads.take(head(CONTINUATION, 0, &block), &block, &mut out).err());
    assert_eq!((end, out.len()), (Some(Reason::ENHANCE_YOUR_CALM), 0));
}
