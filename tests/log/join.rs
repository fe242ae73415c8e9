//! Lines that make one record.

use crate::bed::{Kafka, Reply, RespClient, Tidegate, consume, resp, unique};
use crate::support::{SOON, Setup, connect, consumed, values};
use std::time::{Duration, Instant};

fn start(key: &str, lines: &str) -> Tidegate {
    Setup::shared().topic(key, 1, &format!("hold_ms = 20000\n{lines}")).start()
}

/// Pushes each line with a command of its own, all in one write, and reads the replies.
fn push(client: &mut RespClient, key: &str, lines: &[&str]) {
    let bytes: Vec<u8> = lines.iter().flat_map(|line| resp::encode(["RPUSH", key, line])).collect();
    assert!(client.pipeline(&bytes, lines.len()).iter().all(|reply| *reply == Reply::Integer(1)));
}

fn texts(key: &str, count: usize) -> Vec<String> {
    values(&consumed(key, count)).into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
}

fn nothing_is_left(tidegate: &Tidegate) {
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}

#[test]
fn a_stack_trace_is_one_record_and_what_has_newlines_stays_as_it_is() {
    let key = unique("trace");
    let tidegate = start(&key, "join_lines = { max_ms = 300 }");
    let mut client = connect(&tidegate);
    let lines = ["Error: x", "\tat a", "\tat b", "plain", "whole\n\tat c", "\tat nothing", "last\n", "  of it"];
    push(&mut client, &key, &lines);
    let expected = ["Error: x\n\tat a\n\tat b", "plain", "whole\n\tat c", "\tat nothing", "last\n  of it"];
    assert_eq!(texts(&key, expected.len()), expected);
    nothing_is_left(&tidegate);
    assert_eq!(tidegate.metric("tidegate_log_records_received_total"), lines.len() as f64);
    tidegate.wait_metric("tidegate_log_records_acknowledged_total", SOON, |count| count == lines.len() as f64);
}

#[test]
fn lines_of_one_command_and_of_a_transaction_are_answered_as_ever() {
    let key = unique("variadic");
    let tidegate = start(&key, "join_lines = { max_ms = 300 }\nenrich = { id = true }");
    let mut client = connect(&tidegate);
    let bytes = [
        resp::encode(["RPUSH", &key, "one", " one", "two", " two"]),
        resp::encode(["PING"]),
        resp::encode(["RPUSH", &key, " two", "three"]),
        resp::encode(["MULTI"]),
        resp::encode(["RPUSH", &key, " three"]),
        resp::encode(["RPUSH", &key, "four"]),
        resp::encode(["EXEC"]),
    ];
    let replies = client.pipeline(&bytes.concat(), bytes.len());
    let queued = Reply::Simple("QUEUED".into());
    assert_eq!(replies[0..3], [Reply::Integer(4), Reply::Simple("PONG".into()), Reply::Integer(2)]);
    assert_eq!(replies[4..6], [queued.clone(), queued]);
    assert_eq!(replies[6].array(), [Reply::Integer(1), Reply::Integer(1)]);
    assert_eq!(texts(&key, 4), ["one\n one", "two\n two\n two", "three\n three", "four"]);
    nothing_is_left(&tidegate);
}

#[test]
fn connections_and_keys_are_never_mixed() {
    let prefix = unique("apart");
    let route = format!(
        "key = \"{prefix}-*\"\ntopic = \"{prefix}\"\nhold_ms = 20000\njoin_lines = {{ max_ms = 300 }}\n\
         create_topic = {{ partitions = 1, replication = 1 }}"
    );
    let tidegate = Setup::shared().route(&route).start();
    let mut clients = [connect(&tidegate), connect(&tidegate)];
    for step in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            for key in ["a", "b"] {
                let blank = if step == 0 { "" } else { " " };
                client.send(["RPUSH", &format!("{prefix}-{key}"), &format!("{blank}{number}{key}{step}")]);
            }
        }
    }
    for client in &mut clients {
        (0..6).for_each(|_| assert_eq!(client.read(), Reply::Integer(1)));
    }
    let mut found = texts(&prefix, 4);
    found.sort();
    let expected = ["0a", "0b", "1a", "1b"].map(|of| format!("{of}0\n {of}1\n {of}2"));
    assert_eq!(found, expected);
}

