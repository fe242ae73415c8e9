//! Dead letters out of the spool: what was answered from disk and is then refused by its topic.

use super::wait_drained;
use crate::bed::{Consumed, Kafka, KafkaOptions, Reply, RespClient, Tidegate, consume, resp, unique, wait_until};
use crate::support::{SOON, Setup, connect, consume_exactly, values};
use std::collections::HashSet;
use std::time::Duration;

const CREATE: &str = "create_topic = { partitions = 1, replication = 1 }";
/// A lane that pauses is tried again within half a minute.
const RETRIED: Duration = Duration::from_secs(60);

fn header<'a>(record: &'a Consumed, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(key, _)| key == &format!("tidegate-dead-{name}"));
    found.map(|(_, value)| std::str::from_utf8(value).expect("text"))
}

fn large() -> Vec<u8> {
    (0..100_000_u32).map(|n| b'a' + u8::try_from(n % 23).expect("a letter")).collect()
}

/// Pushes these in one pipeline; each is acknowledged.
fn push(client: &mut RespClient, key: &str, records: &[&[u8]]) {
    let bytes: Vec<u8> = records.iter().flat_map(|record| resp::encode([b"RPUSH", key.as_bytes(), record])).collect();
    let replies = client.pipeline(&bytes, records.len());
    assert!(replies.iter().all(|reply| *reply == Reply::Integer(1)), "{replies:?}");
}

fn dead_lettered(tidegate: &Tidegate, reason: &str) -> f64 {
    tidegate.metric_with("tidegate_log_records_dead_lettered_total", &format!("reason=\"{reason}\""))
}

/// Why lanes pause, as the admin page says it.
fn reasons(tidegate: &Tidegate) -> Vec<String> {
    let debug: serde_json::Value = serde_json::from_slice(&tidegate.get("/debug/log").body).expect("JSON");
    let paused = debug["spool"]["paused"].as_array().cloned().unwrap_or_default();
    paused.iter().map(|lane| lane["why"].as_str().unwrap_or_default().to_owned()).collect()
}

fn wait_paused(tidegate: &Tidegate, why: &str) {
    wait_until(SOON, why, || reasons(tidegate).iter().any(|reason| reason.contains(why)));
}

#[test]
fn what_the_broker_alone_finds_too_large_leaves_its_lane_as_a_dead_letter_and_its_neighbours_come_in_order() {
    let (key, roomy, tight) = (unique("large"), unique("roomy"), unique("tight"));
    let kafka = Kafka::shared();
    kafka.create_topic(&key, 1, 1, &[("max.message.bytes", "20000")]);
    kafka.create_topic(&tight, 1, 1, &[("max.message.bytes", "30000")]);
    let route = |prefix: &str, dead: &str| {
        format!(
            "key = \"{prefix}-*\"\ntopic = \"{key}\"\ndead_letter_topic = \"{dead}\"\nacknowledge = \"spool\"\n\
             partition_by = \"key\"\n{CREATE}"
        )
    };
    let setup = Setup::shared().kafka("compression = \"none\"").spool("");
    let tidegate = setup.route(&route("roomy", &roomy)).route(&route("tight", &tight)).start();
    let mut client = connect(&tidegate);
    let large = large();
    push(&mut client, "roomy-1", &[b"1", b"2", &large, b"3", b"4"]);
    push(&mut client, "tight-1", &[b"5", &large, &large, b"6"]);
    wait_drained(&tidegate);
    let records = consume_exactly(&kafka.bootstrap(), &key, 6);
    assert_eq!(values(&records), [b"1", b"2", b"3", b"4", b"5", b"6"]);
    let letter = consume_exactly(&kafka.bootstrap(), &roomy, 1).remove(0);
    assert_eq!((letter.key.as_deref(), letter.value == large), (Some(&b"roomy-1"[..]), true));
    for (name, value) in [("reason", "too_large"), ("topic", &key), ("key", "roomy-1"), ("route", "roomy-*")] {
        assert_eq!(header(&letter, name), Some(value), "{name}");
    }
    assert!(header(&letter, "client").is_some_and(|client| client.starts_with("127.0.0.1:")), "{letter:?}");
    assert!(header(&letter, "at").is_some_and(|at| at.starts_with("20")) && header(&letter, "cut-from").is_none());
    for letter in consume_exactly(&kafka.bootstrap(), &tight, 2) {
        assert_eq!((header(&letter, "reason"), header(&letter, "cut-from")), (Some("too_large"), Some("100000")));
        assert!(letter.value.len() > 10_000 && large.starts_with(&letter.value), "{}", letter.value.len());
    }
    assert_eq!(dead_lettered(&tidegate, "too_large"), 3.0);
    assert_eq!(reasons(&tidegate), [""; 0]);
}

