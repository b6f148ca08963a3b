//! Range requests: `Range: bytes=…` (RFC 9110 §14).

/// Most ranges that get a multipart response; genome browsers ask for a few dozen.
const MOST: usize = 100;

/// Ranges with a smaller gap than this are merged: the head of a part is longer.
const NEAR: u64 = 80;

/// Parts of a representation to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// The whole: there was no range, or one to be ignored.
    Whole,
    /// Requested bytes: at least one span, without overlaps, in the requested order.
    Parts(Vec<ByteSpan>),
    /// No requested byte exists: 416.
    Unsatisfiable,
}

/// A span of at least one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSpan {
    /// Offset of the first byte.
    pub start: u64,
    /// Number of bytes.
    pub length: u64,
}

impl ByteSpan {
    /// Offset after the last byte.
    pub fn end(self) -> u64 {
        self.start + self.length
    }
}

impl Range {
    /// Parses a `Range` value for a representation of `size` bytes.
    ///
    /// Other units, malformed values and lists that are too long are ignored, as RFC 9110 §14.2 allows: the client
    /// gets the whole. An empty representation is sent as a whole too, because clients that request a range of every
    /// file take an empty one for complete, and 416 for an error. In a list, ranges beyond the end are left out;
    /// ranges that overlap or nearly touch are merged, so that the parts never exceed the whole.
    pub fn parse(value: Option<&str>, size: u64) -> Self {
        match value.and_then(|value| spans(value, size)) {
            None => Self::Whole,
            Some(_) if size == 0 => Self::Whole,
            Some(spans) if spans.is_empty() => Self::Unsatisfiable,
            Some(spans) => Self::Parts(coalesce(spans)),
        }
    }
}

/// Satisfiable spans of a list; `None` if it is not a list of byte ranges.
fn spans(value: &str, size: u64) -> Option<Vec<ByteSpan>> {
    let (unit, list) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut spans = Vec::new();
    // Empty list elements are ignored (RFC 9110 §5.6.1.2).
    for (number, range) in list.split(',').map(str::trim).filter(|range| !range.is_empty()).enumerate() {
        if number == MOST {
            return None;
        }
        spans.extend(span(range, size)?);
    }
    // A list of nothing but commas is malformed.
    list.contains(|c: char| c != ',' && !c.is_whitespace()).then_some(spans)
}

/// Parses `first-last`, `first-` or `-length`; `Some(None)` if it is beyond the end, `None` if it is malformed.
fn span(range: &str, size: u64) -> Option<Option<ByteSpan>> {
    let (first, last) = range.split_once('-')?;
    let (start, end) = match (position(first)?, position(last)?) {
        (None, None) => return None,
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), last) => (first, last.map_or(size, |last| last.saturating_add(1).min(size))),
        (None, Some(suffix)) => (size.saturating_sub(suffix), size),
    };
    Some((start < end).then(|| ByteSpan { start, length: end - start }))
}

/// Parses digits, or nothing. A number that overflows is larger than any file.
fn position(digits: &str) -> Option<Option<u64>> {
    if digits.is_empty() {
        return Some(None);
    }
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(digits.parse().unwrap_or(u64::MAX)))
}

/// Merges spans that overlap or are near, at the place of the one requested first.
fn coalesce(spans: Vec<ByteSpan>) -> Vec<ByteSpan> {
    let mut apart: Vec<ByteSpan> = Vec::with_capacity(spans.len());
    for span in spans {
        let mut merged = span;
        let mut place = None;
        // A merged span may join several of those before it.
        while let Some(near) = apart.iter().position(|other| is_near(*other, merged)) {
            let other = apart.remove(near);
            place = Some(place.map_or(near, |place: usize| place.min(near)));
            let start = merged.start.min(other.start);
            merged = ByteSpan { start, length: merged.end().max(other.end()) - start };
        }
        apart.insert(place.unwrap_or(apart.len()), merged);
    }
    apart
}

