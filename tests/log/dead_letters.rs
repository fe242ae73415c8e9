//! Records that their topic does not take, in another one that says why; and what an operator does with them.

use crate::bed::{Consumed, Kafka, KafkaOptions, Reply, Tidegate, resp, unique};
use crate::support::{SOON, Setup, connect, consume_exactly, consumed, values};
use std::process::{Command, Output};

const CREATE: &str = "create_topic = { partitions = 1, replication = 1 }";

fn header<'a>(record: &'a Consumed, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(key, _)| key == &format!("tidegate-dead-{name}"));
    found.map(|(_, value)| std::str::from_utf8(value).unwrap())
}

fn dead_lettered(tidegate: &Tidegate, reason: &str, count: f64) {
    let name = "tidegate_log_records_dead_lettered_total";
    tidegate.wait_metric(name, SOON, |sum| sum >= count);
    assert_eq!(tidegate.metric_with(name, &format!("reason=\"{reason}\"")), count);
}

/// Runs `tidegate dead-letters` over the broker of the tests.
fn command(bootstrap: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.arg("dead-letters").args(arguments).args(["--brokers", bootstrap]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_not_json_becomes_a_dead_letter_and_its_neighbours_do_not() {
    let (key, dead) = (unique("json"), unique("dead"));
    let route = format!("hold_ms = 20000\nvalidate = \"json\"\ndead_letter_topic = \"{dead}\"\npartition_by = \"key\"");
    let tidegate = Setup::shared().topic(&key, 1, &route).start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["RPUSH", &key, "{\"n\":1}", "{\"n\":", "{\"n\":2}"]), Reply::Integer(3));
    client.command(["MULTI"]);
    client.command(["RPUSH", &key, "\u{e9}no json\0"]);
    client.command(["RPUSH", &key, "3"]);
    assert_eq!(client.command(["EXEC"]).array(), [Reply::Integer(1), Reply::Integer(1)]);
    assert_eq!(values(&consumed(&key, 3)), [&b"{\"n\":1}"[..], b"{\"n\":2}", b"3"]);
    let letters = consumed(&dead, 2);
    assert_eq!(values(&letters), ["{\"n\":".as_bytes(), "\u{e9}no json\0".as_bytes()]);
    for letter in &letters {
        assert_eq!(letter.key.as_deref(), Some(key.as_bytes()));
        for (name, value) in [("reason", "invalid_json"), ("topic", &key), ("key", &key), ("route", &key)] {
            assert_eq!(header(letter, name), Some(value), "{name}");
        }
        assert!(header(letter, "client").unwrap().starts_with("127.0.0.1:"));
        assert!(header(letter, "at").unwrap().starts_with("20"));
        assert_eq!(header(letter, "cut-from"), None);
    }
    dead_lettered(&tidegate, "invalid_json", 2.0);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
    // What is known to be too large is an error all the same.
    let large = "x".repeat(300 << 10);
    assert!(client.command(["RPUSH", &key, &large]).error().contains("max_record_size"));
}

#[test]
fn each_record_goes_to_the_topic_that_it_names_with_letters_among_them() {
    let (key, dead) = (unique("named"), unique("dead"));
    let route = format!(
        "key = \"{key}\"\ntopic = \"{key}.{{json:/to}}\"\nallow = [\"a\", \"b\"]\nvalidate = \"json\"\n\
         dead_letter_topic = \"{dead}\"\nhold_ms = 20000\n{CREATE}"
    );
    let tidegate = Setup::shared().route(&route).start();
    let mut client = connect(&tidegate);
    let to = |topic: &str, number: u32| format!("{{\"to\":\"{topic}\",\"n\":{number}}}");
    let push = |values: &[&str]| [&["RPUSH", &key], values].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let (a1, a2, a3, b1, b2) = (to("a", 1), to("a", 2), to("a", 3), to("b", 1), to("b", 2));
    assert_eq!(client.command(push(&[&a1, "no json", &b1, &a2, "none"])), Reply::Integer(5));
    client.command(["MULTI"]);
    client.command(push(&["neither", &b2]));
    client.command(push(&[&a3]));
    assert_eq!(client.command(["EXEC"]).array(), [Reply::Integer(2), Reply::Integer(1)]);
    assert_eq!(values(&consumed(&format!("{key}.a"), 3)), [a1.as_bytes(), a2.as_bytes(), a3.as_bytes()]);
    assert_eq!(values(&consumed(&format!("{key}.b"), 2)), [b1.as_bytes(), b2.as_bytes()]);
    assert_eq!(values(&consumed(&dead, 3)), [&b"no json"[..], b"none", b"neither"]);
    // One that names a topic which is not allowed refuses the whole command.
    assert!(client.command(push(&[&a1, &to("c", 1)])).error().contains("allow"));
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}

