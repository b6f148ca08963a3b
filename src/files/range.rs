//! `Range: bytes=…` (RFC 9110 §14): which part of a representation is wanted.

use http::HeaderValue;

/// The part of a representation that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// All of it: there was no range, or one to be ignored.
    Whole,
    /// These bytes.
    Part {
        /// The first byte.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Nothing of what was asked for is there: 416.
    Unsatisfiable,
}

impl Range {
    /// Reads a `Range` value for a representation of `size` bytes.
    ///
    /// Other units, malformed values and lists of ranges are ignored (RFC 9110 §14.2 allows that): the client
    /// gets everything.
    pub fn parse(value: Option<&HeaderValue>, size: u64) -> Self {
        let Some(range) = value.and_then(|value| value.to_str().ok()).and_then(split) else {
            return Self::Whole;
        };
        match range {
            (Some(first), _) if first >= size => Self::Unsatisfiable,
            (Some(first), Some(last)) if last < first => Self::Whole,
            (Some(start), last) => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                Self::Part { start, length: end - start }
            }
            (None, Some(0)) => Self::Unsatisfiable,
            (None, Some(_)) if size == 0 => Self::Unsatisfiable,
            (None, Some(suffix)) => {
                let length = suffix.min(size);
                Self::Part { start: size - length, length }
            }
            (None, None) => Self::Whole,
        }
    }
}

/// `bytes=first-last`, either side of which may be missing.
fn split(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    Some((position(first)?, position(last)?))
}

/// Digits, or nothing. A number too large for us is larger than any file.
fn position(digits: &str) -> Option<Option<u64>> {
    if digits.is_empty() {
        return Some(None);
    }
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(value: &str, size: u64) -> Range {
        Range::parse(Some(&HeaderValue::from_str(value).unwrap()), size)
    }

    fn part(start: u64, length: u64) -> Range {
        Range::Part { start, length }
    }

    #[test]
    fn parts() {
        assert_eq!(range("bytes=0-99", 1000), part(0, 100));
        assert_eq!(range("bytes=500-", 1000), part(500, 500));
        assert_eq!(range("bytes=-10", 1000), part(990, 10));
        assert_eq!(range("bytes=-2000", 1000), part(0, 1000));
        assert_eq!(range("bytes=990-2000", 1000), part(990, 10));
        assert_eq!(range("Bytes=0-0", 1), part(0, 1));
        assert_eq!(range("bytes=0-18446744073709551615", 10), part(0, 10));
        assert_eq!(range("bytes=0-99999999999999999999999", 10), part(0, 10));
    }

    #[test]
    fn beyond_the_end() {
        for (value, size) in [("bytes=1000-", 1000), ("bytes=-0", 1000), ("bytes=0-", 0), ("bytes=-5", 0)] {
            assert_eq!(range(value, size), Range::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn what_is_no_range_is_ignored() {
        for value in
            ["bytes=", "bytes=-", "bytes=a-b", "bytes=5-1", "bytes=0-1,3-4", "lines=0-1", "0-1", "bytes=+1-2"]
        {
            assert_eq!(range(value, 1000), Range::Whole, "{value}");
        }
        assert_eq!(Range::parse(None, 10), Range::Whole);
    }
}
