//! Incremental decoding of commands: one pass that remembers where it stopped.
//!
//! A command is `*N\r\n` followed by N bulk strings (`$LEN\r\n…\r\n`), or one inline line. The decoder is handed the bytes
//! from the frame's first one on, again and again as more arrive, and looks at each byte of structure once: a frame that
//! comes in a thousand pieces costs the same as one that comes whole. Lengths on the wire size nothing here; they are
//! compared with [`Limits`] before the decoder asks for more bytes.
//!
//! Wording of errors and the limits before AUTH follow Redis 7 (`src/networking.c`, `processMultibulkBuffer` and
//! `processInlineBuffer`), because clients match on them. One difference is meant: Redis skips the two bytes behind a bulk
//! string unseen, here they must be CRLF, as anything else means that client and server have lost each other.

use super::inline;

/// The longest inline command and the longest header line, as in Redis, in bytes.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// A header is a type byte, at most 20 digits and a sign, CR and LF; no honest one is longer.
const HEADER_LIMIT: usize = 24;

/// What a decoder keeps of its memory from one command to the next: arguments, and bytes of an inline line.
const KEEP: usize = 64;

/// Bounds on one command, checked as soon as the wire names a length.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole frame, in bytes; at most `u32::MAX`.
    pub frame: usize,
    /// Number of arguments.
    pub arguments: usize,
    /// One argument, in bytes.
    pub bulk: usize,
    /// The client has not said yet who it is: errors say so.
    pub unauthenticated: bool,
}

/// Why the byte stream cannot be read on. The connection is closed after the error is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*N` with an N that is no number or over the limit.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// More arguments than a client may send before AUTH.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// `$N` with an N that is no number, negative or over the limit.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// A longer argument than a client may send before AUTH.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument that is no bulk string.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0).escape_default())]
    ExpectedBulk(u8),
    /// A bulk string that does not end where its length says.
    #[error("Protocol error: expected CRLF after a bulk string")]
    ExpectedCrlf,
    /// An inline command without an end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// Quotes of an inline command that do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A frame over the limit.
    #[error("Protocol error: command of over {0} bytes (log.max_frame_size)")]
    FrameTooBig(usize),
}

/// Where the pass stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    Count,
    Bulks { left: usize },
    Inline,
}

/// Decodes the commands of one connection.
#[derive(Debug)]
pub struct Decoder {
    stage: Stage,
    /// The next byte to look at, from the frame's first.
    at: usize,
    /// Start and end of each argument, in the frame or, for an inline command, in `unquoted`.
    spans: Vec<(u32, u32)>,
    /// The arguments of an inline command, quotes and escapes resolved.
    unquoted: Vec<u8>,
    inline: bool,
}

/// The arguments of a decoded command; the first is its name. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [(u32, u32)],
}

/// [`Args`] that outlive their frame.
#[derive(Clone, Debug)]
pub struct OwnedArgs {
    bytes: Box<[u8]>,
    spans: Box<[(u32, u32)]>,
}

// === impl OwnedArgs ===

impl OwnedArgs {
    /// The arguments.
    pub fn as_args(&self) -> Args<'_> {
        Args { bytes: &self.bytes, spans: &self.spans }
    }

    /// Bytes that they hold on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.spans)
    }
}

// === impl Args ===

impl<'a> Args<'a> {
    /// How many arguments there are, the name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True for an empty line or an empty array, which Redis passes over in silence.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The argument at `index`, or nothing where there are fewer.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let &(start, end) = self.spans.get(index)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// A copy that outlives the frame.
    pub fn to_owned(&self) -> OwnedArgs {
        let end = self.spans.last().map_or(0, |&(_, end)| end as usize);
        OwnedArgs { bytes: self.bytes.get(..end).unwrap_or_default().into(), spans: self.spans.into() }
    }

    /// All arguments as slices.
    pub fn to_vec(&self) -> Vec<&'a [u8]> {
        self.from(0).collect()
    }

    /// The arguments from `first` on.
    #[inline]
    pub fn from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let Self { bytes, spans } = *self;
        spans.iter().skip(first).filter_map(move |&(start, end)| bytes.get(start as usize..end as usize))
    }
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Self {
        Self { stage: Stage::Start, at: 0, spans: Vec::new(), unquoted: Vec::new(), inline: false }
    }
}

