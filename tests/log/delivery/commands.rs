//! The commands that carry records, and what their replies mean.

use crate::bed::{Kafka, Reply, consume, resp, unique};
use crate::support::{SOON, Setup, connect, consumed, values};
use std::time::{Duration, Instant};

fn ok() -> Reply {
    Reply::Simple("OK".into())
}

fn queued() -> Reply {
    Reply::Simple("QUEUED".into())
}

#[test]
fn each_pushing_command_answers_as_redis_and_its_records_arrive_in_order() {
    let key = unique("pushes");
    let tidegate = Setup::shared().topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    for (command, reply) in [
        (vec!["LPUSH", &key, "a", "b"], 2),
        (vec!["RPUSH", &key, "c"], 1),
        (vec!["LPUSHX", &key, "d"], 1),
        (vec!["rpushx", &key, "e", "f"], 2),
        (vec!["PUBLISH", &key, "g"], 1),
        (vec!["SPUBLISH", &key, "h"], 1),
    ] {
        assert_eq!(client.command(&command), Reply::Integer(reply), "{command:?}");
    }
    let expected = ["a", "b", "c", "d", "e", "f", "g", "h"];
    assert_eq!(values(&consumed(&key, 8)), expected.map(str::as_bytes));
    assert_eq!(client.command(["LLEN", &key]), Reply::Integer(0));
}

#[test]
fn xadd_of_one_field_is_its_value_and_of_several_a_json_object() {
    let key = unique("stream");
    let tidegate = Setup::shared().topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    let id = client.command(["XADD", &key, "*", "message", "one \r\n value"]);
    let (time, number) = std::str::from_utf8(id.bytes()).unwrap().split_once('-').unwrap();
    assert!(time.parse::<u64>().unwrap() > 1_600_000_000_000 && number.parse::<u64>().is_ok(), "{id:?}");
    let later = client.command(["XADD", &key, "MAXLEN", "~", "1000", "*", "level", "info", "message", "two"]);
    assert!(later.bytes() > id.bytes());
    assert_eq!(client.command(["XADD", &key, "5-1", "message", "three"]).bytes(), b"5-1");
    let records = values(&consumed(&key, 3));
    assert_eq!(records[0], b"one \r\n value");
    let object: serde_json::Value = serde_json::from_slice(&records[1]).unwrap();
    assert_eq!(object, serde_json::json!({"level": "info", "message": "two"}));
    assert_eq!(records[2], b"three");
}

#[test]
fn a_transaction_answers_once_and_its_records_arrive() {
    let key = unique("multi");
    let tidegate = Setup::shared().topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["MULTI"]), ok());
    assert_eq!(client.command(["LPUSH", &key, "a", "b"]), queued());
    assert_eq!(client.command(["PING"]), queued());
    assert_eq!(client.command(["RPUSH", &key, "c"]), queued());
    assert_eq!(client.command(["LTRIM", &key, "0", "99"]), queued());
    assert_eq!(consume(&Kafka::shared().bootstrap(), &key), [], "nothing before EXEC");
    let replies = client.command(["EXEC"]);
    let expected = [Reply::Integer(2), Reply::Simple("PONG".into()), Reply::Integer(1), ok()];
    assert_eq!(replies.array(), expected);
    assert_eq!(client.command(["LPUSH", &key, "d"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 4)), ["a", "b", "c", "d"].map(str::as_bytes));
}