fn is_near(a: ByteSpan, b: ByteSpan) -> bool {
    a.start <= b.end().saturating_add(NEAR) && b.start <= a.end().saturating_add(NEAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(value: &str, size: u64) -> Range {
        Range::parse(Some(value), size)
    }

    fn parts(parts: &[(u64, u64)]) -> Range {
        Range::Parts(parts.iter().map(|&(start, length)| ByteSpan { start, length }).collect())
    }

    #[test]
    fn one_part() {
        assert_eq!(range("bytes=0-99", 1000), parts(&[(0, 100)]));
        assert_eq!(range("bytes=500-", 1000), parts(&[(500, 500)]));
        assert_eq!(range("bytes=-10", 1000), parts(&[(990, 10)]));
        assert_eq!(range("bytes=-2000", 1000), parts(&[(0, 1000)]));
        assert_eq!(range("bytes=990-2000", 1000), parts(&[(990, 10)]));
        assert_eq!(range("Bytes=0-0", 1), parts(&[(0, 1)]));
        assert_eq!(range("bytes=0-18446744073709551615", 10), parts(&[(0, 10)]));
        assert_eq!(range("bytes=0-99999999999999999999999", 10), parts(&[(0, 10)]));
        assert_eq!(range("bytes=, 1-2 ,", 10), parts(&[(1, 2)]));
    }

    #[test]
    fn several_parts_keep_their_order() {
        assert_eq!(range("bytes=500-509, 0-9,-10", 1000), parts(&[(500, 10), (0, 10), (990, 10)]));
        assert_eq!(range("bytes=0-9,2000-3000", 1000), parts(&[(0, 10)]), "what is not there is left out");
    }

    #[test]
    fn what_overlaps_or_is_near_is_one() {
        assert_eq!(range("bytes=0-1,4-5", 1000), parts(&[(0, 6)]));
        assert_eq!(range("bytes=500-599,0-9,550-700", 1000), parts(&[(500, 201), (0, 10)]));
        assert_eq!(range("bytes=0-9,150-209,80-119", 1000), parts(&[(0, 210)]));
        assert_eq!(range(&format!("bytes={}", ["0-999"; 100].join(",")), 1000), parts(&[(0, 1000)]));
    }

    #[test]
    fn beyond_the_end() {
        for (value, size) in [("bytes=1000-", 1000), ("bytes=-0", 1000), ("bytes=7-,8-", 5)] {
            assert_eq!(range(value, size), Range::Unsatisfiable, "{value}");
        }
        for value in ["bytes=0-", "bytes=-5"] {
            assert_eq!(range(value, 0), Range::Whole, "{value} of nothing");
        }
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        for value in [
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-1",
            "bytes=0-1,x",
            "lines=0-1",
            "0-1",
            "bytes=+1-2",
            "bytes=,",
        ] {
            assert_eq!(range(value, 1000), Range::Whole, "{value}");
        }
        assert_eq!(Range::parse(None, 10), Range::Whole);
        assert_eq!(range(&format!("bytes={}", ["0-0"; 101].join(",")), 1000), Range::Whole, "too many");
    }

    proptest! {
        #[test]
        fn parts_are_apart_within_and_all_that_was_asked_for(
            asked in prop::collection::vec((0..5_000_u64, 0..5_000_u64), 1..40), size in 0..5_000_u64,
        ) {
            let list: Vec<_> = asked.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let wanted = |byte: u64| asked.iter().any(|(first, more)| (*first..=first + more).contains(&byte));
            match range(&format!("bytes={}", list.join(",")), size) {
                Range::Whole => prop_assert_eq!(size, 0, "well-formed"),
                Range::Unsatisfiable => prop_assert!(!(0..size).any(wanted)),
                Range::Parts(parts) => {
                    prop_assert!(parts.iter().map(|span| span.length).sum::<u64>() <= size);
                    let sent = |byte: u64| parts.iter().filter(|span| (span.start..span.end()).contains(&byte)).count();
                    prop_assert!((0..size).all(|byte| sent(byte) <= 1 && (sent(byte) == 1 || !wanted(byte))));
                }
            }
        }

        #[test]
        fn no_text_is_too_much(text in "[ -~]{0,200}", size: u64) {
            let _ = range(&text, size);
        }
    }
}