#[test]
fn what_the_broker_alone_finds_too_large_is_a_dead_letter_cut_to_fit_its_topic() {
    let (key, roomy, tight) = (unique("large"), unique("roomy"), unique("tight"));
    let kafka = Kafka::shared();
    kafka.create_topic(&key, 1, 1, &[("max.message.bytes", "20000")]);
    kafka.create_topic(&tight, 1, 1, &[("max.message.bytes", "30000")]);
    let route = |prefix: &str, dead: &str| {
        format!("key = \"{prefix}-*\"\ntopic = \"{key}\"\ndead_letter_topic = \"{dead}\"\nhold_ms = 20000\n{CREATE}")
    };
    let setup = Setup::shared().kafka("compression = \"none\"");
    let tidegate = setup.route(&route("roomy", &roomy)).route(&route("tight", &tight)).start();
    let mut client = connect(&tidegate);
    let large: Vec<u8> = (0..100_000_u32).map(|n| b'a' + u8::try_from(n % 23).unwrap()).collect();
    let push = |key: &str, value: &[u8]| resp::encode([b"LPUSH", key.as_bytes(), value]);
    let bytes = [push("roomy-1", b"before"), push("roomy-1", &large), push("roomy-1", b"after")].concat();
    assert_eq!(client.pipeline(&bytes, 3), [Reply::Integer(1), Reply::Integer(1), Reply::Integer(1)]);
    assert_eq!(values(&consumed(&key, 2)), [&b"before"[..], b"after"]);
    let letter = consumed(&roomy, 1).remove(0);
    assert_eq!((header(&letter, "reason"), header(&letter, "cut-from")), (Some("too_large"), None));
    assert_eq!(letter.value, large);
    for _ in 0..2 {
        assert_eq!(client.pipeline(&push("tight-1", &large), 1), [Reply::Integer(1)]);
    }
    let letters = consumed(&tight, 2);
    for letter in &letters {
        assert_eq!((header(letter, "cut-from"), header(letter, "topic")), (Some("100000"), Some(key.as_str())));
        assert_eq!((header(letter, "key"), header(letter, "route")), (Some("tight-1"), Some("tight-*")));
        assert!(letter.value.len() > 10_000 && large.starts_with(&letter.value), "{}", letter.value.len());
    }
    dead_lettered(&tidegate, "too_large", 3.0);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
    // A cut letter stays where it is unless it is asked for.
    let left = lines(&command(&kafka.bootstrap(), &["requeue", &tight]));
    assert_eq!(left, ["0 requeued", "2 left: they were cut (--cut sends them as they are)"]);
}

#[test]
fn records_of_a_topic_that_is_closed_to_us_wait_and_then_become_dead_letters() {
    let (key, dead) = (unique("closed"), unique("dead"));
    let kafka = KafkaOptions::new().authorized().start();
    kafka.create_topic(&key, 1, 1, &[]);
    let setup = Setup::new(&kafka.bootstrap());
    let route = |prefix: &str, more: &str| {
        format!(
            "key = \"{prefix}\"\ntopic = \"{key}\"\ndead_letter_topic = \"{dead}\"\nhold_ms = 3000\n{more}\n{CREATE}"
        )
    };
    let setup = setup.route(&route("waits", "")).route(&route("goes-on", "acknowledge = \"enqueue\""));
    let tidegate = setup.start();
    let mut client = connect(&tidegate);
    assert_eq!(client.command(["LPUSH", "waits", "open"]), Reply::Integer(1));
    kafka.deny_writing(&key);
    assert_eq!(client.command(["LPUSH", "goes-on", "enqueued"]), Reply::Integer(1));
    assert_eq!(client.command(["LPUSH", "waits", "closed"]), Reply::Integer(1));
    let letters = consume_exactly(&kafka.bootstrap(), &dead, 2);
    let mut found = values(&letters);
    found.sort();
    assert_eq!(found, [&b"closed"[..], b"enqueued"]);
    assert!(letters.iter().all(|letter| header(letter, "reason") == Some("not_authorized")), "{letters:?}");
    // One that the topic is opened for in time is no dead letter.
    client.send(["LPUSH", "waits", "in time"]);
    kafka.allow_writing(&key);
    assert_eq!(client.read(), Reply::Integer(1));
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &key, 2)), [&b"open"[..], b"in time"]);
    dead_lettered(&tidegate, "not_authorized", 2.0);
    tidegate.wait_metric("tidegate_log_in_flight_bytes", SOON, |bytes| bytes == 0.0);
}

