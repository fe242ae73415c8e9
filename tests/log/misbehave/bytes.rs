//! Bytes that are no commands, or hardly any.

use super::{assert_only_well, assert_well, error_and_close, raw, send_all, start};
use crate::bed::{Reply, resp, wait_until};
use crate::support::{SOON, connect, consumed};
use std::io::Read as _;
use std::time::{Duration, Instant};

#[test]
fn half_frames_left_open_harm_nobody() {
    let (tidegate, key) = start("");
    let halves = ["*", "*3\r\n", "*3\r\n$5\r\nLPUSH\r\n$3\r\n", "*2\r\n$4\r\nECHO\r\n$100000\r\nabc", "PING", "\"open"];
    let left_open: Vec<_> = (0..600)
        .map(|i| {
            let stream = raw(tidegate.redis_addr());
            send_all(&stream, halves[i % halves.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_well(&tidegate, &key);
    drop(left_open);
    assert_well(&tidegate, &key);
    wait_until(SOON, "their ends", || tidegate.metric("tidegate_log_connections") == 0.0);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
    assert_only_well(&key, 2);
}

#[test]
fn a_frame_in_single_bytes_is_a_frame() {
    let (tidegate, key) = start("");
    let mut client = connect(&tidegate);
    for byte in resp::encode(["LPUSH", &key, "well"]) {
        client.send_raw(&[byte]);
    }
    assert_eq!(client.read(), Reply::Integer(1));
    // As large as a frame may be, in pieces: one pass over it, not one for each piece.
    let value = vec![b'x'; 250_000];
    let start = Instant::now();
    for piece in resp::encode([b"LPUSH", key.as_bytes(), &value]).chunks(50) {
        client.send_raw(piece);
    }
    assert_eq!(client.read(), Reply::Integer(1));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(consumed(&key, 2).iter().map(|record| record.value.len()).max(), Some(250_000));
}

#[test]
fn a_length_beyond_all_limits_ends_the_connection_with_redis_words() {
    let (tidegate, key) = start("");
    for (bytes, words) in [
        ("*1000000000\r\n", "ERR Protocol error: invalid multibulk length"),
        ("*3\r\n$5\r\nLPUSH\r\n$1\r\na\r\n$999999999\r\n", "ERR Protocol error: invalid bulk length"),
        ("*1\r\n$99999999999999999999\r\n", "ERR Protocol error: invalid bulk length"),
        ("*2\r\n$4\r\nECHO\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
        ("*abc\r\n", "ERR Protocol error: invalid multibulk length"),
        ("*1\r\n*1\r\n$4\r\nPING\r\n", "ERR Protocol error: expected '$', got '*'"),
        ("PING \"unbalanced\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut client = connect(&tidegate);
        client.send_raw(bytes.as_bytes());
        assert_eq!(error_and_close(&mut client), words, "{bytes:?}");
    }
    tidegate.wait_metric("tidegate_log_connections_closed_total", SOON, |count| count == 7.0);
    assert_well(&tidegate, &key);
    assert_only_well(&key, 1);
}

#[test]
fn an_endless_line_ends_the_connection() {
    let (tidegate, key) = start("");
    let stream = raw(tidegate.redis_addr());
    // It may be cut off in the midst of it.
    let _ = send_all(&stream, &vec![b'a'; 1 << 20]);
    let mut said = Vec::new();
    let _ = (&stream).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.contains("too big inline request"), "{said}");
    tidegate.wait_metric("tidegate_log_connections_closed_total", SOON, |count| count == 1.0);
    assert_well(&tidegate, &key);
}

#[test]
fn noise_is_answered_or_cut_off_and_never_a_record() {
    let (tidegate, key) = start("");
    let mut state = 88_172_645_463_325_252_u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    for round in 0..300 {
        let stream = raw(tidegate.redis_addr());
        let mut bytes: Vec<u8> = (0..2_000).map(|_| noise()).collect();
        // A third begins as a command would.
        if round % 3 == 0 {
            bytes.splice(0..0, *b"*3\r\n$5\r\nLPUSH\r\n$");
        }
        let _ = send_all(&stream, &bytes);
    }
    assert_well(&tidegate, &key);
    assert_only_well(&key, 1);
}

#[test]
fn a_hundred_thousand_pushes_in_one_go_are_answered_one_by_one() {
    let (tidegate, key) = start("");
    let many = 100_000;
    let bytes: Vec<u8> = (0..many).flat_map(|i| resp::encode(["LPUSH", &key, &format!("{i}")])).collect();
    let replies = connect(&tidegate).pipeline(&bytes, many);
    assert!(replies.iter().all(|reply| *reply == Reply::Integer(1)));
    let records = consumed(&key, many);
    for partition in 0..2 {
        let numbers = records.iter().filter(|record| record.partition == partition);
        let numbers: Vec<u64> =
            numbers.map(|record| std::str::from_utf8(&record.value).unwrap().parse().unwrap()).collect();
        assert!(!numbers.is_empty() && numbers.is_sorted_by(|one, other| one < other), "partition {partition}");
    }
    assert_well(&tidegate, &key);
}

#[test]
fn one_push_of_a_hundred_thousand_values_is_answered_once() {
    let (tidegate, key) = start("");
    let values: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    let args = ["LPUSH", &key].into_iter().chain(values.iter().map(String::as_str));
    assert_eq!(connect(&tidegate).pipeline(&resp::encode(args), 1), [Reply::Integer(100_000)]);
    consumed(&key, 100_000);
    assert_well(&tidegate, &key);
}

#[test]
fn a_push_that_could_never_fit_is_refused_at_once_and_holds_nobody() {
    let (tidegate, key) = start("");
    let mut client = connect(&tidegate);
    let command: Vec<&str> = ["LPUSH", key.as_str()].into_iter().chain(std::iter::repeat_n("x", 210_000)).collect();
    let began = Instant::now();
    let refused = client.command(command);
    assert!(refused.error().contains("the memory limit is 67108864"), "{refused:?}");
    // The route holds for two seconds what may fit yet; waiting would not help here.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_well(&tidegate, &key);
    assert_only_well(&key, 1);
}
