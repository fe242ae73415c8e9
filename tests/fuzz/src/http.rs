//! Fuzz target of what decides where a request of HTTP/1.1 ends. For any bytes, in any pieces:
//!
//! - what passes, and the refusal that ends it, are those of the same bytes in one piece; but of a body that is refused
//!   more may have passed where less of it was there at a time;
//! - every head that passes is one to httparse as well, and ends at the same byte; it has one length at most;
//! - every body that passes ends where a reader of its own, who knows the RFC's grammar alone, ends it.

#![no_main]

mod gateway;

use gateway::framing::{Framing, HeadLimits, Step};
use gateway::reason::Reason;
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { size: 1024, target: 128, fields: 16 };

/// What became of some bytes.
#[derive(Debug, Default, PartialEq)]
struct Passed {
    bytes: Vec<u8>,
    /// Where heads begin and end in them.
    heads: Vec<(usize, usize)>,
    refused: Option<Reason>,
}

fuzz_target!(|input: &[u8]| {
    // The first four bytes are the lengths of the pieces, repeated.
    let Some((lengths, data)) = input.split_first_chunk::<4>() else { return };
    let whole = read(std::iter::once(data));
    for (cut, passed) in [("pieces", read(pieces(data, *lengths))), ("single bytes", read(data.chunks(1)))] {
        assert_eq!((&passed.heads, passed.refused), (&whole.heads, whole.refused), "{cut} of {lengths:?}");
        assert!(data.starts_with(&passed.bytes), "{cut}: other bytes than came");
        assert!(passed.bytes.len() == whole.bytes.len() || whole.refused.is_some(), "{cut}: {passed:?} {whole:?}");
        check(&passed);
    }
    assert!(data.starts_with(&whole.bytes), "other bytes than came");
    check(&whole);
});

fn pieces(mut data: &[u8], lengths: [u8; 4]) -> impl Iterator<Item = &[u8]> {
    let mut lengths = lengths.into_iter().cycle();
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let length = lengths.next().map_or(1, |length| usize::from(length).max(1));
        let (piece, rest) = data.split_at(length.min(data.len()));
        data = rest;
        Some(piece)
    })
}

/// Reads as a connection does: what is held stays, and the next piece is added to it. Upgrades are refused.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Passed {
    let mut framing = Framing::new(LIMITS);
    let (mut passed, mut held) = (Passed::default(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        while !held.is_empty() {
            let at_head = framing.at_head();
            match framing.step(&held) {
                Step::Pass(count) => {
                    assert!((1..=held.len()).contains(&count), "{count} of {} bytes", held.len());
                    let start = passed.bytes.len();
                    passed.bytes.extend(held.drain(..count));
                    if at_head && passed.bytes[start..] != *b"\r\n" {
                        passed.heads.push((start, start + count));
                    }
                }
                Step::Hold => {
                    assert!(held.len() <= LIMITS.size, "{} bytes held", held.len());
                    break;
                }
                Step::Wait => framing.answered(false),
                Step::Refuse(reason) => {
                    passed.refused = Some(reason);
                    return passed;
                }
            }
        }
    }
    passed
}

/// Others read what passed in the same way.
fn check(passed: &Passed) {
    for (number, (start, end)) in passed.heads.iter().enumerate() {
        let head = &passed.bytes[*start..*end];
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(head).unwrap_or_else(|why| panic!("no head to httparse, {why}: {head:?}"));
        assert_eq!(parsed, httparse::Status::Complete(head.len()), "{head:?}");
        let values = |name: &str| -> Vec<&[u8]> {
            request.headers.iter().filter(|it| it.name.eq_ignore_ascii_case(name)).map(|it| it.value).collect()
        };
        assert!(values("host").len() <= 1, "{head:?}");
        let next = passed.heads.get(number + 1).map(|(start, _)| *start);
        let rest = &passed.bytes[*end..next.unwrap_or(passed.bytes.len())];
        let ended = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
            ([], []) => Some(0),
            ([length], []) => {
                let text = std::str::from_utf8(length).expect("digits");
                assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{head:?}");
                usize::try_from(text.parse::<u64>().expect("a number")).ok().filter(|length| *length <= rest.len())
            }
            ([], [coding]) => {
                assert!(coding.eq_ignore_ascii_case(b"chunked"), "{head:?}");
                chunked(rest)
            }
            _ => panic!("two lengths: {head:?}"),
        };
        match (ended, next) {
            // Empty lines may stand before the next head.
            (Some(ended), _) => assert!(rest[ended..].chunks(2).all(|line| line == b"\r\n"), "{rest:?} after {head:?}"),
            (None, next) => assert_eq!(next, None, "the body of {head:?} has not ended"),
        }
    }
}

/// The length of a chunked body; nothing where it has not ended.
fn chunked(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = at + bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        let size = bytes[at..line].split(|byte| *byte == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(size).expect("digits"), 16).ok()?;
        at = line + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?;
        let end = bytes.get(at..at + 2)?;
        assert_eq!(end, b"\r\n", "after a chunk's data");
        at += 2;
    }
    loop {
        let line = bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}