#[test]
fn success_is_said_only_when_the_dead_letter_is_safe() {
    let (key, dead) = (unique("safe"), unique("dead"));
    let kafka = KafkaOptions::new().config("auto.create.topics.enable", "false").start();
    kafka.create_topic(&key, 1, 1, &[]);
    let route = format!("key = \"{key}\"\ntopic = \"{key}\"\nvalidate = \"json\"\ndead_letter_topic = \"{dead}\"");
    let tidegate = Setup::new(&kafka.bootstrap()).route(&format!("{route}\nhold_ms = 1000")).start();
    let mut client = connect(&tidegate);
    let refused = client.command(["LPUSH", &key, "no json"]);
    assert!(refused.error().contains("topic does not exist"), "{refused:?}");
    assert_eq!(client.command(["LPUSH", &key, "{}"]), Reply::Integer(1));
    kafka.create_topic(&dead, 1, 1, &[]);
    crate::bed::wait_until(SOON, "the dead letter's success", || {
        client.command(["LPUSH", &key, "no json"]) == Reply::Integer(1)
    });
    assert_eq!(values(&consume_exactly(&kafka.bootstrap(), &key, 1)), [b"{}"]);
}

#[test]
fn dead_letters_are_listed_and_sent_again_once() {
    let (key, other, dead) = (unique("again"), unique("other"), unique("dead"));
    let route = format!("hold_ms = 20000\nvalidate = \"json\"\ndead_letter_topic = \"{dead}\"\npartition_by = \"key\"");
    let tidegate = Setup::shared().topic(&key, 1, &route).topic(&other, 1, &route).start();
    let mut client = connect(&tidegate);
    let bad: Vec<String> = (0..1200).map(|number| format!("bad {number}")).collect();
    let bytes: Vec<u8> = bad.iter().flat_map(|value| resp::encode(["LPUSH", &key, value])).collect();
    assert!(client.pipeline(&bytes, bad.len()).iter().all(|reply| *reply == Reply::Integer(1)));
    assert_eq!(client.command(["LPUSH", &other, "elsewhere"]), Reply::Integer(1));
    let brokers = Kafka::shared().bootstrap();
    let listed = lines(&command(&brokers, &["list", &dead, "--limit", "2"]));
    assert_eq!(listed.len(), 2);
    for part in
        ["0@0 20", " invalid_json ", &format!(" topic={key} key={key} route={key} client=127.0.0.1:"), " bytes=5"]
    {
        assert!(listed[0].contains(part), "{listed:?}");
    }
    let json = lines(&command(&brokers, &["list", &dead, "--json", "--origin", &other]));
    let letter: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!((json.len(), &letter["reason"], &letter["bytes"]), (1, &"invalid_json".into(), &9.into()));
    let nothing = lines(&command(&brokers, &["list", &dead, "--reason", "too_large"]));
    assert!(nothing.is_empty(), "{nothing:?}");

    let dry = lines(&command(&brokers, &["requeue", &dead, "--dry-run"]));
    let mut expected = [format!("1200 would be requeued to {key}"), format!("1 would be requeued to {other}")];
    expected.sort();
    let mut found = dry.clone();
    found.sort();
    assert_eq!(found, expected);
    // Out of order first, so that what is remembered has a hole before it.
    let first = lines(&command(&brokers, &["requeue", &dead, "--origin", &other]));
    assert_eq!(first, [format!("1 requeued to {other}")]);
    let rest = lines(&command(&brokers, &["requeue", &dead]));
    assert_eq!(rest, [format!("1200 requeued to {key}")]);
    assert_eq!(lines(&command(&brokers, &["requeue", &dead])), ["0 requeued"]);
    assert!(lines(&command(&brokers, &["list", &dead])).is_empty());
    assert_eq!(lines(&command(&brokers, &["list", &dead, "--all"])).len(), 1201);
    let again = consumed(&key, bad.len());
    let expected: Vec<_> = bad.iter().map(|value| value.as_bytes().to_vec()).collect();
    assert_eq!(values(&again), expected);
    assert!(again.iter().all(|record| record.headers.is_empty() && record.key.as_deref() == Some(key.as_bytes())));
    assert_eq!(values(&consumed(&other, 1)), [b"elsewhere"]);
}