impl Decoder {
    /// Looks at the bytes of `frame` that it has not seen yet. `frame` starts with the command's first byte and may go on
    /// beyond its end. Returns the command's length in bytes, or nothing where more must come. After a length was
    /// returned, [`Decoder::args`] holds until [`Decoder::next`].
    ///
    /// # Errors
    /// The stream cannot be understood any further.
    #[inline]
    pub fn decode(&mut self, frame: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        loop {
            match self.stage {
                Stage::Start => match frame.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        self.at = 1;
                        self.stage = Stage::Count;
                    }
                    Some(_) => self.stage = Stage::Inline,
                },
                Stage::Count => {
                    let Some((count, next)) = number(frame, self.at, ProtocolError::MultibulkLength)? else {
                        return Ok(None);
                    };
                    self.at = next;
                    // As in Redis, an empty or a null array is passed over.
                    let Ok(count) = usize::try_from(count) else { return Ok(Some(next)) };
                    if count > limits.arguments {
                        return Err(if limits.unauthenticated {
                            ProtocolError::UnauthenticatedMultibulkLength
                        } else {
                            ProtocolError::MultibulkLength
                        });
                    }
                    if count == 0 {
                        return Ok(Some(next));
                    }
                    self.stage = Stage::Bulks { left: count };
                }
                Stage::Bulks { left } => return self.decode_bulks(frame, left, limits),
                Stage::Inline => return self.decode_inline(frame),
            }
        }
    }

    /// The arguments from the one at `self.at` on, `left` of them. A length is read again where its bytes had not come
    /// whole, which costs a few digits a call and nothing of the bytes themselves.
    #[inline]
    fn decode_bulks(&mut self, frame: &[u8], left: usize, limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        for left in (1..=left).rev() {
            let bulk = match frame.get(self.at) {
                Some(b'$') => number(frame, self.at + 1, ProtocolError::BulkLength)?,
                Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
                None => None,
            };
            let Some((length, start)) = bulk else {
                self.stage = Stage::Bulks { left };
                return Ok(None);
            };
            let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
            if length > limits.bulk {
                return Err(if limits.unauthenticated {
                    ProtocolError::UnauthenticatedBulkLength
                } else {
                    ProtocolError::BulkLength
                });
            }
            let end = start.saturating_add(length);
            if end > limits.frame {
                return Err(ProtocolError::FrameTooBig(limits.frame));
            }
            match frame.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::ExpectedCrlf),
                None => {
                    self.stage = Stage::Bulks { left };
                    return Ok(None);
                }
            }
            self.spans.push(span(start, end, limits)?);
            self.at = end + 2;
        }
        Ok(Some(self.at))
    }

    fn decode_inline(&mut self, frame: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let unseen = frame.get(self.at..).unwrap_or_default();
        let Some(newline) = unseen.iter().position(|&byte| byte == b'\n').map(|found| self.at + found) else {
            self.at = frame.len();
            return if self.at > INLINE_LIMIT { Err(ProtocolError::InlineTooBig) } else { Ok(None) };
        };
        if newline > INLINE_LIMIT {
            return Err(ProtocolError::InlineTooBig);
        }
        let line = frame.get(..newline).unwrap_or_default();
        self.inline = true;
        inline::split(line.strip_suffix(b"\r").unwrap_or(line), &mut self.unquoted, &mut self.spans)
            .ok_or(ProtocolError::UnbalancedQuotes)?;
        Ok(Some(newline + 1))
    }

    /// The arguments of the command that [`Decoder::decode`] found whole in `frame`.
    #[inline]
    pub fn args<'a>(&'a self, frame: &'a [u8]) -> Args<'a> {
        Args { bytes: if self.inline { &self.unquoted } else { frame }, spans: &self.spans }
    }

    /// Forgets the command; the next one starts at the next `frame`'s first byte.
    #[inline]
    pub fn next(&mut self) {
        self.stage = Stage::Start;
        self.at = 0;
        self.spans.clear();
        // One huge command must not leave its memory behind on a connection that sends small ones ever after.
        if self.spans.capacity() > KEEP {
            self.spans = Vec::new();
        }
        if self.inline {
            self.inline = false;
            self.unquoted.clear();
            self.unquoted.shrink_to(KEEP);
        }
    }

    /// Bytes that this decoder holds on the heap; the fuzz target sees that they stay bounded.
    pub fn heap_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<(u32, u32)>() + self.unquoted.capacity()
    }
}

fn span(start: usize, end: usize, limits: &Limits) -> Result<(u32, u32), ProtocolError> {
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), Ok(end)) => Ok((start, end)),
        _ => Err(ProtocolError::FrameTooBig(limits.frame)),
    }
}

/// The decimal number at `at` and the place behind its CRLF; nothing where the line has not come whole. Strict as Redis:
/// no plus sign, no leading zeros.
#[inline]
fn number(frame: &[u8], at: usize, wrong: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    // Nearly every length on the wire has one to four digits and has come whole.
    let line = frame.get(at..).unwrap_or_default();
    let mut value = 0;
    for (place, &byte) in line.iter().take(5).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + i64::from(digit);
            // A zero stands alone, or the number is none.
            if place > 0 && line.first() == Some(&b'0') {
                break;
            }
        } else if byte == b'\r' && place > 0 && line.get(place + 1) == Some(&b'\n') {
            return Ok(Some((value, at + place + 2)));
        } else {
            break;
        }
    }
    any_number(line, at, wrong)
}

#[cold]
fn any_number(line: &[u8], at: usize, wrong: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let (negative, first) = match line.first() {
        Some(b'-') => (true, 1),
        _ => (false, 0),
    };
    let mut digits = first;
    let mut value: i64 = 0;
    loop {
        match line.get(digits) {
            None => return if digits > HEADER_LIMIT { Err(wrong) } else { Ok(None) },
            Some(&digit @ b'0'..=b'9') => {
                value = match value.checked_mul(10).and_then(|value| value.checked_add(i64::from(digit - b'0'))) {
                    Some(value) => value,
                    None => return Err(wrong),
                };
            }
            Some(b'\r') => break,
            Some(_) => return Err(wrong),
        }
        digits += 1;
    }
    let leading_zero = digits - first > 1 && line.get(first) == Some(&b'0');
    if digits == first || leading_zero || (negative && value == 0) {
        return Err(wrong);
    }
    match line.get(digits + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((if negative { -value } else { value }, at + digits + 2))),
        Some(_) => Err(wrong),
    }
}

#[cfg(test)]
mod tests;
