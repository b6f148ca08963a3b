//! Frames of WebSockets (RFC 6455 §5.2), as far as a proxy must know them: where one ends, and how to say goodbye.

/// Longest head of a frame.
const HEAD: usize = 14;

/// Place in the frames of one direction.
#[derive(Debug, Default)]
pub(crate) struct FramePosition {
    /// Bytes of the head of the frame that have come.
    head: [u8; HEAD],
    head_length: usize,
    /// Bytes of its payload that are still to come.
    payload_left: u64,
    /// A Close frame has begun: no other follows.
    is_closed: bool,
}

impl FramePosition {
    /// Goes on by these bytes.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = &bytes[self.pass_frame(bytes)..];
        }
    }

    /// Goes on to the end of the frame, or by all of these bytes if they do not reach it. Returns by how many.
    pub(crate) fn pass_frame(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            if self.payload_left > 0 {
                let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
                let taken = left.min(bytes.len() - passed);
                self.payload_left -= taken as u64;
                passed += taken;
            } else {
                self.pass_head(bytes[passed]);
                passed += 1;
            }
            if self.is_between_frames() {
                break;
            }
        }
        passed
    }

    fn pass_head(&mut self, byte: u8) {
        self.head[self.head_length] = byte;
        self.head_length += 1;
        if let Some(length) = payload_length(&self.head[..self.head_length]) {
            self.is_closed |= self.head[0] & 0x0f == OPCODE_CLOSE;
            (self.head_length, self.payload_left) = (0, length);
        }
    }

    /// Whether a frame of ours may be put here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.head_length == 0 && self.payload_left == 0
    }

    /// Whether a Close frame has passed.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// Length of the payload, once the head of its frame is whole.
fn payload_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let (extended, mask) = (&head[2..], if second & 0x80 == 0 { 0 } else { 4 });
    let (bytes, length) = match second & 0x7f {
        126 => (2, u64::from(u16::from_be_bytes(*extended.first_chunk()?))),
        127 => (8, u64::from_be_bytes(*extended.first_chunk()?)),
        short => (0, u64::from(short)),
    };
    (extended.len() == bytes + mask).then_some(length)
}

const OPCODE_CLOSE: u8 = 8;

/// The status "going away" (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

/// A Close frame that says that this side is going away; those of clients are masked.
pub(crate) fn going_away(mask: Option<[u8; 4]>) -> Vec<u8> {
    let status = GOING_AWAY.to_be_bytes();
    let mut frame = vec![0x80 | OPCODE_CLOSE, status.len() as u8];
    match mask {
        None => frame.extend_from_slice(&status),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend_from_slice(&mask);
            frame.extend(status.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Vec<u8>> {
        let long = |second: u8, length: &[u8], payload: usize| {
            [&[0x82, second][..], length, &vec![7; payload]].concat()
        };
        vec![
            vec![0x81, 0],
            vec![0x81, 3, 1, 2, 3],
            vec![0x81, 0x83, 9, 9, 9, 9, 1, 2, 3],
            long(126, &300_u16.to_be_bytes(), 300),
            long(127, &70_000_u64.to_be_bytes(), 70_000),
            long(126 | 0x80, &[&300_u16.to_be_bytes()[..], &[1, 2, 3, 4]].concat(), 300),
        ]
    }

    #[test]
    fn frames_end_where_they_say_however_they_come() {
        for frame in frames() {
            for step in [1, 2, 3, 7, 100, 100_000] {
                let mut position = FramePosition::default();
                let parts: Vec<_> = frame.chunks(step).collect();
                for (place, part) in parts.iter().enumerate() {
                    position.pass(part);
                    assert_eq!(position.is_between_frames(), place + 1 == parts.len(), "{frame:?} by {step}");
                }
            }
        }
        let mut position = FramePosition::default();
        position.pass(&frames().concat());
        assert!(position.is_between_frames() && !position.is_closed());
        let (all, mut ends) = (frames().concat(), Vec::new());
        while ends.last().copied().unwrap_or_default() < all.len() {
            let end = ends.last().copied().unwrap_or_default();
            ends.push(end + position.pass_frame(&all[end..]));
        }
        let lengths = frames().into_iter().map(|frame| frame.len());
        assert_eq!(
            ends,
            lengths
                .scan(0, |end, length| {
                    *end += length;
                    Some(*end)
                })
                .collect::<Vec<_>>()
        );
        position.pass(&[0x81]);
        assert!(!position.is_between_frames());
    }

    #[test]
    fn a_close_frame_is_seen_and_written() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let frame = going_away(mask);
            let mut position = FramePosition::default();
            position.pass(&frame);
            assert!(position.is_between_frames() && position.is_closed());
        }
        assert_eq!(going_away(None), [0x88, 2, 0x03, 0xe9]);
        assert_eq!(going_away(Some([1, 2, 3, 4])), [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2]);
    }
}
