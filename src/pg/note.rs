//! A text in shared memory, without a lock.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32, fence};

const NOTE_LEN: usize = 248;

/// A line of text that one process writes and others read, without a lock.
///
/// The sequence number is odd while the text changes (a seqlock); readers that meet a change try
/// again a few times and then take nothing.
pub struct Note {
    sequence: AtomicU32,
    len: AtomicU32,
    bytes: [AtomicU8; NOTE_LEN],
}

impl Note {
    /// Replaces the text; cut at a character's boundary if it is too long.
    pub fn set(&self, text: &str) {
        let mut end = text.len().min(NOTE_LEN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.sequence.fetch_add(1, AcqRel);
        for (cell, byte) in self.bytes.iter().zip(text.as_bytes()[..end].iter()) {
            cell.store(*byte, Relaxed);
        }
        self.len.store(end as u32, Relaxed);
        self.sequence.fetch_add(1, Release);
    }

    /// The text, unless it is empty.
    pub fn get(&self) -> Option<String> {
        for _ in 0..8 {
            let before = self.sequence.load(Acquire);
            let len = (self.len.load(Relaxed) as usize).min(NOTE_LEN);
            let bytes: Vec<u8> = self.bytes[..len].iter().map(|b| b.load(Relaxed)).collect();
            fence(Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Relaxed) == before {
                return String::from_utf8(bytes)
                    .ok()
                    .filter(|text| !text.is_empty());
            }
        }
        None
    }
}
