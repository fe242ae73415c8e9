use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { frame: 1 << 20, arguments: 1024, bulk: 1 << 20, unauthenticated: false };

/// Feeds `pieces` as a socket would and returns every command as owned arguments.
fn decode_all<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let (mut buffer, mut commands) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut start = 0;
        loop {
            match decoder.decode(&buffer[start..], limits) {
                Ok(Some(length)) => {
                    commands.push(decoder.args(&buffer[start..]).from(0).map(<[u8]>::to_vec).collect());
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

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn error_of(bytes: &[u8]) -> Option<ProtocolError> {
    decode_all([bytes], &LIMITS).1
}

#[test]
fn a_pipeline_of_arrays_and_inline_lines_is_decoded_in_order() {
    let bytes = b"*2\r\n$4\r\nLLEN\r\n$1\r\nk\r\nPING\r\n\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\nECHO \"a b\"\n";
    let (commands, error) = decode_all([&bytes[..]], &LIMITS);
    assert_eq!(error, None);
    assert_eq!(
        commands,
        [
            words(&["LLEN", "k"]),
            words(&["PING"]),
            words(&[]),
            words(&[]),
            words(&[]),
            words(&[""]),
            words(&["ECHO", "a b"])
        ]
    );
}

#[test]
fn a_bulk_string_may_hold_any_bytes() {
    let (commands, _) = decode_all([&b"*1\r\n$6\r\n\r\n\0$*\xff\r\n"[..]], &LIMITS);
    assert_eq!(commands, [[b"\r\n\0$*\xff".to_vec()]]);
}

#[test]
fn inline_words_are_quoted_as_redis_quotes_them() {
    let (commands, _) = decode_all([&b"SET  'it\\'s' \"\\x41\\n\\q\"\tx\"y\"\r\n"[..]], &LIMITS);
    assert_eq!(commands, [words(&["SET", "it's", "A\nq", "xy"])]);
    assert_eq!(error_of(b"SET \"a\"b\r\n"), Some(ProtocolError::UnbalancedQuotes));
    assert_eq!(error_of(b"SET 'a\r\n"), Some(ProtocolError::UnbalancedQuotes));
}

#[test]
fn lengths_that_lie_are_refused_in_the_words_of_redis() {
    for bytes in ["*x\r\n", "*+1\r\n", "*01\r\n", "*1025\r\n", "*99999999999999999999999\r\n", "*1\n$1\r\n", "*-0\r\n"]
    {
        assert_eq!(error_of(bytes.as_bytes()), Some(ProtocolError::MultibulkLength), "{bytes:?}");
    }
    for bytes in ["*1\r\n$-1\r\n", "*1\r\n$1048577\r\n", "*1\r\n$\r\n", "*1\r\n$4294967296\r\n"] {
        assert_eq!(error_of(bytes.as_bytes()), Some(ProtocolError::BulkLength), "{bytes:?}");
    }
    assert_eq!(error_of(b"*1\r\n:1\r\n"), Some(ProtocolError::ExpectedBulk(b':')));
    assert_eq!(error_of(b"*1\r\n*1\r\n"), Some(ProtocolError::ExpectedBulk(b'*')));
    assert_eq!(error_of(b"*1\r\n$1\r\nabc"), Some(ProtocolError::ExpectedCrlf));
    assert_eq!(error_of(b"*2\r\n$1048000\r\n"), None);
    assert_eq!(ProtocolError::ExpectedBulk(b':').to_string(), "Protocol error: expected '$', got ':'");
}

#[test]
fn a_frame_over_the_limit_is_refused_before_its_bytes_come() {
    let limits = Limits { frame: 100, ..LIMITS };
    let (_, error) = decode_all([&b"*3\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n$90\r\n"[..]], &limits);
    assert_eq!(error, Some(ProtocolError::FrameTooBig(100)));
}

#[test]
fn before_auth_a_client_gets_redis_small_limits() {
    let limits = Limits { arguments: 10, bulk: 16384, unauthenticated: true, ..LIMITS };
    let (_, error) = decode_all([&b"*11\r\n"[..]], &limits);
    assert_eq!(error, Some(ProtocolError::UnauthenticatedMultibulkLength));
    let (_, error) = decode_all([&b"*1\r\n$16385\r\n"[..]], &limits);
    assert_eq!(error, Some(ProtocolError::UnauthenticatedBulkLength));
}

#[test]
fn an_endless_line_is_cut_off() {
    let line = vec![b'a'; INLINE_LIMIT + 1];
    assert_eq!(error_of(&line), Some(ProtocolError::InlineTooBig));
    assert_eq!(error_of(&line[..INLINE_LIMIT]), None);
    let digits = format!("*{}", "0".repeat(HEADER_LIMIT + 1));
    assert_eq!(error_of(digits.as_bytes()), Some(ProtocolError::MultibulkLength));
}

#[test]
fn a_frame_in_single_bytes_is_scanned_once() {
    // One megabyte, one byte a call: were each call to start over, this would take half a terabyte of looks.
    let mut bytes = b"*3\r\n$5\r\nLPUSH\r\n$1\r\nk\r\n$1000000\r\n".to_vec();
    bytes.resize(bytes.len() + 1_000_000, b'x');
    bytes.extend_from_slice(b"\r\n");
    let mut decoder = Decoder::default();
    for end in 0..bytes.len() {
        assert_eq!(decoder.decode(&bytes[..end], &LIMITS), Ok(None));
    }
    assert_eq!(decoder.decode(&bytes, &LIMITS), Ok(Some(bytes.len())));
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Cuts `bytes` at the given places.
fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in places {
        pieces.push(&bytes[start..place]);
        start = place;
    }
    pieces.push(&bytes[start..]);
    pieces
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_commands(
        commands in prop::collection::vec(command(), 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        let (decoded, error) = decode_all(split(&bytes, &cuts), &LIMITS);
        prop_assert_eq!(error, None);
        prop_assert_eq!(decoded, commands);
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_outcome(
        bytes in prop::collection::vec(
            prop_oneof![
                8 => prop::sample::select(b"*$123456789\r\n \"'\\xPING".to_vec()),
                1 => any::<u8>(),
            ],
            0..200,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let whole = decode_all([&bytes[..]], &LIMITS);
        let pieces = decode_all(split(&bytes, &cuts), &LIMITS);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn what_redis_protocol_decodes_is_what_we_decode(command in command()) {
        let bytes = encode(&command);
        let (frame, length) = redis_protocol::resp2::decode::decode(&bytes).unwrap().unwrap();
        let redis_protocol::resp2::types::OwnedFrame::Array(items) = frame else { panic!("no array") };
        let theirs: Vec<Vec<u8>> = items
            .into_iter()
            .map(|item| match item {
                redis_protocol::resp2::types::OwnedFrame::BulkString(bytes) => bytes,
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(decode_all([&bytes[..]], &LIMITS).0, vec![theirs]);
    }
}
