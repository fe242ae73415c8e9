//! A chunked body, RFC 9112 section 7.1, byte by byte.

use super::{is_token, is_value};
use crate::gateway::reason::Reason;

/// Longest line of a chunk's size with its extensions, and longest trailer section, in bytes.
const MAX_CHUNK_LINE: usize = 256;
const MAX_TRAILERS: usize = 8 << 10;
/// More digits than these could overflow.
const MAX_CHUNK_DIGITS: usize = 15;

/// Within a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size {
        value: u64,
        digits: usize,
    },
    Extension {
        value: u64,
        length: usize,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// In the trailer section; `line` is the length of the present line so far, `colon` whether its name has ended.
    Trailer {
        total: usize,
        line: usize,
        colon: bool,
    },
    TrailerLf {
        total: usize,
        line: usize,
    },
}

/// Walks through a chunked body; gives how many bytes are good, and the state after them unless it has ended.
pub(super) fn chunks(mut chunk: Chunk, bytes: &[u8]) -> Result<(usize, Option<Chunk>), Reason> {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if let Chunk::Data { left } = chunk {
            let rest = bytes.len() - at;
            let count = rest.min(usize::try_from(left).unwrap_or(usize::MAX));
            at += count;
            let left = left - u64::try_from(count).unwrap_or_default();
            chunk = if left == 0 { Chunk::DataCr } else { Chunk::Data { left } };
            continue;
        }
        at += 1;
        match next_chunk(chunk, byte)? {
            Some(next) => chunk = next,
            None => return Ok((at, None)),
        }
    }
    Ok((at, Some(chunk)))
}

/// The state after one byte that is none of a chunk's data; nothing at the body's end.
fn next_chunk(chunk: Chunk, byte: u8) -> Result<Option<Chunk>, Reason> {
    let next = match (chunk, byte) {
        (Chunk::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < MAX_CHUNK_DIGITS => {
            let digit = char::from(byte).to_digit(16).unwrap_or_default();
            Chunk::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
        }
        (Chunk::Size { value, digits }, b';') if digits > 0 => Chunk::Extension { value, length: 0 },
        (Chunk::Size { value, digits }, b'\r') if digits > 0 => Chunk::SizeEnd { value },
        (Chunk::Extension { value, .. }, b'\r') => Chunk::SizeEnd { value },
        (Chunk::Extension { value, length }, _) if is_value(byte) && length < MAX_CHUNK_LINE => {
            Chunk::Extension { value, length: length + 1 }
        }
        (Chunk::SizeEnd { value: 0 }, b'\n') => Chunk::Trailer { total: 0, line: 0, colon: false },
        (Chunk::SizeEnd { value }, b'\n') => Chunk::Data { left: value },
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::Size { value: 0, digits: 0 },
        (Chunk::Trailer { total, line, colon }, b'\r') if line == 0 || colon => Chunk::TrailerLf { total, line },
        (Chunk::Trailer { total, line, colon: false }, b':') if line > 0 => {
            Chunk::Trailer { total: total + 1, line: line + 1, colon: true }
        }
        (Chunk::Trailer { total, line, colon }, _)
            if total < MAX_TRAILERS && (if colon { is_value(byte) } else { is_token(byte) }) =>
        {
            Chunk::Trailer { total: total + 1, line: line + 1, colon }
        }
        (Chunk::TrailerLf { line: 0, .. }, b'\n') => return Ok(None),
        (Chunk::TrailerLf { total, .. }, b'\n') => Chunk::Trailer { total, line: 0, colon: false },
        _ => return Err(Reason::Framing),
    };
    Ok(Some(next))
}
