//! Header blocks (HPACK, RFC 7541), decoded to bytes without an opinion on what they are.

use std::collections::VecDeque;

use crate::downstream::http2::huffman;

/// Most bytes of the table of fields, as long as no setting says otherwise (RFC 9113 §6.5.2).
const MOST_TABLE: usize = 4096;

/// Bytes that each entry of the table counts beside its name and value (§4.1).
const ENTRY: usize = 32;

/// Room that a decoder keeps for the next text.
const KEPT: usize = 256;

/// A block that cannot be decoded, nor any after it: COMPRESSION_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedBlock;

/// Decodes the blocks of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: DynamicTable,
    /// The table may be given a size: only before the first field of a block (§4.2).
    at_start: bool,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Fields that later ones can name by their number, the newest first.
#[derive(Debug)]
struct DynamicTable {
    /// Name and value one after the other, and where the value begins.
    entries: VecDeque<(Box<[u8]>, usize)>,
    size: usize,
    most: usize,
}

/// Why nothing could be read.
enum Stop {
    /// More is needed.
    Short,
    Malformed,
}

impl From<MalformedBlock> for Stop {
    fn from(_: MalformedBlock) -> Self {
        Self::Malformed
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        let table = DynamicTable { entries: VecDeque::new(), size: 0, most: MOST_TABLE };
        Self { table, at_start: true, name: Vec::new(), value: Vec::new() }
    }

    /// Hands out the fields at the start of `block` that have come whole; the bytes that they take.
    ///
    /// # Errors
    ///
    /// A block that cannot be decoded, or the error with which `take` refuses a field. Nothing more is decoded then: one
    /// byte of a block may stand for a field of thousands.
    pub(crate) fn read<E: From<MalformedBlock>>(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut read = 0;
        loop {
            let mut rest = &block[read..];
            if rest.is_empty() {
                return Ok(read);
            }
            match self.field(&mut rest) {
                Ok(true) => take(&self.name, &self.value)?,
                Ok(false) => {}
                Err(Stop::Short) => return Ok(read),
                Err(Stop::Malformed) => return Err(MalformedBlock.into()),
            }
            read = block.len() - rest.len();
        }
    }

    /// A block has ended. What was needed for it is given back.
    pub(crate) fn end(&mut self) {
        self.at_start = true;
        for text in [&mut self.name, &mut self.value] {
            text.clear();
            text.shrink_to(KEPT);
        }
    }

    /// Reads a field; false for a change of the table's size (§6.3).
    fn field(&mut self, rest: &mut &[u8]) -> Result<bool, Stop> {
        let first = *rest.first().ok_or(Stop::Short)?;
        let is_indexed = matches!(first, 0x40..=0x7f);
        match first {
            // Both are in the table (§6.1).
            0x80.. => {
                let index = integer(rest, 7)?;
                self.named(index, true)?;
                self.at_start = false;
                return Ok(true);
            }
            0x20..=0x3f => {
                let size = integer(rest, 5)?;
                if !self.at_start || size > MOST_TABLE {
                    return Err(Stop::Malformed);
                }
                self.table.most = size;
                self.table.make_room(0);
                return Ok(false);
            }
            // The value, and perhaps the name, are not (§6.2).
            _ => match integer(rest, if is_indexed { 6 } else { 4 })? {
                0 => string(rest, &mut self.name)?,
                index => self.named(index, false)?,
            },
        }
        string(rest, &mut self.value)?;
        self.at_start = false;
        if is_indexed {
            self.table.add(&self.name, &self.value);
        }
        Ok(true)
    }

    /// Takes the name, and the value too if that is wanted, from the tables.
    fn named(&mut self, index: usize, with_value: bool) -> Result<(), MalformedBlock> {
        let (name, value) = match index.checked_sub(1).ok_or(MalformedBlock)? {
            index if index < STATIC.len() => {
                let (name, value) = STATIC[index];
                (name.as_bytes(), value.as_bytes())
            }
            index => {
                let (text, value) = self.table.entries.get(index - STATIC.len()).ok_or(MalformedBlock)?;
                text.split_at(*value)
            }
        };
        self.name.clear();
        self.name.extend_from_slice(name);
        if with_value {
            self.value.clear();
            self.value.extend_from_slice(value);
        }
        Ok(())
    }
}

impl DynamicTable {
    /// Adds a field, for which old ones may have to go; one that is too large empties the table (§4.4).
    fn add(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY;
        self.make_room(size);
        if size <= self.most {
            self.entries.push_front(([name, value].concat().into(), name.len()));
            self.size += size;
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.most {
            let Some((text, _)) = self.entries.pop_back() else { return };
            self.size -= text.len() + ENTRY;
        }
    }
}

/// An integer whose first bits are in the low ones of the first byte (§5.1); no larger than any text may be.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Stop> {
    const MOST: usize = 1 << 24;
    let (first, mut tail) = rest.split_first().ok_or(Stop::Short)?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, after) = tail.split_first().ok_or(Stop::Short)?;
            tail = after;
            value += usize::from(byte & 0x7f) << shift;
            if value > MOST || shift > 28 {
                return Err(Stop::Malformed);
            }
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
    }
    *rest = tail;
    Ok(value)
}

