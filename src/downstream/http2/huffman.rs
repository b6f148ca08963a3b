//! The Huffman code of HPACK (RFC 7541 §5.2 and Appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and those of the next
//! length follow them. The lengths are all that has to be known.

use crate::downstream::http2::hpack::MalformedBlock;

/// The length of each symbol's code in bits: 256 bytes and the end of the text, which no text holds.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const LONGEST: usize = 30;

/// Codes of up to so many bits are looked up at once: those of nearly all that heads are made of.
const SHORT: usize = 8;

struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: its first code, how many there are, and where their symbols begin.
    lengths: [(u32, u32, usize); LONGEST + 1],
    /// Symbol and length by the first bits; length 0 where the code is longer.
    short: [(u16, u8); 1 << SHORT],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let mut code =
            Self { symbols: [0; SYMBOLS], lengths: [(0, 0, 0); LONGEST + 1], short: [(0, 0); 1 << SHORT] };
        let (mut next, mut place, mut length) = (0_u32, 0, 1);
        while length <= LONGEST {
            next <<= 1;
            let (first, start) = (next, place);
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[place] = symbol as u16;
                    let mut bits = 0;
                    while length <= SHORT && bits < 1 << (SHORT - length) {
                        code.short[(next as usize) << (SHORT - length) | bits] =
                            (symbol as u16, length as u8);
                        bits += 1;
                    }
                    place += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.lengths[length] = (first, next - first, start);
            length += 1;
        }
        code
    }

    /// The symbol that these bits begin with, and the length of its code.
    fn look(&self, bits: u32) -> (u16, u32) {
        let (symbol, length) = self.short[(bits >> (32 - SHORT)) as usize];
        if length > 0 {
            return (symbol, length.into());
        }
        for length in SHORT + 1..=LONGEST {
            let (first, count, start) = self.lengths[length];
            let at = (bits >> (32 - length)).wrapping_sub(first);
            if at < count {
                return (self.symbols[start + at as usize], length as u32);
            }
        }
        (END, LONGEST as u32)
    }
}

/// Adds what `coded` means to `text`.
///
/// # Errors
///
/// A code that is not whole, the code of the end, or padding that is not a part of that code and less than a byte.
pub(crate) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), MalformedBlock> {
    let (mut bits, mut have) = (0_u64, 0_u32);
    let mut rest = coded.iter();
    loop {
        while have <= 56 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            have += 8;
        }
        if have == 0 {
            return Ok(());
        }
        // What is not there counts as ones, of which padding is made.
        let window = match 32_u32.checked_sub(have) {
            None | Some(0) => (bits >> (have - 32)) as u32,
            Some(missing) => ((bits << missing) as u32) | (u32::MAX >> have),
        };
        let (symbol, length) = CODE.look(window);
        if length > have {
            return if have < 8 && window == u32::MAX { Ok(()) } else { Err(MalformedBlock) };
        }
        if symbol == END {
            return Err(MalformedBlock);
        }
        text.push(symbol as u8);
        have -= length;
    }
}

/// `text` in the code.
#[cfg(test)]
pub(crate) fn encoded(text: &[u8]) -> Vec<u8> {
    let mut bits = String::new();
    for byte in text {
        let place = CODE.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
        let length = LENGTHS[usize::from(*byte)] as usize;
        let (first, _, start) = CODE.lengths[length];
        let code = first as usize + place - start;
        bits += &format!("{code:0length$b}");
    }
    while !bits.len().is_multiple_of(8) {
        bits.push('1');
    }
    let byte = |bits: &[u8]| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap();
    bits.as_bytes().chunks(8).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<String> {
        let mut text = Vec::new();
        decode(coded, &mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn texts_of_the_specification_are_read() {
        // RFC 7541 Appendix C.4 and C.6.
        for (coded, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\xae\xc3\x77\x1a\x4b", "private"),
            (
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
                "https://www.example.com",
            ),
            (b"", ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text));
        }
    }

    #[test]
    fn all_symbols_are_read_and_bad_ends_are_not() {
        let mut symbols: Vec<u16> = CODE.symbols.to_vec();
        symbols.sort_unstable();
        assert!(symbols.iter().copied().eq(0..=END));
        for (length, (first, count, start)) in CODE.lengths.iter().enumerate().skip(1) {
            for at in 0..*count {
                let (symbol, found) = CODE.look((first + at) << (32 - length));
                assert_eq!((symbol, found as usize), (CODE.symbols[start + at as usize], length));
            }
        }
        // `a` is 00011: padding of zeros, of a whole byte, and the end itself.
        assert_eq!(decoded(b"\x1f").as_deref(), Some("a"));
        for coded in [&b"\x18"[..], b"\x1f\xff", b"\xff\xff\xff\xff", b"\xff"] {
            assert_eq!(decoded(coded), None, "{coded:?}");
        }
    }
}