#[test]
fn a_line_is_answered_only_when_its_record_is_safe() {
    let key = unique("waits");
    let tidegate = start(&key, "join_lines = { max_ms = 2000 }");
    let mut client = connect(&tidegate);
    push(&mut connect(&tidegate), &key, &["makes the topic", "and ends at once", "x\ny"]);
    let begun = Instant::now();
    client.send(["RPUSH", &key, "first"]);
    client.send(["RPUSH", &key, " second"]);
    client.expect_silence(Duration::from_millis(500));
    assert_eq!((client.read(), client.read()), (Reply::Integer(1), Reply::Integer(1)));
    assert!(begun.elapsed() >= Duration::from_millis(1500), "answered after {:?}", begun.elapsed());
    assert_eq!(texts(&key, 4)[3], "first\n second");
}

#[test]
fn a_record_that_fails_fails_every_command_that_had_a_line_of_it() {
    let key = unique("closed");
    let route = format!("key = \"{key}\"\ntopic = \"{key}\"\nhold_ms = 2000\njoin_lines = {{ max_ms = 200 }}");
    Kafka::shared().create_topic(&key, 1, 1, &[("max.message.bytes", "2000")]);
    let tidegate = Setup::shared().kafka("compression = \"none\"").route(&route).start();
    let mut client = connect(&tidegate);
    let large = format!(" {}", "x".repeat(3000));
    let lines = ["good", "bad", large.as_str(), " bad", "good"];
    let bytes: Vec<u8> = lines.iter().flat_map(|line| resp::encode(["RPUSH", &key, line])).collect();
    let replies = client.pipeline(&bytes, lines.len());
    let failed: Vec<bool> = replies.iter().map(|reply| *reply != Reply::Integer(1)).collect();
    assert_eq!(failed, [false, true, true, true, false], "{replies:?}");
    assert!(replies[1].error().contains("max.message.bytes"), "{replies:?}");
    nothing_is_left(&tidegate);
}

#[test]
fn a_record_is_bounded_in_lines_and_bytes() {
    let key = unique("bounded");
    let tidegate = start(&key, "max_record_size = 10\njoin_lines = { max_ms = 300, max_lines = 3 }");
    push(&mut connect(&tidegate), &key, &["a", " 1", " 2", " 3", "b", " 345678", " 9", "c"]);
    assert_eq!(texts(&key, 5), ["a\n 1\n 2", " 3", "b\n 345678", " 9", "c"]);
    nothing_is_left(&tidegate);
}

#[test]
fn what_is_in_the_making_arrives_when_the_connection_or_the_process_ends() {
    let key = unique("ends");
    let mut tidegate = start(&key, "join_lines = { max_ms = 10000 }\nacknowledge = \"enqueue\"");
    let mut client = connect(&tidegate);
    push(&mut client, &key, &["closed", " before"]);
    drop(client);
    assert_eq!(texts(&key, 1), ["closed\n before"]);
    let mut client = connect(&tidegate);
    push(&mut client, &key, &["stopped", " before"]);
    let begun = Instant::now();
    tidegate.sigterm();
    assert!(tidegate.wait_exit(Duration::from_secs(30)).success());
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for lines: {:?}", begun.elapsed());
    let records = consume(&Kafka::shared().bootstrap(), &key);
    assert_eq!(values(&records)[1], b"stopped\n before");
}

#[test]
fn lines_are_answered_from_the_spool_where_the_route_says_so() {
    let key = unique("spooled");
    let lines = "hold_ms = 20000\nacknowledge = \"spool\"\njoin_lines = { max_ms = 300 }";
    let tidegate = Setup::shared().spool("").topic(&key, 1, lines).start();
    push(&mut connect(&tidegate), &key, &["Error: x", "\tat a", "plain"]);
    assert_eq!(texts(&key, 2), ["Error: x\n\tat a", "plain"]);
    nothing_is_left(&tidegate);
}