/// A text, as it is or in the Huffman code (§5.2).
fn string(rest: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Stop> {
    let is_huffman = rest.first().ok_or(Stop::Short)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (coded, tail) = rest.split_at_checked(length).ok_or(Stop::Short)?;
    text.clear();
    if is_huffman {
        huffman::decode(coded, text)?;
    } else {
        text.extend_from_slice(coded);
    }
    *rest = tail;
    Ok(())
}

/// Adds a field that nobody is to remember, its texts as they are (§6.2.2).
pub(crate) fn write(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        match text.len() {
            short @ ..0x7f => block.push(short as u8),
            long => {
                block.push(0x7f);
                let mut rest = long - 0x7f;
                while rest >= 0x80 {
                    block.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                block.push(rest as u8);
            }
        }
        block.extend_from_slice(text);
    }
}

/// The fields of a block that is the first of its connection; `None` for what is no block, or has no end.
#[cfg(any(fuzzing, test))]
pub(crate) fn fields(block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut fields = Vec::new();
    let read = Decoder::new().read(block, |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
        Ok::<_, MalformedBlock>(())
    });
    (read == Ok(block.len())).then_some(fields)
}

/// The fields that every connection knows (Appendix A).
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = Vec<(String, String)>;

    /// A block, and the fields in it.
    type Example = (&'static [u8], &'static [(&'static str, &'static str)]);

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<(Fields, usize), MalformedBlock> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let taken = decoder.read(block, |name, value| {
            fields.push((text(name), text(value)));
            Ok::<_, MalformedBlock>(())
        })?;
        Ok((fields, taken))
    }

    fn pairs(fields: &[(&str, &str)]) -> Fields {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn requests_of_the_specification_are_read() {
        // RFC 7541 Appendix C.4.
        let mut decoder = Decoder::new();
        let blocks: [Example; 3] = [
            (
                b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
            ),
            (
                b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
                &[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/"),
                    (":authority", "www.example.com"),
                    ("cache-control", "no-cache"),
                ],
            ),
            (
                b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
                &[
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":path", "/index.html"),
                    (":authority", "www.example.com"),
                    ("custom-key", "custom-value"),
                ],
            ),
        ];
        for (block, fields) in blocks {
            // Each beginning gives the fields that are whole, and the rest follows.
            let (mut got, mut taken) = (Vec::new(), 0);
            for end in 0..=block.len() {
                let (more, read) = read(&mut decoder, &block[taken..end]).unwrap();
                got.extend(more);
                taken += read;
            }
            decoder.end();
            assert_eq!((got, taken), (pairs(fields), block.len()));
        }
        assert_eq!((decoder.table.entries.len(), decoder.table.size), (3, 164));
    }

    #[test]
    fn the_table_has_a_size() {
        let mut decoder = Decoder::new();
        for number in 0..1000 {
            let mut block = vec![0x40];
            write(&mut block, format!("x-{number}").as_bytes(), b"y");
            block.remove(1);
            read(&mut decoder, &block).unwrap();
            assert!(decoder.table.size <= MOST_TABLE);
        }
        assert!(decoder.table.entries.len() > 50);
        decoder.end();
        assert_eq!(read(&mut decoder, b"\x20\x82").unwrap().0, pairs(&[(":method", "GET")]));
        assert_eq!(decoder.table.entries.len(), 0);
        // Past the first field, and too large.
        assert!(read(&mut decoder, b"\x20").is_err());
        decoder.end();
        assert!(read(&mut decoder, b"\x3f\xe2\x1f").is_err());
        decoder.end();
        assert!(read(&mut decoder, b"\x3f\xe1\x1f").is_ok());
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for block in [&b"\x80"[..], b"\xbe", b"\x7e\x00", b"\x00\x81\x18\x00", b"\xff\xff\xff\xff\xff\x7f"] {
            assert_eq!(read(&mut Decoder::new(), block), Err(MalformedBlock), "{block:x?}");
        }
    }

    /// A field, and how it is to be written.
    #[derive(Debug, Clone)]
    struct Sent {
        name: Vec<u8>,
        value: Vec<u8>,
        /// To be remembered, or named by its number where one has it.
        by_number: bool,
        /// First byte of one that is written out.
        kind: u8,
        is_huffman: bool,
    }

    fn sent() -> impl proptest::strategy::Strategy<Value = Sent> {
        use proptest::{collection::vec, prelude::*, sample::select};
        let usual = select(&STATIC[..]).prop_map(|(name, value)| (name.into(), value.into()));
        let few = (select(vec!["a", "x-b", "cookie"]), select(vec!["", "1", "a longer value; with parts"]));
        let few = few.prop_map(|(name, value)| (name.into(), value.into()));
        let field = prop_oneof![usual, few, (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..1500))];
        (field, any::<bool>(), select(vec![0_u8, 0x10, 0x40]), any::<bool>()).prop_map(
            |((name, value), by_number, kind, is_huffman)| Sent { name, value, by_number, kind, is_huffman },
        )
    }

    /// Writes blocks as RFC 7541 has it, as plainly as possible.
    struct Encoder {
        table: Vec<(Vec<u8>, Vec<u8>)>,
        most: usize,
    }

    impl Encoder {
        fn block(&mut self, fields: &[Sent], size: Option<usize>) -> Vec<u8> {
            let mut block = Vec::new();
            if let Some(size) = size {
                Self::integer(&mut block, 0x20, 5, size);
                self.most = size;
                self.shrink();
            }
            for field in fields {
                let known = STATIC.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
                let mut known = known.chain(self.table.iter().map(|(name, value)| (&name[..], &value[..])));
                let whole = known.clone().position(|known| known == (&field.name, &field.value));
                let name = known.position(|(name, _)| name == field.name);
                if let Some(whole) = whole.filter(|_| field.by_number) {
                    Self::integer(&mut block, 0x80, 7, whole + 1);
                    continue;
                }
                let number = name.filter(|_| field.by_number).map_or(0, |name| name + 1);
                Self::integer(&mut block, field.kind, if field.kind == 0x40 { 6 } else { 4 }, number);
                if number == 0 {
                    Self::text(&mut block, &field.name, field.is_huffman);
                }
                Self::text(&mut block, &field.value, field.is_huffman);
                if field.kind == 0x40 {
                    self.table.insert(0, (field.name.clone(), field.value.clone()));
                    self.shrink();
                }
            }
            block
        }

        fn size(table: &[(Vec<u8>, Vec<u8>)]) -> usize {
            table.iter().map(|(name, value)| name.len() + value.len() + ENTRY).sum()
        }

        fn shrink(&mut self) {
            while Self::size(&self.table) > self.most {
                self.table.pop();
            }
        }

        fn integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
            let most = (1 << bits) - 1;
            block.push(first | value.min(most) as u8);
            let mut rest = value.checked_sub(most);
            while let Some(left) = rest {
                rest = (left >= 128).then_some(left / 128);
                block.push((left % 128) as u8 | if rest.is_some() { 0x80 } else { 0 });
            }
        }

        fn text(block: &mut Vec<u8>, text: &[u8], is_huffman: bool) {
            let coded = if is_huffman { huffman::encoded(text) } else { text.to_vec() };
            Self::integer(block, if is_huffman { 0x80 } else { 0 }, 7, coded.len());
            block.extend(coded);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(name: Vec<u8>, value in proptest::collection::vec(0_u8.., 0..400)) {
            let mut block = Vec::new();
            write(&mut block, &name, &value);
            proptest::prop_assert_eq!(fields(&block), Some(vec![(name, value)]));
        }

        /// Blocks of one connection, in whatever way an encoder may write their fields.
        #[test]
        fn what_an_encoder_writes_is_read(
            blocks in proptest::collection::vec(proptest::collection::vec(sent(), 0..8), 0..8),
            sizes in proptest::collection::vec(proptest::option::of(0_usize..=MOST_TABLE), 8),
            cut in 1_usize..40,
        ) {
            let (mut encoder, mut decoder) = (Encoder { table: Vec::new(), most: MOST_TABLE }, Decoder::new());
            for (sent, size) in blocks.iter().zip(&sizes) {
                let block = encoder.block(sent, *size);
                let (mut got, mut taken) = (Vec::new(), 0);
                for end in (0..block.len()).step_by(cut).chain([block.len()]) {
                    taken += decoder.read(&block[taken..end.max(taken)], |name, value| {
                        got.push((name.to_vec(), value.to_vec()));
                        Ok::<_, MalformedBlock>(())
                    }).unwrap();
                }
                decoder.end();
                proptest::prop_assert_eq!(taken, block.len());
                let sent: Vec<_> = sent.iter().map(|sent| (sent.name.clone(), sent.value.clone())).collect();
                proptest::prop_assert_eq!(got, sent);
                proptest::prop_assert_eq!(decoder.table.size, Encoder::size(&encoder.table));
            }
        }

        #[test]
        fn nothing_makes_it_stumble(block: Vec<u8>) {
            let _ = Decoder::new().read(&block, |_, _| Ok::<_, MalformedBlock>(()));
        }
    }
}
