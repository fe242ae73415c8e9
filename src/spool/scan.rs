//! Going over a segment frame by frame, past damage.

use std::io;
use std::ops::Range;

use super::disk::{DiskFile, read_full};
use super::frame::{self, Header, LONGEST_HEADER};
use super::segment::FIRST_FRAME;

/// A window on a file: small reads next to each other cost one of the disk's.
pub(super) struct Window {
    buffer: Vec<u8>,
    filled: usize,
    start: u64,
}

/// What stands between the frames of a segment, and where they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Where the last good frame ends.
    pub(super) end: u64,
    /// Damage before it, in order.
    pub(super) holes: Vec<Range<u64>>,
    /// The disk refused to read some of it, which is damage as well.
    pub(super) unreadable: bool,
}

/// One segment's file, and what its frames must look like.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a dyn DiskFile,
    pub(super) sequence: u64,
    pub(super) marker: u64,
}

/// Read at once while a marker is looked for.
const SEARCH_STEP: usize = 64 << 10;
const MARKER_BYTES: usize = 8;

// === impl Window ===

impl Window {
    /// A window that reads `bytes` ahead.
    pub(super) fn new(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes.max(LONGEST_HEADER)], filled: 0, start: 0 }
    }

    /// Forgets what was read: the file is another one, or longer now.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }

    /// The bytes from an offset on, as many as are wanted, fewer at `end`, at the file's end, or where they exceed the
    /// window. Nothing at or behind `end` is kept: it may be written later.
    ///
    /// # Errors
    /// The disk refused.
    pub(super) fn get(&mut self, file: &dyn DiskFile, offset: u64, wanted: usize, end: u64) -> io::Result<&[u8]> {
        let within = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(within);
        let inside = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = match inside.filter(|skip| skip + wanted <= self.filled) {
            Some(skip) => skip,
            None => {
                self.filled = 0;
                self.start = offset;
                let room = within.min(self.buffer.len());
                self.filled = read_full(file, self.buffer.get_mut(..room).unwrap_or_default(), offset)?;
                0
            }
        };
        let to = self.filled.min(skip + wanted);
        Ok(self.buffer.get(skip..to).unwrap_or_default())
    }

    /// Copies the bytes from an offset on that are to fill `into`; false where there are fewer before `end`.
    ///
    /// # Errors
    /// The disk refused.
    pub(super) fn copy(&mut self, file: &dyn DiskFile, offset: u64, into: &mut [u8], end: u64) -> io::Result<bool> {
        // Large pieces gain nothing by another copy.
        if into.len() > self.buffer.len() / 4 {
            let inside = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
            let ahead = inside.and_then(|skip| self.buffer.get(skip..self.filled)).unwrap_or_default();
            let (first, rest) = into.split_at_mut(ahead.len().min(into.len()));
            first.copy_from_slice(ahead.get(..first.len()).unwrap_or_default());
            return Ok(read_full(file, rest, offset + first.len() as u64)? == rest.len());
        }
        let bytes = self.get(file, offset, into.len(), end)?;
        let whole = bytes.len() == into.len();
        if whole {
            into.copy_from_slice(bytes);
        }
        Ok(whole)
    }
}

// === impl Source ===

impl Source<'_> {
    /// Calls for each good frame, in order, with its offset and header. With `verify` a frame is good only if its body is
    /// too; else bodies are not read.
    pub(super) fn scan(&self, end: u64, verify: bool, each: &mut dyn FnMut(u64, &Header<'_>)) -> Scanned {
        let mut scanned = Scanned { end: FIRST_FRAME, ..Scanned::default() };
        // A window for headers alone where bodies are passed over.
        let mut window = Window::new(if verify { SEARCH_STEP } else { 4 << 10 });
        let mut body = Vec::new();
        let mut at = FIRST_FRAME;
        while at < end {
            let bytes = window.get(self.file, at, LONGEST_HEADER, end);
            scanned.unreadable |= bytes.is_err();
            let bytes = bytes.unwrap_or_default();
            let header = Header::parse(bytes, self.marker, self.sequence, at);
            let Some(header) = header else {
                match self.find_frame(at + 1, end) {
                    Some(found) => at = found,
                    None => break,
                }
                continue;
            };
            let next = at + header.frame_length();
            if next > end {
                // Nothing was ever written behind a frame that was not written whole.
                break;
            }
            let header = &header;
            let read = if verify { self.read_body(at, header, &mut body) } else { Ok(true) };
            scanned.unreadable |= read.is_err();
            if read.is_ok_and(|whole| whole && (!verify || is_sound(header, &body))) {
                if at > scanned.end {
                    scanned.holes.push(scanned.end..at);
                }
                each(at, header);
                scanned.end = next;
            }
            at = next;
        }
        scanned
    }

    /// Where the next good header is, from an offset on.
    pub(super) fn find_frame(&self, from: u64, end: u64) -> Option<u64> {
        let mut step = vec![0; SEARCH_STEP + MARKER_BYTES - 1];
        let mut header = vec![0; LONGEST_HEADER];
        let mut at = from;
        while at < end {
            // Where the disk refuses to read, the search goes on behind.
            let read = read_full(self.file, &mut step, at).unwrap_or(0);
            let candidates = step.get(..read).unwrap_or_default().windows(MARKER_BYTES).enumerate();
            for (skip, _) in candidates.filter(|(_, bytes)| *bytes == self.marker.to_le_bytes()) {
                let offset = at + skip as u64;
                let read = read_full(self.file, &mut header, offset).unwrap_or(0);
                let bytes = header.get(..read).unwrap_or_default();
                let found = Header::parse(bytes, self.marker, self.sequence, offset);
                if found.is_some_and(|header| offset + header.frame_length() <= end) {
                    return Some(offset);
                }
            }
            at += SEARCH_STEP as u64;
        }
        None
    }

    /// Reads a frame's body; false where the file ends before it does.
    ///
    /// # Errors
    /// The disk refused.
    pub(super) fn read_body(&self, at: u64, header: &Header<'_>, body: &mut Vec<u8>) -> io::Result<bool> {
        // The header's checksum was good, and the frame ends where the file does or before.
        body.resize(header.body_length as usize, 0);
        Ok(read_full(self.file, body, at + header.length())? == body.len())
    }
}

/// Whether a body is the header's: undamaged, and of as many records as it says.
pub(super) fn is_sound(header: &Header<'_>, body: &[u8]) -> bool {
    if !header.fits(body) {
        return false;
    }
    let mut records = frame::records(body, header.first_timestamp_ms);
    records.by_ref().count() == header.count as usize && records.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spool::disk::{Disk, RealDisk, write_full};

    #[test]
    fn nothing_is_kept_of_what_stands_behind_the_durable_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&directory.path().join(Path::new("file"))).unwrap();
        write_full(&*file, b"01234.....", 0).unwrap();
        let mut window = Window::new(0);
        assert_eq!(window.get(&*file, 0, 8, 5).unwrap(), b"01234");
        write_full(&*file, b"56789", 5).unwrap();
        assert_eq!(window.get(&*file, 2, 6, 10).unwrap(), b"234567");
        let mut large = vec![0; 8];
        assert!(window.copy(&*file, 1, &mut large, 10).unwrap());
        assert_eq!(large, b"12345678");
        assert!(!window.copy(&*file, 5, &mut large, 10).unwrap(), "there are five");
    }
}
