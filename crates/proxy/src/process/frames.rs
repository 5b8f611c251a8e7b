//! How far a client has come in what it sends over HTTP/2: whether a frame, or a head in several of them, is open.

use crate::sieve::{HEAD, PREFACE, length};

/// The place in a client's frames; it counts bytes and understands nothing else.
#[derive(Debug)]
pub struct Frames {
    /// Bytes of the frame that are still to come, its head not counted; at first those of the preface.
    left: usize,
    head: [u8; HEAD],
    /// How much of the next frame's head has come.
    head_size: usize,
    /// A head of a request goes on in the next frame.
    in_head: bool,
}

/// Nothing has come, not even the preface.
impl Default for Frames {
    fn default() -> Self {
        Self {
            left: PREFACE,
            head: [0; HEAD],
            head_size: 0,
            in_head: false,
        }
    }
}

impl Frames {
    /// Goes on by what has come; whether that ended something that could have stayed open.
    pub fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_ended = false;
        while !bytes.is_empty() {
            let step = if self.left > 0 {
                let step = self.left.min(bytes.len());
                self.left -= step;
                step
            } else {
                let step = (HEAD - self.head_size).min(bytes.len());
                self.head[self.head_size..][..step].copy_from_slice(&bytes[..step]);
                self.head_size += step;
                if self.head_size == HEAD {
                    self.begin();
                }
                step
            };
            bytes = &bytes[step..];
            has_ended |= !self.is_open();
        }
        has_ended
    }

    /// Whether something has begun that has not ended.
    pub fn is_open(&self) -> bool {
        self.left > 0 || self.head_size > 0 || self.in_head
    }

    fn begin(&mut self) {
        let [.., kind, flags, _, _, _, _] = self.head;
        self.left = length(&self.head);
        self.head_size = 0;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_head = flags & END_HEADERS == 0;
        }
    }
}

const HEADERS: u8 = 1;

const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pieces: &[&[u8]]) -> bool {
        let mut frames = Frames::default();
        frames.read(&[0; PREFACE]);
        for piece in pieces {
            frames.read(piece);
        }
        frames.is_open()
    }

    #[test]
    fn a_frame_or_a_head_is_open_until_its_last_byte() {
        let headers_without_end = [0, 0, 2, HEADERS, 0, 0, 0, 0, 1, b'a', b'b'];
        let last = [0, 0, 1, CONTINUATION, END_HEADERS, 0, 0, 0, 1, b'c'];
        let data = [0, 0, 2, 0, 0, 0, 0, 0, 1, b'a', b'b'];
        for (pieces, open) in [
            (&[][..], false),
            (&[&data[..]], false),
            (&[&data[..3]], true),
            (&[&data[..3], &data[3..9]], true),
            (&[&data[..3], &data[3..]], false),
            (&[&data[..], &data[..1]], true),
            (&[&headers_without_end[..]], true),
            (&[&headers_without_end[..], &last[..9]], true),
            (&[&headers_without_end[..], &last[..]], false),
        ] {
            assert_eq!(after(pieces), open, "{pieces:?}");
        }
        assert!(Frames::default().is_open(), "the preface has not come");
    }

    #[test]
    fn only_an_end_is_a_step_forward() {
        let mut frames = Frames::default();
        assert!(!frames.read(&[0; PREFACE - 1]));
        assert!(frames.read(&[0]));
        assert!(!frames.read(&[0, 0, 2, HEADERS, 0, 0, 0, 0, 1, b'a', b'b']));
        assert!(!frames.read(&[0, 0, 1, CONTINUATION, 0, 0, 0, 0, 1, b'c']));
        assert!(frames.read(&[0, 0, 0, CONTINUATION, END_HEADERS, 0, 0, 0, 1, 0]));
        assert!(frames.is_open(), "the next frame has begun");
    }
}
