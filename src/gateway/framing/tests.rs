use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { size: 1024, target: 256, fields: 20 };

/// Shows all bytes, at once; how many pass, and how it ends.
fn show(bytes: &[u8]) -> (usize, Option<Reason>) {
    let mut framing = Framing::new(LIMITS);
    let mut at = 0;
    while at < bytes.len() {
        match framing.step(&bytes[at..]) {
            Step::Pass(count) => at += count,
            Step::Hold | Step::Wait => break,
            Step::Refuse(reason) => return (at, Some(reason)),
        }
    }
    (at, None)
}

fn refused(text: &str) -> Option<Reason> {
    show(text.as_bytes()).1
}

#[test]
fn requests_that_follow_each_other_are_told_apart() {
    let text = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n\
                POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n\
                POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                5;x=\"y\"\r\nhello\r\n0\r\nDigest: z\r\n\r\n\
                HEAD / HTTP/1.0\r\n\r\n";
    assert_eq!(show(text.as_bytes()), (text.len(), None));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let with = |fields: &str| refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \"chunked\"",
    ] {
        assert_eq!(with(fields), Some(Reason::Framing), "{fields:?}");
    }
    for fields in [
        "Content-Length : 5",
        " Content-Length: 5",
        "X: a\r\n b",
        "X: a\r\n\tb",
        "X: a\nY: b",
        "X: a\rY: b",
        "X: \0",
        "X y: a",
        ": a",
        "novalue",
        "X\u{e9}: a",
    ] {
        assert_eq!(with(fields), Some(Reason::Malformed), "{fields:?}");
    }
    assert_eq!(refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(Reason::Framing));
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Some(Reason::Host));
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), Some(Reason::Host));
    assert_eq!(refused("GET / HTTP/1.1\nHost: a\n\n"), Some(Reason::Malformed));
    for line in ["GET  / HTTP/1.1", "GET /a b HTTP/1.1", "GET / http/1.1", "GET /", "GET\t/ HTTP/1.1", "G@T / HTTP/1.1"]
    {
        assert_eq!(refused(&format!("{line}\r\nHost: a\r\n\r\n")), Some(Reason::Malformed), "{line}");
    }
    assert_eq!(refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Some(Reason::Version));
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_refused() {
    for body in [
        "\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello",
        "5 \r\nhello",
        "5\nhello",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "5;a\nb\r\nhello",
        "0\r\nX y: z\r\n\r\n",
        "0\r\nnovalue\r\n\r\n",
        "0\r\n\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(refused(&text), Some(Reason::Framing), "{body:?}");
    }
    let long = format!("5;{}\r\nhello", "x".repeat(300));
    let text = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{long}");
    assert_eq!(refused(&text), Some(Reason::Framing));
}

#[test]
fn a_head_beyond_its_limits_is_told_by_what_is_too_large() {
    let long = "x".repeat(2_000);
    assert_eq!(refused(&format!("GET /{long}")), Some(Reason::TargetTooLong));
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")), Some(Reason::HeadTooLarge));
    let many = "X: y\r\n".repeat(30);
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Some(Reason::HeadTooLarge));
}

#[test]
fn nothing_follows_an_upgrade_until_it_is_answered() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut framing = Framing::new(LIMITS);
    assert_eq!(framing.step(request), Step::Pass(request.len()));
    assert_eq!(framing.step(b"\x81\x00"), Step::Wait);
    framing.answered(true);
    assert_eq!(framing.step(b"\x81\x00"), Step::Pass(2));
    let mut framing = Framing::new(LIMITS);
    framing.step(request);
    framing.answered(false);
    assert_eq!(framing.step(b"\x81\x00\n"), Step::Refuse(Reason::Malformed));
}

proptest! {
    /// However the network cuts the bytes, the same of them are good.
    #[test]
    fn the_cuts_of_the_network_change_nothing(
        pieces in prop::collection::vec(prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            Just("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Just("3\r\nabc\r\n"), Just("0\r\n\r\n"), Just("\r\n"), Just("\n"), Just("X: y\r\n"), Just("a"),
        ], 1..8),
        sizes in prop::collection::vec(1usize..9, 1..200),
    ) {
        let bytes = pieces.concat().into_bytes();
        let whole = show(&bytes);
        let mut framing = Framing::new(LIMITS);
        let (mut passed, mut shown, mut refusal) = (0, 0, None);
        for size in sizes.iter().cycle() {
            if shown == bytes.len() || refusal.is_some() { break }
            shown = (shown + size).min(bytes.len());
            while passed < shown {
                match framing.step(&bytes[passed..shown]) {
                    Step::Pass(count) => passed += count,
                    Step::Hold | Step::Wait => break,
                    Step::Refuse(reason) => { refusal = Some(reason); break }
                }
            }
        }
        // In pieces, the good bytes of a chunk before a bad one pass; none beyond it ever does.
        prop_assert_eq!(refusal, whole.1);
        prop_assert!(passed >= whole.0);
        if refusal.is_none() { prop_assert_eq!(passed, whole.0) }
    }
}