#[test]
fn without_a_dead_letter_topic_it_parks_its_lane_alone_says_why_and_goes_when_it_may() {
    let (parked, well) = (unique("parked"), unique("well"));
    let kafka = Kafka::shared();
    kafka.create_topic(&parked, 1, 1, &[("max.message.bytes", "20000")]);
    let spooled = "acknowledge = \"spool\"";
    let setup = Setup::shared().kafka("compression = \"none\"").spool("");
    let setup = setup.topic(&parked, 1, spooled).topic(&well, 1, spooled);
    let mut tidegate = setup.start();
    let mut client = connect(&tidegate);
    let large = large();
    push(&mut client, &parked, &[b"1", &large, b"2"]);
    push(&mut client, &well, &[b"a", b"b"]);
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &well, 2)), [b"a", b"b"]);
    wait_paused(&tidegate, "had no dead_letter_topic");
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &parked, 1)), [b"1"]);
    kafka.alter_topic(&parked, &[]);
    // A reload is the word to try again.
    let text = setup.route(&format!("key = \"{}\"", unique("another"))).text();
    std::fs::write(tidegate.directory().join("tidegate.toml"), text).expect("the configuration");
    tidegate.signal("HUP");
    wait_drained(&tidegate);
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &parked, 3)), [b"1".to_vec(), large, b"2".to_vec()]);
}

#[test]
fn records_of_a_topic_that_is_closed_to_us_become_dead_letters_past_their_patience_and_their_lane_drains() {
    let (key, dead) = (unique("closed"), unique("dead"));
    let kafka = KafkaOptions::new().authorized().start();
    kafka.create_topic(&key, 1, 1, &[]);
    let route = format!("key = \"{key}\"\ntopic = \"{key}\"\ndead_letter_topic = \"{dead}\"\nhold_ms = 3000\n{CREATE}");
    let mut tidegate = Setup::new(&kafka.bootstrap()).spool("").route(&route).start();
    let mut client = connect(&tidegate);
    push(&mut client, &key, &[b"open"]);
    wait_drained(&tidegate);
    kafka.deny_writing(&key);
    // More than a group, and answered from disk.
    let records: Vec<Vec<u8>> = (0..300).map(|number| format!("{number:0>1000}").into_bytes()).collect();
    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    push(&mut client, &key, &slices);
    wait_drained(&tidegate);
    let letters = consume_exactly(&kafka.bootstrap(), &dead, records.len());
    assert_eq!(values(&letters), records);
    assert!(letters.iter().all(|letter| header(letter, "reason") == Some("not_authorized")));
    assert_eq!(dead_lettered(&tidegate, "not_authorized"), 300.0);
    // The next process does not even learn of the topic's partitions.
    tidegate.sigterm();
    assert_eq!(tidegate.wait_exit(SOON).code(), Some(0));
    tidegate.restart();
    let mut client = connect(&tidegate);
    push(&mut client, &key, &[b"a", b"b", b"c"]);
    let letters = consume_exactly(&kafka.bootstrap(), &dead, records.len() + 3);
    assert_eq!(values(&letters[records.len()..]), [b"a", b"b", b"c"]);
    wait_drained(&tidegate);
    kafka.allow_writing(&key);
    // Those that come before it is known that the topic is open are letters yet.
    wait_until(SOON, "a record in the topic", || {
        assert_eq!(client.command(["RPUSH", &key, "again"]), Reply::Integer(1));
        consume(&kafka.bootstrap(), &key).len() > 1
    });
    wait_drained(&tidegate);
    let mut found = values(&consume(&kafka.bootstrap(), &key));
    found.dedup();
    assert_eq!(found, [&b"open"[..], b"again"]);
}

#[test]
fn a_dead_letter_topic_that_is_missing_and_then_closed_costs_its_lane_time_and_nothing_else() {
    let (key, dead, well) = (unique("large"), unique("dead"), unique("well"));
    let kafka = KafkaOptions::new().authorized().config("auto.create.topics.enable", "false").start();
    kafka.create_topic(&key, 1, 1, &[("max.message.bytes", "20000")]);
    kafka.create_topic(&well, 1, 1, &[]);
    let route = |topic: &str| {
        format!("key = \"{topic}\"\ntopic = \"{topic}\"\ndead_letter_topic = \"{dead}\"\nacknowledge = \"spool\"")
    };
    let setup = Setup::new(&kafka.bootstrap()).kafka("compression = \"none\"").spool("");
    let mut tidegate = setup.route(&route(&key)).route(&route(&well)).start();
    let mut client = connect(&tidegate);
    let large = large();
    push(&mut client, &key, &[b"1", &large, b"2", &large, b"3"]);
    wait_paused(&tidegate, &format!("its dead letters cannot go to {dead}"));
    push(&mut client, &well, &[b"a", b"b"]);
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &well, 2)), [b"a", b"b"]);
    // Nothing of it is done but what Kafka has: also not for the next process.
    tidegate.kill9();
    kafka.create_topic(&dead, 1, 1, &[]);
    kafka.deny_writing(&dead);
    tidegate.restart();
    wait_paused(&tidegate, &format!("its dead letters cannot go to {dead}"));
    tidegate.kill9();
    kafka.allow_writing(&dead);
    tidegate.restart();
    wait_until(RETRIED, "an empty spool", || {
        tidegate.metric("tidegate_spool_records_left") == 0.0 && dead_lettered(&tidegate, "too_large") == 2.0
    });
    // Each process that was killed may have sent the first ones again.
    let mut seen = HashSet::new();
    let found = values(&consume(&kafka.bootstrap(), &key));
    let first: Vec<_> = found.into_iter().filter(|value| seen.insert(value.clone())).collect();
    assert_eq!(first, [b"1", b"2", b"3"]);
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &dead, 2)), [large.clone(), large]);
}
