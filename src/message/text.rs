//! Small texts that are made while a request is served.

use std::cell::RefCell;

use bytes::BytesMut;
use http::HeaderValue;

/// Size of the pieces of memory in which values are made side by side, so that they cost no allocation each.
const PIECE: usize = 8192;

/// The longest value that is made here.
const LONGEST: usize = 512;

thread_local! {
    static PAPER: RefCell<BytesMut> = RefCell::default();
}

/// A value as `write` writes it: visible ASCII, of which longer values than 512 bytes are made at their own cost.
pub(crate) fn value(write: impl FnOnce(&mut BytesMut)) -> HeaderValue {
    PAPER.with_borrow_mut(|paper| {
        if paper.capacity() < LONGEST {
            *paper = BytesMut::with_capacity(PIECE);
        }
        write(paper);
        let written = paper.split().freeze();
        HeaderValue::from_maybe_shared(written).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

/// Writes a number in decimal.
pub(crate) fn write_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 9, 10, 255, 65_535, u64::MAX] {
            let mut out = BytesMut::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string());
        }
    }

    #[test]
    fn values_stay_what_they_are() {
        let values: Vec<_> = (0..2000)
            .map(|number: usize| value(|out| out.put_slice(number.to_string().as_bytes())))
            .collect();
        assert!(values.iter().enumerate().all(|(number, value)| *value == *number.to_string()));
        assert_eq!(value(|out| out.put_slice(&[b'x'; 10_000])).len(), 10_000);
        assert_eq!(value(|out| out.put_slice(b"a\nb")), "unknown");
    }
}
