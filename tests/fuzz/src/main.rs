//! Fuzz target of the RESP decoder. For any bytes, in any pieces:
//!
//! - the commands, and the error that ends them, are those of the same bytes in one piece;
//! - a command's length and all its arguments lie within the bytes that were given;
//! - what the decoder holds grows with the bytes that came, whatever lengths they declare, and is bounded by its limits.

#![no_main]

#[allow(dead_code, reason = "the decoder's source as it is; the target uses a part of it")]
#[path = "../../../src/resp/decode.rs"]
pub mod decode;
#[path = "../../../src/resp/inline.rs"]
mod inline;

use decode::{Decoder, INLINE_LIMIT, Limits, ProtocolError};
use libfuzzer_sys::fuzz_target;

/// What stretches: more of them in an input are taken as they are, so that no input becomes slow.
const STRETCHES: usize = 6;
/// Input that is fed byte by byte as well: then every place is one at which the decoder stopped.
const SHORT: usize = 4096;
/// A little less than a quarter of the longest inline command.
const STRETCH: usize = INLINE_LIMIT / 4 - 100;

type Commands = Vec<Vec<Vec<u8>>>;

fuzz_target!(|input: &[u8]| {
    // The first five bytes are not for the decoder: which limits hold, and the lengths of the pieces, repeated.
    let Some((&[choice, lengths @ ..], data)) = input.split_first_chunk::<5>() else { return };
    let limits = limits(choice);
    let data = if choice & 0x80 == 0 { data.to_vec() } else { stretched(data) };
    let whole = decode(std::iter::once(&data[..]), &limits);
    assert_eq!(decode(pieces(&data, lengths), &limits), whole, "pieces of {lengths:?} under {limits:?}");
    if data.len() <= SHORT {
        assert_eq!(decode(data.chunks(1), &limits), whole, "single bytes under {limits:?}");
    }
});

/// Small limits are met by small inputs.
fn limits(choice: u8) -> Limits {
    Limits {
        frame: [1 << 20, 100, 1000, 1 << 16][usize::from(choice & 3)],
        arguments: [1024, 3, 16, 1 << 20][usize::from(choice >> 2 & 3)],
        bulk: [1 << 20, 16, 512, 1 << 29][usize::from(choice >> 4 & 3)],
        unauthenticated: choice & 0x40 != 0,
    }
}

/// Long lines from short inputs: the byte 0xFF stands for thousands of letters.
fn stretched(data: &[u8]) -> Vec<u8> {
    let mut long = Vec::new();
    let mut left = STRETCHES;
    for &byte in data {
        if byte == 0xff && left > 0 {
            left -= 1;
            long.resize(long.len() + STRETCH, b'x');
        } else {
            long.push(byte);
        }
    }
    long
}

/// Cuts the data; a length of 0 stands for 1000 bytes. Long data is cut into longer pieces.
fn pieces(mut data: &[u8], lengths: [u8; 4]) -> impl Iterator<Item = &[u8]> {
    let scale = if data.len() <= SHORT { 1 } else { 129 };
    let mut lengths = lengths.into_iter().cycle();
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let length = lengths.next().filter(|length| *length > 0).map_or(1000, usize::from) * scale;
        let (piece, rest) = data.split_at(length.min(data.len()));
        data = rest;
        Some(piece)
    })
}

/// Reads as a connection does: what is left of a buffer stays, and the next piece is added to it.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> (Commands, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let (mut buffer, mut commands, mut received) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        received += piece.len();
        let mut start = 0;
        loop {
            let frame = &buffer[start..];
            let found = decoder.decode(frame, limits);
            check_memory(&decoder, received, limits);
            match found {
                Ok(Some(length)) => {
                    commands.push(command(&decoder, frame, length, limits));
                    start += length;
                    decoder.next();
                }
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
        buffer.drain(..start);
    }
    (commands, None)
}

fn command(decoder: &Decoder, frame: &[u8], length: usize, limits: &Limits) -> Vec<Vec<u8>> {
    assert!((1..=frame.len()).contains(&length), "a command of {length} bytes in {}", frame.len());
    let args = decoder.args(frame);
    let is_array = frame[0] == b'*';
    let mut end = 0;
    let copied: Vec<Vec<u8>> = (0..args.len())
        .map(|index| {
            let arg = args.get(index).expect("an argument lies within the bytes");
            if is_array {
                assert!(arg.len() <= limits.bulk);
                // Where it is: behind the one before it, and its CRLF before the command's end.
                let start = arg.as_ptr().addr() - frame.as_ptr().addr();
                assert!(start > end && start + arg.len() + 2 <= length, "argument {index} lies elsewhere");
                end = start + arg.len();
            }
            arg.to_vec()
        })
        .collect();
    if is_array {
        assert!(copied.len() <= limits.arguments && end <= limits.frame);
    } else {
        assert!(length <= INLINE_LIMIT + 1, "an inline command of {length} bytes");
    }
    assert_eq!(args.to_vec(), copied);
    assert_eq!(args.to_owned().as_args().to_vec(), copied);
    copied
}

/// A span costs eight bytes and comes from at least two; vectors double as they grow.
fn check_memory(decoder: &Decoder, received: usize, limits: &Limits) {
    let held = decoder.heap_bytes();
    let by_bytes = received * 16 + 256;
    let by_limits = limits.arguments.max(INLINE_LIMIT / 2) * 16 + INLINE_LIMIT * 2 + 256;
    assert!(held <= by_bytes.min(by_limits), "{held} bytes held after {received} under {limits:?}");
}