#[test]
fn a_transaction_with_one_bad_command_puts_nothing_into_kafka() {
    let key = unique("whole");
    let tidegate = Setup::shared().topic(&key, 1, "max_record_size = 100").start();
    let mut client = connect(&tidegate);
    let large = "x".repeat(101);
    let bad: [&[&str]; 5] = [
        &["LPUSH", &key, "fine", &large],
        &["LPUSH", "elsewhere", "x"],
        &["NOSUCHCOMMAND"],
        &["LPUSH", &key],
        &["XADD", &key, "*", "odd"],
    ];
    for bad in bad {
        assert_eq!(client.command(["MULTI"]), ok());
        assert_eq!(client.command(["LPUSH", &key, "first"]), queued());
        assert!(matches!(client.command(bad), Reply::Error(_)), "{bad:?}");
        assert_eq!(client.command(["LPUSH", &key, "last"]), queued());
        assert!(client.command(["EXEC"]).error().starts_with("EXECABORT"), "{bad:?}");
    }
    assert_eq!(client.command(["MULTI"]), ok());
    assert_eq!(client.command(["LPUSH", &key, "discarded"]), queued());
    assert_eq!(client.command(["DISCARD"]), ok());
    // A connection that goes in the midst of a transaction has pushed nothing either.
    let mut other = connect(&tidegate);
    assert_eq!(other.command(["MULTI"]), ok());
    assert_eq!(other.command(["LPUSH", &key, "left behind"]), queued());
    drop(other);
    assert_eq!(client.command(["LPUSH", &key, "only this"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 1)), [b"only this"]);
}

#[test]
fn a_transaction_larger_than_the_memory_limit_is_refused_whole() {
    let key = unique("larger");
    let tidegate = Setup::shared()
        .log("memory_limit = \"2MiB\"\nmax_record_size = \"1MiB\"")
        .topic(&key, 1, "max_record_size = \"1MiB\"\nhold_ms = 500")
        .start();
    let mut client = connect(&tidegate);
    let large = "x".repeat(900_000);
    assert_eq!(client.command(["MULTI"]), ok());
    let mut refused = 0;
    for _ in 0..4 {
        refused += usize::from(client.command(["LPUSH", &key, &large]) != queued());
    }
    let outcome = client.command(["EXEC"]);
    assert!(matches!(outcome, Reply::Error(_)), "{refused} refused, then {outcome:?}");
    assert_eq!(client.command(["LPUSH", &key, "only this"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 1)), [b"only this"]);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}

#[test]
fn client_reply_off_hides_replies_and_not_records() {
    let key = unique("silent");
    let tidegate = Setup::shared().topic(&key, 1, "").start();
    let mut client = connect(&tidegate);
    client.send(["CLIENT", "REPLY", "OFF"]);
    for i in 0..50 {
        client.send(["LPUSH", &key, &format!("{i}")]);
    }
    client.send(["PING"]);
    let expected: Vec<Vec<u8>> = (0..50).map(|i| format!("{i}").into_bytes()).collect();
    assert_eq!(values(&consumed(&key, 50)), expected);
    // Counted as any other, though nothing was said and nothing further is heard.
    tidegate.wait_metric("tidegate_log_records_acknowledged_total", SOON, |count| count == 50.0);
    assert_eq!(client.command(["CLIENT", "REPLY", "ON"]), ok());
    client.send(["CLIENT", "REPLY", "SKIP"]);
    client.send(["LPUSH", &key, "skipped"]);
    assert_eq!(client.command(["LPUSH", &key, "heard"]), Reply::Integer(1));
    assert_eq!(values(&consumed(&key, 52))[50..], [b"skipped".to_vec(), b"heard".to_vec()]);
}

#[test]
fn what_is_merely_enqueued_is_answered_at_once_and_arrives() {
    let key = unique("enqueued");
    let tidegate = Setup::shared().topic(&key, 1, "acknowledge = \"enqueue\"").start();
    let mut client = connect(&tidegate);
    let bytes: Vec<u8> = (0..500).flat_map(|i| resp::encode(["LPUSH", &key, &format!("{i}")])).collect();
    assert!(client.pipeline(&bytes, 500).iter().all(|reply| *reply == Reply::Integer(1)));
    let expected: Vec<Vec<u8>> = (0..500).map(|i| format!("{i}").into_bytes()).collect();
    assert_eq!(values(&consumed(&key, 500)), expected);
}

#[test]
fn a_client_that_waits_for_each_reply_gets_each_of_them_soon() {
    let key = unique("single");
    let tidegate = Setup::shared().topic(&key, 3, "").start();
    let mut client = connect(&tidegate);
    for i in 0..200 {
        let start = Instant::now();
        assert_eq!(client.command(["LPUSH", &key, &format!("{i}")]), Reply::Integer(1));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    consumed(&key, 200);
}
